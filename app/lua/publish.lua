-- publish: add entries to streams, in order.
-- KEYS[i]       the streams
-- ARGV[1]       name of the row field: event or notification
-- ARGV[i+1]     how many entries the stream KEYS[i] gets
-- ARGV[..]      per entry six values: row id, event_id, user_id, event_type, published_at (ISO 8601, UTC), case, which may be
--               empty; those of KEYS[1] first
-- Answer        nil; or the first error, where all that could be added is in place. At most 500 entries a call.
local row, at, failed = ARGV[1], #KEYS + 2, nil

for k, stream in ipairs(KEYS) do
  for _ = 1, tonumber(ARGV[k + 1]) do
    local added = redis.pcall('XADD', stream, '*', row, ARGV[at], 'event_id', ARGV[at + 1], 'user_id', ARGV[at + 2],
      'event_type', ARGV[at + 3], 'published_at', ARGV[at + 4], unpack(ARGV[at + 5] == '' and {} or {'case', ARGV[at + 5]}))
    if type(added) == 'table' then failed = failed or added end
    at = at + 6
  end
end
return failed
