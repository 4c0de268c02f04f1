-- forget_consumers: remove consumers of a group that are gone: nothing pending, and silent for long. In one step, because
-- XGROUP DELCONSUMER drops what a consumer has pending for ever. One that was only asleep is made anew by its next read.
-- KEYS[1] the stream
-- ARGV[1] group; ARGV[2] silent for at least so many ms
-- Answer  the number removed
local function field(list, name)
  for i = 1, #list, 2 do if list[i] == name then return list[i + 1] end end
end

local removed = 0
for _, consumer in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])) do
  if field(consumer, 'pending') == 0 and field(consumer, 'idle') >= tonumber(ARGV[2]) then
    redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], field(consumer, 'name'))
    removed = removed + 1
  end
end
return removed
