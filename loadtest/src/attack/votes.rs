//! Can a message be let through by fewer, by others, or by a vote for something else?

use std::time::Duration;

use agentbus::{
    client::{AgentClient, Draft},
    domain::{Encoding, MessageType, Status, Verb},
    wire,
};
use anyhow::{Context as _, ensure};
use serde_json::{Value, json};

use super::{
    calls::{self, PATIENCE},
    cli,
    field::Field,
};

const DIGEST_DIGITS: usize = 64;
const ID_DIGITS: usize = 24;
/// A decision and its delivery take some milliseconds; that nothing comes is looked for so long.
const STRAY_WAIT: Duration = Duration::from_millis(300);

/// A message that waits for reviewers.
#[derive(Clone)]
pub(crate) struct Parked {
    pub(crate) id: String,
    pub(crate) digest: String,
}

/// Parks a message of globex' planner with this content.
pub(crate) async fn park(field: &mut Field, draft: Draft) -> anyhow::Result<Parked> {
    let planner = field.client("globex", "planner").await?;
    let judge = field.client("globex", "judge-1").await?;
    let draft = Draft { message_type: MessageType::TaskRequest, ..draft };
    let answer = planner.call(Verb::Send, draft.encode(Encoding::Json), PATIENCE).await?;
    let verdict = wire::decode_verdict(&answer.payload)?;
    ensure!(
        verdict.status == Status::Deliberating,
        "not parked: {} {}",
        verdict.reason.as_str(),
        verdict.detail
    );
    let id = verdict.deliberation_id.context("no deliberation's id")?.to_string();
    let shown = calls::answer(&judge, Verb::Deliberations, json!({ "id": id }).to_string()).await?;
    let digest = shown.pointer("/deliberation/digest").and_then(Value::as_str);
    let digest = digest.with_context(|| format!("no digest: {shown}"))?.to_owned();
    Ok(Parked { id, digest })
}

fn note(text: &str) -> Draft {
    Draft::to_agent("sink", text)
}

/// The answer to a vote with these words.
async fn vote(voter: &AgentClient, id: &str, digest: &str) -> anyhow::Result<Value> {
    let body = json!({ "id": id, "choice": "approve", "digest": digest }).to_string();
    calls::answer(voter, Verb::Vote, body).await
}

/// What a vote that must not count has come to.
fn counted(answer: &Value) -> Option<String> {
    (answer.get("status").and_then(Value::as_str) == Some("ok"))
        .then(|| format!("the vote counted: {answer}"))
}

pub(crate) async fn play(field: &mut Field) -> anyhow::Result<()> {
    let parked = park(field, note("please look at this")).await?;
    let other = park(field, note("please look at that")).await?;
    let judge = field.client("globex", "judge-1").await?;

    // Names that are not whole.
    let step = if field.full { 1 } else { 7 };
    for digits in (0..DIGEST_DIGITS).step_by(step) {
        let short: String = parked.digest.chars().take(digits).collect();
        cast(field, &judge, format!("the first {digits} digits of the digest"), &parked.id, &short).await?;
    }
    for digits in (0..ID_DIGITS).step_by(if field.full { 1 } else { 5 }) {
        let short: String = parked.id.chars().take(digits).collect();
        cast(field, &judge, format!("the first {digits} digits of the id"), &short, &parked.digest).await?;
    }
    let reversed: String = parked.digest.chars().rev().collect();
    let mut almost = parked.digest.clone();
    almost.pop();
    almost.push(if parked.digest.ends_with('0') { '1' } else { '0' });
    for (what, id, digest) in [
        ("another's digest", parked.id.clone(), other.digest.clone()),
        ("the digest in capitals", parked.id.clone(), parked.digest.to_uppercase()),
        ("another's id", other.id.clone(), parked.digest.clone()),
        ("the digest backwards", parked.id.clone(), reversed),
        ("the digest but for its last digit", parked.id.clone(), almost),
        ("the digest twice", parked.id.clone(), parked.digest.repeat(2)),
        ("the digest with a blank before it", parked.id.clone(), format!(" {}", parked.digest)),
        ("the digest with a NUL behind it", parked.id.clone(), format!("{}\0", parked.digest)),
        ("a digest of zeros", parked.id.clone(), "0".repeat(DIGEST_DIGITS)),
        ("an asterisk for the digest", parked.id.clone(), "*".to_owned()),
        ("an asterisk for the id", "*".to_owned(), parked.digest.clone()),
        ("a greater-than sign for the id", ">".to_owned(), parked.digest.clone()),
        ("the id with a token more", format!("{}.vote", parked.id), parked.digest.clone()),
        ("the id with a slash", format!("../{}", parked.id), parked.digest.clone()),
        ("an id of zeros", "0".repeat(ID_DIGITS), parked.digest.clone()),
    ] {
        cast(field, &judge, what.to_owned(), &id, &digest).await?;
    }
    bodies(field, &judge, &parked).await?;

    // People who may not.
    for (what, tenant, agent) in [
        ("the sender", "globex", "planner"),
        ("the recipient", "globex", "sink"),
        ("a colleague without the role", "globex", "mallory"),
        ("another tenant's judge", "acme", "judge"),
        ("another tenant's agent of the sender's name", "acme", "planner"),
    ] {
        let voter = field.client(tenant, agent).await?;
        cast(field, &voter, format!("a vote of {what}"), &parked.id, &parked.digest).await?;
    }
    twice_and_late(field).await?;
    by_the_program(field, &parked).await
}

async fn cast(
    field: &mut Field,
    voter: &AgentClient,
    name: String,
    id: &str,
    digest: &str,
) -> anyhow::Result<()> {
    let (voter, id, digest) = (voter.clone(), id.to_owned(), digest.to_owned());
    field.attempt(name, async move { Ok(counted(&vote(&voter, &id, &digest).await?)) }).await
}

