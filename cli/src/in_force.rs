//! Which nodes have in force what an operator has changed, and after how long?

use std::{
    collections::BTreeMap,
    process::ExitCode,
    time::{Duration, Instant},
};

use agentbus::{
    nats::{Answers, Fleet, FleetError},
    phrase::counted,
};

use crate::{context::safe, printable::Page};

/// For all nodes to have it in force.
const NODES_WITHIN: Duration = Duration::from_secs(5);
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// The nodes that run; none is no error, for what is kept waits for them.
pub(crate) async fn names(fleet: &Fleet) -> anyhow::Result<Vec<String>> {
    match fleet.names().await {
        Err(FleetError::Nobody) => Ok(Vec::new()),
        names => Ok(names?),
    }
}

/// Milliseconds after which each node had it; absent: not in time.
#[derive(Debug, serde::Serialize)]
#[serde(transparent)]
pub(crate) struct InForce(BTreeMap<String, Option<u128>>);

impl InForce {
    /// Waits until all nodes have it. `look` asks them, and `has` says it of an answer.
    pub(crate) async fn on<T>(
        nodes: &[String],
        asked: Instant,
        look: impl AsyncFn() -> Result<Answers<T>, FleetError>,
        has: impl Fn(&T) -> bool,
    ) -> anyhow::Result<Self> {
        let mut after: BTreeMap<String, Option<u128>> =
            nodes.iter().map(|node| (node.clone(), None)).collect();
        while after.values().any(Option::is_none) && asked.elapsed() < NODES_WITHIN {
            for (node, answer) in look().await? {
                let known = after.get_mut(&node).filter(|_| answer.as_ref().is_some_and(&has));
                if let Some(known) = known {
                    known.get_or_insert(asked.elapsed().as_millis());
                }
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Ok(Self(after))
    }

    pub(crate) fn code(&self) -> ExitCode {
        if self.without() == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }

    /// A line for each node.
    pub(crate) fn nodes(&self, page: &mut Page) {
        for (node, after) in &self.0 {
            let told = match after {
                Some(ms) => format!("in force after {ms} ms"),
                None => format!("has not said so within {} s", NODES_WITHIN.as_secs()),
            };
            page.field(&safe(node, 64), &told);
        }
    }

    /// The last line, with what to do about those that lack it.
    pub(crate) fn all(&self, page: &mut Page, next: &str) {
        let nodes = counted(self.0.len(), "node");
        page.own(&match self.without() {
            0 => format!("in force on {nodes}"),
            without => format!("not in force on {without} of {nodes}{next}"),
        });
    }

    fn without(&self) -> usize {
        self.0.values().filter(|after| after.is_none()).count()
    }
}
