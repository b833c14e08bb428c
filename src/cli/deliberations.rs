//! `agentbus deliberations`: what waits for people, and their votes.

use std::{
    io::{BufRead as _, IsTerminal as _, Read as _},
    process::ExitCode,
};

use anyhow::{Context as _, bail};
use clap::{ArgGroup, Args, Subcommand};
use serde_json::{Value, json};

use super::{
    context::{Identity, Paint, Tone, Who, safe, say},
    send,
};
use crate::{
    client::AgentClient,
    domain::{DeliberationId, Reason, Verb},
};

mod reply;
mod shown;
mod watch;

use reply::{Details, Entry, Listing, Shown};
pub(super) use shown::short_digest;

/// Digits of a deliberation's id.
const ID_DIGITS: usize = 24;
/// Bytes of a comment that the bus keeps.
const COMMENT_BYTES_MAX: usize = 512;
/// Digits of a content's digest.
const DIGEST_DIGITS: usize = 64;
/// So many of them name a content to a person; whether they do is looked up before the vote.
const DIGEST_DIGITS_MIN: usize = 8;
/// What is read of an answer to a question on the terminal.
const REPLY_BYTES_MAX: u64 = 64;

#[derive(Debug, Args)]
pub(super) struct DeliberationsArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List what waits for reviewers: what you may vote on, and your own messages
    List(ListArgs),
    /// Show one with its message, impact, rule and votes
    Show(ShowArgs),
    /// List, and follow what comes, changes and is decided, until Ctrl-C
    Watch(watch::WatchArgs),
    /// Approve or reject one
    Vote(VoteArgs),
}

#[derive(Debug, Args)]
#[command(after_help = "Exit codes: 0 answered, 1 failure, 2 usage, 3 denied.")]
struct ListArgs {
    #[command(flatten)]
    identity: Identity,
    /// Print the bus's answer as one line of JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "Exit codes: 0 shown, 1 failure or no such deliberation, 2 usage, 3 denied.")]
struct ShowArgs {
    #[command(flatten)]
    identity: Identity,
    /// Its id, or the beginning of it
    #[arg(value_name = "ID", value_parser = id_prefix)]
    id: String,
    /// Print the bus's answer as one line of JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
#[command(
    group = ArgGroup::new("choice").required(true).args(["approve", "reject"]),
    after_help = "\
A vote names the content it is about by its digest, of which the first 8 digits are enough. Without \
--digest the content is shown, and you are asked. Where nobody can be asked, say --digest, or --yes.\n\n\
Exit codes: 0 counted, 1 failure (unknown, decided before, voted before, other content, or you did not \
say yes), 2 usage, 3 denied: you are no voter of this one yet, or it is your own message."
)]
struct VoteArgs {
    #[command(flatten)]
    identity: Identity,
    /// Its id, or the beginning of it
    #[arg(value_name = "ID", value_parser = id_prefix)]
    id: String,
    /// Let it pass
    #[arg(long)]
    approve: bool,
    /// Stop it
    #[arg(long)]
    reject: bool,
    /// Why, for those who read it later; at most 512 bytes
    #[arg(long, value_name = "TEXT", value_parser = comment)]
    comment: Option<String>,
    /// Digest of the content that you have seen, from `show`, or its beginning
    #[arg(long, value_name = "HEX", value_parser = digest)]
    digest: Option<String>,
    /// Vote on whatever it is, without being asked
    #[arg(long, conflicts_with = "digest")]
    yes: bool,
    /// Print the bus's answer as one line of JSON
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: DeliberationsArgs) -> anyhow::Result<ExitCode> {
    match args.command {
        Command::List(args) => list(args).await,
        Command::Show(args) => show(args).await,
        Command::Watch(args) => watch::run(args).await,
        Command::Vote(args) => vote(args).await,
    }
}

/// A reviewer's way to the bus.
pub(super) struct Desk {
    client: AgentClient,
    who: Who,
}

