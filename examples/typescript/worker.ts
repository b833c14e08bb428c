// An agent that takes work, in plain NATS: npx tsx worker.ts SERVER TENANT/AGENT SEED_FILE [COUNT]
import { randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";
import { connect, createInbox, type Msg, nkeyAuthenticator } from "@nats-io/transport-node";

if (process.argv.length < 5) {
  console.error("usage: npx tsx worker.ts SERVER TENANT/AGENT SEED_FILE [COUNT]");
  process.exit(2);
}
const [server, who, seedFile, count] = process.argv.slice(2);
const [tenant, agent] = who.split("/");
const nc = await connect({
  servers: server,
  authenticator: nkeyAuthenticator(new TextEncoder().encode(readFileSync(seedFile, "utf8").trim())),
  // The only place where this user may receive answers.
  inboxPrefix: `_INBOX.${agent}`,
  maxReconnectAttempts: -1, // a server that is away is tried for ever
});

async function ask(verb: string, body: object): Promise<any> {
  const answer = await nc.request(`bus.${agent}.${verb}`, JSON.stringify(body), { timeout: 5000 });
  return answer.json();
}

const responses: Record<string, string> = {
  query: "response", task_request: "task_response", governance_request: "governance_response",
};
function answer(question: Msg, { message_id, message_type, from_agent, constitutional_hash, content }: any) {
  if (!(message_type in responses)) return;
  question.respond(JSON.stringify({
    message_id: randomUUID(), message_type: responses[message_type], to: { agent: from_agent },
    in_reply_to: message_id, constitutional_hash, created_at: Date.now(),
    content: { text: `the sum is ${(JSON.stringify(content).match(/-?[0-9]{1,9}/g) ?? []).reduce((sum, n) => sum + Number(n), 0)}` },
  }));
}
let seen = 0;
let timer: NodeJS.Timeout;
async function take(delivery: Msg) {
  const type = delivery.headers?.get("Content-Type"); // what is not acknowledged comes again, to who can read it
  if (type !== "application/json") return console.log(`not read: ${type}`);
  const message = delivery.json<any>();
  console.log(`${message.from_agent} says ${JSON.stringify(message.content).replace(/[^ -~]/g, (c) => "\\u" + c.charCodeAt(0).toString(16).padStart(4, "0"))}`);
  seen += 1;
  // Of an ask: somebody waits for the answer.
  if (delivery.reply?.startsWith(`bus.${agent}.answer.`)) answer(delivery, message);
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
    // What names no recipient, or another, a stranger has made the server send here; or it is a hint.
    if (delivery.headers?.get("Agentbus-Recipient") === agent) await take(delivery);
    else if (!delivery.headers?.has("Agentbus-Kept")) console.log("dropped: not delivered by the bus");
  }
}

// What came while nobody was here, one by one: an ordinary consumer, asked without a library.
async function readKept() {
  const inbox = createInbox(`_INBOX.${agent}`);
  const answers = nc.subscribe(inbox);
  let again: NodeJS.Timeout;
  function next() {
    nc.publish(`$JS.API.CONSUMER.MSG.NEXT.OUT_${tenant}.${agent}`,
      JSON.stringify({ batch: 1, expires: 1_000_000_000 }), { reply: inbox }); // who has gone gets no more for long
    again = setTimeout(next, 3000); // a server that was away has forgotten the question
  }
  next();
  for await (const answer of answers) {
    clearTimeout(again);
    if (answer.headers?.has("Agentbus-Delivery")) await take(answer);
    else if (answer.reply?.startsWith("$JS.ACK.")) answer.respond("+ACK"); // an outcome
    // Otherwise a status: nothing came, or the server cannot say yet.
    if (answer.reply) next();
    else again = setTimeout(next, 500);
  }
}

listen();
// JSON in the inbox, however the sender wrote it.
const register = () => ask("register", { capabilities: ["sum"], encoding: "json" });
let entry = await register();
if (entry.status !== "ok") throw new Error(`cannot register: ${entry.detail}`);
function stayRegistered() {
  // A third of the time to live, a little earlier each time by chance; 1 s if the bus was away.
  timer = setTimeout(async () => {
    const none = { status: "unheard" };
    const beat = await ask("heartbeat", {}).catch(() => none);
    entry = beat.status === "ok" ? beat : await register().catch(() => none);
    stayRegistered();
  }, ((entry.ttl_ms ?? 3000) / 3) * (0.8 + Math.random() * 0.2));
}
stayRegistered();
console.log(`${who} is ready`);
readKept();
