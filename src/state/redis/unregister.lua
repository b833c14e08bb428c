-- Removes an agent's entry and its places in the indexes.
-- KEYS: the entry, the index of the tenant's agents, the tenant's epoch.
-- ARGV: id, prefix of capability keys, life of an index in ms, bytes of an entry.
-- Returns {1, spoiled}, or {0, spoiled} when the agent was not registered.
local entry = read(KEYS[1], tonumber(ARGV[4]))
local capabilities = entry and capabilities_of(entry)
-- What cannot be read goes as well.
local gone = redis.call('DEL', KEYS[1])
for _, capability in ipairs(capabilities or {}) do
  local key = ARGV[2] .. capability
  if not mend_index(key) then
    redis.call('ZREM', key, ARGV[1])
  end
end
if not mend_index(KEYS[2]) then
  gone = redis.call('ZREM', KEYS[2], ARGV[1]) + gone
end
if gone > 0 then
  local time = redis.call('TIME')
  redis.call('SET', KEYS[3], string.format('%d%06d', time[1], time[2]), 'PX', ARGV[3])
end
return { capabilities and 1 or 0, spoiled }
