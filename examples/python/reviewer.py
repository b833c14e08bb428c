"""Somebody who decides, in plain nats-py:

    python reviewer.py SERVER TENANT/AGENT SEED_FILE                              shows what waits for this reviewer
    python reviewer.py SERVER TENANT/AGENT SEED_FILE approve|reject ID DIGEST [COMMENT]

A vote names the whole id and the whole digest that were shown: of fewer digits a sender can find two messages."""

import asyncio
import json
import re
import sys

import nats


def show(name, value):
    """A value as JSON in ASCII, so that nothing is unseen; runs of blanks are counted, and each line begins with ours."""
    text = json.dumps(value).replace("\x7f", "\\u007f")
    text = re.sub(" {4,}", lambda blanks: f"[{len(blanks[0])} blanks]", text)
    for begin in range(0, len(text), 55):
        print(f"  {name if begin == 0 else '':19} | {text[begin:begin + 55]}")


async def main(server, who, seed_file, choice=None, id="", digest="", comment=""):
    agent = who.split("/")[1]
    nc = await nats.connect(server, nkeys_seed=seed_file, inbox_prefix=f"_INBOX.{agent}".encode())

    async def ask(verb, body):
        answer = json.loads((await nc.request(f"bus.{agent}.{verb}", json.dumps(body).encode(), timeout=5)).data)
        if answer["status"] != "ok":
            sys.exit(f"{answer['reason']} ({answer['code']}): {answer['detail']!a}")
        return answer

    if choice is None:
        listed = (await ask("deliberations", {}))["deliberations"]
        for one in [one for one in listed if one["may_vote"]]:
            shown = (await ask("deliberations", {"id": one["id"]}))["deliberation"]
            print(f"deliberation {shown['id']}")
            for name in ("why", "approves", "denies"):
                show(name, shown[name])
            # All of the message: metadata, tools, priority and times reach its recipient as the content does.
            for name, value in shown["message"].items():
                show(name, value)
            for vote in shown["votes"]:
                show("vote", vote)
            print(f"  digest {shown['digest']}", flush=True)
        if not any(one["may_vote"] for one in listed):
            print("nothing waits", flush=True)
    else:
        # The bus refuses a vote that names another content than was parked under this id.
        vote = {"id": id, "choice": choice, "digest": digest, "comment": comment}
        print((await ask("vote", vote))["judgement"], flush=True)
    await nc.drain()


if len(sys.argv) not in (4, 7, 8) or (len(sys.argv) > 4 and (len(sys.argv[5]), len(sys.argv[6])) != (24, 64)):
    print(__doc__, file=sys.stderr)
    sys.exit(2)
asyncio.run(main(*sys.argv[1:]))
