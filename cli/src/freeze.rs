//! `agentbus freeze`, `thaw` and `freezes`: stop messages on all nodes at once, let them go on, see what is stopped.

use std::process::ExitCode;

use agentbus::{
    domain::{Freeze, MessageId, Scope, TenantId, freeze::WHY_BYTES_MAX},
    nats::{Fleet, FreezeBucket, FreezeError, Frozen, ValueError},
    skew::wall_clock,
};
use anyhow::bail;
use clap::Args;

use super::{
    context::{Who, safe},
    in_force,
    operator::{Operator, login},
};

mod fleet;
mod known;
mod list;

use fleet::Told;
pub(super) use list::{ListArgs, list};

/// Somebody else may freeze something at the same time.
const TRIES: u32 = 5;

#[derive(Debug, Args)]
#[command(
    override_usage = "agentbus freeze --all --why <TEXT>\n       \
agentbus freeze --tenant|--agent|--conversation <ID> --why <TEXT>",
    after_help = "What is stopped is refused as `frozen`, and its sender may try again; what waits\n\
on the durable lane goes on waiting, and loses no attempt. What was delivered\n\
before stays delivered.\n\n\
Exit codes: 0 in force on all nodes; 1 failure, some have not said so, or none\n\
can cut off; 2 usage.\n\n\
Examples:\n  \
agentbus freeze --agent acme/planner --why 'answers itself, INC-7'\n  \
agentbus freeze --agent acme/planner --why 'key has leaked' --cut-off\n  \
agentbus freeze --all --why drill --dry-run"
)]
pub(super) struct FreezeArgs {
    #[command(flatten)]
    operator: Operator,
    #[command(flatten)]
    target: Target,
    /// Why, in a sentence; senders read it
    #[arg(long, value_name = "TEXT")]
    why: String,
    /// End its connections to NATS as well, and those that it makes while this lasts, within some 2 s each; of an agent
    /// or a tenant. Nodes do it that have nats.kicker_nkey_file
    #[arg(long)]
    cut_off: bool,
    /// Stop nothing, and say what would be stopped and which nodes would be told
    #[arg(long)]
    dry_run: bool,
    /// Print one line of JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
#[command(
    override_usage = "agentbus thaw --all\n       \
agentbus thaw --tenant|--agent|--conversation <ID>",
    after_help = "Exit codes: 0 in force on all nodes; 1 failure, or some have not said so; 2\n\
usage.\n\n\
Examples:\n  \
agentbus thaw --agent acme/planner\n  \
agentbus thaw --all"
)]
pub(super) struct ThawArgs {
    #[command(flatten)]
    operator: Operator,
    #[command(flatten)]
    target: Target,
    /// Print one line of JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct Target {
    /// All messages of all tenants
    #[arg(long)]
    all: bool,
    /// All messages of a tenant
    #[arg(long, value_name = "TENANT")]
    tenant: Option<TenantId>,
    /// What an agent sends, and what is sent to it
    #[arg(long, value_name = "TENANT/AGENT")]
    agent: Option<Who>,
    /// Messages that name a conversation_id
    #[arg(long, value_name = "TENANT/ID", value_parser = conversation)]
    conversation: Option<(TenantId, MessageId)>,
}

fn conversation(text: &str) -> Result<(TenantId, MessageId), String> {
    let expected = "expected a tenant and a conversation_id, such as acme/trip-17";
    let (tenant, id) = text.split_once('/').ok_or(expected)?;
    let told = |error: agentbus::domain::IdError| error.to_string();
    Ok((tenant.parse().map_err(told)?, id.parse().map_err(told)?))
}

impl Target {
    fn scope(self) -> Scope {
        match self {
            Self { tenant: Some(tenant), .. } => Scope::Tenant { tenant },
            Self { agent: Some(Who { tenant, agent }), .. } => Scope::Agent { tenant, agent },
            Self { conversation: Some((tenant, conversation)), .. } => {
                Scope::Conversation { tenant, conversation }
            }
            Self { all: _, .. } => Scope::Everything,
        }
    }
}

