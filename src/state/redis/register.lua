-- Adds or replaces an agent's entry, within the tenant's quota.
-- KEYS: the entry, the index of the tenant's agents, the tenant's epoch.
-- ARGV: id, entry as JSON, time to live in ms, agents allowed, prefix of capability keys, life of
--       an index in ms, bytes of an entry, prefix of entries' keys, members looked at, then the
--       capabilities.
-- Returns {1, what stood there, spoiled}: 0 nothing, 1 the same, 2 another entry; or {0, live agents, spoiled} when the quota is used up.
-- The capability keys are made here because the old entry names some; all share the tenant's slot.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local id, entry, ttl, prefix = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[5]
local old = read(KEYS[1], tonumber(ARGV[7]))
local changed = mend_index(KEYS[2])
changed = redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now) > 0 or changed

local function bump()
  redis.call('SET', KEYS[3], string.format('%d%06d', time[1], time[2]), 'PX', ARGV[6])
end

local function live()
  local count = redis.call('ZCARD', KEYS[2])
  if redis.call('ZSCORE', KEYS[2], id) then
    count = count - 1
  end
  return count
end

if not old then
  local quota = tonumber(ARGV[4])
  local count = live()
  if count >= quota then
    -- Not every member of an index need be an agent.
    local members = redis.call('ZRANGE', KEYS[2], 0, ARGV[9] - 1)
    changed = clean_index(KEYS[2], members, ARGV[8]) > 0 or changed
    count = live()
  end
  if count >= quota then
    if changed then
      bump()
    end
    return { 0, count, spoiled }
  end
end

local before = not old and 0 or unsealed(old) == unsealed(entry) and 1 or 2
if before ~= 1 then
  changed = true
  for _, capability in ipairs(old and capabilities_of(old) or {}) do
    local key = prefix .. capability
    if not mend_index(key) then
      redis.call('ZREM', key, id)
    end
  end
end

redis.call('SET', KEYS[1], entry, 'PX', ttl)
-- An index that had lost the agent is one that changes.
changed = redis.call('ZADD', KEYS[2], now + ttl, id) == 1 or changed
redis.call('PEXPIRE', KEYS[2], ARGV[6])
for i = 10, #ARGV do
  local key = prefix .. ARGV[i]
  mend_index(key)
  redis.call('ZREMRANGEBYSCORE', key, '-inf', now)
  changed = redis.call('ZADD', key, now + ttl, id) == 1 or changed
  redis.call('PEXPIRE', key, ARGV[6])
end
if changed then
  bump()
end
return { 1, before, spoiled }
