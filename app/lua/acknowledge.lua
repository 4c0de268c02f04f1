-- acknowledge: entries are done: off the group's pending list, and off the stream. So XLEN is the backlog, and the oldest entry the
-- oldest work.
-- KEYS[i]    the streams
-- ARGV[1]    group; ARGV[1+i] how many entries of the stream KEYS[i], at most 500
-- ARGV[..]   the ids; those of KEYS[1] first
-- Answer     the number of entries that were pending; or the first error, where all that could be done is done
local at, acknowledged, failed = #KEYS + 2, 0, nil
for k, stream in ipairs(KEYS) do
  local last = at + tonumber(ARGV[1 + k]) - 1
  local count = redis.pcall('XACK', stream, ARGV[1], unpack(ARGV, at, last))
  local deleted = redis.pcall('XDEL', stream, unpack(ARGV, at, last))
  if type(count) == 'table' or type(deleted) == 'table' then
    failed = failed or (type(count) == 'table' and count or deleted)
  else
    acknowledged = acknowledged + count
  end
  at = last + 1
end
return failed or acknowledged
