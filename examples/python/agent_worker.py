"""An agent that takes work, in plain nats-py: python agent_worker.py SERVER TENANT/AGENT SEED_FILE [COUNT]"""

import asyncio
import json
import random
import sys

import nats


async def main(server, who, seed_file, count=None):
    agent = who.split("/")[1]
    # The inbox prefix is the only place where this user may receive answers.
    nc = await nats.connect(server, nkeys_seed=seed_file, inbox_prefix=f"_INBOX.{agent}".encode())

    async def ask(verb, body):
        answer = await nc.request(f"bus.{agent}.{verb}", json.dumps(body).encode(), timeout=5)
        return json.loads(answer.data)

    async def stay_registered(ttl_ms):
        while True:  # a third of the time to live, a little earlier each time by chance
            await asyncio.sleep(ttl_ms / 3000 * random.uniform(0.8, 1.0))
            await ask("heartbeat", {})

    inbox = await nc.subscribe(f"agent.{agent}.inbox")
    # JSON in the inbox, however the sender wrote it.
    registered = await ask("register", {"capabilities": ["sum"], "encoding": "json"})
    if registered["status"] != "ok":
        sys.exit(f"cannot register: {registered['detail']}")
    heartbeat = asyncio.create_task(stay_registered(registered["ttl_ms"]))
    print(f"{who} is ready", flush=True)

    seen = 0
    async for delivery in inbox.messages:
        # Whatever does not bear this header is not from the bus: a stranger can make the server
        # send a verdict here, but cannot set this header.
        if "Agentbus-Delivery" not in (delivery.headers or {}):
            print("dropped: not delivered by the bus", flush=True)
            continue
        message = json.loads(delivery.data)
        print(f"{message['from_agent']} says {json.dumps(message['content'])}", flush=True)
        seen += 1
        if count is not None and seen >= int(count):
            break

    heartbeat.cancel()
    await ask("unregister", {})
    await nc.drain()


asyncio.run(main(*sys.argv[1:]))
