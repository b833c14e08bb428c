-- Removes agents whose time is over, and returns the tenant's epoch.
-- KEYS: the index of the tenant's agents, the tenant's epoch.
-- ARGV: life of an index in ms.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now) > 0 then
  redis.call('SET', KEYS[2], string.format('%d%06d', time[1], time[2]), 'PX', ARGV[1])
end
return redis.call('GET', KEYS[2]) or '0'
