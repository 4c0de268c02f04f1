-- Tidings' tables. PostgreSQL knows what is owed and what happened; Redis Streams only carry the work.
-- Additive: may be applied again at any time (`tidings schema apply`), by several processes at once.
--
-- event         NEW -> ROUTED | FAILED | CANCELLED
-- notification  PENDING -> PROCESSING -> SENT | FAILED | UNKNOWN     (PROCESSING -> PENDING: retry; the full table is app/domain.py)
--
-- Parked means `published_at is null`, and nothing else: the relay publishes the row once `due_at` has come and no lease holds it.
--
-- An event that is sent at once is claimed as a whole: it stays NEW until its notifications are written with their ends (SENT; or
-- PROCESSING, parked until the lease is over). Whoever else meets a claimed event writes them as PROCESSING under that claim.

create table if not exists event (
    id           bigint generated always as identity primary key,
    source       text not null default '',          -- CloudEvents source; '' for plain events
    event_id     text not null,                     -- the client's id: (source, event_id) is the identity
    type         text not null,
    user_id      text not null,
    payload      json not null,                     -- as posted; kept here once, never copied to the notifications
    occurred_at  timestamptz not null,
    body_hash    bytea not null,                    -- SHA-256 of the canonical event: is a repeated id the same event?
    channels     text[],                            -- channels the client asked for; null: all
    status       text not null default 'NEW',
    reason       text,                              -- why FAILED or CANCELLED, for machines
    error        text,                              -- the same as a sentence
    decisions    jsonb,                             -- per channel: used or not, and why; written when routed
    send_at      timestamptz,                       -- not before this, where the client asked for it
    due_at       timestamptz not null default now(),
    published_at timestamptz default now(),
    expires_at   timestamptz,
    claimed_by   text,                              -- who sends its notifications at once: they are written with their ends
    claimed_at   timestamptz,
    lease_until  timestamptz,                       -- of the claim of an event that is NEW; the rows it leads to say the same
    first_id     bigint,                            -- the ids of its notifications, in the order of the channels, begin here
    created_at   timestamptz not null default now(),
    updated_at   timestamptz not null default now(),
    done         boolean generated always as (status <> 'NEW') stored,
    final_status text generated always as (case when status <> 'NEW' then status end) stored,
    constraint event_identity unique (source, event_id),
    constraint event_status check (status in ('NEW', 'ROUTED', 'FAILED', 'CANCELLED')),
    constraint event_reason check (status not in ('FAILED', 'CANCELLED') or reason is not null)
) with (fillfactor = 32);                           -- room for the claim's HOT update in the same page: it adds 200 bytes

do $$ begin                                         -- a table from before events were claimed
    if not exists (select from pg_attribute where attrelid = 'event'::regclass and attname = 'first_id' and not attisdropped) then
        alter table event add column claimed_by text, add column claimed_at timestamptz, add column lease_until timestamptz,
            add column first_id bigint;
        alter table event set (fillfactor = 32);
    end if;
end $$;

create table if not exists notification (
    id                 bigint generated always as identity (increment by 8) primary key, -- those of one event follow each other
    event_pk           bigint not null,             -- event.id; no foreign keys: rows are only made from a locked parent, and each check costs 10 us
    channel            text not null,
    user_id            text not null,               -- copied from the event
    leads              boolean not null default true,   -- in the index of its user; by its event_pk, those that it leads are found
    address            text,                        -- where to send; null: the provider looks it up by user
    status             text not null default 'PENDING',
    reason             text,
    error              text,
    attempt            integer not null default 0,  -- calls to the provider so far: only grows, and is the fence
    tries              integer not null default 0,  -- what the retry schedule counts: replay resets it, a release gives one back
    replays            integer not null default 0,
    possible_duplicate boolean not null default false,
    claimed_by         text,
    claimed_at         timestamptz,
    lease_until        timestamptz,
    due_at             timestamptz not null default now(),
    published_at       timestamptz default now(),
    expires_at         timestamptz,
    created_at         timestamptz not null default now(),
    updated_at         timestamptz not null default now(),
    done               boolean generated always as (status in ('SENT', 'FAILED', 'UNKNOWN', 'CANCELLED')) stored,
    final_status       text generated always as (case when status in ('SENT', 'FAILED', 'UNKNOWN', 'CANCELLED') then status end) stored,
    constraint notification_once unique (event_pk, channel),
    constraint notification_status check (status in ('PENDING', 'PROCESSING', 'SENT', 'FAILED', 'UNKNOWN', 'CANCELLED')),
    constraint notification_reason check (status not in ('FAILED', 'UNKNOWN', 'CANCELLED') or reason is not null),
    constraint notification_lease check (status <> 'PROCESSING' or (lease_until is not null and claimed_by is not null))
) with (fillfactor = 50);                           -- room for the claim's HOT update in the same page

