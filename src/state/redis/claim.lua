-- Claims a message that was claimed or settled before; a first claim is a plain SET NX.
-- KEYS: the message. ARGV: digest (32 bytes), token (8 bytes), lease in ms, window in ms, bytes of an
-- entry, longest lease in ms, decision of the claimer or nothing.
-- Returns M: mine; T and the first holder's decision, if it has named one: taken over; C: another content is
-- claimed; W and ms: another's lease runs so long; S, digest and verdict: settled, perhaps for another content;
-- X: what is there, no node wrote.
-- The value is one of
--   P, digest, token, r and ms: claimed by a plain SET; its lease ends when the entry has so long left
--     to live. Its claimer wrote that: another node's window or lease may be different
--   P or T, digest, token, end of the lease in ms: claimed by this script, T when the first holder's
--     lease had run out
--   N or U, digest, token, decision, a blank, and what P or T has then: the same of a holder that records under
--     the name of its decision; U keeps that of the first
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
-- Of `domain::DecisionId`, and at most so long.
local DECISION, DECISION_MAX = '^(' .. string.rep('[0-9a-f]', 16) .. '%-%d+%-%d+)', 48
local decision = ARGV[7]
local state = decision == '' and 'P' or 'N'
if value then
  state = string.sub(value, 1, 1)
  if #value < 33 then
    return 'X'
  end
  if state == 'S' then
    return value
  end
  local rest, lease
  if state == 'N' or state == 'U' then
    decision, rest, lease = string.match(value, DECISION .. ' (r?)(%d+)$', 42)
  elseif state == 'P' or state == 'T' then
    decision = ''
    rest, lease = string.match(value, '^(r?)(%d+)$', 42)
  end
  if not lease or #lease > 18 or #decision > DECISION_MAX or (rest == 'r' and state ~= 'P' and state ~= 'N') then
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
  state = decision == '' and 'T' or 'U'
end
local named = decision == '' and '' or decision .. ' '
local lease_end = string.format('%.0f', now + ARGV[3])
redis.call('SET', KEYS[1], state .. ARGV[1] .. ARGV[2] .. named .. lease_end, 'PX', ARGV[4])
if state == 'T' or state == 'U' then
  return 'T' .. decision
end
return 'M'
