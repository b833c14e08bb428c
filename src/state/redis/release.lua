-- Gives a claim back. One that was taken over keeps its doubt: the next claim takes over, too.
-- KEYS: the message. ARGV: token (8 bytes). The value's form: see claim.lua.
-- Returns 1, or 0 when the claim is no longer the current one.
local value = read(KEYS[1], 128)
if not value then
  return 0
end
local state = string.sub(value, 1, 1)
if not string.find(value, '^[PTNU]') or string.sub(value, 34, 41) ~= ARGV[1] then
  return 0
end
if state == 'P' or state == 'N' then
  redis.call('DEL', KEYS[1])
else
  redis.call('SET', KEYS[1], string.sub(value, 1, 41) .. string.gsub(string.sub(value, 42), '%d+$', '0'), 'KEEPTTL')
end
return 1
