-- Lists the ids in an index whose time is not over.
-- KEYS: the index. ARGV: the latest end of a time to live, in ms from now; members listed; prefix of
-- entries' keys.
-- Returns {spoiled, id, ...}.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if mend_index(KEYS[1]) then
  return { spoiled }
end
local from, to = '(' .. string.format('%.0f', now), string.format('%.0f', now + ARGV[1])
local function list()
  return redis.call('ZRANGEBYSCORE', KEYS[1], from, to, 'LIMIT', 0, ARGV[2])
end
local ids = list()
-- No tenant has so many: some have no entry, and each reading removes as many as it looks at.
local full = #ids >= tonumber(ARGV[2])
if clean_index(KEYS[1], ids, full and ARGV[3] or nil) > 0 then
  ids = list()
  if full then
    -- Others have come into the places of those that went.
    local known = {}
    for _, id in ipairs(ids) do
      if #id <= 64 then
        known[#known + 1] = id
      end
    end
    ids = known
  end
end
table.insert(ids, 1, spoiled)
return ids