impl Desk {
    pub(super) fn new(client: AgentClient, who: Who) -> Self {
        Self { client, who }
    }

    async fn connect(identity: &Identity) -> anyhow::Result<Self> {
        Ok(Self::new(identity.connect().await?, identity.who.clone()))
    }

    /// What waits, as the bus answers.
    async fn listing(&self) -> anyhow::Result<Result<Listing, Value>> {
        answered(self.client.json(Verb::Deliberations, "{}".to_owned()).await?)
    }

    async fn details(&self, id: &str) -> anyhow::Result<Result<(Details, Value), Value>> {
        let answer = self.client.json(Verb::Deliberations, json!({ "id": id }).to_string()).await?;
        let shown: Result<Shown, Value> = answered(answer.clone())?;
        Ok(shown.map(|shown| (shown.deliberation, answer)))
    }

    /// The id that these first digits stand for among all that wait.
    async fn resolve(&self, prefix: &str) -> anyhow::Result<Result<String, Value>> {
        if prefix.len() == ID_DIGITS {
            return Ok(Ok(prefix.to_owned()));
        }
        let listing = match self.listing().await? {
            Ok(listing) => listing,
            Err(refused) => return Ok(Err(refused)),
        };
        let found: Vec<&Entry> =
            listing.deliberations.iter().filter(|entry| entry.id.starts_with(prefix)).collect();
        match found.as_slice() {
            [entry] => Ok(Ok(entry.id.clone())),
            [] => bail!(
                "nothing that waits for {} begins with {prefix}, among {}; what is decided is found by its whole id",
                self.who,
                listing.deliberations.len()
            ),
            several => {
                let ids: Vec<&str> = several.iter().map(|entry| entry.id.as_str()).collect();
                bail!("{prefix} is the beginning of several: {}", ids.join(", "))
            }
        }
    }

    /// The list as `agentbus deliberations list` prints it.
    pub(super) async fn told(&self, paint: Paint) -> anyhow::Result<String> {
        match self.listing().await? {
            Ok(listing) => Ok(shown::listing(&listing, &self.who, paint)),
            Err(refused) => bail!("{}", refusal(&refused)),
        }
    }

    /// One deliberation as `agentbus deliberations show` prints it, and its digest.
    pub(super) async fn told_of(&self, id: &str, paint: Paint) -> anyhow::Result<(String, String)> {
        match self.details(id).await? {
            Ok((details, _)) => {
                Ok((shown::details(&details, &self.who, paint), details.entry.digest.clone()))
            }
            Err(refused) => bail!("{}", refusal(&refused)),
        }
    }

    /// The bus's answer to a vote as `agentbus deliberations vote` prints it.
    pub(super) fn told_vote(choice: &str, answer: Value, paint: Paint) -> anyhow::Result<String> {
        Ok(answered(answer)?.map_or_else(
            |refused| format!("{}\n", refusal(&refused)),
            |counted| shown::counted(choice, &counted, paint),
        ))
    }

    /// Who may vote on one from the beginning.
    pub(super) async fn voters(&self, id: &str) -> anyhow::Result<Vec<String>> {
        let details = self.details(id).await?;
        Ok(details.map_or_else(
            |_| Vec::new(),
            |(details, _)| details.voters.iter().map(|voter| safe(&voter.id, 64)).collect(),
        ))
    }

    /// The bus's answer to a vote.
    pub(super) async fn vote(
        &self,
        id: &str,
        choice: &str,
        digest: &str,
        comment: Option<&str>,
    ) -> anyhow::Result<Value> {
        let mut body = json!({ "id": id, "choice": choice, "digest": digest });
        if let (Some(comment), Some(fields)) = (comment, body.as_object_mut()) {
            fields.insert("comment".to_owned(), json!(comment));
        }
        Ok(self.client.json(Verb::Vote, body.to_string()).await?)
    }
}

