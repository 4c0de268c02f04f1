-- The seeds' two tables: what a user wants, and one row per event and channel.
create table if not exists user_preferences (
    user_id text primary key,
    email_opt_in boolean not null default true,
    sms_opt_in boolean not null default true,
    push_opt_in boolean not null default true,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now()
);

create table if not exists notification (
    id bigint generated always as identity primary key,
    event_id text not null,
    event_type text not null,
    user_id text not null,
    channel text not null,
    status text not null,
    payload jsonb not null,
    error text,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    unique (event_id, channel)
) with (fillfactor = 50); -- room for the update beside the row: it then touches no index

create index if not exists notification_of_user on notification (user_id, created_at desc);
