//! Which nodes have it in force, and after how long?

use std::{
    collections::BTreeMap,
    process::ExitCode,
    time::{Duration, Instant},
};

use agentbus::{
    domain::Scope,
    nats::{Fleet, FleetError},
    phrase::counted,
};
use serde_json::json;

use crate::context::{Paint, Tone, safe, say};
use crate::printable::Page;

/// For all nodes to have it in force.
const NODES_WITHIN: Duration = Duration::from_secs(5);
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// The nodes that run; none is no error, for what is frozen waits for them.
pub(super) async fn names(fleet: &Fleet) -> anyhow::Result<Vec<String>> {
    match fleet.names().await {
        Err(FleetError::Nobody) => Ok(Vec::new()),
        names => Ok(names?),
    }
}

/// What was changed, to be told.
pub(super) struct Told {
    pub(super) scope: Scope,
    pub(super) word: &'static str,
    /// Messages on the durable lane of its tenant.
    pub(super) waiting: Option<u64>,
    pub(super) revision: u64,
}

impl Told {
    /// Waits until all nodes have it in force, and says after how long each of them had.
    pub(super) async fn to(
        &self,
        fleet: &Fleet,
        nodes: &[String],
        asked: Instant,
        json: bool,
    ) -> anyhow::Result<ExitCode> {
        let mut after: BTreeMap<&str, Option<u128>> =
            nodes.iter().map(|node| (node.as_str(), None)).collect();
        while after.values().any(Option::is_none) && asked.elapsed() < NODES_WITHIN {
            for (node, answer) in fleet.freezes(nodes, self.revision).await? {
                let in_force = answer.is_some_and(|answer| answer.revision >= self.revision);
                if let Some((_, known)) = after.iter_mut().find(|(name, _)| **name == node)
                    && in_force
                {
                    known.get_or_insert(asked.elapsed().as_millis());
                }
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        match json {
            true => say(&format!("{}\n", self.json(&after)))?,
            false => say(&self.readable(&after, Paint::stdout()))?,
        }
        let all = after.values().all(Option::is_some);
        Ok(if all { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    fn json(&self, after: &BTreeMap<&str, Option<u128>>) -> serde_json::Value {
        json!({ "scope": self.scope, "done": self.word, "revision": self.revision, "waiting": self.waiting,
            "in_force_after_ms": after })
    }

    fn readable(&self, after: &BTreeMap<&str, Option<u128>>, paint: Paint) -> String {
        let mut page = Page::new(paint);
        page.headed(&self.scope.to_string(), Tone::Strong, self.word);
        for (node, after) in after {
            let told = match after {
                Some(ms) => format!("in force after {ms} ms"),
                None => format!("has not said so within {} s", NODES_WITHIN.as_secs()),
            };
            page.field(&safe(node, 64), &told);
        }
        if let Some(waiting) = self.waiting {
            page.field("waits", &waits(waiting));
        }
        page.own(&match after.values().filter(|after| after.is_none()).count() {
            0 => format!("in force on {}", counted(after.len(), "node")),
            without => format!("not in force on {without} of {}: stop those", counted(after.len(), "node")),
        });
        page.into_text()
    }
}

/// What would be done.
pub(super) fn rehearsed(
    scope: &Scope,
    nodes: &[String],
    waiting: Option<u64>,
    json: bool,
) -> anyhow::Result<ExitCode> {
    if json {
        let told = json!({ "scope": scope, "done": "nothing", "nodes": nodes, "waiting": waiting });
        say(&format!("{told}\n"))?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut page = Page::new(Paint::stdout());
    page.headed(&scope.to_string(), Tone::Strong, "would be stopped; nothing was done");
    let names: Vec<_> = nodes.iter().map(|node| safe(node, 64)).collect();
    page.field("nodes", &if names.is_empty() { "none runs".to_owned() } else { names.join(", ") });
    if let Some(waiting) = waiting {
        page.field("waits", &waits(waiting));
    }
    say(&page.into_text())?;
    Ok(ExitCode::SUCCESS)
}

fn waits(waiting: u64) -> String {
    format!("{} on the durable lane of its tenant", counted(waiting, "message"))
}
