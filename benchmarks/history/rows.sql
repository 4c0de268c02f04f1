-- Events $1 to $2 of $3 and their history, spread over 90 days: three notifications each, an attempt each. One event in a hundred is of
-- user_heavy, the others are of 100,000 users. 97 % of the notifications are SENT; those of the last 5,000 events wait for their retry.
with made as (
  insert into event (id, event_id, type, user_id, payload, occurred_at, body_hash, status, decisions, due_at, published_at, created_at,
    updated_at)
  overriding system value
  select n, 'evt-' || n, (array['ORDER_PLACED', 'ORDER_SHIPPED', 'PAYMENT_FAILED', 'PASSWORD_RESET'])[1 + abs(hashint8(n)) % 4],
    case when n % 100 = 0 then 'user_heavy' else 'user_' || (n * 48271) % 100000 end,
    '{"orderAmount":250,"items":["Laptop","Mouse"]}', at, sha256(n::text::bytea), 'ROUTED',
    '{"EMAIL":{"use":true,"reason":"default"},"SMS":{"use":true,"reason":"default"},"PUSH":{"use":true,"reason":"default"}}', at, at, at,
    at
  from generate_series($1::bigint, $2::bigint) n, lateral (select now() - interval '90 days' * (1 - n::float8 / $3) as at) moment
  returning id, user_id, created_at as at
), sorted as (
  select 8 * m.id - 7 + c.place as id, c.place = 0 as leads, m.id as event_pk, c.channel, m.user_id, m.at,
    case when m.id > $3 - 5000 then 'PENDING'
      else (array['SENT', 'FAILED', 'UNKNOWN', 'CANCELLED'])[width_bucket(abs(hashint8(3 * m.id + c.place) % 1000), array[0, 970, 990, 996])]
    end as status
  from made m, (values (0, 'EMAIL'), (1, 'SMS'), (2, 'PUSH')) c (place, channel)
), told as (
  insert into notification (id, leads, event_pk, channel, user_id, status, reason, error, attempt, tries, claimed_by, claimed_at, due_at,
    published_at, created_at, updated_at)
  overriding system value
  select id, leads, event_pk, channel, user_id, status,
    case status when 'FAILED' then (array['rejected', 'out_of_tries'])[1 + id % 2] when 'UNKNOWN' then 'no_answer'
      when 'CANCELLED' then 'cancelled' end,
    case status when 'FAILED' then 'the provider answered 550: no such mailbox ' || id % 50 when 'UNKNOWN' then 'no answer within 25 s' end,
    1, 1, 'host-' || id % 4, at, case status when 'PENDING' then now() + interval '1 day' * (id % 100) / 100 else at end,
    case status when 'PENDING' then null else at end, at, at + interval '0.4 s'
  from sorted order by id
)
insert into attempt (notification_id, number, provider, consumer, started_at, ended_at, outcome, error, receipt)
select id, 1, 'simulated', 'host-' || id % 4, at, at + interval '0.4 s',
  case status when 'SENT' then 'sent' when 'FAILED' then 'rejected' when 'PENDING' then 'unavailable' else 'unknown' end, null, null
from sorted where status <> 'CANCELLED' order by id
