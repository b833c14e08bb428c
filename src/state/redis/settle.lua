-- Stores the verdict of a claimed message for the rest of the window, or for as long as is said.
-- KEYS: the message. ARGV: token (8 bytes), verdict, perhaps ms. The value's form: see claim.lua.
-- Returns 1, or 0 when the claim is no longer the current one.
local value = read(KEYS[1], 128)
if not value then
  return 0
end
if not string.find(value, '^[PTNU]') or string.sub(value, 34, 41) ~= ARGV[1] then
  return 0
end
local settled = 'S' .. string.sub(value, 2, 33) .. ARGV[2]
if ARGV[3] then
  redis.call('SET', KEYS[1], settled, 'PX', ARGV[3])
else
  redis.call('SET', KEYS[1], settled, 'KEEPTTL')
end
return 1
