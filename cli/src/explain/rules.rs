//! Which rules decided? The logged question is put to the policy that decided it once more.

use std::path::Path;

use agentbus::{
    audit::Decision,
    nats::PolicyBucket,
    policy::{
        Bundle, PolicyEngine as _, PolicySources, RegoEngine,
        comparison::Answer,
        decision_log::Recorded,
        rego::{TracedModule, Tracer},
    },
};
use async_nats::Client;
use bytes::Bytes;

use crate::policy::sources_at;

/// What can be said of them.
pub(super) enum Rules {
    /// For each recipient that was logged.
    Known(Vec<Asked>),
    /// Why nothing can.
    Unknown(String),
}

/// One recipient.
pub(super) struct Asked {
    pub(super) recipient: String,
    pub(super) modules: Vec<TracedModule>,
    /// Whether the policy says now what it said then.
    pub(super) same: bool,
}

pub(super) async fn of(
    decision: Option<&Decision<'_>>,
    logged: Result<Vec<Bytes>, String>,
    client: &Client,
    policy: Option<&Path>,
) -> Rules {
    match asked(decision, logged, client, policy).await {
        Ok(asked) => Rules::Known(asked),
        Err(why) => Rules::Unknown(why),
    }
}

async fn asked(
    decision: Option<&Decision<'_>>,
    logged: Result<Vec<Bytes>, String>,
    client: &Client,
    policy: Option<&Path>,
) -> Result<Vec<Asked>, String> {
    let Some(revision) = decision.and_then(|it| Some(it.facts.as_ref()?.policy_revision.to_string())) else {
        return Err(
            "no rule was asked: it was decided before, or its record is of an earlier version".to_owned()
        );
    };
    let logged = logged.map_err(|error| format!("the decision log cannot be read: {error}"))?;
    if logged.is_empty() {
        let why =
            "it is not in the decision log (policy.log.share), so nobody knows what the policy was asked";
        return Err(why.to_owned());
    }
    let sources = find(&revision, client, policy).await?;
    let engine = RegoEngine::load(&sources).map_err(|error| error.to_string())?;
    let mut tracer = Tracer::new(&sources).map_err(|error| error.to_string())?;
    let mut all = Vec::with_capacity(logged.len());
    for event in &logged {
        let Recorded { input, answer, unknown, .. } =
            Recorded::read(event).map_err(|error| error.to_string())?;
        if engine.reads().fields.overlaps(unknown) {
            let why = "the policy reads what is not in the decision log (policy.log.content, or a mask)";
            return Err(why.to_owned());
        }
        let modules = tracer.trace(&input).map_err(|error| error.to_string())?;
        let now: Answer = engine.decide_recorded(&input).map_err(|error| error.to_string());
        let recipient = input.text("recipient", "id").to_owned();
        all.push(Asked {
            recipient,
            modules,
            same: now.is_ok() == answer.is_ok() && (now.is_err() || now == answer),
        });
    }
    Ok(all)
}

/// The policy of this revision: what ships, the folder or bundle that was named, or one that was pushed.
async fn find(revision: &str, client: &Client, policy: Option<&Path>) -> Result<PolicySources, String> {
    let shipped = PolicySources::shipped();
    if *shipped.revision() == *revision {
        return Ok(shipped);
    }
    if let Some(path) = policy {
        let mut found = None;
        for shipped in [true, false] {
            let sources = sources_at(path, shipped).map_err(|error| format!("{error:#}"))?;
            if *sources.revision() == *revision {
                return Ok(sources);
            }
            found.get_or_insert(sources.revision());
        }
        let found = found.unwrap_or_default();
        return Err(format!("the policy in {} is {found}, and {revision} decided", path.display()));
    }
    // Newest first. A bus whose policy comes from folders has none.
    let pushed = PolicyBucket::new(client.clone()).history().await.unwrap_or_default();
    for pushed in pushed.iter().rev() {
        for shipped in [true, false] {
            if let Ok(Bundle { sources, .. }) = Bundle::open(&pushed.offer.packed, shipped, None)
                && *sources.revision() == *revision
            {
                return Ok(sources);
            }
        }
    }
    Err(format!(
        "the policy {revision} neither ships nor was pushed of late: name its folder or bundle with --policy"
    ))
}
