// An agent that takes work, in plain NATS: npx tsx worker.ts SERVER TENANT/AGENT SEED_FILE [COUNT]
import { readFileSync } from "node:fs";
import { connect, createInbox, type Msg, nkeyAuthenticator } from "@nats-io/transport-node";

const [server, who, seedFile, count] = process.argv.slice(2);
const [tenant, agent] = who.split("/");
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

let seen = 0;
let timer: NodeJS.Timeout;
async function take(delivery: Msg) {
  const message = delivery.json<any>();
  console.log(`${message.from_agent} says ${JSON.stringify(message.content)}`);
  seen += 1;
  // From the durable inbox: done, so that it does not come again.
  if (delivery.reply?.startsWith("$JS.ACK.")) delivery.respond("+ACK");
  if (count === undefined || seen < Number(count)) return;
  clearTimeout(timer);
  await ask("unregister", {});
  await nc.drain();
  process.exit(0);
}

async function listen() {
  for await (const delivery of nc.subscribe(`agent.${agent}.inbox`)) {
    // What names no recipient, or another, a stranger has made the server send here: a verdict, or a
    // message of its own durable inbox.
    if (delivery.headers?.get("Agentbus-Recipient") === agent) await take(delivery);
    else console.log("dropped: not delivered by the bus");
  }
}

// What came while nobody was here, one by one: an ordinary consumer, asked without a library.
async function readKept() {
  const inbox = createInbox(`_INBOX.${agent}`);
  const next = { batch: 1, expires: 5_000_000_000 };
  const subject = `$JS.API.CONSUMER.MSG.NEXT.OUT_${tenant}.${agent}`;
  const answers = nc.subscribe(inbox);
  nc.publish(subject, JSON.stringify(next), { reply: inbox });
  for await (const answer of answers) {
    if (answer.headers?.has("Agentbus-Delivery")) await take(answer);
    else if (answer.reply?.startsWith("$JS.ACK.")) answer.respond("+ACK"); // an outcome
    nc.publish(subject, JSON.stringify(next), { reply: inbox });
  }
}

listen();
// JSON in the inbox, however the sender wrote it.
const registered = await ask("register", { capabilities: ["sum"], encoding: "json" });
if (registered.status !== "ok") throw new Error(`cannot register: ${registered.detail}`);
function stayRegistered() {
  // A third of the time to live, a little earlier each time by chance.
  const wait = (registered.ttl_ms / 3) * (0.8 + Math.random() * 0.2);
  timer = setTimeout(() => ask("heartbeat", {}).catch(() => {}).finally(stayRegistered), wait);
}
stayRegistered();
console.log(`${who} is ready`);
readKept();
