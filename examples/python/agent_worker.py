"""An agent that takes work, in plain nats-py: python agent_worker.py SERVER TENANT/AGENT SEED_FILE [COUNT]"""

import asyncio
import json
import random
import re
import sys
import time
import uuid

import nats
from nats.errors import Error, TimeoutError

RESPONSES = {"query": "response", "task_request": "task_response", "governance_request": "governance_response"}


async def told(error):
    print(f"NATS: {error!r}", file=sys.stderr, flush=True)


async def main(server, who, seed_file, count=None):
    tenant, agent = who.split("/")
    # The inbox prefix is the only place where this user may receive answers. A server that is away is tried for ever.
    nc = await nats.connect(
        server, nkeys_seed=seed_file, inbox_prefix=f"_INBOX.{agent}".encode(),
        max_reconnect_attempts=-1, error_cb=told)
    work, seen = asyncio.Queue(100), 0

    async def ask(verb, body):
        try:
            answer = await nc.request(f"bus.{agent}.{verb}", json.dumps(body).encode(), timeout=5)
            return json.loads(answer.data)
        except Error as error:
            return {"status": "unheard", "detail": repr(error)}

    def register():
        return ask("register", {"capabilities": ["sum"], "encoding": "json"})

    async def stay_registered(entry):
        while True:  # a third of the time to live, a little earlier each time by chance; 1 s if the bus was away
            await asyncio.sleep(entry.get("ttl_ms", 3000) / 3000 * random.uniform(0.8, 1.0))
            beat = await ask("heartbeat", {})
            entry = beat if beat["status"] == "ok" else await register()

    async def listen(delivery):
        # What names no recipient, or another, a stranger has made the server send here.
        headers = delivery.headers or {}
        if headers.get("Agentbus-Recipient") == agent:
            await work.put(delivery)
        elif "Agentbus-Kept" not in headers:  # that only says that something is in the durable inbox
            print("dropped: not delivered by the bus", flush=True)

    async def read_kept():  # what came while nobody was here; an ordinary consumer
        inbox = await nc.jetstream(domain="BUS").pull_subscribe_bind(
            durable=agent, stream=f"OUT_{tenant}", inbox_prefix=f"_INBOX.{agent}.".encode())
        while True:
            try:  # for a moment only: what comes to a request whose agent has gone comes again after 30 s
                await work.put((await inbox.fetch(1, timeout=1))[0])
            except Error as error:  # nothing came, or the server is away
                await asyncio.sleep(0 if isinstance(error, TimeoutError) else 0.5)

    async def answer(question, message):
        if message["message_type"] in RESPONSES:
            body = {
                "message_id": uuid.uuid4().hex, "message_type": RESPONSES[message["message_type"]],
                "to": {"agent": message["from_agent"]}, "in_reply_to": message["message_id"],
                "constitutional_hash": message["constitutional_hash"], "created_at": int(time.time() * 1000),
                "content": {"text": f"the sum is {sum(map(int, re.findall('-?[0-9]{1,9}', str(message['content']))))}"},
            }
            await question.respond(json.dumps(body).encode())

    await nc.subscribe(f"agent.{agent}.inbox", cb=listen)
    registered = await register()
    if registered["status"] != "ok":
        sys.exit(f"cannot register: {registered['detail']}")
    tasks = [asyncio.create_task(task) for task in (stay_registered(registered), read_kept())]
    print(f"{who} is ready", flush=True)
    while count is None or seen < int(count):
        delivery = await work.get()
        if (kind := delivery.headers.get("Content-Type")) != "application/json":
            print(f"not read: {kind}", flush=True)  # not acknowledged: it comes again, to who can read it
            continue
        if "Agentbus-Delivery" in delivery.headers:
            message = json.loads(delivery.data)
            print(f"{message['from_agent']} says {json.dumps(message['content'])}", flush=True)
            seen += 1
            if delivery.reply.startswith(f"bus.{agent}.answer."):  # of an ask: somebody waits
                await answer(delivery, message)
        if delivery.reply.startswith("$JS.ACK."):
            await delivery.ack()  # done: it does not come again
    for task in tasks:
        task.cancel()
    await ask("unregister", {})
    await nc.drain()


if len(sys.argv) not in (4, 5):
    print(__doc__, file=sys.stderr)
    sys.exit(2)
asyncio.run(main(*sys.argv[1:]))
