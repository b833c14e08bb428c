"""An agent that sends, in plain nats-py: python agent_planner.py SERVER TENANT/AGENT SEED_FILE TO TEXT [HASH]"""

import asyncio
import json
import sys
import time
import uuid

import nats
from nats.errors import NoRespondersError, TimeoutError


async def main(server, who, seed_file, to, text, constitution="cdd01ef066bc6cf2"):
    agent = who.split("/")[1]
    nc = await nats.connect(server, nkeys_seed=seed_file, inbox_prefix=f"_INBOX.{agent}".encode())
    message = json.dumps({
        "message_id": uuid.uuid4().hex,
        "message_type": "task_request",
        "to": {"agent": to},
        "constitutional_hash": constitution,
        "content": {"text": text},
        "tools": ["read"],
        "created_at": int(time.time() * 1000),
    }).encode()

    async def send():
        # Without an answer, ask again with the same bytes, and so the same message_id: the bus
        # delivers it once, and answers with the verdict it gave.
        for attempt in range(4):
            try:
                return await nc.request(f"bus.{agent}.send", message, timeout=2)
            except (TimeoutError, NoRespondersError):
                await asyncio.sleep(0.05 * 2**attempt)
        sys.exit("no answer from the bus; the same message_id can ask again later")

    answer = await send()
    verdict = json.loads(answer.data)
    print(f"{verdict['status']}: {verdict['reason']} ({verdict['code']}): {verdict['detail']}", flush=True)

    again = await send()  # only to show it: a repeat is not delivered again
    same = json.loads(again.data)["decision_id"] == verdict["decision_id"]
    print(f"repeat: {'the same verdict' if same else 'judged anew'}", flush=True)
    await nc.drain()
    sys.exit(0 if verdict["status"] == "delivered" else 1)


asyncio.run(main(*sys.argv[1:]))
