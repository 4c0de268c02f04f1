-- watermark: the oldest entry of a stream that its group still carries, and removal of entries it carries no more.
-- KEYS[1] the stream
-- ARGV[1] group; ARGV[2] how many forgotten entries to remove at most (at most 500)
-- Answer  {id or false, published_at of that entry or false, number of forgotten entries removed}
-- "Carried" is pending, or not delivered yet. An entry that is neither (XGROUP DELCONSUMER by hand, a group made at `$`,
-- XACK without XDEL) is never delivered again and would hold the watermark back for ever.
local stream, group = KEYS[1], ARGV[1]

local function first(from) return redis.call('XRANGE', stream, from, '+', 'COUNT', 1)[1] end
local function field(list, name)
  for i = 1, #list, 2 do if list[i] == name then return list[i + 1] end end
  return false
end
local function older(a, b)
  local am, as = a[1]:match('(%d+)-(%d+)')
  local bm, bs = b[1]:match('(%d+)-(%d+)')
  return tonumber(am) < tonumber(bm) or (am == bm and tonumber(as) < tonumber(bs))
end

if redis.call('EXISTS', stream) == 0 then return {false, false, 0} end
local last = false
for _, info in ipairs(redis.call('XINFO', 'GROUPS', stream)) do
  if field(info, 'name') == group then last = field(info, 'last-delivered-id') end
end
local entry = first('-')
local gone = {}
if last then                                          -- no group yet: it will be made at 0, so everything is to come
  local pending = redis.call('XPENDING', stream, group, '-', '+', 1)[1]
  local unread = first('(' .. last)
  entry = pending and first(pending[1]) or unread     -- a pending id may have lost its entry: then the next one
  if unread and entry and older(unread, entry) then entry = unread end
  for _, e in ipairs(redis.call('XRANGE', stream, '-', entry and '(' .. entry[1] or '+', 'COUNT', ARGV[2])) do
    gone[#gone + 1] = e[1]
  end
  if #gone > 0 then redis.call('XDEL', stream, unpack(gone)) end
end
if not entry then return {false, false, #gone} end
return {entry[1], field(entry[2], 'published_at'), #gone}
