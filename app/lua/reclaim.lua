-- reclaim: take over pending entries whose idle time passed the window, with how often each was delivered.
-- KEYS[1]  the stream
-- ARGV[1]  group; ARGV[2] consumer; ARGV[3] least idle time in ms; ARGV[4] cursor, '0-0' to begin; ARGV[5] most entries (at most 500)
-- Answer   {next cursor ('0-0': the circle is closed), {{id, {field, value, ..}, deliveries}, ..}, {ids that were pending without an entry},
--           server time in us, last id of the stream}
local stream, group = KEYS[1], ARGV[1]
local took = redis.call('XAUTOCLAIM', stream, group, ARGV[2], ARGV[3], ARGV[4], 'COUNT', ARGV[5])
local entries = {}
for i, entry in ipairs(took[2]) do
  local pending = redis.call('XPENDING', stream, group, entry[1], entry[1], 1)[1]
  entries[i] = {entry[1], entry[2], pending and pending[4] or 1}
end
local time, last = redis.call('TIME'), '0-0'
local info = redis.call('XINFO', 'STREAM', stream)
for i = 1, #info, 2 do if info[i] == 'last-generated-id' then last = info[i + 1] end end
return {took[1], entries, took[3] or {}, time[1] * 1000000 + time[2], last}
