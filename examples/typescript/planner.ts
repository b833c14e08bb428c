// An agent that sends, in plain NATS: npx tsx planner.ts SERVER TENANT/AGENT SEED_FILE TO TEXT [HASH]
import { randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { connect, nkeyAuthenticator } from "@nats-io/transport-node";

if (process.argv.length < 7) {
  console.error("usage: npx tsx planner.ts SERVER TENANT/AGENT SEED_FILE TO TEXT [HASH]");
  process.exit(2);
}
const [server, who, seedFile, to, text, hash] = process.argv.slice(2);
const agent = who.split("/")[1];
const nc = await connect({
  servers: server,
  authenticator: nkeyAuthenticator(new TextEncoder().encode(readFileSync(seedFile, "utf8").trim())),
  inboxPrefix: `_INBOX.${agent}`,
});
const outcomes = nc.subscribe(`agent.${agent}.outcome`);

const message = () => ({
  message_id: randomUUID(),
  message_type: "task_request",
  to: { agent: to },
  constitutional_hash: constitution,
  content: { text },
  tools: ["read"],
  created_at: Date.now(),
});

async function call(verb: string, body: object): Promise<any> {
  // Without an answer, ask again with the same bytes, and so the same message_id: the bus does it
  // once, and answers with the verdict it gave.
  for (let attempt = 0; attempt < 4; attempt++) {
    try {
      return (await nc.request(`bus.${agent}.${verb}`, JSON.stringify(body), { timeout: 2000 })).json();
    } catch {
      await sleep(50 * 2 ** attempt);
    }
  }
  throw new Error("no answer from the bus; the same message_id can ask again later");
}

// Unless it was given, the bus says which is in force.
const preferred = (about: any) => about.constitutions.find((it: any) => it.preferred).hash;
const constitution: string = hash ?? preferred(await call("about", {}));
let body = message();
let verdict = await call("send", body);
console.log(`${verdict.status}: ${verdict.reason} (${verdict.code}): ${verdict.detail}`);
const again = await call("send", body); // only to show it: a repeat is not delivered again
console.log(`repeat: ${again.decision_id === verdict.decision_id ? "the same verdict" : "judged anew"}`);

if (["recipient_unknown", "recipient_offline"].includes(verdict.reason)) {
  body = message(); // nobody is there: the bus keeps it
  verdict = await call("submit", body);
  console.log(verdict.status);
}
// A send is stored as well if its text is too long to be read while its sender waits.
if (verdict.status === "stored") {
  setTimeout(() => outcomes.unsubscribe(), 30_000).unref();
  for await (const outcome of outcomes) {
    // What does not name this agent is routed here by a stranger; one that judges hears of others' messages.
    const header = (name: string) => outcome.headers?.get(name);
    if (header("Agentbus-Recipient") !== agent || header("Agentbus-Sender") !== agent) continue;
    if (header("Agentbus-Message-Id") !== body.message_id) continue;
    verdict = outcome.json<any>();
    console.log(`outcome: ${verdict.reason} (${verdict.code}): ${verdict.detail}`);
    break;
  }
}
await nc.drain();
process.exit(verdict.status === "delivered" ? 0 : 1);
