-- Removes agents whose time is over, and returns the tenant's epoch.
-- KEYS: the index of the tenant's agents, the tenant's epoch.
-- ARGV: life of an index in ms.
-- Returns {epoch, spoiled of the index, spoiled of the epoch}.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local changed = mend_index(KEYS[1])
changed = redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now) > 0 or changed
local of_index = spoiled
local epoch = read(KEYS[2], 18)
if epoch and not string.find(epoch, '^%d+$') then
  epoch = nil
  spoiled = spoiled + 1
end
-- What is no epoch gives way to one.
if changed or spoiled > of_index then
  epoch = string.format('%d%06d', time[1], time[2])
  redis.call('SET', KEYS[2], epoch, 'PX', ARGV[1])
end
return { epoch or '0', of_index, spoiled - of_index }
