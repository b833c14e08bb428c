-- Stands before the scripts about agents: what of their entries and indexes is to be believed?

-- What is no index goes: heartbeats make it anew. Returns whether it went.
local function mend_index(key)
  local kind = redis.call('TYPE', key).ok
  if kind == 'zset' or kind == 'none' then
    return false
  end
  spoiled = spoiled + 1
  redis.call('DEL', key)
  return true
end

-- Removes from an index what is not of an agent, and with `entries`, the prefix of their keys, those
-- that have no entry. Looks at no more than so many. Returns how many went.
local function clean_index(key, ids, entries)
  local removed = 0
  for _, id in ipairs(ids) do
    local known = #id <= 64 and string.find(id, '^[a-z0-9_-]+$')
    if not known or (entries and redis.call('EXISTS', entries .. id) == 0) then
      removed = removed + redis.call('ZREM', key, id)
    end
  end
  spoiled = spoiled + removed
  return removed
end

-- The capabilities in an agent's entry, or nil when it cannot be read.
local function capabilities_of(entry)
  local ok, known = pcall(cjson.decode, entry)
  if not ok or type(known) ~= 'table' or type(known.capabilities) ~= 'table' then
    spoiled = spoiled + 1
    return nil
  end
  local found = {}
  for _, capability in ipairs(known.capabilities) do
    if type(capability) == 'string' and #capability <= 128 then
      found[#found + 1] = capability
    end
  end
  return found
end

-- An entry without its seal, which differs each time it is made.
local function unsealed(entry)
  return (string.gsub(entry, ',"seal":"[%w_-]*"}$', '}'))
end
