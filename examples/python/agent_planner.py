"""An agent that sends, in plain nats-py: python agent_planner.py SERVER TENANT/AGENT SEED_FILE TO TEXT [HASH]"""

import asyncio
import json
import sys
import time
import uuid

import nats
from nats.errors import NoRespondersError, TimeoutError


async def main(server, who, seed_file, to, text, constitution=None):
    agent = who.split("/")[1]
    nc = await nats.connect(server, nkeys_seed=seed_file, inbox_prefix=f"_INBOX.{agent}".encode())
    outcomes = await nc.subscribe(f"agent.{agent}.outcome")

    def message():
        return {
            "message_id": uuid.uuid4().hex,
            "message_type": "task_request",
            "to": {"agent": to},
            "constitutional_hash": constitution,
            "content": {"text": text},
            "tools": ["read"],
            "created_at": int(time.time() * 1000),
        }

    async def call(verb, body):
        # Without an answer, ask again with the same bytes, and so the same message_id: the bus
        # does it once, and answers with the verdict it gave.
        for attempt in range(4):
            try:
                answer = await nc.request(f"bus.{agent}.{verb}", json.dumps(body).encode(), timeout=2)
                return json.loads(answer.data)
            except (TimeoutError, NoRespondersError):
                await asyncio.sleep(0.05 * 2**attempt)
        sys.exit("no answer from the bus; the same message_id can ask again later")

    if constitution is None:  # the bus says which is in force
        about = await call("about", {})
        constitution = next(it["hash"] for it in about["constitutions"] if it["preferred"])
    body = message()
    verdict = await call("send", body)
    print(f"{verdict['status']}: {verdict['reason']} ({verdict['code']}): {verdict['detail']}", flush=True)
    again = await call("send", body)  # only to show it: a repeat is not delivered again
    same = again["decision_id"] == verdict["decision_id"]
    print(f"repeat: {'the same verdict' if same else 'judged anew'}", flush=True)

    if verdict["reason"] in ("recipient_unknown", "recipient_offline"):
        body = message()  # nobody is there: the bus keeps it
        verdict = await call("submit", body)
        print(verdict["status"], flush=True)
    # A send is stored as well if its text is too long to be read while its sender waits.
    while verdict["status"] == "stored":
        outcome = await outcomes.next_msg(timeout=30)
        # What does not name this agent is routed here by a stranger; one that judges hears of others' messages.
        header = (outcome.headers or {}).get
        to_me = header("Agentbus-Recipient") == agent and header("Agentbus-Sender") == agent
        if to_me and header("Agentbus-Message-Id") == body["message_id"]:
            verdict = json.loads(outcome.data)
            print(f"outcome: {verdict['reason']} ({verdict['code']}): {verdict['detail']}", flush=True)
    await nc.drain()
    sys.exit(0 if verdict["status"] == "delivered" else 1)


if len(sys.argv) not in (6, 7):
    print(__doc__, file=sys.stderr)
    sys.exit(2)
asyncio.run(main(*sys.argv[1:]))
