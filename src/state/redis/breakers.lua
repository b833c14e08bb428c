-- What have all nodes seen of what they ask behind breakers, and who may try what is open?
-- KEYS: the table, one JSON object: name -> until (ms by this server's clock), probe (until when one is out), and ten
-- buckets of a second: second, good calls, bad ones.
-- ARGV: bytes of the table at most, names of it at most; then for each name: it, good, bad, faults that open it, ms that
-- it is open yet for who tells (0: it is closed there), 1 if a probe has closed it, 1 if its pause is over.
-- For all it opens where a node has it open and the counts of all say the same, SURE seconds after its first fault: by
-- then those to whom it answers have told their good calls.
-- Returns for each name of the table: it, ms that it is open yet, 1 if who asks may try.
local HEAD, WIDTH, BUCKETS, SURE, PROBE_MS, LIFE_MS, NAME_MAX = 2, 7, 10, 2, 5000, 120000, 300
local time = redis.call('TIME')
local second = tonumber(time[1])
local now = second * 1000 + math.floor(time[2] / 1000)

-- What no node wrote is as if it were not there.
local function stored()
  local readable, found = pcall(cjson.decode, read(KEYS[1], tonumber(ARGV[1])))
  if not readable or type(found) ~= 'table' then return {} end
  return found
end

local function number(found)
  return type(found) == 'number' and found == found and found >= 0 and found < 1e15 and found or 0
end

local function entry(found)
  local clean = { untl = 0, probe = 0, good = 0, bad = 0, buckets = {} }
  if type(found) ~= 'table' then return clean end
  -- Nobody opens it for longer than an hour, whatever stands there.
  clean.untl = math.min(number(found.untl), now + 3600000)
  clean.probe = math.min(number(found.probe), now + PROBE_MS)
  local buckets = type(found.buckets) == 'table' and found.buckets or {}
  for at = 1, BUCKETS do
    local bucket = type(buckets[at]) == 'table' and buckets[at] or {}
    local of, good, bad = number(bucket[1]), number(bucket[2]), number(bucket[3])
    if of > second - BUCKETS and of <= second then
      clean.good, clean.bad = clean.good + good, clean.bad + bad
      clean.buckets[#clean.buckets + 1] = { of, good, bad }
    end
  end
  return clean
end

local function is_sure(of, faults)
  local first = second
  for _, bucket in ipairs(of.buckets) do
    if bucket[3] > 0 then first = math.min(first, bucket[1]) end
  end
  return of.bad >= faults and of.bad >= of.good and first <= second - SURE
end

local function add(to, good, bad)
  to.good, to.bad = to.good + good, to.bad + bad
  for _, bucket in ipairs(to.buckets) do
    if bucket[1] == second then
      bucket[2], bucket[3] = bucket[2] + good, bucket[3] + bad
      return
    end
  end
  to.buckets[#to.buckets + 1] = { second, good, bad }
end

local all, count = {}, 0
for name, found in pairs(stored()) do
  local clean = entry(found)
  local fits = count < tonumber(ARGV[2]) and type(name) == 'string' and #name <= NAME_MAX
  if fits and (clean.bad > 0 or clean.untl > now or clean.probe > now) then
    all[name], count = clean, count + 1
  end
end
local granted = {}
for at = HEAD + 1, #ARGV, WIDTH do
  local name, good, bad = ARGV[at], tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2])
  local faults, pause = tonumber(ARGV[at + 3]), tonumber(ARGV[at + 4])
  local closed, due = ARGV[at + 5] == '1', ARGV[at + 6] == '1'
  local of = all[name]
  if not of and (bad > 0 or due) and count < tonumber(ARGV[2]) then
    of, count = entry(nil), count + 1
    all[name] = of
  end
  if of and closed then
    all[name], count = nil, count - 1
  elseif of then
    add(of, good, bad)
    if pause > 0 and is_sure(of, faults) then of.untl = math.max(of.untl, now + pause) end
    if due and of.probe <= now then
      of.probe = now + PROBE_MS
      granted[name] = true
    end
  end
end
local answer, kept = {}, {}
for name, of in pairs(all) do
  kept[name] = { untl = of.untl, probe = of.probe, buckets = of.buckets }
  answer[#answer + 1] = { name, math.max(0, of.untl - now), granted[name] and 1 or 0 }
end
if next(kept) then
  redis.call('SET', KEYS[1], cjson.encode(kept), 'PX', LIFE_MS)
else
  redis.call('DEL', KEYS[1])
end
return answer
