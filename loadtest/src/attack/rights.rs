//! What may an agent's key do at the server? Its own lane, and nothing else.

use super::{field::Field, raw::publish};

fn publishes() -> Vec<String> {
    let mut subjects: Vec<String> = [
        "bus.worker.send",
        "bus.planner.unregister",
        "agent.worker.inbox",
        "agent.mallory.inbox",
        "tenant.acme.agent.worker.inbox",
        "tenant.acme.bus.planner.send",
        "tenant.globex.bus.worker.send",
        "tenant.acme.submitted.planner.m1",
        "tenant.acme.stored.worker.message.planner.m1",
        "deliberation.acme.000000000000000000000000.decided",
        "dead.acme.planner.m1",
        "record.acme.planner.m1.intent",
        "directory.acme",
        "$KV.agentbus_tenants.acme",
        "$KV.agentbus_thresholds.acme",
        "$SYS.REQ.SERVER.PING",
        "$SYS.REQ.ACCOUNT.PING.CONNZ",
        "$SRV.PING",
        "_INBOX.worker.x",
        "_INBOX.node.x",
        "_R_.a.b",
        "$JS.ACK.OUT_globex.worker.1.1.1.1.1",
        "$JS.ACK.OUT_acme.worker.1.1.1.1.1",
        "$JS.ACK.IN_globex.NODES.1.1.1.1.1",
        "$JS.BUS.API.INFO",
    ]
    .map(str::to_owned)
    .to_vec();
    for stream in
        ["RECORDS", "IN_globex", "OUT_globex", "OUT_acme", "DELIBERATIONS_globex", "KV_agentbus_tenants"]
    {
        for verb in
            ["CREATE", "UPDATE", "DELETE", "PURGE", "INFO", "MSG.GET", "MSG.DELETE", "SNAPSHOT", "RESTORE"]
        {
            subjects.push(format!("$JS.API.STREAM.{verb}.{stream}"));
        }
        subjects.push(format!("$JS.API.DIRECT.GET.{stream}"));
        subjects.push(format!("$JS.API.CONSUMER.CREATE.{stream}.mine"));
        subjects.push(format!("$JS.API.CONSUMER.DURABLE.CREATE.{stream}.mine"));
        subjects.push(format!("$JS.API.CONSUMER.DELETE.{stream}.worker"));
        subjects.push(format!("$JS.API.CONSUMER.MSG.NEXT.{stream}.worker"));
        subjects.push(format!("$JS.API.CONSUMER.MSG.NEXT.{stream}.NODES"));
    }
    subjects
}

const SUBSCRIPTIONS: &[&str] = &[
    ">",
    "*",
    "agent.>",
    "agent.*.inbox",
    "agent.worker.inbox",
    "agent.worker.>",
    "_INBOX.>",
    "_INBOX.worker.>",
    "_INBOX.node.>",
    "_R_.>",
    "bus.>",
    "bus.*.send",
    "tenant.>",
    "tenant.*.bus.*.send",
    "tenant.*.bus.*.send nodes",
    "tenant.acme.agent.>",
    "record.>",
    "deliberation.>",
    "directory.*",
    "$SYS.>",
    "$JS.>",
    "$JS.EVENT.>",
    "$KV.>",
    "$SRV.>",
];

pub(crate) async fn play(field: &mut Field) -> anyhow::Result<()> {
    for subject in publishes() {
        let bytes = publish(subject.as_bytes(), Some(b"_INBOX.mallory.r"), b"{}");
        refused(field, format!("publish {subject}"), bytes).await?;
    }
    for subject in SUBSCRIPTIONS {
        refused(field, format!("subscribe {subject}"), format!("SUB {subject} 9\r\n").into_bytes()).await?;
    }
    Ok(())
}

async fn refused(field: &mut Field, name: String, bytes: Vec<u8>) -> anyhow::Result<()> {
    let login = field.attacker().await;
    field
        .attempt(name, async move {
            let mut raw = login?;
            raw.send(&bytes).await?;
            let heard = raw.settle().await;
            let refused = heard.to_ascii_lowercase().contains("permissions violation");
            Ok((!refused).then(|| format!("the server did not refuse it: {heard:?}")))
        })
        .await
}