/// The answer as what was asked for, or the refusal as it came.
fn answered<T: serde::de::DeserializeOwned>(answer: Value) -> anyhow::Result<Result<T, Value>> {
    if answer.get("status").and_then(Value::as_str) != Some("ok") {
        return Ok(Err(answer));
    }
    let read =
        serde_json::from_value(answer).context("the bus answered in a way this version cannot read")?;
    Ok(Ok(read))
}

async fn list(args: ListArgs) -> anyhow::Result<ExitCode> {
    let desk = Desk::connect(&args.identity).await?;
    if args.json {
        return raw(&desk.client.json(Verb::Deliberations, "{}".to_owned()).await?);
    }
    match desk.listing().await? {
        Ok(listing) => print(&shown::listing(&listing, &desk.who, Paint::stdout()), ExitCode::SUCCESS),
        Err(refused) => refuse(&refused),
    }
}

async fn show(args: ShowArgs) -> anyhow::Result<ExitCode> {
    let desk = Desk::connect(&args.identity).await?;
    let id = match desk.resolve(&args.id).await? {
        Ok(id) => id,
        Err(refused) => return refuse(&refused),
    };
    match desk.details(&id).await? {
        Ok((_, answer)) if args.json => raw(&answer),
        Ok((details, _)) => print(&shown::details(&details, &desk.who, Paint::stdout()), ExitCode::SUCCESS),
        Err(refused) if args.json => raw(&refused),
        Err(refused) => refuse(&refused),
    }
}

async fn vote(args: VoteArgs) -> anyhow::Result<ExitCode> {
    let asks = args.digest.is_none() && !args.yes;
    if asks && !(std::io::stdin().is_terminal() && std::io::stderr().is_terminal()) {
        eprintln!(
            "agentbus: a vote needs --digest, which `agentbus deliberations show` prints, or --yes: \
             here is no terminal to ask on"
        );
        return Ok(ExitCode::from(2));
    }
    let desk = Desk::connect(&args.identity).await?;
    let id = match desk.resolve(&args.id).await? {
        Ok(id) => id,
        Err(refused) => return refuse(&refused),
    };
    let choice = if args.approve { "approve" } else { "reject" };
    let digest = match args.digest {
        Some(digest) if digest.len() == DIGEST_DIGITS => digest,
        named => match desk.details(&id).await? {
            Ok((details, _)) => match named {
                Some(begins) if details.entry.digest.starts_with(&begins) => details.entry.digest,
                Some(begins) => bail!(
                    "the vote names content {begins}…, and what was parked is {}; look at it with: \
                     agentbus deliberations show --as {} {id}",
                    safe(&details.entry.digest, DIGEST_DIGITS),
                    desk.who
                ),
                None => {
                    let text = shown::summary(&details, Paint::stdout());
                    // With --json, standard output is for the answer alone.
                    match args.json {
                        true => eprint!("{text}"),
                        false => say(&text)?,
                    }
                    if asks && !agreed(choice)? {
                        eprintln!("agentbus: no vote was sent");
                        return Ok(ExitCode::FAILURE);
                    }
                    details.entry.digest
                }
            },
            Err(refused) if args.json => return raw(&refused),
            Err(refused) => return refuse(&refused),
        },
    };
    let answer = desk.vote(&id, choice, &digest, args.comment.as_deref()).await?;
    if args.json {
        return raw(&answer);
    }
    let code = ended(&answer);
    print(&Desk::told_vote(choice, answer, Paint::stdout())?, code)
}

