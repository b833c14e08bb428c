-- May this user do what a node does? Tries each command on a key of its own.
-- KEYS: that key. Returns the commands that are refused.
local key = KEYS[1]
local refused = {}
local function try(...)
  local answer = redis.pcall(...)
  local text = type(answer) == 'table' and answer.err
  if text and (string.find(text, 'NOPERM', 1, true) or string.find(text, "can't run this command", 1, true)
      or string.find(text, "can't access", 1, true)) then
    local command = { ... }
    refused[#refused + 1] = string.lower(command[1])
  end
end
try('TIME')
try('DEL', key)
try('SET', key, 'x', 'PX', 1000)
try('GETRANGE', key, 0, 1)
try('EXISTS', key)
try('TYPE', key)
try('PTTL', key)
try('PEXPIRE', key, 1000)
try('DEL', key)
try('ZADD', key, 1, 'x')
try('ZCARD', key)
try('ZSCORE', key, 'x')
try('ZRANGE', key, 0, 1)
try('ZRANGEBYSCORE', key, 0, 1)
try('ZREM', key, 'x')
try('ZREMRANGEBYSCORE', key, 0, 1)
return refused
