//! Which nodes have it in force, and after how long?

use std::{
    collections::BTreeMap,
    process::ExitCode,
    time::{Duration, Instant},
};

use agentbus::{
    domain::{Amendment, Amendments, ConstitutionHash},
    nats::{Fleet, FleetError, NodeConstitutions},
    phrase::counted,
};
use anyhow::{Context as _, bail, ensure};
use serde_json::json;

use crate::{
    context::{Paint, Tone, safe, say},
    printable::Page,
};

/// For all nodes to have it in force.
const NODES_WITHIN: Duration = Duration::from_secs(5);
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// The nodes that run; none is no error, for what is kept waits for them.
pub(super) async fn names(fleet: &Fleet) -> anyhow::Result<Vec<String>> {
    match fleet.names().await {
        Err(FleetError::Nobody) => Ok(Vec::new()),
        names => Ok(names?),
    }
}

/// What the nodes go by while nothing is kept: what they are configured with, each with the same.
pub(super) async fn configured(
    fleet: &Fleet,
    nodes: &[String],
    act: Amendment,
) -> anyhow::Result<Amendments> {
    ensure!(!nodes.is_empty(), "no node runs, so nobody can say which constitution is in force now");
    let answers = fleet.constitutions(nodes, 0).await?;
    let (mut all, mut first) = (answers.iter(), None);
    if let Some(silent) = all.clone().find(|(_, answer)| answer.is_none()) {
        bail!("{} does not say which constitution it has in force", safe(silent.0, 64));
    }
    all.try_for_each(|(node, answer)| {
        let NodeConstitutions { accepted, preferred, .. } = answer.as_ref().context("it has answered")?;
        let (named, known) = first.get_or_insert((node, (accepted, preferred)));
        ensure!(
            *known == (accepted, preferred),
            "{} and {} are configured with other constitutions; give both the same first",
            safe(named, 64),
            safe(node, 64)
        );
        Ok(())
    })?;
    let (_, (accepted, preferred)) = first.context("no node has answered")?;
    let preferred = preferred.context("no constitution is in force on any node")?;
    Ok(Amendments { accepted: accepted.clone(), preferred, act })
}

/// Whether every node that runs takes it, but for those that are named.
pub(super) async fn have_confirmed(
    fleet: &Fleet,
    nodes: &[String],
    (last, hash): (u64, ConstitutionHash),
    without: &[String],
) -> anyhow::Result<()> {
    if let Some(nobody) = without.iter().find(|node| !nodes.contains(node)) {
        bail!("--without: found {}, expected one of: {}", safe(nobody, 64), nodes.join(", "));
    }
    let takes = |answer: &Option<NodeConstitutions>| {
        answer.as_ref().is_some_and(|it| it.accepted.iter().any(|it| it.hash == hash))
    };
    let answers = fleet.constitutions(nodes, last).await?;
    let lacks = answers.iter().filter(|(node, answer)| !takes(answer) && !without.contains(node));
    let lacks: Vec<_> = lacks.map(|(node, _)| safe(node, 64)).collect();
    ensure!(
        lacks.is_empty(),
        "nothing was done: {hash} is not taken, as far as they say, by {}; stop them, or name them by --without",
        lacks.join(", ")
    );
    Ok(())
}

/// What was changed, to be told.
pub(super) struct Told {
    pub(super) act: Amendment,
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
            for (node, answer) in fleet.constitutions(nodes, self.revision).await? {
                let in_force = answer.is_some_and(|answer| answer.revision >= self.revision);
                if let Some(known) = after.get_mut(node.as_str()).filter(|_| in_force) {
                    known.get_or_insert(asked.elapsed().as_millis());
                }
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        let Amendment { what, hash, .. } = &self.act;
        if json {
            let told = json!({ "hash": hash, "done": what, "revision": self.revision,
                "in_force_after_ms": after });
            say(&format!("{told}\n"))?;
        } else {
            say(&self.readable(&after, Paint::stdout()))?;
        }
        let all = after.values().all(Option::is_some);
        Ok(if all { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    fn readable(&self, after: &BTreeMap<&str, Option<u128>>, paint: Paint) -> String {
        let mut page = Page::new(paint);
        page.headed(&self.act.hash.to_string(), Tone::Strong, &self.act.what.to_string());
        for (node, after) in after {
            let told = match after {
                Some(ms) => format!("in force after {ms} ms"),
                None => format!("has not said so within {} s", NODES_WITHIN.as_secs()),
            };
            page.field(&safe(node, 64), &told);
        }
        page.own(&match after.values().filter(|after| after.is_none()).count() {
            0 => format!("in force on {}", counted(after.len(), "node")),
            without => format!("not in force on {without} of {}", counted(after.len(), "node")),
        });
        page.into_text()
    }
}
