-- publish: add entries to one stream, in order.
-- KEYS[1]  the stream
-- ARGV[1]  name of the row field: event or notification
-- ARGV[2+] per entry five values: row id, event_id, user_id, event_type, published_at (ISO 8601, UTC)
-- Answer   the number of entries added. At most 500 entries a call; an error half-way leaves the first ones in place.
local row = ARGV[1]
for i = 2, #ARGV, 5 do
  redis.call('XADD', KEYS[1], '*', row, ARGV[i], 'event_id', ARGV[i + 1], 'user_id', ARGV[i + 2],
    'event_type', ARGV[i + 3], 'published_at', ARGV[i + 4])
end
return (#ARGV - 1) / 5
