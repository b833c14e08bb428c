-- A message goes: its recipients find what follows from it.
-- KEYS: what all causes of the tenant begin with. ARGV: ms to live, the cause of what follows, how many names; then names,
-- then recipients.
local HEAD, names = 3, tonumber(ARGV[3])
for to = HEAD + names + 1, #ARGV do
  for at = HEAD + 1, HEAD + names do
    redis.call('SET', KEYS[1] .. ARGV[to] .. ':' .. ARGV[at], ARGV[2], 'PX', ARGV[1])
  end
end
return 0