pub(super) async fn freeze(args: FreezeArgs) -> anyhow::Result<ExitCode> {
    let FreezeArgs { operator, target, why, cut_off, dry_run, json } = args;
    let (client, scope) = (operator.connect().await?, target.scope());
    let why = why.trim().to_owned();
    if why.is_empty() || why.len() > WHY_BYTES_MAX || why.contains(char::is_control) {
        bail!("--why: found {} bytes, expected one line of 1 to {WHY_BYTES_MAX} bytes", why.len());
    }
    known::check(&client, &scope).await?;
    let fleet = Fleet::new(client.clone());
    let nodes = in_force::names(&fleet).await?;
    if cut_off {
        known::can_be_cut_off(&fleet, &nodes, &scope).await?;
    }
    let waiting = known::waiting(&client, &scope).await;
    let act = |frozen: &mut Frozen| {
        // What the policy or the agent itself has stopped is the operator's from then on.
        let stands = |freeze: &Freeze| freeze.by.is_none() && (freeze.cut_off || !cut_off);
        if frozen.freezes.iter().any(|freeze| freeze.scope == scope && stands(freeze)) {
            return Ok(false);
        }
        frozen.freezes.retain(|freeze| freeze.scope != scope);
        let (scope, why) = (scope.clone(), why.clone());
        frozen.freezes.push(Freeze { scope, why, at: wall_clock(), login: login(), by: None, cut_off });
        Ok(true)
    };
    if dry_run {
        return fleet::rehearsed((&scope, cut_off), &nodes, waiting, json);
    }
    let (revision, new, asked) = change(&FreezeBucket::new(client), act).await?;
    let word = match (new, cut_off) {
        (true, true) => "stopped and cut off",
        (true, false) => "stopped",
        (false, _) => "stopped already",
    };
    let told = Told { scope, word, waiting, revision };
    let code = told.to(&fleet, &nodes, asked, json).await?;
    // They may have lost the right since they were asked.
    if cut_off && !known::is_cut_off(&fleet, &nodes).await? {
        bail!("it is stopped, and no node can end its connections: see `agentbus freezes`");
    }
    Ok(code)
}

pub(super) async fn thaw(args: ThawArgs) -> anyhow::Result<ExitCode> {
    let ThawArgs { operator, target, json } = args;
    let (client, scope) = (operator.connect().await?, target.scope());
    let fleet = Fleet::new(client.clone());
    let nodes = in_force::names(&fleet).await?;
    let act = |frozen: &mut Frozen| {
        let (thawed, kept): (Vec<_>, Vec<_>) =
            frozen.freezes.drain(..).partition(|freeze| freeze.scope == scope);
        frozen.freezes = kept;
        if thawed.is_empty() {
            let others: Vec<_> = frozen.freezes.iter().map(|freeze| freeze.scope.to_string()).collect();
            let found = if others.is_empty() { "nothing is".to_owned() } else { others.join(", ") };
            bail!("{scope} is not stopped by itself; found {}", safe(&found, 400));
        }
        (frozen.thawed, frozen.thawed_by) = (thawed, login());
        Ok(true)
    };
    let (revision, _, asked) = change(&FreezeBucket::new(client), act).await?;
    let told = Told { scope, word: "goes on", waiting: None, revision };
    told.to(&fleet, &nodes, asked, json).await
}

/// Changes what is frozen; anew if somebody else was faster. The revision in force then, whether it is another, and
/// when it was asked for.
async fn change(
    bucket: &FreezeBucket,
    act: impl Fn(&mut Frozen) -> anyhow::Result<bool>,
) -> anyhow::Result<(u64, bool, std::time::Instant)> {
    let mut tries = 1;
    loop {
        let mut frozen = bucket.last().await?;
        (frozen.thawed, frozen.thawed_by) = (Vec::new(), None);
        let asked = std::time::Instant::now();
        if !act(&mut frozen)? {
            return Ok((frozen.revision, false, asked));
        }
        match bucket.replace(&frozen).await {
            Ok(revision) => return Ok((revision, true, asked)),
            Err(FreezeError::Value(ValueError::Late)) if tries < TRIES => tries += 1,
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use clap::Parser as _;

    use super::*;

    #[derive(clap::Parser)]
    struct Typed {
        #[command(flatten)]
        target: Target,
    }

    #[test]
    fn one_thing_is_stopped_at_a_time_and_it_is_said_which() {
        let scope = |words: &[&str]| {
            Typed::try_parse_from(["freeze"].iter().chain(words))
                .map(|typed| typed.target.scope().to_string())
        };
        assert_eq!(scope(&["--all"]).unwrap(), "everything");
        assert_eq!(scope(&["--tenant", "acme"]).unwrap(), "tenant acme");
        assert_eq!(scope(&["--agent", "acme/planner"]).unwrap(), "agent acme/planner");
        assert_eq!(scope(&["--conversation", "acme/trip-17"]).unwrap(), "conversation acme/trip-17");
        for wrong in [
            &[][..],
            &["--all", "--tenant", "acme"],
            &["--agent", "planner"],
            &["--conversation", "acme/a b"],
        ] {
            assert!(scope(wrong).is_err(), "{wrong:?}");
        }
    }
}
