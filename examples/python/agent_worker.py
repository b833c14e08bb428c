"""An agent that takes work, in plain nats-py: python agent_worker.py SERVER TENANT/AGENT SEED_FILE [COUNT]"""

import asyncio
import json
import random
import sys

import nats
from nats.errors import TimeoutError


async def main(server, who, seed_file, count=None):
    tenant, agent = who.split("/")
    # The inbox prefix is the only place where this user may receive answers.
    nc = await nats.connect(server, nkeys_seed=seed_file, inbox_prefix=f"_INBOX.{agent}".encode())
    work, seen = asyncio.Queue(100), 0

    async def ask(verb, body):
        answer = await nc.request(f"bus.{agent}.{verb}", json.dumps(body).encode(), timeout=5)
        return json.loads(answer.data)

    async def stay_registered(ttl_ms):
        while True:  # a third of the time to live, a little earlier each time by chance
            await asyncio.sleep(ttl_ms / 3000 * random.uniform(0.8, 1.0))
            await ask("heartbeat", {})

    async def listen(delivery):
        # What names no recipient, or another, a stranger has made the server send here: a verdict, or a
        # message of its own durable inbox.
        if (delivery.headers or {}).get("Agentbus-Recipient") == agent:
            await work.put(delivery)
        else:
            print("dropped: not delivered by the bus", flush=True)

    async def read_kept():  # what came while nobody was here; an ordinary consumer
        inbox = await nc.jetstream(domain="BUS").pull_subscribe_bind(
            durable=agent, stream=f"OUT_{tenant}", inbox_prefix=f"_INBOX.{agent}.".encode())
        while True:
            try:
                await work.put((await inbox.fetch(1, timeout=5))[0])
            except TimeoutError:
                pass

    await nc.subscribe(f"agent.{agent}.inbox", cb=listen)
    registered = await ask("register", {"capabilities": ["sum"], "encoding": "json"})
    if registered["status"] != "ok":
        sys.exit(f"cannot register: {registered['detail']}")
    tasks = [asyncio.create_task(task) for task in (stay_registered(registered["ttl_ms"]), read_kept())]
    print(f"{who} is ready", flush=True)
    while count is None or seen < int(count):
        delivery = await work.get()
        if "Agentbus-Delivery" in delivery.headers:
            message = json.loads(delivery.data)
            print(f"{message['from_agent']} says {json.dumps(message['content'])}", flush=True)
            seen += 1
        if delivery.reply.startswith("$JS.ACK."):
            await delivery.ack()  # done: it does not come again
    for task in tasks:
        task.cancel()
    await ask("unregister", {})
    await nc.drain()


asyncio.run(main(*sys.argv[1:]))