/// Bodies that say the same in another way.
async fn bodies(field: &mut Field, judge: &AgentClient, parked: &Parked) -> anyhow::Result<()> {
    let Parked { id, digest } = parked;
    for (what, body) in [
        ("a vote without a digest", json!({ "id": id, "choice": "approve" }).to_string()),
        (
            "a vote with null for the digest",
            json!({ "id": id, "choice": "approve", "digest": null }).to_string(),
        ),
        (
            "a vote with a list of digests",
            json!({ "id": id, "choice": "approve", "digest": [digest] }).to_string(),
        ),
        (
            "a vote in another's name",
            json!({ "id": id, "choice": "approve", "digest": digest, "voter": "judge-2" }).to_string(),
        ),
        (
            "a vote with a weight",
            json!({ "id": id, "choice": "approve", "digest": digest, "weight": 1000 }).to_string(),
        ),
        (
            "a vote for two choices",
            format!(
                "{{\"id\":\"{id}\",\"choice\":\"approve\",\"choice\":\"reject\",\"digest\":\"{digest}\"}}"
            ),
        ),
        (
            "a vote with two digests",
            format!("{{\"id\":\"{id}\",\"choice\":\"approve\",\"digest\":\"{digest}\",\"digest\":\"00\"}}"),
        ),
        (
            "a vote with a comment of 60 KB",
            json!({ "id": id, "choice": "approve", "digest": digest, "comment": "a".repeat(60_000) })
                .to_string(),
        ),
        (
            "a vote with a comment that is a list",
            json!({ "id": id, "choice": "approve", "digest": digest, "comment": ["a"] }).to_string(),
        ),
        ("a choice that is none", json!({ "id": id, "choice": "APPROVE", "digest": digest }).to_string()),
        (
            "a vote of another tenant's",
            json!({ "id": id, "choice": "approve", "digest": digest, "tenant": "acme" }).to_string(),
        ),
    ] {
        let judge = judge.clone();
        field
            .attempt(what, async move { Ok(counted(&calls::answer(&judge, Verb::Vote, body).await?)) })
            .await?;
    }
    Ok(())
}

/// One voter of two needed, several times and at once; and after the decision.
async fn twice_and_late(field: &mut Field) -> anyhow::Result<()> {
    let parked = park(field, note("please decide")).await?;
    let (first, second) =
        (field.client("globex", "judge-1").await?, field.client("globex", "judge-2").await?);
    let at_once = {
        let (first, parked) = (first.clone(), parked.clone());
        async move {
            let votes = (0..10).map(|_| vote(&first, &parked.id, &parked.digest));
            let answers = futures_util::future::try_join_all(votes).await?;
            tokio::time::sleep(STRAY_WAIT).await;
            let judged = answers.iter().filter(|answer| {
                answer.get("judgement").and_then(Value::as_str).is_some_and(|judgement| judgement != "open")
            });
            Ok((judged.count() > 0).then(|| "one judge alone has decided".to_owned()))
        }
    };
    field.attempt("ten votes of one judge at once", at_once).await?;
    let again = vote(&first, &parked.id, &parked.digest);
    field.attempt("a vote of the same judge again", async { Ok(counted(&again.await?)) }).await?;
    // Rejected by the other: no vote counts any more.
    let body = json!({ "id": parked.id, "choice": "reject", "digest": parked.digest }).to_string();
    let answer = calls::answer(&second, Verb::Vote, body).await?;
    let denied = answer.get("judgement").and_then(Value::as_str) == Some("denied");
    ensure!(denied, "a rejection of one of two does not deny: {answer}");
    for (what, voter) in [("a vote after the decision", &first), ("a change of mind", &second)] {
        cast(field, voter, what.to_owned(), &parked.id, &parked.digest).await?;
    }
    Ok(())
}

/// The program where nobody is asked: whole names, or nothing.
async fn by_the_program(field: &mut Field, parked: &Parked) -> anyhow::Result<()> {
    let (step, ids) = if field.full { (9, 8) } else { (31, 23) };
    let digests = (1..DIGEST_DIGITS).step_by(step).map(|digits| (ID_DIGITS, digits));
    let ids = (1..ID_DIGITS).step_by(ids).map(|digits| (digits, DIGEST_DIGITS));
    let known: Vec<_> = [(ID_DIGITS, 8), (8, 8)].into_iter().chain(digests).chain(ids).collect();
    for (id_digits, digest_digits) in known {
        // Anew each time: a vote of a judge counts once.
        let parked = park(field, note("please look here")).await?;
        let (program, folder) = (field.agentbus.clone(), field.dir().to_owned());
        let id: String = parked.id.chars().take(id_digits).collect();
        let digest: String = parked.digest.chars().take(digest_digits).collect();
        let name = format!("the program with {id_digits} digits of the id and {digest_digits} of the digest");
        field
            .attempt(name, async move {
                let args = [
                    "deliberations",
                    "vote",
                    &id,
                    "--approve",
                    "--digest",
                    &digest,
                    "--as",
                    "globex/judge-2",
                ];
                let ran = cli::agentbus(&program, &folder, &args).await?;
                Ok(ran.success.then(|| format!("the vote counted: {}", ran.out.trim())))
            })
            .await?;
    }
    let (program, folder, id) = (field.agentbus.clone(), field.dir().to_owned(), parked.id.clone());
    field
        .attempt("the program with --yes, unseen", async move {
            let args = ["deliberations", "vote", &id, "--approve", "--yes", "--as", "globex/judge-2"];
            let ran = cli::agentbus(&program, &folder, &args).await?;
            Ok(ran.success.then(|| format!("the vote counted: {}", ran.out.trim())))
        })
        .await
}
