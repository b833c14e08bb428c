-- Removes an agent's entry and its places in the indexes.
-- KEYS: the entry, the index of the tenant's agents, the tenant's epoch.
-- ARGV: id, prefix of capability keys, life of an index in ms.
-- Returns 1, or 0 when the agent was not registered.
local entry = redis.call('GET', KEYS[1])
if not entry then
  return 0
end
local ok, known = pcall(cjson.decode, entry)
if not ok or type(known) ~= 'table' or type(known.capabilities) ~= 'table' then
  return redis.error_reply('UNEXPECTED an agent entry that cannot be read')
end
for _, capability in ipairs(known.capabilities) do
  redis.call('ZREM', ARGV[2] .. capability, ARGV[1])
end
redis.call('DEL', KEYS[1])
redis.call('ZREM', KEYS[2], ARGV[1])
local time = redis.call('TIME')
redis.call('SET', KEYS[3], string.format('%d%06d', time[1], time[2]), 'PX', ARGV[3])
return 1
