-- Tells what follows from a delivery that an agent hands back.
-- KEYS: what all causes of what it got begin with. ARGV: bytes of a cause, what the message answers or nothing, the span it
-- goes on with or nothing, to whom it goes or nothing, the claim of that one's message of this name or nothing, the
-- conversation if no cause is known, the prefix of conversations, the followers of what it answers or nothing.
-- Returns the cause or nothing, followers, messages of the conversation, spoiled.
-- A cause is `hops conversation sender:decision …`, the last sender that of the delivery; a count is digits.
local BYTES, ANSWERED, SPAN, TO, CLAIM, CONVERSATION, PREFIX, FOLLOWERS = unpack(ARGV)

local function cause(kind, name)
  return name ~= '' and read(KEYS[1] .. kind .. name, tonumber(BYTES)) or nil
end

local function count(key)
  local found = key ~= '' and read(key, 9)
  return found and tonumber(string.match(found, '^%d+$')) or 0
end

local known = cause('message:', ANSWERED)
-- Another has sent it a message of the same name: what goes to an agent answers that agent's own.
if known and CLAIM ~= '' and string.match(known, '([^ :]+):[^ ]+$') ~= TO and redis.call('EXISTS', CLAIM) == 1 then
  known = nil
end
-- No sender chooses a decision's name.
known = cause('decision:', ANSWERED) or known or cause('span:', SPAN)
local conversation = known and string.match(known, '^%d+ (%S+)') or CONVERSATION
return { known or '', count(FOLLOWERS), count(PREFIX .. conversation), spoiled }
