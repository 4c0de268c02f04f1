-- fill: events 1..n, as accept publishes them, without a client that packs each of them.
-- KEYS[1] the events stream
-- ARGV[1] first; ARGV[2] last; ARGV[3] number of users; ARGV[4] published_at
for i = tonumber(ARGV[1]), tonumber(ARGV[2]) do
  redis.call('XADD', KEYS[1], '*', 'event', i, 'event_id', 'evt-' .. i, 'user_id', 'user_' .. (i % tonumber(ARGV[3])),
    'event_type', 'ORDER_PLACED', 'published_at', ARGV[4])
end
