//! `agentbus constitution`: let messages name another constitution, on all nodes before anybody has to.

use std::process::ExitCode;

use agentbus::{
    domain::{Act, Amendment, Amendments, Constitution, ConstitutionHash, freeze::WHY_BYTES_MAX},
    nats::{ConstitutionBucket, Fleet, ValueError},
    skew::wall_clock,
};
use anyhow::{bail, ensure};
use clap::{Args, Subcommand};

use super::{
    in_force,
    operator::{Operator, login},
};

mod nodes;
mod status;

use nodes::Told;

/// Somebody else may change something at the same time.
const TRIES: u32 = 5;

#[derive(Debug, Args)]
#[command(after_help = "Another constitution in three steps: propose it, and all nodes take messages that\n\
name it beside the old one; activate it, and agents that ask (`about`) hear to\n\
name it; retire the old one, when nobody names it any more.\n\n\
Examples:\n  \
agentbus constitution propose 0123456789abcdef --why 'amendment 7'\n  \
agentbus constitution status")]
pub(super) struct ConstitutionArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Let messages name it, beside those that they may name already
    #[command(after_help = "Exit codes: 0 in force on all nodes; 1 failure, or some have not said so; 2\n\
usage.\n\n\
Examples:\n  \
agentbus constitution propose 0123456789abcdef --why 'amendment 7'\n  \
agentbus constitution propose 0123456789abcdef --why 'a drill' --json")]
    Propose(ChangeArgs),
    /// Have agents name it, once all nodes take it
    #[command(
        after_help = "A node that runs and does not take the constitution yet stops this: its senders\n\
would be refused. Name it to go on without it.\n\n\
Exit codes: 0 in force on all nodes; 1 failure, or some have not said so; 2\n\
usage.\n\n\
Examples:\n  \
agentbus constitution activate 0123456789abcdef --why 'amendment 7'\n  \
agentbus constitution activate 0123456789abcdef --why x --without node-3"
    )]
    Activate(ActivateArgs),
    /// Let messages name it no more
    #[command(after_help = "Exit codes: 0 in force on all nodes; 1 failure, or some have not said so; 2\n\
usage.\n\n\
Examples:\n  \
agentbus constitution retire cdd01ef066bc6cf2 --why 'amendment 7'\n  \
agentbus constitution retire cdd01ef066bc6cf2 --why 'a drill' --json")]
    Retire(ChangeArgs),
    /// See which constitutions are in force, on each node, and who has changed that
    Status(status::StatusArgs),
}

#[derive(Debug, Args)]
struct ChangeArgs {
    #[command(flatten)]
    operator: Operator,
    /// The first 16 hex digits of the constitution's hash, in lower case
    hash: ConstitutionHash,
    /// Why, in a sentence; it is kept
    #[arg(long, value_name = "TEXT")]
    why: String,
    /// Print one line of JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct ActivateArgs {
    #[command(flatten)]
    change: ChangeArgs,
    /// Go on though this node does not take it; may be given several times
    #[arg(long, value_name = "NODE")]
    without: Vec<String>,
}

pub(super) async fn run(args: ConstitutionArgs) -> anyhow::Result<ExitCode> {
    match args.command {
        Command::Propose(args) => change(Act::Proposed, args, &[]).await,
        Command::Activate(ActivateArgs { change: args, without }) => {
            change(Act::Activated, args, &without).await
        }
        Command::Retire(args) => change(Act::Retired, args, &[]).await,
        Command::Status(args) => status::run(args).await,
    }
}

