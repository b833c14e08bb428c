-- Renews an agent's entry and its places in the indexes.
-- KEYS: the entry, the index of the tenant's agents, the tenant's epoch.
-- ARGV: id, time to live in ms, prefix of capability keys, life of an index in ms.
-- Returns 1, or 0 when the agent is not registered (any more).
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local id, ttl, prefix = ARGV[1], tonumber(ARGV[2]), ARGV[3]
local entry = redis.call('GET', KEYS[1])
local renewed, changed = 0, false
if entry then
  local ok, known = pcall(cjson.decode, entry)
  if not ok or type(known) ~= 'table' or type(known.capabilities) ~= 'table' then
    return redis.error_reply('UNEXPECTED an agent entry that cannot be read')
  end
  redis.call('PEXPIRE', KEYS[1], ttl)
  -- An index that had lost the agent is one that changes.
  changed = redis.call('ZADD', KEYS[2], now + ttl, id) == 1
  redis.call('PEXPIRE', KEYS[2], ARGV[4])
  for _, capability in ipairs(known.capabilities) do
    local key = prefix .. capability
    redis.call('ZREMRANGEBYSCORE', key, '-inf', now)
    changed = redis.call('ZADD', key, now + ttl, id) == 1 or changed
    redis.call('PEXPIRE', key, ARGV[4])
  end
  renewed = 1
end
if redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now) > 0 or changed then
  redis.call('SET', KEYS[3], string.format('%d%06d', time[1], time[2]), 'PX', ARGV[4])
end
return renewed
