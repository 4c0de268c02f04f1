// How many events one user may get a minute: a counter with an expiry, in one round trip.
const COUNT = `
local count = redis.call('INCR', KEYS[1])
if count == 1 then redis.call('EXPIRE', KEYS[1], 60) end
return count`

export function rateLimit(redis, perMinute) {
  redis.defineCommand('countUp', { numberOfKeys: 1, lua: COUNT })
  return async (userId) => (await redis.countUp(`rate:${userId}`)) <= perMinute
}