async fn change(what: Act, args: ChangeArgs, without: &[String]) -> anyhow::Result<ExitCode> {
    let ChangeArgs { operator, hash, why, json } = args;
    let why = why.trim().to_owned();
    if why.is_empty() || why.len() > WHY_BYTES_MAX || why.contains(char::is_control) {
        bail!("--why: found {} bytes, expected one line of 1 to {WHY_BYTES_MAX} bytes", why.len());
    }
    let client = operator.connect().await?;
    let (fleet, bucket) = (Fleet::new(client.clone()), ConstitutionBucket::new(client));
    let mut names = in_force::names(&fleet).await?;
    let act = Amendment { what, hash, why, at: wall_clock(), login: login() };
    let mut tries = 1;
    loop {
        let (after, state) = match bucket.last().await? {
            Some(last) => last,
            None => (0, nodes::configured(&fleet, &names, act.clone()).await?),
        };
        let state = amended(state, act.clone())?;
        if what == Act::Activated {
            nodes::have_confirmed(&fleet, &names, (after, hash), without).await?;
        }
        let asked = std::time::Instant::now();
        match bucket.replace(after, &state).await {
            Ok(revision) => {
                names.retain(|node| !without.contains(node));
                return Told { act, revision }.to(&fleet, &names, asked, json).await;
            }
            Err(ValueError::Late) if tries < TRIES => tries += 1,
            Err(error) => return Err(error.into()),
        }
    }
}

/// What the act makes of a state.
fn amended(state: Amendments, act: Amendment) -> anyhow::Result<Amendments> {
    let Amendments { mut accepted, mut preferred, .. } = state;
    let hash = act.hash;
    let there = accepted.iter().any(|it| it.hash == hash);
    match act.what {
        Act::Proposed => {
            ensure!(!there, "messages may name {hash} already");
            let most = Amendments::ACCEPTED_MAX;
            ensure!(accepted.len() < most, "there are {most} constitutions, the most; retire one first");
            accepted.push(Constitution { hash, from: None, until: None });
        }
        Act::Activated => {
            ensure!(there, "found {hash}, expected one that was proposed: {}", listed(&accepted));
            ensure!(preferred != hash, "{hash} is active already");
            preferred = hash;
        }
        Act::Retired => {
            ensure!(there, "found {hash}, expected one of: {}", listed(&accepted));
            ensure!(preferred != hash, "{hash} is active; activate another first");
            accepted.retain(|it| it.hash != hash);
        }
    }
    // What agents are told to name has neither a beginning nor an end any more.
    for it in accepted.iter_mut().filter(|it| it.hash == preferred) {
        (it.from, it.until) = (None, None);
    }
    Ok(Amendments { accepted, preferred, act })
}

fn listed(accepted: &[Constitution]) -> String {
    accepted.iter().map(|it| it.hash.to_string()).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use agentbus::domain::Timestamp;

    use super::*;

    fn act(what: Act, digit: char) -> Amendment {
        let hash = digit.to_string().repeat(16).parse().unwrap();
        Amendment { what, hash, why: "why".to_owned(), at: Timestamp(1), login: None }
    }

    #[test]
    fn a_constitution_is_proposed_then_activated_and_the_one_before_is_retired_last() {
        let act_a = act(Act::Proposed, 'a');
        let until = Some(Timestamp(9));
        let first = Constitution { hash: act_a.hash, from: None, until };
        let state = Amendments { accepted: vec![first], preferred: act_a.hash, act: act_a };
        let refused = |state: &Amendments, what, digit| {
            amended(state.clone(), act(what, digit)).unwrap_err().to_string()
        };
        assert!(refused(&state, Act::Activated, 'b').contains("expected one that was proposed"));
        assert!(refused(&state, Act::Retired, 'a').contains("activate another first"));
        assert!(refused(&state, Act::Proposed, 'a').contains("already"));
        let state = amended(state, act(Act::Proposed, 'b')).unwrap();
        assert_eq!((state.accepted.len(), state.preferred), (2, act(Act::Proposed, 'a').hash));
        assert_eq!(state.accepted.first().unwrap().until, None, "what is named does not end by itself");
        let state = amended(state, act(Act::Activated, 'b')).unwrap();
        assert_eq!(state.preferred, act(Act::Proposed, 'b').hash);
        assert!(refused(&state, Act::Retired, 'b').contains("activate another first"));
        let state = amended(state, act(Act::Retired, 'a')).unwrap();
        assert_eq!(state.accepted.len(), 1);
        let full = "cdef1234".chars().fold(state, |state, digit| match state.accepted.len() {
            Amendments::ACCEPTED_MAX => state,
            _ => amended(state, act(Act::Proposed, digit)).unwrap(),
        });
        assert!(refused(&full, Act::Proposed, '9').contains("retire one first"));
    }
}
