//! What an agent is promised of the registry, without a server.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use super::*;
use crate::{
    audit::{self, Body},
    constitutions::Constitutions,
    domain::{TenantLimits, Timestamp},
    lanes::{AdmissionLimits, LiveTransport},
    review::testing::{One, Records},
    state::{Lifetimes, MemoryStore},
};

fn agents(tenant: &Arc<Tenant>) -> (Agents, Arc<Records>) {
    let records = Arc::new(Records::default());
    let live = Arc::clone(&records) as Arc<dyn LiveTransport>;
    let metrics = Arc::new(Metrics::new("node-1"));
    let registrations = Registrations::new(live, metrics, "node-1", || Timestamp(7));
    let agents = Agents {
        registrations: Arc::new(registrations),
        registry: Arc::new(MemoryStore::new(Lifetimes::default())),
        tenants: Arc::new(One(Arc::clone(tenant))),
        admission: Arc::new(Admission::new(AdmissionLimits { in_flight: 8, in_flight_per_tenant: 8 })),
        metrics: Arc::new(Metrics::new("node-1")),
        limits: wire::Limits::default(),
        freezes: Arc::default(),
        about: About {
            node: "node-1".to_owned(),
            clock: || Timestamp(7),
            constitutions: Arc::new(Constitutions::configured(Vec::new())),
            deadline: Duration::from_secs(1),
            answer: Duration::from_secs(20),
            clock_skew: Duration::from_secs(30),
            request_bytes: 65_536,
        },
        ttl: Duration::from_secs(30),
        deadline: Duration::from_secs(1),
    };
    (agents, records)
}

fn tenant() -> Arc<Tenant> {
    Arc::new(Tenant::new("acme".parse().unwrap()))
}

