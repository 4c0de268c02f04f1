create table event (
    id         bigint generated always as identity primary key,
    event_id   text not null unique,
    type       text not null,
    user_id    text not null,
    payload    json not null,
    created_at timestamptz not null default now()
);
create table notification (
    id         bigint generated always as identity primary key,
    event_pk   bigint not null,
    channel    text not null,
    user_id    text not null,
    status     text not null default 'PENDING',
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    unique (event_pk, channel)
) with (fillfactor = 50);
create index on notification (user_id, id);                             -- the readers' indexes, as in schema.sql
create index on notification (status, id) where status <> 'PENDING';
create table preference (
    user_id      text primary key,
    email_opt_in boolean not null default true,
    sms_opt_in   boolean not null default true,
    push_opt_in  boolean not null default true
);
