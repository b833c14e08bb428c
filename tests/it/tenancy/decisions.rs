//! Are logged decisions kept on the bus, and what is said where they cannot be?

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, SystemTime},
};

use agentbus::{
    client::Draft,
    domain::{CapabilityId, Encoding, Tenant, Timestamp},
    nats::DecisionStream,
    policy::{
        DecisionLog, Gate, Party, Question, RegoEngine,
        decision_log::{Settings, WrittenEvents},
        sources::PolicySources,
    },
    tenants::{BusUser, Plan, StoreSettings, provision},
    wire::{self, Stamp},
};

use super::server::Server;

/// A gate that has decided about one message of each of these ids.
async fn decided(ids: &[&str]) -> (Arc<DecisionLog>, WrittenEvents) {
    let settings = Settings { share: 1.0, ..Settings::default() };
    let (log, events) = DecisionLog::start(&settings, "node-1", Arc::new(()), || Timestamp(1)).unwrap();
    let log = Arc::new(log);
    let engine = RegoEngine::load(&PolicySources::shipped()).unwrap();
    let gate = Gate::new(Arc::new(engine)).logged(Arc::clone(&log));
    let (tenant, sender) = (Tenant::new("acme".parse().unwrap()), "planner".parse().unwrap());
    let bytes = Draft::to_agent("worker", "the report").encode(Encoding::Json);
    let stamp = Stamp { tenant: &tenant.id, sender: &sender };
    let message = wire::decode(&bytes, stamp, &wire::Limits::default()).unwrap().message;
    let (none, roles) = (BTreeSet::<CapabilityId>::new(), BTreeSet::new());
    let party = Party { id: &message.sender, roles: &roles, capabilities: &none, registered: true };
    let question = Question {
        message: &message,
        size: 100,
        sender: party,
        recipient: party,
        tenant: &tenant,
        approval: None,
        labels: None,
    };
    for id in ids {
        let _ = gate.decide_by(&gate.in_force(), &question, id).await;
    }
    (log, events)
}

#[tokio::test]
async fn decisions_are_kept_once_the_bus_is_provisioned_and_until_then_it_is_said_why_not() {
    let plan = Plan::example().unwrap();
    let server = Server::start(&plan).await;
    let node = server.bus(BusUser::Node).await;
    let (log, events) = decided(&["d-1"]).await;
    let stream = DecisionStream::new(node.client.clone());
    tokio::select! {
        () = stream.keep(&events) => {}
        // The event gives its place back when it is lost as well.
        flushed = log.flush(Duration::from_secs(60)) => assert!(flushed),
    }
    let why = log.trouble().unwrap();
    assert!(why.contains("no stream DECISIONS") && why.contains("agentbus tenants apply"), "{why}");

    let provisioner = server.bus(BusUser::Provisioner).await;
    let half_a_year = Duration::from_secs(183 * 24 * 3600);
    let settings = StoreSettings { decisions_age: Some(half_a_year), ..StoreSettings::default() };
    provision(&provisioner.client, &plan, &settings).await.unwrap();
    let again = provision(&provisioner.client, &plan, &StoreSettings::default()).await.unwrap();
    assert!(again.changed.is_empty(), "its age stays: {:?}", again.changed);

    let ids: Vec<String> = (0..300).map(|number| format!("d-{number}")).collect();
    let (log, events) = decided(&ids.iter().map(String::as_str).collect::<Vec<_>>()).await;
    tokio::select! {
        () = stream.keep(&events) => {}
        flushed = log.flush(Duration::from_secs(60)) => assert!(flushed),
    }
    assert_eq!(log.trouble(), None);
    let operator = DecisionStream::new(server.bus(BusUser::Operator).await.client.clone());
    let acme = "acme".parse().unwrap();
    let mut found = operator.since(SystemTime::UNIX_EPOCH, Some(&acme)).await.unwrap();
    let mut read = BTreeSet::new();
    while let Some(event) = found.next().await.unwrap() {
        let event: serde_json::Value = serde_json::from_slice(&event).unwrap();
        read.insert(event["decision_id"].as_str().unwrap().to_owned());
    }
    assert_eq!(read, ids.into_iter().collect());
    let later = SystemTime::now() + Duration::from_secs(3600);
    assert!(operator.since(later, None).await.unwrap().next().await.unwrap().is_none(), "none is so young");
    let globex = "globex".parse().unwrap();
    assert!(
        operator.since(SystemTime::UNIX_EPOCH, Some(&globex)).await.unwrap().next().await.unwrap().is_none()
    );
}
