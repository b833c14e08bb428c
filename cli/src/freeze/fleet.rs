//! What is told of a freeze that was made, thawed or only rehearsed?

use std::{process::ExitCode, time::Instant};

use agentbus::{
    domain::Scope,
    nats::{Fleet, NodeFreezes},
    phrase::counted,
};
use serde_json::json;

use crate::{
    context::{Paint, Tone, safe, say},
    in_force::InForce,
    printable::Page,
};

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
        let has = |answer: &NodeFreezes| answer.revision >= self.revision;
        let in_force =
            InForce::on(nodes, asked, async || fleet.freezes(nodes, self.revision).await, has).await?;
        match json {
            true => say(&format!("{}\n", self.json(&in_force)))?,
            false => say(&self.readable(&in_force, Paint::stdout()))?,
        }
        Ok(in_force.code())
    }

    fn json(&self, in_force: &InForce) -> serde_json::Value {
        json!({ "scope": self.scope, "done": self.word, "revision": self.revision, "waiting": self.waiting,
            "in_force_after_ms": in_force })
    }

    fn readable(&self, in_force: &InForce, paint: Paint) -> String {
        let mut page = Page::new(paint);
        page.headed(&self.scope.to_string(), Tone::Strong, self.word);
        in_force.nodes(&mut page);
        if let Some(waiting) = self.waiting {
            page.field("waits", &waits(waiting));
        }
        in_force.all(&mut page, ": stop those");
        page.into_text()
    }
}

/// What would be done.
pub(super) fn rehearsed(
    (scope, cut_off): (&Scope, bool),
    nodes: &[String],
    waiting: Option<u64>,
    json: bool,
) -> anyhow::Result<ExitCode> {
    if json {
        let told = json!({ "scope": scope, "done": "nothing", "cut_off": cut_off, "nodes": nodes,
            "waiting": waiting });
        say(&format!("{told}\n"))?;
        return Ok(ExitCode::SUCCESS);
    }
    let and = if cut_off { " and cut off" } else { "" };
    let mut page = Page::new(Paint::stdout());
    page.headed(&scope.to_string(), Tone::Strong, &format!("would be stopped{and}; nothing was done"));
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
