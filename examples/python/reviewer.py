"""Somebody who decides, in plain nats-py:
python reviewer.py SERVER TENANT/AGENT SEED_FILE [approve|reject COMMENT]

Shows what waits; with a choice, votes on the oldest that waits for this reviewer."""

import asyncio
import json
import sys

import nats


async def main(server, who, seed_file, choice=None, comment=""):
    agent = who.split("/")[1]
    nc = await nats.connect(server, nkeys_seed=seed_file, inbox_prefix=f"_INBOX.{agent}".encode())

    async def ask(verb, body):
        answer = json.loads((await nc.request(f"bus.{agent}.{verb}", json.dumps(body).encode(), timeout=5)).data)
        if answer["status"] != "ok":
            sys.exit(f"{answer['reason']} ({answer['code']}): {answer['detail']}")
        return answer

    waiting = [one for one in (await ask("deliberations", {}))["deliberations"] if one["may_vote"]]
    for one in waiting:
        print(f"{one['id']} {one['sender']} -> {one['to']}: {one['why']}; {one['approves']}", flush=True)
    if not waiting:
        print("nothing waits", flush=True)
    elif choice is not None:
        shown = (await ask("deliberations", {"id": waiting[0]["id"]}))["deliberation"]
        print(json.dumps(shown["message"]["content"]), flush=True)
        # The digest says which content is meant: the one that was shown.
        vote = {"id": shown["id"], "choice": choice, "digest": shown["digest"], "comment": comment}
        print((await ask("vote", vote))["judgement"], flush=True)
    await nc.drain()


asyncio.run(main(*sys.argv[1:]))
