-- Puts a new seal on an agent's entry, unless the entry has changed meanwhile.
-- KEYS: the entry. ARGV: the entry as it was, the entry with its new seal.
-- Returns 1, or 0 when it had changed.
if read(KEYS[1], #ARGV[1]) ~= ARGV[1] then
  return 0
end
redis.call('SET', KEYS[1], ARGV[2], 'KEEPTTL')
return 1
