//! `agentbus dead-letters`: what could not be governed, for an operator to try again or to give up.

use std::{
    process::ExitCode,
    sync::Arc,
    time::{Duration, SystemTime},
};

use agentbus::{
    domain::TenantId,
    nats::DeadLetterStreams,
    phrase::{causes, counted},
    review::{self, Address, DeadLetters, LETTERS_MAX, Letter},
    skew::wall_clock,
    tenants::BusUser,
};
use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::{
    context::{Paint, Tone, safe, say},
    operator::{Operator, login},
    printable::{self, Page},
};

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:\n  \
agentbus dead-letters list\n  \
agentbus dead-letters redrive --all-of acme")]
pub(super) struct DeadLettersArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List them, oldest first
    List(ListArgs),
    /// Show one: why it was given up, and what it says
    Show(ShowArgs),
    /// Put them back onto the durable lane, to be governed anew
    ///
    /// Nothing is delivered twice on the durable lane within the tenant's `inbox_age` (7 days unless it has
    /// another): what was delivered or parked there before is found, and stays. Each has a record of who did it.
    Redrive(RedriveArgs),
    /// Delete them for good
    ///
    /// Each has a record of who did it.
    Drop(DropArgs),
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:\n  \
agentbus dead-letters list\n  \
agentbus dead-letters list --tenant acme --limit 10 --json")]
struct ListArgs {
    #[command(flatten)]
    operator: Operator,
    /// Only of this tenant
    #[arg(long, value_name = "TENANT")]
    tenant: Option<TenantId>,
    /// At most so many
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=LETTERS_MAX))]
    limit: u64,
    /// Print each as one line of JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:\n  \