do $$ begin                                         -- a table from before `leads`: each row of it leads itself
    if not exists (select from pg_attribute where attrelid = 'notification'::regclass and attname = 'leads' and not attisdropped) then
        alter table notification add column leads boolean not null default true, alter column id set increment by 8;
    end if;
end $$;

create table if not exists attempt (
    notification_id    bigint not null,
    number             integer not null,
    provider           text,
    consumer           text not null,
    started_at         timestamptz not null,
    ended_at           timestamptz not null,
    outcome            text not null,
    error              text,
    receipt            text,                        -- the provider's own id for the message
    possible_duplicate boolean not null default false,
    primary key (notification_id, number),
    constraint attempt_outcome check (outcome in ('sent', 'rejected', 'unavailable', 'unknown'))
);

create table if not exists preference (
    user_id      text primary key,
    email_opt_in boolean not null default true,
    sms_opt_in   boolean not null default true,
    push_opt_in  boolean not null default true,
    created_at   timestamptz not null default now(),
    updated_at   timestamptz not null default now()
);

create table if not exists idempotency_key (        -- made, with the answer, in the transaction of what it answers
    scope      text not null,                       -- method and path
    key        text not null,
    body_hash  bytea not null,                      -- SHA-256 of the canonical body: is it the same request again?
    status     integer,
    response   text,                                -- the body of the answer
    created_at timestamptz not null default now(),
    primary key (scope, key)
);
create index if not exists idempotency_key_age on idempotency_key (created_at);

create table if not exists tally (                  -- rates and latencies for the dashboard: sums of what all processes counted
    width_s    integer not null,                    -- length of the bucket in seconds (app/store/tally.py)
    started_at timestamptz not null,                -- its beginning, by PostgreSQL's clock when the counts were written
    channel    text not null,                       -- '' for events
    kind       text not null,                       -- accepted, sent, failed, limited, retried, unknown
    bin        integer not null,                    -- of the time from acceptance to SENT, on a log scale; -1: not timed
    n          bigint not null,
    primary key (width_s, started_at, channel, kind, bin)
) with (fillfactor = 50);                           -- each row is added to every 2 s while its bucket lasts

create table if not exists channel_pause (          -- channels that an operator has paused; no row: it goes on
    channel text primary key,
    since   timestamptz not null default now(),
    by      text not null,
    reason  text not null
);

create table if not exists audit (                  -- what people did by hand; rows are only added
    id     bigint generated always as identity primary key,
    at     timestamptz not null default now(),
    who    text not null,
    role   text not null,
    action text not null,
    target text not null,
    count  bigint,                                  -- rows that moved
    reason text not null,                           -- in the person's own words
    detail jsonb
);
create index if not exists audit_who on audit (who, id);
create index if not exists audit_action on audit (action, id);

-- The relay's: what is unfinished, by when it was published, and what is parked, by when it is due. No index mentions `status`,
-- so that a claim is a heap-only update.
create index if not exists event_published on event (published_at) where not done;
create index if not exists event_parked on event (due_at) where not done and published_at is null;
create index if not exists notification_published on notification (channel, published_at) where not done;
create index if not exists notification_parked on notification (channel, due_at) where not done and published_at is null;

-- The readers': one user's history, and what did not go as it nearly always does, by how it ended, newest first. Nearly every row is
-- SENT, or ROUTED: those are met along the primary key, and need no entry here when they end.
create index if not exists notification_leads on notification (user_id, id) where leads;
create index if not exists notification_of_user_not_sent on notification (user_id, final_status, id) include (channel)
    where final_status <> 'SENT';
drop index if exists notification_user, notification_of_user;   -- with every row: three entries where an event is routed, three where it ends
create index if not exists notification_not_sent on notification (final_status, id) where final_status <> 'SENT';
create index if not exists event_not_routed on event (final_status, id) where final_status <> 'ROUTED';
drop index if exists notification_final, event_final;   -- the same with SENT and ROUTED
