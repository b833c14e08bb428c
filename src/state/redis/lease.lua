-- Takes out of what may be sent, for one node to let in.
-- KEYS: the account. ARGV: µs that one unit takes of its rate, how many may come at once, how many are wanted, and how
-- many it takes to let in a message, without which none is of use.
-- Returns how many it gets; or, as a negative number, after how many µs there are enough.
-- The value is until when what was taken is paid for, in µs of this server's clock. What lies further ahead than may
-- be, no node of this rate wrote, and counts as all that may.
local each, burst, wanted = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local least = math.min(tonumber(ARGV[4]), wanted, burst)
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
local due = tonumber(read(KEYS[1], 20) or '') or now
if due ~= due then due = now end
local ahead = math.min(math.max(due - now, 0), burst * each)
-- The least that is more than rounding.
local left = math.floor(burst - ahead / each + 0.000001)
if left < least then return -math.max(1, math.ceil(ahead - (burst - least) * each)) end
local given = math.min(left, wanted)
ahead = ahead + given * each
redis.call('SET', KEYS[1], string.format('%.0f', now + ahead), 'PX', math.ceil(ahead / 1000) + 1)
return given
