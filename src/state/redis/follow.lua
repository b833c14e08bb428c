-- A message goes: its recipients find what follows from it.
-- KEYS: what all causes of the tenant begin with. ARGV: ms to live, the cause of what follows, how many names; then names,
-- then recipients.
local HEAD, names = 3, tonumber(ARGV[3])
for to = HEAD + names + 1, #ARGV do
  for at = HEAD + 1, HEAD + names do
    local name = ARGV[at]
    local key = KEYS[1] .. ARGV[to] .. ':' .. name
    -- A repeat comes under the same message id: what led to the first one stands.
    if string.sub(name, 1, 8) == 'message:' then
      redis.call('SET', key, ARGV[2], 'PX', ARGV[1], 'NX')
    else
      redis.call('SET', key, ARGV[2], 'PX', ARGV[1])
    end
  end
end
return 0
