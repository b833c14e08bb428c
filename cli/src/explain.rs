//! `agentbus explain`: why was a message decided so, and what became of it? Read from what the bus keeps; no node takes
//! part.

use std::{
    path::PathBuf,
    process::ExitCode,
    time::{Duration, SystemTime},
};

use agentbus::{
    domain::{DecisionId, TenantId},
    nats::{Looked, RecordStream},
    phrase::counted,
};
use anyhow::bail;
use clap::Args;

use crate::{
    context::{Paint, safe, say},
    operator::Operator,
    printable,
};

mod found;
mod json;
mod page;
mod rules;

use found::Explained;

/// Characters of the id of a decision whose record stands by itself.
const ID_CHARS: usize = 22;

#[derive(Debug, Args)]
#[command(after_help = "\
A decision is found by its record; what was kept to be governed later is found by the decision that queued it, too. \
No record is written of a repeat, of what was shed, and of what is not judged yet.\n\n\
Which rules decided is known where the decision is in the decision log (policy.log.share) and its policy is at hand: \
what ships, what was pushed onto the bus, or --policy.\n\n\
Exit codes: 0 explained, 1 failure or no such record, 2 usage.\n\n\
Examples:\n  \
agentbus explain 5f3a9c0d12e47b68-7-0\n  \
agentbus explain --policy policies/ --json kwgBtD6dd5f4LfCUqfSfEk")]
pub(super) struct ExplainArgs {
    #[command(flatten)]
    operator: Operator,
    /// Id of the decision, as verdicts, deliveries and logs have it
    #[arg(value_name = "DECISION", value_parser = decision_id)]
    decision: String,
    /// Only of this tenant
    #[arg(long, value_name = "TENANT")]
    tenant: Option<TenantId>,
    /// How far back to look, such as 1h or 30days [default: as far as records are kept]
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    since: Option<Duration>,
    /// The policy that decided, where it neither ships nor was pushed: a folder, or a bundle
    #[arg(long, value_name = "DIR|BUNDLE")]
    policy: Option<PathBuf>,
    /// Print all that is known as one object of JSON
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: ExplainArgs) -> anyhow::Result<ExitCode> {
    let client = args.operator.connect().await?;
    let since = args.since.and_then(|since| SystemTime::now().checked_sub(since));
    let (mut looked, mut told) = (Looked::default(), None);
    for records in RecordStream::where_to_look(client.clone(), args.tenant.as_ref()).await? {
        let (found, among) = records.find(&args.decision, args.tenant.as_ref(), since).await?;
        looked = Looked {
            records: looked.records.max(among.records),
            since: [looked.since, among.since].into_iter().flatten().min(),
        };
        if let Some(found) = found {
            told = Some((found, records));
            break;
        }
    }
    let Some((found, records)) = told else {
        let of = args.tenant.as_ref().map_or(String::new(), |tenant| format!(" of {tenant}"));
        let back = looked
            .since
            .map_or(String::new(), |since| format!(", back to {}", humantime::format_rfc3339_seconds(since)));
        let looked = counted(looked.records, "record");
        bail!(
            "no record{of} names the decision {}, among {looked}{back}: it is of another bus or tenant, its record has \
             gone by age or size (agentbus tenants apply --records-age, --records-bytes), or it left none, as a repeat \
             and what was shed",
            args.decision
        );
    };
    let explained = Explained::of(args.decision, found, &records, &client, args.policy.as_deref()).await?;
    let text = match args.json {
        true => format!("{}\n", printable::json(&json::of(&explained)?.to_string())),
        false => page::of(&explained, Paint::stdout()),
    };
    say(&text)?;
    Ok(ExitCode::SUCCESS)
}

fn decision_id(text: &str) -> Result<String, String> {
    let stands_alone = text.len() == ID_CHARS && text.bytes().all(|byte| byte.is_ascii_alphanumeric());
    match stands_alone || DecisionId::parse(text).is_some() {
        true => Ok(text.to_owned()),
        false => Err(format!(
            "expected {ID_CHARS} letters and digits, or three numbers as in 5f3a9c0d12e47b68-7-0, found {} characters of {}",
            text.chars().count(),
            safe(text, 48)
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_says_what_was_found() {
        assert!(decision_id("kwgBtD6dd5f4LfCUqfSfEk").is_ok() && decision_id("5f3a9c0d12e47b68-7-0").is_ok());
        for bad in ["", "kwgBtD6dd5f4LfCUqfSfE", "kwgBtD6dd5f4LfCUqfSfEkk", "kwgBtD6dd5f4LfCUqfSf.>", "ü"] {
            assert!(decision_id(bad).unwrap_err().contains("expected 22 letters"), "{bad:?}");
        }
    }
}
