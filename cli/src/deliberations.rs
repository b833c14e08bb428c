//! `agentbus deliberations`: what waits for people, and their votes.

use std::{
    io::{BufRead as _, IsTerminal as _, Read as _},
    process::ExitCode,
};

use agentbus::domain::{DeliberationId, Reason, Verb};
use anyhow::bail;
use clap::{ArgGroup, Args, Subcommand};
use serde_json::Value;

use super::{
    context::{Identity, Paint, Tone, Who, safe, say},
    input, output,
    printable::{self, Page},
    verdict,
};

mod desk;
mod export;
mod reply;
mod shown;
mod wanted;
mod watch;

pub(super) use desk::Desk;
use reply::{Entry, Listing};
pub(super) use shown::{cast_vote, impact_line, moment};
use wanted::Wanted;

/// Digits of a deliberation's id.
const ID_DIGITS: usize = 24;
/// Bytes of a comment that the bus keeps.
const COMMENT_BYTES_MAX: usize = 512;
/// Digits of a content's digest. A vote names all of them: of fewer, a sender can find two contents.
const DIGEST_DIGITS: usize = 64;
/// Ids that an error names.
const IDS_MAX: usize = 20;
/// What is read of an answer to a question on the terminal.
const REPLY_BYTES_MAX: u64 = 64;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:\n  \
agentbus deliberations list --as acme/judge\n  \
agentbus deliberations vote --as acme/judge 3f9c0a1b --approve")]
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
    /// For the operator: write what reviewers decided as labelled lines, to learn from
    Export(export::ExportArgs),
}

#[derive(Debug, Args)]
#[command(after_help = "Exit codes: 0 answered, 1 failure, 2 usage, 3 denied.\n\n\
Examples:\n  \
agentbus deliberations list --as acme/judge\n  \
agentbus deliberations list --as acme/judge --older-than 1h --json")]
struct ListArgs {
    #[command(flatten)]
    identity: Identity,
    #[command(flatten)]
    wanted: Wanted,
    /// Print the bus's answer as one line of JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "Exit codes: 0 shown, 1 failure or no such deliberation, 2 usage, 3 denied.\n\n\
Examples:\n  \
agentbus deliberations show --as acme/judge 3f9c0a1b\n  \
agentbus deliberations show --as acme/judge --json 3f9c0a1b")]
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
    override_usage = "agentbus deliberations vote [OPTIONS] --as <TENANT/AGENT>\n         \
        <--approve|--reject> <ID>",
    group = ArgGroup::new("choice").required(true).args(["approve", "reject"]),
    after_help = "\
A vote is about what you have seen. Without --digest the message is shown whole, and you are asked. Where \
nobody is asked, the vote names the whole id (24 digits) and the whole digest (64 digits), as `show` prints \
them; a message can be stopped unseen, with --reject --yes, and not approved.\n\n\
Exit codes: 0 counted, 1 failure (unknown, decided before, voted before, other content, or you did not \
say yes), 2 usage, 3 denied: you are no voter of this one yet, or it is your own message.\n\n\
Examples:\n  \
agentbus deliberations vote --as acme/judge 3f9c0a1b --approve\n  \
agentbus deliberations vote --as acme/judge 3f9c0a1b --reject"
)]
struct VoteArgs {
    #[command(flatten)]
    identity: Identity,
    /// Its id; where you are asked, the beginning of it is enough
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
    /// Digest of the content that you have seen, from `show`
    #[arg(long, value_name = "HEX", value_parser = digest)]
    digest: Option<String>,
    /// Reject whatever it is, without being asked
    #[arg(long, conflicts_with_all = ["digest", "approve"])]
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
        Command::Export(args) => export::run(args).await,
    }
}

