//! What the use cases stand on in their tests: logs, a directory and a transport in this process.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use async_trait::async_trait;
use parking_lot::Mutex;

use super::AllTenants;
use crate::{
    audit,
    deliberation::{Appended, Case, DeliberationLog, LogError, Summary},
    domain::{
        AgentId, DeliberationId, Event, MessageType, Parked, Priority, Recipient, Rule, RuleKind, Tenant,
        TenantId, Timestamp, Voter, Why,
    },
    lanes::{Dispatch, Handover, LiveError, LiveTransport, Named, Tenants},
    state::MessageKey,
};

pub(super) const PARKED: Timestamp = Timestamp(1_790_000_000_000);
pub(super) const ESCALATES: Timestamp = Timestamp(PARKED.0 + 60_000);
pub(super) const DEADLINE: Timestamp = Timestamp(PARKED.0 + 600_000);
pub(super) const DIGEST: &str = "d1";

pub(super) fn id(agent: &str) -> AgentId {
    agent.parse().unwrap()
}

/// Of planner's, for one of these voters to decide; `lead` stands in.
pub(super) fn parked(voters: &[&str]) -> Parked {
    let people = |names: &[&str]| -> BTreeMap<AgentId, Voter> {
        let voter = || Voter { roles: ["judicial".to_owned()].into(), weight: 1 };
        names.iter().map(|name| (id(name), voter())).collect()
    };
    let message = serde_json::json!({
        "message_id": "m-1", "to": { "agent": "worker" }, "message_type": "command",
        "content": { "text": "open the gate" }, "constitutional_hash": "cdd01ef066bc6cf2",
        "created_at": 1_790_000_000_000_u64,
    });
    Parked {
        id: "0123456789abcdef01234567".parse().unwrap(),
        tenant: "acme".parse().unwrap(),
        sender: id("planner"),
        message_id: "m-1".parse().unwrap(),
        message: message.to_string(),
        digest: DIGEST.to_owned(),
        why: Why::Policy,
        notes: Default::default(),
        impact: None,
        policy_revision: "r".to_owned(),
        decision_id: "d-1".to_owned(),
        node: "node-1".to_owned(),
        rule: Rule { kind: RuleKind::Quorum, min_approvals: 1, distinct_roles: 1 },
        voters: people(voters),
        stand_ins: people(&["lead"]),
        parked_at: PARKED,
        escalate_at: Some(ESCALATES),
        deadline: DEADLINE,
        traceparent: None,
    }
}

/// Logs with compare-and-set, as JetStream has them.
#[derive(Default)]
pub(super) struct MemoryLog {
    logs: Mutex<BTreeMap<DeliberationId, Vec<(u64, Event)>>>,
    /// Of others, written just before the next appends.
    pub(super) rivals: Mutex<Vec<Event>>,
    /// What the next calls say; an append that is `Unconfirmed` is written all the same.
    pub(super) failures: Mutex<Vec<LogError>>,
}

impl MemoryLog {
    pub(super) fn with(parked: Parked) -> Arc<Self> {
        let log = Self::default();
        log.add(parked);
        Arc::new(log)
    }

    pub(super) fn add(&self, parked: Parked) {
        self.logs.lock().insert(parked.id.clone(), vec![(1, Event::Parked(Box::new(parked)))]);
    }

    pub(super) fn kinds(&self) -> Vec<&'static str> {
        self.logs.lock().values().flatten().map(|(_, event)| event.kind()).collect()
    }

    fn write(&self, id: &DeliberationId, event: Event, expected: Option<u64>) -> Appended {
        let mut logs = self.logs.lock();
        let log = logs.get_mut(id).unwrap();
        let last = log.last().unwrap().0;
        if expected.is_some_and(|expected| expected != last) {
            return Appended::Conflict;
        }
        log.push((last + 1, event));
        Appended::Now
    }

    fn failure(&self) -> Option<LogError> {
        self.failures.lock().pop()
    }
}

#[async_trait]
impl DeliberationLog for MemoryLog {
    async fn park(&self, _: &Parked, _: Priority) -> Result<Appended, LogError> {
        Ok(Appended::Conflict)
    }

    async fn load(&self, _: &TenantId, id: &DeliberationId) -> Result<Option<Case>, LogError> {
        if let Some(error) = self.failures.lock().pop_if(|error| *error != LogError::Unconfirmed) {
            return Err(error);
        }
        let events = self.logs.lock().get(id).cloned().unwrap_or_default();
        Ok(Case::replay(events).unwrap())
    }

    async fn append(&self, case: &Case, event: &Event) -> Result<Appended, LogError> {
        if let Some(rival) = self.rivals.lock().pop() {
            self.write(&case.parked.id, rival, None);
        }
        let appended = self.write(&case.parked.id, event.clone(), Some(case.version));
        self.failure().map_or(Ok(appended), Err)
    }

    async fn open(&self, tenant: &TenantId, limit: usize) -> Result<Vec<Arc<Summary>>, LogError> {
        let ids: Vec<DeliberationId> = self.logs.lock().keys().take(limit).cloned().collect();
        let mut summaries = Vec::new();
        for id in ids {
            let case = self.load(tenant, &id).await?.filter(|case| case.decision.is_none());
            summaries.extend(case.map(|case| {
                let (message_type, to) = (MessageType::Command, Recipient::Agent("worker".parse().unwrap()));
                Arc::new(Summary { case, place: 1, message_type, to })
            }));
        }
        Ok(summaries)
    }
}

/// A directory of one tenant.
pub(super) struct One(pub(super) Arc<Tenant>);

impl Tenants for One {
    fn tenant(&self, id: &TenantId) -> Option<Arc<Tenant>> {
        (self.0.id == *id).then(|| Arc::clone(&self.0))
    }
}

#[async_trait]
impl AllTenants for One {
    fn tenants(&self) -> Arc<HashMap<TenantId, Arc<Tenant>>> {
        Arc::new([(self.0.id.clone(), Arc::clone(&self.0))].into())
    }

    async fn ready(&self) {}
}

/// Keeps records, and delivers nothing.
#[derive(Default)]
pub(super) struct Records(pub(super) Mutex<Vec<audit::Entry>>);

#[async_trait]
impl LiveTransport for Records {
    async fn deliver(&self, _: Dispatch) -> Result<Vec<Handover>, LiveError> {
        Err(LiveError::NotConnected)
    }

    fn record(&self, record: audit::Written) -> Result<(), LiveError> {
        self.0.lock().extend(audit::together([record]));
        Ok(())
    }

    async fn last_intent(
        &self,
        _: &MessageKey,
        _: Named<'_>,
    ) -> Result<Option<audit::Record<'static>>, LiveError> {
        Ok(None)
    }

    fn payload_max(&self) -> usize {
        usize::MAX
    }
}
