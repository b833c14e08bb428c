-- Adds what one node has seen of a sender, and tells what all nodes have seen.
-- KEYS: the past. ARGV: the teller, its sequence (0: nothing to add), where the counts end, seconds of
-- the window, scores kept, ms to live with scores and without; then what to add: age, count, ...,
-- score, ...
-- Returns applied, [age, count, ...], [score, ...], spoiled; scores as text, for an integer is all that a
-- number becomes in an answer.
-- The value is MessagePack [[second, count, ...], [teller, sequence, second, ...], [score, ...]].
-- Seconds are those of this server's clock; tellers stand in the order in which they last told.
-- What cannot be a past is none: it would keep what is known of the sender from all nodes for good.
local TELLERS_MAX = 64
local VALUE_MAX = 16384
-- Up to here a number is exact.
local WHOLE_MAX = 9007199254740992
local teller, sequence = ARGV[1], tonumber(ARGV[2])
local ADDED, counts_end = 8, tonumber(ARGV[3])
local window, scores_max = tonumber(ARGV[4]), tonumber(ARGV[5])
local now = tonumber(redis.call('TIME')[1])
local value = read(KEYS[1], VALUE_MAX)
local counts, order, tellers, scores, applied = {}, {}, {}, {}, 0

local function count(second, more)
  -- A clock that was set back: what seems to be of the future counts as of now.
  if second > now then second = now end
  if now - second >= window then return end
  if not counts[second] then
    counts[second] = 0
    order[#order + 1] = second
  end
  counts[second] = counts[second] + more
end

-- NaN is no whole number.
local function whole(number)
  return type(number) == 'number' and number >= 0 and number <= WHOLE_MAX and number == math.floor(number)
end

-- Whether a list has at most so many entries, one after the other, and every one is as it should be.
local function each(list, entries_max, good)
  if type(list) ~= 'table' or #list > entries_max then return false end
  local entries = 0
  for _ in pairs(list) do entries = entries + 1 end
  for at = 1, #list do
    if not good(list[at], at) then return false end
  end
  return entries == #list
end

local function could_be(past)
  return type(past) == 'table' and #past == 3
    and each(past[1], 4 * window, whole)
    and each(past[2], 3 * TELLERS_MAX, function(of, at)
      if at % 3 == 1 then return type(of) == 'string' and #of <= 16 end
      return whole(of)
    end)
    and each(past[3], scores_max, function(of) return type(of) == 'number' and of >= 0 and of <= 1 end)
    and #past[1] % 2 == 0 and #past[2] % 3 == 0
end

if value then
  local readable, past = pcall(cmsgpack.unpack, value)
  if readable and could_be(past) then
    for at = 1, #past[1], 2 do count(past[1][at], past[1][at + 1]) end
    for at = 1, #past[2], 3 do
      if past[2][at] == teller then
        applied = past[2][at + 1]
      elseif math.abs(now - past[2][at + 2]) < 2 * window then
        for of = at, at + 2 do tellers[#tellers + 1] = past[2][of] end
      end
    end
    for at = 1, #past[3] do scores[at] = past[3][at] end
  else
    spoiled = spoiled + 1
  end
end

if sequence > applied then
  applied = sequence
  for at = ADDED, counts_end - 1, 2 do count(now - ARGV[at], tonumber(ARGV[at + 1])) end
  for at = counts_end, #ARGV do scores[#scores + 1] = tonumber(ARGV[at]) end
  while #scores > scores_max do table.remove(scores, 1) end
  while #tellers >= 3 * TELLERS_MAX do
    for _ = 1, 3 do table.remove(tellers, 1) end
  end
  tellers[#tellers + 1] = teller
  tellers[#tellers + 1] = sequence
  tellers[#tellers + 1] = now
  local kept = {}
  for _, second in ipairs(order) do
    kept[#kept + 1] = second
    kept[#kept + 1] = counts[second]
  end
  local life = #scores > 0 and ARGV[6] or ARGV[7]
  redis.call('SET', KEYS[1], cmsgpack.pack({kept, tellers, scores}), 'PX', life)
end

local ages = {}
for _, second in ipairs(order) do
  ages[#ages + 1] = now - second
  ages[#ages + 1] = counts[second]
end
for at = 1, #scores do scores[at] = string.format('%.17g', scores[at]) end
return {applied, ages, scores, spoiled}