async fn list(args: ListArgs) -> anyhow::Result<ExitCode> {
    let desk = Desk::connect(&args.identity).await?;
    if args.json {
        return raw(&desk.client.json(Verb::Deliberations, args.wanted.body()).await?);
    }
    match desk.listing(&args.wanted).await? {
        Ok(listing) if listing.total == 0 && args.wanted != Wanted::default() => {
            print(&format!("nothing that waits for {} is so\n", desk.who), ExitCode::SUCCESS)
        }
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
    let choice = if args.approve { "approve" } else { "reject" };
    let asks = args.digest.is_none() && !args.yes;
    if let Some(why) = unattended(&args, asks) {
        eprintln!("agentbus: {why}");
        return Ok(ExitCode::from(2));
    }
    let desk = Desk::connect(&args.identity).await?;
    let id = match desk.resolve(&args.id).await? {
        Ok(id) => id,
        Err(refused) => return refuse(&refused),
    };
    let digest = match args.digest {
        Some(digest) => digest,
        None => match desk.details(&id).await? {
            Ok((details, _)) => {
                let seen = output::is_terminal() && !args.json;
                let text = shown::summary(&details, Paint::stdout());
                // Where the question is asked. With --json, standard output is for the answer alone.
                match seen || !asks && !args.json {
                    true => say(&text)?,
                    false => eprint!("{text}"),
                }
                if asks && !agreed(&shown::question(&details, choice), choice)? {
                    eprintln!("agentbus: no vote was sent");
                    return Ok(ExitCode::FAILURE);
                }
                details.entry.digest
            }
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

/// Why this vote cannot be sent as it was typed: abbreviations are for those who are shown what they mean.
fn unattended(args: &VoteArgs, asks: bool) -> Option<String> {
    if asks {
        let terminal = input::is_terminal() && std::io::stderr().is_terminal();
        return (!terminal).then(|| {
            "here is no terminal to show the message on and to ask: a vote needs --digest with all 64 digits, \
             which `agentbus deliberations show` prints; to stop a message unseen, --reject --yes"
                .to_owned()
        });
    }
    (args.id.len() != ID_DIGITS).then(|| {
        format!(
            "found {} digits of an id, expected all {ID_DIGITS}, which `agentbus deliberations show {}` prints: \
             where nobody is asked, a beginning could mean another message",
            args.id.len(),
            args.id
        )
    })
}

/// Whether the person at the terminal means it. Ctrl-C ends the program meanwhile.
pub(super) fn agreed(question: &str, choice: &str) -> anyhow::Result<bool> {
    // What was typed before the message was shown is no answer to it.
    let _ = rustix::termios::tcflush(input::answers(), rustix::termios::QueueSelector::IFlush);
    eprint!("{question}{choice}? [y/N] ");
    let mut reply = String::new();
    input::answers().lock().take(REPLY_BYTES_MAX).read_line(&mut reply)?;
    Ok(matches!(reply.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}

fn print(text: &str, code: ExitCode) -> anyhow::Result<ExitCode> {
    say(text)?;
    Ok(code)
}

fn raw(answer: &Value) -> anyhow::Result<ExitCode> {
    print(&format!("{}\n", printable::json(&answer.to_string())), ended(answer))
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
    if reason.is_some_and(verdict::denied) { ExitCode::from(3) } else { ExitCode::FAILURE }
}

/// For the terminal, without the end of its last line.
fn refusal(answer: &Value) -> String {
    let (status, why) = refused_why(answer);
    let mut page = Page::new(Paint::stdout());
    page.headed(&status, Tone::Bad, &why);
    page.into_text().trim_end().to_owned()
}

fn refused_why(answer: &Value) -> (String, String) {
    let word = |name| safe(answer.get(name).and_then(Value::as_str).unwrap_or("?"), 400);
    let code = answer.get("code").and_then(Value::as_u64).unwrap_or_default();
    (word("status"), format!("{} ({code}): {}", word("reason"), word("detail")))
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

/// What `prefix` begins, if it is the one thing that it can mean.
fn meant(listing: &Listing, prefix: &str, who: &Who) -> anyhow::Result<String> {
    let found: Vec<&Entry> =
        listing.deliberations.iter().filter(|entry| entry.id.starts_with(prefix)).collect();
    let listed = listing.deliberations.len();
    match found.as_slice() {
        [_] | [] if listing.total > listed as u64 => bail!(
            "{} wait for {who} and one answer lists {listed}: {prefix} may be the beginning of another one; name \
             the whole id, {ID_DIGITS} digits",
            listing.total
        ),
        [entry] => Ok(entry.id.clone()),
        [] => bail!(
            "nothing that waits for {who} begins with {prefix}, among {listed}; what is decided is found by its whole id"
        ),
        several => {
            let one = |entry: &&Entry| {
                let Entry { id, sender, to, .. } = *entry;
                format!("\n  {}  {} → {}", safe(id, ID_DIGITS), safe(sender, 64), safe(to, 64))
            };
            let ids: String = several.iter().take(IDS_MAX).map(one).collect();
            let more = several.len().saturating_sub(IDS_MAX);
            let more = if more > 0 { format!("\n  and {more} more") } else { String::new() };
            bail!("{prefix} is the beginning of {}, name more digits:{ids}{more}", several.len())
        }
    }
}

fn digest(text: &str) -> Result<String, String> {
    let found = text.chars().count();
    let hex = text.chars().all(|c| c.is_ascii_hexdigit());
    match found {
        DIGEST_DIGITS if hex => Ok(text.to_ascii_lowercase()),
        _ if hex => Err(format!(
            "expected all {DIGEST_DIGITS} hex digits, as `agentbus deliberations show` prints them, found {found}"
        )),
        _ => Err(format!(
            "expected {DIGEST_DIGITS} hex digits, found {found} characters of {}",
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

    use serde_json::json;

    use super::{desk::answered, *};

    #[test]
    fn ids_and_digests_say_what_was_found() {
        assert_eq!(id_prefix("9F3c").unwrap(), "9f3c");
        assert_eq!(id_prefix("0123456789abcdef01234567").unwrap().len(), ID_DIGITS);
        for bad in ["", "xyz", "9f3c*", "0123456789abcdef012345678", "0123456789abcdef0123456z"] {
            assert!(id_prefix(bad).is_err(), "{bad:?} was accepted");
        }
        assert!(digest("ab").unwrap_err().contains("found 2"));
        for bad in ["0123456x".to_owned(), "a".repeat(8), "a".repeat(63), "a".repeat(65), "g".repeat(64)] {
            assert!(digest(&bad).is_err(), "{bad:?} was accepted");
        }
        assert!(digest(&"AB".repeat(32)).unwrap().starts_with("abab"));
        assert!(comment(&"ä".repeat(300)).unwrap_err().contains("found 600"));
    }

    #[test]
    fn a_beginning_of_an_id_that_could_mean_another_is_refused_with_all_that_it_could_mean() {
        let ids = ["0123456789aa000000000000", "0123456789ab000000000000", "ff00000000aa000000000000"];
        let list = |total: u64| -> Listing {
            let entries: Vec<Value> = ids.iter().map(|id| shown::tests::entry(id)).collect();
            serde_json::from_value(json!({ "total": total, "deliberations": entries })).unwrap()
        };
        let who: Who = "acme/judge".parse().unwrap();
        let found =
            |total, prefix: &str| meant(&list(total), prefix, &who).map_err(|error| error.to_string());
        assert_eq!(found(3, "ff").unwrap(), ids[2]);
        assert_eq!(found(3, "0123456789aa").unwrap(), ids[0]);
        let several = found(3, "0123").unwrap_err();
        assert!(
            several.contains(ids[0]) && several.contains(ids[1]) && !several.contains(ids[2]),
            "{several}"
        );
        assert!(found(3, "7").unwrap_err().contains("among 3"));
        // What is not listed may begin in the same way.
        assert!(found(4, "ff").unwrap_err().contains("whole id"));
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
