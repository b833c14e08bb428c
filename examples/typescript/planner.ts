// An agent that sends, in plain NATS: npx tsx planner.ts SERVER TENANT/AGENT SEED_FILE TO TEXT [HASH]
import { randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { connect, type Msg, nkeyAuthenticator } from "@nats-io/transport-node";

const [server, who, seedFile, to, text, constitution = "cdd01ef066bc6cf2"] = process.argv.slice(2);
const agent = who.split("/")[1];
const nc = await connect({
  servers: server,
  authenticator: nkeyAuthenticator(new TextEncoder().encode(readFileSync(seedFile, "utf8").trim())),
  inboxPrefix: `_INBOX.${agent}`,
});

const message = JSON.stringify({
  message_id: randomUUID(),
  message_type: "task_request",
  to: { agent: to },
  constitutional_hash: constitution,
  content: { text },
  tools: ["read"],
  created_at: Date.now(),
});

async function send(): Promise<Msg> {
  // Without an answer, ask again with the same bytes, and so the same message_id: the bus delivers
  // it once, and answers with the verdict it gave.
  for (let attempt = 0; attempt < 4; attempt++) {
    try {
      return await nc.request(`bus.${agent}.send`, message, { timeout: 2000 });
    } catch {
      await sleep(50 * 2 ** attempt);
    }
  }
  throw new Error("no answer from the bus; the same message_id can ask again later");
}

const verdict = (await send()).json<any>();
console.log(`${verdict.status}: ${verdict.reason} (${verdict.code}): ${verdict.detail}`);
const again = (await send()).json<any>(); // only to show it: a repeat is not delivered again
console.log(`repeat: ${again.decision_id === verdict.decision_id ? "the same verdict" : "judged anew"}`);
await nc.drain();
process.exit(verdict.status === "delivered" ? 0 : 1);