agentbus dead-letters show acme/planner/m1\n  \
agentbus dead-letters show --json acme/planner/m1")]
struct ShowArgs {
    #[command(flatten)]
    operator: Operator,
    /// Which one, as `list` writes it
    #[arg(value_name = "TENANT/SENDER/MESSAGE")]
    address: Address,
    /// Print it as one line of JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "Exit codes: 0 all of them, 1 failure, or some could not be put back, 2 usage.\n\n\
Examples:\n  \
agentbus dead-letters redrive acme/planner/m1\n  \
agentbus dead-letters redrive --all-of acme")]
struct RedriveArgs {
    #[command(flatten)]
    operator: Operator,
    /// Which ones, as `list` writes them
    #[arg(value_name = "TENANT/SENDER/MESSAGE", required_unless_present = "all_of", num_args = 1..=100)]
    addresses: Vec<Address>,
    /// All of this tenant, the 1,000 oldest at most
    #[arg(long, value_name = "TENANT", conflicts_with = "addresses")]
    all_of: Option<TenantId>,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:\n  \
agentbus dead-letters drop --yes acme/planner/m1\n  \
agentbus dead-letters drop --yes --all-of acme")]
struct DropArgs {
    #[command(flatten)]
    operator: Operator,
    /// Which ones, as `list` writes them
    #[arg(value_name = "TENANT/SENDER/MESSAGE", required_unless_present = "all_of", num_args = 1..=100)]
    addresses: Vec<Address>,
    /// All that this tenant has now
    #[arg(long, value_name = "TENANT", conflicts_with = "addresses")]
    all_of: Option<TenantId>,
    /// They are gone for good, and that is meant
    #[arg(long)]
    yes: bool,
}

pub(super) async fn run(args: DeadLettersArgs) -> anyhow::Result<ExitCode> {
    match args.command {
        Command::List(args) => list(args).await,
        Command::Show(args) => show(args).await,
        Command::Redrive(args) => redrive(args).await,
        Command::Drop(args) => give_up(args).await,
    }
}

async fn letters_of(operator: &Operator) -> anyhow::Result<DeadLetters> {
    let store = Arc::new(DeadLetterStreams::new(operator.connect().await?));
    let who = review::Operator { user: BusUser::Operator.as_str(), login: login() };
    Ok(DeadLetters::new(store, who, wall_clock))
}
async fn list(args: ListArgs) -> anyhow::Result<ExitCode> {
    let letters = letters_of(&args.operator).await?;
    let tenants = letters.tenants(args.tenant.as_ref()).await?;
    let total = letters.count(&tenants).await?;
    let found = letters.oldest(&tenants, args.limit).await?;
    let text = match args.json {
        true => found
            .iter()
            .map(|letter| format!("{}\n", printable::json(&summary(letter).to_string())))
            .collect(),
        false => readable(&found, total),
    };
    say(&text)?;
    Ok(ExitCode::SUCCESS)
}

async fn show(args: ShowArgs) -> anyhow::Result<ExitCode> {
    let letters = letters_of(&args.operator).await?;
    let letter = letters.read(&args.address).await?;
    let text = match args.json {
        true => format!("{}\n", printable::json(&whole(&letter).to_string())),
        false => details(&letter, Paint::stdout()),
    };
    say(&text)?;
    Ok(ExitCode::SUCCESS)
}

async fn redrive(args: RedriveArgs) -> anyhow::Result<ExitCode> {
    let letters = letters_of(&args.operator).await?;
    let found = match &args.all_of {
        Some(tenant) => letters.oldest(std::slice::from_ref(tenant), LETTERS_MAX).await?,
        None => {
            let mut found = Vec::with_capacity(args.addresses.len());
            for address in &args.addresses {
                found.push(letters.read(address).await?);
            }
            found
        }
    };
    let mut failed = 0;
    for letter in &found {
        match letters.redrive(letter).await {
            Ok(()) => say(&format!("redriven  {}\n", letter.address))?,
            Err(error) => {
                failed += 1;
                sayln!("kept      {}: {}", letter.address, causes(&error))?;
            }
        }
    }
    say(&format!(
        "{} back on the durable lane, {failed} kept; their senders hear the outcome\n",
        found.len() - failed
    ))?;
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn give_up(args: DropArgs) -> anyhow::Result<ExitCode> {
    let letters = letters_of(&args.operator).await?;
    if let Some(tenant) = &args.all_of {
        return give_up_all(&letters, tenant, args.yes).await;
    }
    if !args.yes {
        for address in &args.addresses {
            let letter = letters.read(address).await?;
            let (reason, detail) = (safe(&letter.reason, 64), safe(&letter.detail, 200));
            let mut page = Page::new(Paint::stdout());
            page.headed("dead letter", Tone::Strong, &letter.address.to_string());
            page.field("reason", &format!("{reason}: {detail}"));
            say(&page.into_text())?;
        }
        bail!("nothing is deleted yet: deleted letters are gone for good; say --yes if that is meant");
    }
    for address in &args.addresses {
        let letter = letters.read(address).await?;
        letters.discard(&letter).await.with_context(|| address.to_string())?;
        say(&format!("deleted  {address}\n"))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// As many as there were at the beginning: those that come meanwhile stay.
async fn give_up_all(letters: &DeadLetters, tenant: &TenantId, meant: bool) -> anyhow::Result<ExitCode> {
    if !meant {
        let total = letters.count(std::slice::from_ref(tenant)).await?;
        bail!(
            "nothing of {total} is deleted yet: deleted letters are gone for good; say --yes if that is meant"
        );
    }
    let deleted = letters.discard_all(tenant).await?;
    sayln!("deleted  {}", counted(deleted, "letter"))?;
    Ok(ExitCode::SUCCESS)
}

fn readable(found: &[Letter], total: u64) -> String {
    if found.is_empty() {
        return "no dead letters\n".to_owned();
    }
    // Not a table: who copies an address from it wants it whole.
    let mut page = Page::new(Paint::stdout());
    for letter in found {
        let (attempts, redriven) = (counted(letter.attempts, "attempt"), counted(letter.redriven, "time"));
        page.headed("dead letter", Tone::Strong, &letter.address.to_string());
        page.field("reason", &safe(&letter.reason, 64));
        page.field("tried", &format!("{attempts}, redriven {redriven}, died {} ago", age(letter)));
    }
    let more = total.saturating_sub(found.len() as u64);
    let more = if more > 0 { format!("and {more} more, later ones\n") } else { String::new() };
    page.into_text() + &more
}

fn details(letter: &Letter, paint: Paint) -> String {
    let mut page = Page::new(paint);
    page.headed("dead letter", Tone::Strong, &letter.address.to_string());
    page.field("reason", &format!("{}: {}", safe(&letter.reason, 64), safe(&letter.detail, 400)));
    page.field("attempts", &format!("{}, redriven {}", letter.attempts, counted(letter.redriven, "time")));
    page.field("died", &format!("{} ago", age(letter)));
    if let Some(traceparent) = &letter.traceparent {
        page.field("trace", &safe(traceparent, 64));
    }
    page.field("bytes", &letter.payload.len().to_string());
    match letter.message() {
        Some(message) => {
            page.own("  message");
            page.value(&message);
            page.own(&format!("\nTo try it again: agentbus dead-letters redrive {}", letter.address));
            page.own(&format!("To delete it:    agentbus dead-letters drop --yes {}", letter.address));
        }
        None => {
            page.own("  cannot be read as a message of its sender; it begins with");
            page.text(&letter.beginning());
            page.own(&format!("\nTo delete it: agentbus dead-letters drop --yes {}", letter.address));
        }
    }
    page.into_text()
}

fn summary(letter: &Letter) -> Value {
    json!({
        "tenant": letter.address.tenant(),
        "sender": letter.address.sender(),
        "message_id": letter.address.message(),
        "reason": letter.reason,
        "detail": letter.detail,
        "attempts": letter.attempts,
        "redriven": letter.redriven,
        "died_at": letter.died_at,
        "bytes": letter.payload.len(),
    })
}

fn whole(letter: &Letter) -> Value {
    let mut whole = summary(letter);
    if let Some(fields) = whole.as_object_mut() {
        match letter.message() {
            Some(message) => fields.insert("message".to_owned(), message),
            None => fields.insert("beginning".to_owned(), json!(letter.beginning())),
        };
    }
    whole
}

fn age(letter: &Letter) -> String {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let age = now.saturating_sub(Duration::from_millis(letter.died_at));
    let unit = if age >= Duration::from_secs(3600) { 60 } else { 1 };
    humantime::format_duration(Duration::from_secs(age.as_secs() / unit * unit)).to_string()
}
