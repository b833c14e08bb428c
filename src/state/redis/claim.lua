-- Claims a message that was claimed or settled before; a first claim is a plain SET NX.
-- KEYS: the message. ARGV: digest (32 bytes), token (8 bytes), lease in ms, window in ms.
-- Returns M: mine; T: taken over; C: conflict; W and ms: another's lease runs so long; S and the
-- verdict: settled.
-- The value is one of
--   P, digest, token, r and ms: claimed by a plain SET; its lease ends when the entry has so long left
--     to live. Its claimer wrote that: another node's window or lease may be different
--   P or T, digest, token, end of the lease in ms: claimed by this script, T when the first holder's
--     lease had run out
--   S, digest, verdict: settled
local value = redis.call('GET', KEYS[1])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local state = 'P'
if value then
  state = string.sub(value, 1, 1)
  if #value < 33 or (state ~= 'S' and state ~= 'P' and state ~= 'T') then
    return redis.error_reply('UNEXPECTED a message entry that cannot be read')
  end
  if string.sub(value, 2, 33) ~= ARGV[1] then
    return 'C'
  end
  if state == 'S' then
    return 'S' .. string.sub(value, 34)
  end
  local rest, lease = string.match(value, '^(r?)(%d+)$', 42)
  if not lease or (rest == 'r' and state ~= 'P') then
    return redis.error_reply('UNEXPECTED a message entry that cannot be read')
  end
  local lease_left
  if rest == 'r' then
    lease_left = redis.call('PTTL', KEYS[1]) - lease
  else
    lease_left = lease - now
  end
  if lease_left > 0 then
    return 'W' .. string.format('%.0f', lease_left)
  end
  state = 'T'
end
local lease_end = string.format('%.0f', now + ARGV[3])
redis.call('SET', KEYS[1], state .. ARGV[1] .. ARGV[2] .. lease_end, 'PX', ARGV[4])
return state == 'T' and 'T' or 'M'
