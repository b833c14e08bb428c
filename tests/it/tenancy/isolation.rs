//! Does the node keep tenants apart when the server does not? NATS here has one account and no users:
//! everybody may publish everything, so only the node's own checks stand between tenants.
//!
//! Who may write any subject can also write another's stamp; that is what the server's accounts are
//! for (`tenancy`). What the node must refuse is everything that the stamp does not cover.

use std::time::Duration;

use agentbus::{
    client::Draft,
    domain::{Encoding, Reason, Verb, Verdict},
    servers::{Node, NodeOptions},
    tenants::{Plan, StoreSettings, provision},
    wire,
};
use futures_util::StreamExt as _;
use serde_json::{Value, json};

use crate::support::servers;

const OPEN_SERVER: &str = r#"
listen: "127.0.0.1:-1"
jetstream { store_dir: "{folder}/jetstream" }
"#;

const SOON: Duration = Duration::from_secs(60);
/// Of what is not answered.
const SILENCE: Duration = Duration::from_millis(400);

/// A node on a server that checks nothing, and a client that may do everything.
struct Open {
    client: async_nats::Client,
    _node: Node,
    _nats: agentbus::servers::NatsServer,
    _folder: tempfile::TempDir,
}

impl Open {
    async fn start() -> Self {
        let (nats, folder) = servers::nats(OPEN_SERVER).await;
        let client = async_nats::connect(nats.url()).await.unwrap();
        provision(&client, &Plan::example().unwrap(), &StoreSettings::default()).await.unwrap();
        let mut config = toml::Table::new();
        config.insert("nats".into(), toml::Table::from_iter([("url".into(), nats.url().into())]).into());
        let node = Node::start(NodeOptions {
            name: "node-1".into(),
            executable: env!("CARGO_BIN_EXE_agentbus").into(),
            folder: folder.path().into(),
            config,
            http_port: 0,
        })
        .await
        .unwrap();
        Self { client, _node: node, _nats: nats, _folder: folder }
    }

    async fn ask(&self, subject: &str, body: &Value, within: Duration) -> Option<async_nats::Message> {
        let request = async_nats::Request::new().payload(body.to_string().into()).timeout(Some(within));
        self.client.send_request(subject.to_owned(), request).await.ok()
    }

    async fn answer(&self, subject: &str, body: &Value) -> Value {
        let answer = self.ask(subject, body, SOON).await.unwrap_or_else(|| panic!("no answer: {subject}"));
        serde_json::from_slice(&answer.payload).unwrap()
    }

    async fn send(&self, stamp: &str, message: &Value, within: Duration) -> Option<Verdict> {
        let answer = self.ask(&format!("tenant.{stamp}.send"), message, within).await?;
        Some(wire::decode_verdict(&answer.payload).unwrap())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn with_the_servers_layer_off_the_node_still_keeps_tenants_apart() {
    let open = Open::start().await;
    open.answer("tenant.globex.bus.builder.register", &json!({ "capabilities": ["sum"] })).await;
    let mut inboxes = open.client.subscribe("tenant.*.agent.>").await.unwrap();
    open.client.flush().await.unwrap();

    let to = |to: Value| Draft::new(to, json!({ "text": "hi" })).json();
    let with = |key: &str, value: Value| {
        let mut message = to(json!({ "agent": "builder" }));
        message[key] = value;
        message
    };
    // A stamp of acme, and every way to mean globex by it.
    let attacks: Vec<(&str, Value, &[Reason])> = vec![
        ("acme.bus.planner", to(json!({ "agent": "builder" })), &[Reason::RecipientUnknown]),
        ("acme.bus.planner", to(json!({ "capability": "sum" })), &[Reason::NoCapableAgent]),
        ("acme.bus.planner", to(json!({ "broadcast": {} })), &[Reason::NoCapableAgent]),
        ("acme.bus.planner", to(json!({ "broadcast": { "capability": "sum" } })), &[Reason::NoCapableAgent]),
        ("acme.bus.planner", to(json!({ "agent": "globex.builder" })), &[Reason::BadIdentifier]),
        ("acme.bus.planner", to(json!({ "agent": "../globex/builder" })), &[Reason::BadIdentifier]),
        ("acme.bus.planner", to(json!({ "agent": "*" })), &[Reason::BadIdentifier]),
        ("acme.bus.planner", to(json!({ "agent": ">" })), &[Reason::BadIdentifier]),
        ("acme.bus.planner", to(json!({ "agent": "builder inbox" })), &[Reason::BadIdentifier]),
        ("acme.bus.planner", to(json!({ "agent": "builder\r\nPUB x 0" })), &[Reason::BadIdentifier]),
        ("acme.bus.planner", to(json!({ "agent": "b\u{0}uilder" })), &[Reason::BadIdentifier]),
        ("acme.bus.planner", to(json!({ "agent": "buiІder" })), &[Reason::BadIdentifier]),
        ("acme.bus.planner", to(json!({ "capability": "sum}.globex:{" })), &[Reason::BadIdentifier]),
        (
            "acme.bus.planner",
            to(json!({ "agent": "builder", "tenant": "globex" })),
            &[Reason::UnknownField, Reason::Malformed],
        ),
        ("acme.bus.planner", with("tenant_id", json!("globex")), &[Reason::TenantMismatch]),
        ("acme.bus.planner", with("from_agent", json!("judge")), &[Reason::SenderMismatch]),
        ("acme.bus.planner", with("message_id", json!("x.globex.builder")), &[Reason::BadIdentifier]),
        // A stamp that the directory does not know.
        ("acme.bus.builder", to(json!({ "agent": "builder" })), &[Reason::SenderUnknown]),
        ("initech.bus.planner", to(json!({ "agent": "builder" })), &[Reason::TenantUnknown]),
    ];
    for (stamp, message, expected) in &attacks {
        let verdict =
            open.send(stamp, message, SOON).await.unwrap_or_else(|| panic!("no verdict: {stamp} {message}"));
        assert!(expected.contains(&verdict.reason), "{stamp} {message}: {verdict:?}");
    }
    // Stamps that no server would make are not answered at all.
    for stamp in ["acme.globex.bus.planner", "ACME.bus.planner", "a.bus.planner", "acme.bus.pl\u{e4}nner"] {
        let message = to(json!({ "agent": "builder" }));
        assert!(open.send(stamp, &message, SILENCE).await.is_none(), "{stamp} was answered");
    }
    // Registering for another, or into a tenant that does not list the agent.
    let stolen = open.answer("tenant.acme.bus.planner.register", &json!({ "agent": "judge" })).await;
    assert_eq!(stolen["reason"], "not_owner");
    for verb in [Verb::Register, Verb::Heartbeat, Verb::Unregister, Verb::Find] {
        let answer = open.answer(&format!("tenant.acme.bus.builder.{verb}"), &json!({})).await;
        assert_eq!(answer["reason"], "sender_unknown");
    }
    let found = open.answer("tenant.acme.bus.planner.find", &json!({ "capability": "sum" })).await;
    assert_eq!(found["total"], 0, "globex's agents are not found");

    // Nothing of all that was delivered anywhere; an honest message within globex is.
    let honest = Draft::to_agent("builder", "from a colleague").encode(Encoding::Json);
    open.client.request("tenant.globex.bus.planner.send", honest).await.unwrap();
    let first = tokio::time::timeout(SOON, inboxes.next()).await.unwrap().unwrap();
    assert!(String::from_utf8_lossy(&first.payload).contains("from a colleague"), "{first:?}");
}
