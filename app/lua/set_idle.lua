-- set_idle: leave entries pending so that each crosses the reclaim window when it is due. Idle time is the retry timer.
-- KEYS[1]  the stream
-- ARGV[1]  group; ARGV[2] consumer
-- ARGV[3+] per entry three values: id, idle time in ms, delivery count to set
-- Answer   the number of entries that were still pending. At most 500 entries a call.
local kept = 0
for i = 3, #ARGV, 3 do
  local got = redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, ARGV[i], 'IDLE', ARGV[i + 1], 'RETRYCOUNT', ARGV[i + 2], 'JUSTID')
  kept = kept + #got
end
return kept
