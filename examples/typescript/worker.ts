// An agent that takes work, in plain NATS: npx tsx worker.ts SERVER TENANT/AGENT SEED_FILE [COUNT]
import { readFileSync } from "node:fs";
import { connect, nkeyAuthenticator } from "@nats-io/transport-node";

const [server, who, seedFile, count] = process.argv.slice(2);
const agent = who.split("/")[1];
const nc = await connect({
  servers: server,
  authenticator: nkeyAuthenticator(new TextEncoder().encode(readFileSync(seedFile, "utf8").trim())),
  // The only place where this user may receive answers.
  inboxPrefix: `_INBOX.${agent}`,
});

async function ask(verb: string, body: object): Promise<any> {
  const answer = await nc.request(`bus.${agent}.${verb}`, JSON.stringify(body), { timeout: 5000 });
  return answer.json();
}

const inbox = nc.subscribe(`agent.${agent}.inbox`);
// JSON in the inbox, however the sender wrote it.
const registered = await ask("register", { capabilities: ["sum"], encoding: "json" });
if (registered.status !== "ok") throw new Error(`cannot register: ${registered.detail}`);

let timer: NodeJS.Timeout;
function stayRegistered() {
  // A third of the time to live, a little earlier each time by chance.
  const wait = (registered.ttl_ms / 3) * (0.8 + Math.random() * 0.2);
  timer = setTimeout(() => ask("heartbeat", {}).catch(() => {}).finally(stayRegistered), wait);
}
stayRegistered();
console.log(`${who} is ready`);

let seen = 0;
for await (const delivery of inbox) {
  // Whatever does not bear this header is not from the bus: a stranger can make the server send a
  // verdict here, but cannot set this header.
  if (!delivery.headers?.has("Agentbus-Delivery")) {
    console.log("dropped: not delivered by the bus");
    continue;
  }
  const message = delivery.json<any>();
  console.log(`${message.from_agent} says ${JSON.stringify(message.content)}`);
  seen += 1;
  if (count !== undefined && seen >= Number(count)) break;
}
clearTimeout(timer!);
await ask("unregister", {});
await nc.drain();
process.exit(0);
