-- Adds labels to a conversation: all of them, or none.
-- KEYS: its labels, the conversations that the sender's messages have labelled, by when that counts no more.
-- ARGV: ms to live, labels of a conversation, conversations of a sender, the conversation; then labels.
-- Returns 0: done; 1: too many labels; 2: too many conversations.
local FIRST = 5
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local life, conversation = tonumber(ARGV[1]), ARGV[4]
local new = {}
for at = FIRST, #ARGV do
  if not redis.call('ZSCORE', KEYS[1], ARGV[at]) then new[#new + 1] = ARGV[at] end
end
if #new > 0 then
  if redis.call('ZCARD', KEYS[1]) + #new > tonumber(ARGV[2]) then return 1 end
  redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now)
  local known = redis.call('ZSCORE', KEYS[2], conversation)
  if not known and redis.call('ZCARD', KEYS[2]) >= tonumber(ARGV[3]) then return 2 end
  for _, label in ipairs(new) do redis.call('ZADD', KEYS[1], 0, label) end
  redis.call('ZADD', KEYS[2], now + life, conversation)
  redis.call('PEXPIRE', KEYS[2], life)
end
redis.call('PEXPIRE', KEYS[1], life)
return 0
