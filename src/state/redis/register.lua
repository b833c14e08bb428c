-- Adds or replaces an agent's entry, within the tenant's quota.
-- KEYS: the entry, the index of the tenant's agents, the tenant's epoch.
-- ARGV: id, entry as JSON, time to live in ms, agents allowed, prefix of capability keys, life of
--       an index in ms, then the capabilities.
-- Returns {1, 0}, or {0, live agents} when the quota is used up.
-- The capability keys are made here because the old entry names some; all share the tenant's slot.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local id, entry, ttl, prefix = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[5]
local old = redis.call('GET', KEYS[1])
local changed = redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now) > 0

local function bump()
  redis.call('SET', KEYS[3], string.format('%d%06d', time[1], time[2]), 'PX', ARGV[6])
end

if not old then
  local live = redis.call('ZCARD', KEYS[2])
  if redis.call('ZSCORE', KEYS[2], id) then
    live = live - 1
  end
  if live >= tonumber(ARGV[4]) then
    if changed then
      bump()
    end
    return { 0, live }
  end
end

if old ~= entry then
  changed = true
  if old then
    local ok, known = pcall(cjson.decode, old)
    if not ok or type(known) ~= 'table' or type(known.capabilities) ~= 'table' then
      return redis.error_reply('UNEXPECTED an agent entry that cannot be read')
    end
    for _, capability in ipairs(known.capabilities) do
      redis.call('ZREM', prefix .. capability, id)
    end
  end
end

redis.call('SET', KEYS[1], entry, 'PX', ttl)
-- An index that had lost the agent is one that changes.
changed = redis.call('ZADD', KEYS[2], now + ttl, id) == 1 or changed
redis.call('PEXPIRE', KEYS[2], ARGV[6])
for i = 7, #ARGV do
  local key = prefix .. ARGV[i]
  redis.call('ZREMRANGEBYSCORE', key, '-inf', now)
  changed = redis.call('ZADD', key, now + ttl, id) == 1 or changed
  redis.call('PEXPIRE', key, ARGV[6])
end
if changed then
  bump()
end
return { 1, 0 }