#[tokio::test]
async fn who_registers_is_found_until_it_leaves_and_nobody_does_it_for_another() {
    let tenant = tenant();
    let (agents, _) = agents(&tenant);
    let worker: AgentId = "worker".parse().unwrap();
    let other: AgentId = "other".parse().unwrap();
    let asked = wire::decode_register(br#"{"capabilities":["add"]}"#, &agents.limits).unwrap().request;
    assert!(matches!(agents.register(&tenant, &worker, asked).await, Ok(RegistryReply::Live { .. })));
    let adders = || FindRequest { capability: Some("add".parse().unwrap()), agent: None };
    let found = async || match agents.find(&tenant, adders()).await.unwrap() {
        RegistryReply::Found { agents, .. } => agents.into_iter().map(|it| it.id).collect::<Vec<_>>(),
        other => panic!("{other:?}"),
    };
    assert_eq!(found().await.as_slice(), std::slice::from_ref(&worker));
    let refused = agents.unregister(&tenant, &other, Some(&worker)).await.unwrap_err();
    assert_eq!(refused.reason, Reason::NotOwner);
    assert!(agents.heartbeat(&tenant, &worker, None).await.is_ok());
    assert!(agents.unregister(&tenant, &worker, None).await.is_ok());
    assert!(found().await.is_empty());
    assert_eq!(agents.heartbeat(&tenant, &worker, None).await.unwrap_err().reason, Reason::NotRegistered);
}

#[tokio::test]
async fn what_changes_the_registry_is_recorded_and_what_changes_nothing_is_not() {
    let tenant = tenant();
    let (agents, records) = agents(&tenant);
    let (worker, other): (AgentId, AgentId) = ("worker".parse().unwrap(), "other".parse().unwrap());
    let register = async |agent: &AgentId, body: &[u8]| {
        let asked = wire::decode_register(body, &agents.limits).unwrap().request;
        agents.register(&tenant, agent, asked).await.unwrap();
        agents.registrations.flush();
    };
    register(&worker, br#"{"capabilities":["add"]}"#).await;
    register(&worker, br#"{"capabilities":["add"]}"#).await;
    agents.heartbeat(&tenant, &worker, None).await.unwrap();
    agents.unregister(&tenant, &other, Some(&worker)).await.unwrap_err();
    agents.unregister(&tenant, &other, None).await.unwrap_err();
    register(&worker, br#"{"capabilities":["add","sum"]}"#).await;
    agents.unregister(&tenant, &worker, None).await.unwrap();
    agents.registrations.flush();
    let told: Vec<_> = records
        .0
        .lock()
        .iter()
        .map(|entry| match audit::decode(entry.payload()).unwrap().body {
            Body::Registration(it) => (it.change, it.capabilities.len(), it.changes),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(told, [(Change::Registered, 1, 1), (Change::Changed, 2, 1), (Change::Left, 0, 1)]);
}

#[tokio::test]
async fn about_tells_an_agent_of_its_own_tenant_and_nothing_of_another() {
    let tenant = tenant();
    let (agents, _) = agents(&tenant);
    let asked = |payload: &'static [u8]| Request {
        tenant: "acme".parse().unwrap(),
        sender: "worker".parse().unwrap(),
        payload: payload.into(),
        traceparent: None,
        received: std::time::Instant::now(),
        place: Default::default(),
    };
    let told = agents.about.tell(&tenant);
    assert_eq!((told.time, told.preferred, told.constitutions.len()), (Timestamp(7), None, 0));
    let content = tenant.limits.content_bytes as u64;
    assert!(told.limits.contains(&("content_bytes", content)), "{told:?}");
    // Nobody whom the directory does not list hears anything.
    let (_, reason) = agents.handle(Verb::About, &asked(b"{}")).await;
    assert_eq!(reason, Reason::SenderUnknown);
}

#[tokio::test]
async fn an_agent_stops_itself_alone_where_its_tenant_may_and_says_why() {
    let (allowed, other) = (
        Arc::new(Tenant {
            limits: TenantLimits { self_freeze: true, ..TenantLimits::default() },
            ..(*tenant()).clone()
        }),
        tenant(),
    );
    let (agents, _) = agents(&allowed);
    let planner: AgentId = "planner".parse().unwrap();
    let denied = agents.freeze(&other, &planner, "I leak").await.unwrap_err();
    assert_eq!(denied.reason, Reason::PolicyDenied);
    assert!(agents.freezes.wanted().is_empty());
    let body = |text: &str| wire::decode_freeze(text.as_bytes(), &agents.limits);
    for bad in [
        "{}",
        "",
        r#"{"why":""}"#,
        r#"{"why":"  "}"#,
        "{\"why\":\"two\nlines\"}",
        r#"{"why":"x","agent":"a b"}"#,
    ] {
        assert!(body(bad).is_err(), "{bad}");
    }
    assert!(body(&format!(r#"{{"why":"{}"}}"#, "x".repeat(301))).is_err());
    assert_eq!(body(r#"{"why":" I leak "}"#).unwrap().request.why, "I leak");
    // It returns when all nodes are told.
    let freezing = agents.freeze(&allowed, &planner, "I leak");
    let telling = async {
        agents.freezes.something_wanted().await;
        let wanted = agents.freezes.wanted();
        assert_eq!(wanted[0].by, Some(FrozenBy::Agent));
        agents.freezes.put_in_force(1, wanted);
    };
    let (frozen, ()) = tokio::join!(freezing, telling);
    assert!(matches!(frozen, Ok(RegistryReply::Done)));
    assert_eq!(agents.freezes.in_force().frozen[0].freeze.scope.to_string(), "agent acme/planner");
    // Once more is no fault, and where there is no place it hears so.
    assert!(matches!(agents.freeze(&allowed, &planner, "again").await, Ok(RegistryReply::Done)));
    let worker: AgentId = "worker".parse().unwrap();
    let full = async {
        agents.freezes.something_wanted().await;
        agents.freezes.give_up(&agents.freezes.wanted()[0].scope.clone());
    };
    let (refused, ()) = tokio::join!(agents.freeze(&allowed, &worker, "I leak"), full);
    assert_eq!(refused.unwrap_err().reason, Reason::QuotaExceeded);
}
