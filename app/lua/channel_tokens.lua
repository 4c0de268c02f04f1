-- channel_tokens: how many notifications of one channel may be begun now, for all processes together (GCRA, whole microseconds).
-- KEYS[1] the channel's limit: a string, the time in us at which the bucket would be full again; expires once it is
-- ARGV[1] burst: tokens in a full bucket; ARGV[2] us between two tokens; ARGV[3] tokens wanted, at least 1
-- Answer  {tokens granted, us until the next one where none was granted}
-- Any t seconds hold at most burst + t * 1,000,000 / ARGV[2] grants, counted from the last loss of Redis data.
local burst, every, wanted = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local full_at = math.max(tonumber(redis.call('GET', KEYS[1]) or 0), now)
if full_at - now > burst * every then full_at = now + burst * every end      -- the clock stepped back, or the limit was raised
local granted = math.min(wanted, math.floor((now + burst * every - full_at) / every))
if granted < 1 then return {0, full_at + every - now - burst * every} end
full_at = full_at + granted * every
redis.call('SET', KEYS[1], string.format('%.0f', full_at), 'PX', math.ceil((full_at - now) / 1000))
return {granted, 0}
