-- publish: add entries to streams, in order; those that the process which publishes has claimed already are delivered to it at once.
-- KEYS[i]       the streams
-- ARGV[1]       name of the row field: event or notification
-- ARGV[2, 3]    group and consumer
-- ARGV[2i+2]    how many entries the stream KEYS[i] gets; ARGV[2i+3] the first so many of them are claimed
-- ARGV[..]      per entry five values: row id, event_id, user_id, event_type, published_at (ISO 8601, UTC); those of KEYS[1] first
-- Answer        the ids of the claimed entries, those of KEYS[1] first; or the first error, where all that could be added is in place.
--               At most 500 entries a call.
-- Where older entries are still unread, the claimed ones are not delivered: who reads them later finds their rows in hand, or done.
local row, group, consumer, at, failed, claimed = ARGV[1], ARGV[2], ARGV[3], 2 * #KEYS + 4, nil, {}

local function delivered_up_to(stream)
  local groups = redis.pcall('XINFO', 'GROUPS', stream)
  for _, fields in ipairs(groups) do
    local name, last
    for i = 1, #fields, 2 do
      if fields[i] == 'name' then name = fields[i + 1] elseif fields[i] == 'last-delivered-id' then last = fields[i + 1] end
    end
    if name == group then return last end
  end
  return '0-0'
end

local function all_read(stream)
  if redis.pcall('XLEN', stream) == 0 then return true end
  return #redis.pcall('XRANGE', stream, '(' .. delivered_up_to(stream), '+', 'COUNT', 1) == 0
end

for k, stream in ipairs(KEYS) do
  local mine = tonumber(ARGV[2 * k + 3])
  local read = mine > 0 and all_read(stream)
  for n = 1, tonumber(ARGV[2 * k + 2]) do
    local added = redis.pcall('XADD', stream, '*', row, ARGV[at], 'event_id', ARGV[at + 1], 'user_id', ARGV[at + 2],
      'event_type', ARGV[at + 3], 'published_at', ARGV[at + 4])
    if type(added) == 'table' then failed = failed or added elseif n <= mine then claimed[#claimed + 1] = added end
    if n == mine and read then redis.pcall('XREADGROUP', 'GROUP', group, consumer, 'COUNT', mine, 'STREAMS', stream, '>') end
    at = at + 5
  end
end
return failed or claimed