/// Whether the person at the terminal means it. Ctrl-C ends the program meanwhile.
fn agreed(choice: &str) -> anyhow::Result<bool> {
    eprint!("{choice}? [y/N] ");
    let mut reply = String::new();
    std::io::stdin().lock().take(REPLY_BYTES_MAX).read_line(&mut reply)?;
    Ok(matches!(reply.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}

fn print(text: &str, code: ExitCode) -> anyhow::Result<ExitCode> {
    say(text)?;
    Ok(code)
}

fn raw(answer: &Value) -> anyhow::Result<ExitCode> {
    print(&format!("{answer}\n"), ended(answer))
}

fn ended(answer: &Value) -> ExitCode {
    let ok = answer.get("status").and_then(Value::as_str) == Some("ok");
    if ok { ExitCode::SUCCESS } else { refused_code(answer) }
}

fn refuse(answer: &Value) -> anyhow::Result<ExitCode> {
    print(&format!("{}\n", refusal(answer)), refused_code(answer))
}

/// As `agentbus send` ends for the same reason.
fn refused_code(answer: &Value) -> ExitCode {
    let reason = answer.get("reason").and_then(Value::as_str).and_then(Reason::parse);
    if reason.is_some_and(send::denied) { ExitCode::from(3) } else { ExitCode::FAILURE }
}

fn refusal(answer: &Value) -> String {
    let word = |name| safe(answer.get(name).and_then(Value::as_str).unwrap_or("?"), 400);
    let code = answer.get("code").and_then(Value::as_u64).unwrap_or_default();
    let status = Paint::stdout().apply(Tone::Bad, word("status"));
    format!("{status}  {} ({code}): {}", word("reason"), word("detail"))
}

fn id_prefix(text: &str) -> Result<String, String> {
    let text = text.to_ascii_lowercase();
    let hex = text.chars().all(|c| c.is_ascii_hexdigit());
    match text.len() {
        ID_DIGITS => {
            text.parse::<DeliberationId>().map(|id| id.as_str().to_owned()).map_err(|error| error.to_string())
        }
        1..ID_DIGITS if hex => Ok(text),
        length => Err(format!(
            "expected {ID_DIGITS} hex digits or the first of them, found {length} characters of {}",
            safe(&text, ID_DIGITS)
        )),
    }
}

fn digest(text: &str) -> Result<String, String> {
    let found = text.chars().count();
    let hex = text.chars().all(|c| c.is_ascii_hexdigit());
    match found {
        DIGEST_DIGITS_MIN..=DIGEST_DIGITS if hex => Ok(text.to_ascii_lowercase()),
        _ if hex => Err(format!("expected {DIGEST_DIGITS_MIN} to {DIGEST_DIGITS} hex digits, found {found}")),
        _ => Err(format!(
            "expected {DIGEST_DIGITS_MIN} to {DIGEST_DIGITS} hex digits, found {found} characters of {}",
            safe(text, ID_DIGITS)
        )),
    }
}

fn comment(text: &str) -> Result<String, String> {
    match text.len() {
        0..=COMMENT_BYTES_MAX => Ok(text.to_owned()),
        bytes => Err(format!("expected at most {COMMENT_BYTES_MAX} bytes, found {bytes}")),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn ids_and_digests_say_what_was_found() {
        assert_eq!(id_prefix("9F3c").unwrap(), "9f3c");
        assert_eq!(id_prefix("0123456789abcdef01234567").unwrap().len(), ID_DIGITS);
        for bad in ["", "xyz", "9f3c*", "0123456789abcdef012345678", "0123456789abcdef0123456z"] {
            assert!(id_prefix(bad).is_err(), "{bad:?} was accepted");
        }
        assert!(digest("ab").unwrap_err().contains("found 2"));
        assert!(digest("0123456x").is_err() && digest(&"a".repeat(65)).is_err());
        assert_eq!(digest("0123ABCD").unwrap(), "0123abcd");
        assert!(digest(&"AB".repeat(32)).unwrap().starts_with("abab"));
        assert!(comment(&"ä".repeat(300)).unwrap_err().contains("found 600"));
    }

    #[test]
    fn a_refusal_is_told_with_its_reason_and_ends_as_send_does() {
        let refused =
            json!({ "status": "rejected", "code": 403, "reason": "self_vote", "detail": "own\u{1b}[2J" });
        assert!(answered::<Listing>(refused.clone()).unwrap().is_err());
        let text = refusal(&refused);
        assert!(text.contains("self_vote (403): own\\u{1b}[2J"), "{text}");
        assert!(answered::<Listing>(json!({ "status": "ok", "total": "many" })).is_err());
    }
}
