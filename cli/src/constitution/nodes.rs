//! What do the nodes go by, and do they take what is changed?

use std::{process::ExitCode, time::Instant};

use agentbus::{
    domain::{Amendment, Amendments, ConstitutionHash},
    nats::{Fleet, NodeConstitutions},
};
use anyhow::{Context as _, bail, ensure};
use serde_json::json;

use crate::{
    context::{Paint, Tone, safe, say},
    in_force::InForce,
    printable::Page,
};

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
        let has = |answer: &NodeConstitutions| answer.revision >= self.revision;
        let in_force =
            InForce::on(nodes, asked, async || fleet.constitutions(nodes, self.revision).await, has).await?;
        let Amendment { what, hash, .. } = &self.act;
        if json {
            let told = json!({ "hash": hash, "done": what, "revision": self.revision,
                "in_force_after_ms": in_force });
            say(&format!("{told}\n"))?;
        } else {
            say(&self.readable(&in_force, Paint::stdout()))?;
        }
        Ok(in_force.code())
    }

    fn readable(&self, in_force: &InForce, paint: Paint) -> String {
        let mut page = Page::new(paint);
        page.headed(&self.act.hash.to_string(), Tone::Strong, &self.act.what.to_string());
        in_force.nodes(&mut page);
        in_force.all(&mut page, "");
        page.into_text()
    }
}
