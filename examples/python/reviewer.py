"""Somebody who decides, in plain nats-py: python reviewer.py SERVER TENANT/AGENT SEED_FILE [approve|reject DIGEST [COMMENT]]

Shows what waits for this reviewer; with a choice, votes on the one whose digest begins with DIGEST."""

import asyncio
import json
import sys

import nats


async def main(server, who, seed_file, choice=None, digest="", comment=""):
    agent = who.split("/")[1]
    nc = await nats.connect(server, nkeys_seed=seed_file, inbox_prefix=f"_INBOX.{agent}".encode())

    async def ask(verb, body):
        answer = json.loads((await nc.request(f"bus.{agent}.{verb}", json.dumps(body).encode(), timeout=5)).data)
        if answer["status"] != "ok":
            sys.exit(f"{answer['reason']} ({answer['code']}): {answer['detail']}")
        return answer

    waiting = [one for one in (await ask("deliberations", {}))["deliberations"] if one["may_vote"]]
    if choice is None:
        for one in waiting:
            shown = (await ask("deliberations", {"id": one["id"]}))["deliberation"]
            print(f"{one['id']} {one['sender']} -> {one['to']}: {one['why']}; {one['approves']}")
            # json.dumps escapes what would not be seen.
            print(f"  {json.dumps(shown['message']['content'])}\n  digest {one['digest'][:12]}", flush=True)
        if not waiting:
            print("nothing waits", flush=True)
    else:
        # The digest says which content is meant: the one that was shown.
        meant = [one for one in waiting if len(digest) >= 8 and one["digest"].startswith(digest)]
        if len(meant) != 1:
            sys.exit(f"{len(meant)} wait with a digest that begins with {digest!r}, of 8 digits at least")
        vote = {"id": meant[0]["id"], "choice": choice, "digest": meant[0]["digest"], "comment": comment}
        print((await ask("vote", vote))["judgement"], flush=True)
    await nc.drain()


if len(sys.argv) not in (4, 6, 7):
    print(__doc__, file=sys.stderr)
    sys.exit(2)
asyncio.run(main(*sys.argv[1:]))
