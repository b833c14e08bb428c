-- Claims a message that was claimed or settled before; a first claim is a plain SET NX.
-- KEYS: the message. ARGV: digest (32 bytes), token (8 bytes), lease in ms, window in ms, bytes of an
-- entry, longest lease in ms.
-- Returns M: mine; T: taken over; C: another content is claimed; W and ms: another's lease runs so long;
-- S, digest and verdict: settled, perhaps for another content; X: what is there, no node wrote.
-- The value is one of
--   P, digest, token, r and ms: claimed by a plain SET; its lease ends when the entry has so long left
--     to live. Its claimer wrote that: another node's window or lease may be different
--   P or T, digest, token, end of the lease in ms: claimed by this script, T when the first holder's
--     lease had run out
--   S, digest, verdict: settled; the verdict has a seal
local value = read(KEYS[1], tonumber(ARGV[5]))
if (value or spoiled > 0) and redis.call('PTTL', KEYS[1]) == -1 then
  -- Nodes write nothing that stays for ever. Whether the message was delivered cannot be told, and that
  -- doubt has its end, too.
  redis.call('PEXPIRE', KEYS[1], ARGV[4])
  spoiled = 1
end
if spoiled > 0 then
  return 'X'
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local state = 'P'
if value then
  state = string.sub(value, 1, 1)
  if #value < 33 then
    return 'X'
  end
  if state == 'S' then
    return value
  end
  local rest, lease = string.match(value, '^(r?)(%d+)$', 42)
  if (state ~= 'P' and state ~= 'T') or not lease or #lease > 18 or (rest == 'r' and state ~= 'P') then
    return 'X'
  end
  if string.sub(value, 2, 33) ~= ARGV[1] then
    return 'C'
  end
  local lease_left
  if rest == 'r' then
    lease_left = redis.call('PTTL', KEYS[1]) - lease
  else
    lease_left = lease - now
  end
  if lease_left > tonumber(ARGV[6]) then
    return 'X'
  end
  if lease_left > 0 then
    return 'W' .. string.format('%.0f', lease_left)
  end
  state = 'T'
end
local lease_end = string.format('%.0f', now + ARGV[3])
redis.call('SET', KEYS[1], state .. ARGV[1] .. ARGV[2] .. lease_end, 'PX', ARGV[4])
return state == 'T' and 'T' or 'M'
