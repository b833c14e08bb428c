-- Stands before each script: how is read what could be anything?
-- A value is read up to a bound. One of another kind, or a longer one, is one that no node wrote.
-- `spoiled` counts what was found so, for the node to raise an alarm.
local spoiled = 0

-- The text under a key, or nil. What is no text of at most `max` bytes is counted.
local function read(key, max)
  local value = redis.pcall('GETRANGE', key, 0, max)
  if type(value) ~= 'string' or #value > max then
    spoiled = spoiled + 1
    return nil
  end
  if value == '' then
    spoiled = spoiled + redis.call('EXISTS', key)
    return nil
  end
  return value
end
