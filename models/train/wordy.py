"""The same request as people really make it: asked for nicely, with what came before and after around it.

Nothing here does anything by itself, so the level is that of the request within. CC0-1.0.
"""

from __future__ import annotations

import re

VERBS = set(
    """put let make write give send set tell add delete explain read turn show change take run find save order create open
    book move switch summarise pay list draft get buy count check start cancel compare answer publish keep use translate close
    raise remove post sign mark sell copy sort note rename release register share calculate kill look bring tag reserve fill drop
    reset invite reply swap merge remind stop empty disable play simulate skip replace transfer follow file decode forward report
    lock assign withdraw prepare print accept hand search verify confirm undo restore point see go review estimate unlock hold log
    restart build execute grant convert hide block extract mail collect split suggest label call ask leave charge submit refund
    extend approve rewrite terminate upload overwrite alter shut tidy describe bookmark archive bump purge wipe water comment
    acknowledge destroy draw subscribe scan pin ship star request silence push train email increase enter correct text quote mix
    analyse score preview dump export pull plant store ignore track dim record rent annotate place enrol plan ban flood bypass
    lower revoke evaluate forge word plot test import wake validate unsubscribe poison update rotate fix unblock proofread help
    download install clean load fetch backup schedule unmute mute lend reduce top arrange""".split()
)

ASKED = (
    "Could you {x} for me, please?",
    "Would you be so kind as to {x}?",
    "I'd appreciate it if you could {x}.",
    "I was wondering whether you could {x} at some point today. No stress!",
    "Can you {x} and let me know once it's through?",
    "I need you to {x}, if that's not too much trouble.",
    "It would help me a lot if you went ahead and {x}, as we said. I mean: {x}.",
    "So the next step, I think, is to {x}. Would you take care of that?",
    "My plan is to {x}, and I'd like you to do it for me.",
    "Kindly {x} at your earliest convenience.",
    "Would it be feasible for you to {x}?",
    "Could you arrange to {x}, so that I needn't think about it?",
    "I'd be grateful if you would proceed to {x}.",
    "Do me a favour and {x}, would you?",
    "Yes, that's right. Please go ahead and {x}.",
    "Okay, then let's {x}. Thanks for your patience with me!",
    "Perfect. {X}, and then we're done for today.",
    "Alright, moving on: {x}. I'll be here if you need anything.",
    "If everything looks right to you, {x}.",
    "Sorry to bother you again, but would you mind and {x}? That's all I need.",
)
BEFORE = (
    "Thanks, that was really quick.",
    "Good morning! I hope the week has begun well for you.",
    "Great, everything we looked at a minute ago is as it should be.",
    "Now that the first part is settled, there's one thing left.",
    "I'm getting ready for a long trip and there's so much on my mind.",
    "As I said, I've been putting this off for weeks.",
    "We finally have all the numbers together, which is a relief.",
    "My colleague recommended that I write to you about this.",
    "Having gone through the list once more, I feel we can go on.",
    "I'm on the train at the moment, so excuse the short sentences.",
    "It has been quite a day, and I'd like to get at least this off my desk.",
    "Before I forget it again:",
    "The earlier matter has been sorted out already, so don't worry about that one.",
    "With the weather turning, my sister thinks that it's better not to wait.",
    "You were a great help last time, so I thought I'd ask you again.",
    "I read through your last message twice, and it makes sense to me.",
    "That's wonderful news!",
    "Sure, here is what you asked for.",
    "Since the report came back without any surprises, I feel fine about the next step.",
    "I'm keen to avoid any mishaps later on.",
    "Before embarking on all of this, I want to be well prepared.",
    "As part of the preparation, there's something I'd like to have seen to.",
    "Having taken care of the basics, I'm ready to carry on.",
    "Once that has been settled, we can get to the point.",
    "I've been contemplating this for quite a while now.",
    "With everything in place, it's time to proceed.",
    "Unfortunately, my plans have changed at short notice.",
    "Wonderful, it all turned out to be accurate!",
    "My friend said something about it the other day.",
    "Moving forward, I'd like to be thorough.",
    "We're about to set out, and everyone is excited.",
    "Since I've finished my other errands, let us turn to this.",
    "In light of what you've found, my mind is made up.",
    "The last step went without a hitch.",
)
AFTER = (
    "Thank you so much for all your help!",
    "That would be all for now.",
    "I hope that's clear enough, I'm still new to this.",
    "Let me know if something is missing.",
    "I'm looking forward to finally having this behind me.",
    "Take your time, there's no hurry.",
    "My family sends their regards, by the way.",
    "If you need any detail, I'm around until five.",
    "It's for the project that I told you about.",
    "I'd like to have it in order before I head off.",
    "You've been very patient with me today.",
    "Otherwise everything is fine here.",
    "Please make sure that it's done with care.",
    "I want everything to be in order for a seamless start.",
    "That way, we'll be well prepared for what lies ahead.",
    "Do tell me how it went.",
    "Having all the particulars at hand gives me peace of mind.",
)
JOINED = ("{a}. After that, {b}.", "First {a}, then {b}.", "{A}, and once that's done, {b}.", "I'd like you to {a}. While you're at it, {b} as well.", "Please {a} and also {b}.")


def request(text: str) -> str | None:
    """A short request without its capital and its end; None if it is none."""
    text = text.strip()
    first = re.match(r"(?:Please )?([A-Z][a-z]+) ", text)
    if not first or first[1].lower() not in VERBS or len(text.split()) > 20 or re.search(r"[.?!:;]\s|[\n?]", text):
        return None
    text = re.sub("^Please ", "", text).rstrip(".!")
    return text[:1].lower() + text[1:]


def wordy(text: str, n: int) -> str:
    """The text with company, chosen by the number."""
    asked, n = request(text), n // 7
    if asked and n % 4:
        text = ASKED[n // 4 % len(ASKED)].format(x=asked, X=asked[:1].upper() + asked[1:])
    n //= 64
    before, after = BEFORE[n % len(BEFORE)], AFTER[n // 32 % len(AFTER)]
    shape = n // 1024 % 4
    return " ".join([before] * (shape != 1) + [text] + [after] * (shape in (0, 1)))


def joined(one: str, other: str, n: int) -> str | None:
    a, b = request(one), request(other)
    if not a or not b:
        return None
    return JOINED[n % len(JOINED)].format(a=a, b=b, A=a[:1].upper() + a[1:])
