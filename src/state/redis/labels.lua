-- Tells the labels of a conversation, and renews their life.
-- KEYS: its labels. ARGV: ms to live, labels that are read.
-- A sorted set whose scores say nothing, since nodes have the right to those.
redis.call('PEXPIRE', KEYS[1], ARGV[1])
return redis.call('ZRANGE', KEYS[1], 0, ARGV[2] - 1)
