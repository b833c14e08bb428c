-- Counts a message that was let through.
-- KEYS: its conversation. ARGV: ms that this lives, the followers of what the message answers or nothing, ms that they live.
-- Returns spoiled.
local function add(key, life)
  local found = read(key, 9)
  local count = found and tonumber(string.match(found, '^%d+$')) or 0
  redis.call('SET', key, string.format('%d', math.min(count + 1, 999999999)), 'PX', life)
end

add(KEYS[1], ARGV[1])
if ARGV[2] ~= '' then add(ARGV[2], ARGV[3]) end
return spoiled
