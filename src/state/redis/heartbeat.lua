-- Renews an agent's entry and its places in the indexes.
-- KEYS: the entry, the index of the tenant's agents, the tenant's epoch.
-- ARGV: id, time to live in ms, prefix of capability keys, life of an index in ms, bytes of an entry.
-- Returns {entry, spoiled}; no entry when the agent is not registered (any more).
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local id, ttl, prefix = ARGV[1], tonumber(ARGV[2]), ARGV[3]
local entry = read(KEYS[1], tonumber(ARGV[5]))
local capabilities = entry and capabilities_of(entry)
local changed = mend_index(KEYS[2])
if capabilities then
  redis.call('PEXPIRE', KEYS[1], ttl)
  -- An index that had lost the agent is one that changes.
  changed = redis.call('ZADD', KEYS[2], now + ttl, id) == 1 or changed
  redis.call('PEXPIRE', KEYS[2], ARGV[4])
  for _, capability in ipairs(capabilities) do
    local key = prefix .. capability
    mend_index(key)
    redis.call('ZREMRANGEBYSCORE', key, '-inf', now)
    changed = redis.call('ZADD', key, now + ttl, id) == 1 or changed
    redis.call('PEXPIRE', key, ARGV[4])
  end
end
if redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now) > 0 or changed then
  redis.call('SET', KEYS[3], string.format('%d%06d', time[1], time[2]), 'PX', ARGV[4])
end
return { capabilities and entry or '', spoiled }
