//! What people decide, and what waits for agents that are away: told with the commands that anybody can
//! type, and what they print.

use std::time::{Duration, Instant};

use agentbus::{
    client::{self, Draft, Patience, is_delivery},
    domain::{Encoding, MessageType, Priority, Reason, Verdict},
};
use anyhow::Context as _;
use async_nats::Message;
use futures_util::future::join_all;
use serde_json::{Value, json};

use super::{
    cast::Cast,
    ledger::{Ledger, Series},
    letter::{Expected, Letter, Routing},
    screen::Screen,
};
use crate::{
    context::{Paint, Who, safe},
    deliberations::Desk,
    durable::DurableInbox,
};

/// For a message or an outcome to reach a durable inbox.
const ARRIVES_WITHIN: Duration = Duration::from_secs(10);
/// How long nothing must come, to say that nothing comes.
const QUIET: Duration = Duration::from_millis(300);

/// A message that people look at first: approved, and another one rejected.
pub(super) async fn decide(cast: &Cast, screen: &Screen) -> anyhow::Result<()> {
    screen.section("People decide: a message with a high impact is parked");
    let letter = dangerous("Rotate all production keys now, everywhere.")?;
    let Some(id) = park(cast, screen, &letter).await? else { return Ok(()) };
    let judge: Who = "acme/judge".parse().map_err(anyhow::Error::msg)?;
    let desk = Desk::new(cast.actor(&judge)?.client.clone(), judge.clone());
    let mut worker = Reader::open(cast, "acme/worker").await?;
    let mut sender = Reader::open(cast, "acme/planner").await?;
    let mut voter = Reader::open(cast, "acme/judge").await?;

    typed(screen, &format!("agentbus deliberations list --as {judge}"), &desk.told(Paint::stdout()).await?);
    let (shown, digest) = desk.told_of(&id, Paint::stdout()).await?;
    typed(screen, &format!("agentbus deliberations show --as {judge} {id}"), &shown);

    screen.line("");
    for (what, who, digest, expected) in [
        ("its sender votes", "acme/planner", digest.clone(), Reason::SelfVote),
        ("the worker votes", "acme/worker", digest.clone(), Reason::DeliberationUnknown),
        ("the judge votes on another content", "acme/judge", "0".repeat(64), Reason::DigestMismatch),
    ] {
        let found = Desk::new(cast.named(who)?.client.clone(), judge.clone());
        let found = found.vote(&id, "approve", &digest, None).await?;
        refused(cast, screen, what, &found, expected);
    }

    let counted = desk.vote(&id, "approve", &digest, Some("agreed with operations")).await?;
    let command = vote(&judge, &format!("{id} --approve"), &digest, "agreed with operations");
    typed(screen, &command, &Desk::told_vote("approve", counted, Paint::stdout())?);
    screen.line("");
    worker.receive(screen, &[&letter]).await?;
    if let Some((letter, outcome)) = sender.outcome(screen, &[&letter], Reason::Delivered).await? {
        cast.ledger.concluded(letter, &outcome);
    }
    voter.outcome(screen, &[&letter], Reason::Delivered).await?;

    screen.line("");
    let letter = dangerous("Delete the backups, they only cost money.")?;
    let Some(id) = park(cast, screen, &letter).await? else { return Ok(()) };
    let (_, digest) = desk.told_of(&id, Paint::stdout()).await?;
    let counted = desk.vote(&id, "reject", &digest, Some("keep them")).await?;
    let command = vote(&judge, &format!("{id} --reject"), &digest, "keep them");
    typed(screen, &command, &Desk::told_vote("reject", counted, Paint::stdout())?);
    screen.line("");
    if let Some((letter, outcome)) = sender.outcome(screen, &[&letter], Reason::DeliberationDenied).await? {
        cast.ledger.concluded(letter, &outcome);
    }
    voter.outcome(screen, &[&letter], Reason::DeliberationDenied).await?;
    worker.nothing(screen, "the worker's durable inbox", "nothing came").await?;
    close([worker, sender, voter]).await;
    Ok(())
}

/// Messages for an agent that is not there, read when it comes.
pub(super) async fn away(cast: &Cast, screen: &Screen) -> anyhow::Result<()> {
    screen.section("The durable lane: kept by the bus for an agent that is away");
    let texts = ["Count the stock.", "Order what is missing.", "Report."];
    let letters: Vec<Letter> = texts
        .iter()
        .map(|text| letter("nomad", text, MessageType::TaskRequest, Priority::Normal))
        .collect::<anyhow::Result<_>>()?;
    let planner = &cast.named("acme/planner")?.client;
    let mut sender = Reader::open(cast, "acme/planner").await?;
    for letter in &letters {
        let verdict = planner.submit(letter.body.clone(), Patience::default()).await?;
        let right = verdict.reason == Reason::Stored;
        screen.check(
            &format!("planner submits for nomad: “{}”", letter.text),
            verdict.reason.as_str(),
            right,
        );
        cast.ledger.submitted(letter, &verdict);
    }
    // Says the same again, as a sender does that has heard nothing.
    if let Some(first) = letters.first() {
        let verdict = planner.submit(first.body.clone(), Patience::default()).await?;
        let right = matches!(verdict.reason, Reason::Stored | Reason::Delivered);
        screen.check("and the first one again", &format!("{}, once more", verdict.reason.as_str()), right);
        if !right {
            cast.ledger.wrong(format!("a repeat of a submit: {}", verdict.reason.as_str()));
        }
    }
    let mut waited: Vec<&Letter> = letters.iter().collect();
    while let Some((letter, outcome)) = sender.outcome(screen, &waited, Reason::Delivered).await? {
        cast.ledger.concluded(letter, &outcome);
        waited.retain(|other| other.message_id != letter.message_id);
        if waited.is_empty() {
            break;
        }
    }
    screen.line("  nomad comes back:");
    let mut nomad = Reader::open(cast, "acme/nomad").await?;
    let mut kept: Vec<&Letter> = letters.iter().collect();
    while let Some(letter) = nomad.receive(screen, &kept).await? {
        kept.retain(|other| other.message_id != letter.message_id);
        if kept.is_empty() {
            break;
        }
    }
    nomad.nothing(screen, "nomad looks again", "nothing comes twice").await?;
    close([sender, nomad]).await;
    Ok(())
}

/// Sends, and sees that it waits; its deliberation.
async fn park(cast: &Cast, screen: &Screen, letter: &Letter) -> anyhow::Result<Option<String>> {
    let Some((verdict, latency)) = cast.send(letter, Series::Aside).await? else { return Ok(None) };
    screen.story(letter, &verdict, latency);
    Ok(verdict.deliberation_id.map(|id| id.to_string()))
}

/// A vote that names all of what it is about, in lines that a shell reads as one.
fn vote(who: &Who, choice: &str, digest: &str, comment: &str) -> String {
    format!("agentbus deliberations vote --as {who} \\\n{choice} --comment '{comment}' \\\n--digest {digest}")
}

fn typed(screen: &Screen, command: &str, printed: &str) {
    screen.line("");
    screen.line(&format!("  $ {}", command.replace('\n', "\n      ")));
    for line in printed.lines() {
        screen.line(format!("  {line}").trim_end());
    }
}

fn refused(cast: &Cast, screen: &Screen, what: &str, answer: &Value, expected: Reason) {
    let word = |name: &str| safe(answer.get(name).and_then(Value::as_str).unwrap_or("nothing"), 60);
    let right = word("reason") == expected.as_str();
    screen.check(what, &format!("{}: {}", word("reason"), word("detail")), right);
    cast.ledger.registry(expected);
    if !right {
        cast.ledger.wrong(format!("{what}: expected {}, found {}", expected.as_str(), word("reason")));
    }
}

/// An agent that reads its durable inbox and acknowledges what it has read.
struct Reader<'a> {
    who: &'a Who,
    ledger: &'a Ledger,
    inbox: DurableInbox,
}

impl<'a> Reader<'a> {
    async fn open(cast: &'a Cast, who: &str) -> anyhow::Result<Self> {
        let actor = cast.named(who)?;
        let inbox = DurableInbox::open(&actor.client, &actor.who).await?;
        Ok(Self { who: &actor.who, ledger: &cast.ledger, inbox })
    }

    /// The next message, which must be one of these: two nodes govern what is stored, in any order.
    async fn receive<'l>(
        &mut self,
        screen: &Screen,
        letters: &[&'l Letter],
    ) -> anyhow::Result<Option<&'l Letter>> {
        let message = self.next(|message| is_delivery(message, &self.who.agent)).await?;
        let header = |name: &str| {
            let headers = message.as_ref().and_then(|message| message.headers.as_ref());
            headers.and_then(|headers| headers.get(name)).map(|value| value.as_str()).unwrap_or_default()
        };
        if message.is_some() {
            self.ledger.received(self.who, header);
        }
        let letter =
            letters.iter().copied().find(|letter| letter.message_id == header("Agentbus-Message-Id"));
        let found = letter.map_or_else(
            || "NOT what was sent".to_owned(),
            |letter| format!("“{}”, acknowledged", safe(&letter.text, 60)),
        );
        screen.check(&format!("{} reads its durable inbox", self.who), &found, letter.is_some());
        if letter.is_none() {
            self.ledger.wrong(format!("{}'s durable inbox has not what was sent", self.who));
        }
        Ok(letter)
    }

    /// The next outcome, which must be about one of these; the books take it.
    async fn outcome<'l>(
        &mut self,
        screen: &Screen,
        letters: &[&'l Letter],
        expected: Reason,
    ) -> anyhow::Result<Option<(&'l Letter, Verdict)>> {
        // That it waits was said by its verdict.
        let news = |verdict: Verdict| verdict.reason != Reason::Deliberating;
        let who = self.who.agent.clone();
        let verdict = self.next(|message| client::outcome(message, &who).is_some_and(news)).await?;
        let Some(verdict) = verdict.as_ref().and_then(|message| client::outcome(message, &self.who.agent))
        else {
            screen.check(&format!("{} hears the outcome", self.who), "NO outcome", false);
            self.ledger.wrong(format!("{} heard no outcome", self.who));
            return Ok(None);
        };
        let id = verdict.message_id.as_ref().map_or("none", |id| id.as_str());
        let letter = letters.iter().copied().find(|letter| letter.message_id == id);
        let right = letter.is_some() && verdict.reason == expected;
        let found = format!("{}: {}", verdict.reason.as_str(), safe(&verdict.detail, 60));
        screen.check(&format!("{} hears the outcome", self.who), &found, right);
        if !right {
            let expected = expected.as_str();
            self.ledger.wrong(format!("{}, outcome of {id}: expected {expected}, found {found}", self.who));
        }
        Ok(letter.map(|letter| (letter, verdict)))
    }

    /// No message must come.
    async fn nothing(&mut self, screen: &Screen, what: &str, good: &str) -> anyhow::Result<()> {
        let came = tokio::time::timeout(QUIET, self.inbox.next()).await;
        let nothing = !matches!(&came, Ok(Some(message)) if is_delivery(message, &self.who.agent));
        screen.check(what, if nothing { good } else { "NOT so: a message came" }, nothing);
        if !nothing {
            self.ledger.wrong(format!("{}'s durable inbox holds more than was sent", self.who));
        }
        Ok(())
    }

    /// The next one of this kind, acknowledged.
    async fn next(&mut self, wanted: impl Fn(&Message) -> bool) -> anyhow::Result<Option<Message>> {
        let end = Instant::now() + ARRIVES_WITHIN;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let Ok(message) = tokio::time::timeout(left, self.inbox.next()).await else { return Ok(None) };
            let message = message.context("the durable inbox is closed")?;
            self.inbox.ack(&message).await?;
            if wanted(&message) {
                return Ok(Some(message));
            }
            if is_delivery(&message, &self.who.agent) {
                self.ledger.wrong(format!("{}'s durable inbox holds what is not expected", self.who));
            }
        }
    }
}

async fn close<const N: usize>(readers: [Reader<'_>; N]) {
    join_all(readers.map(|reader| reader.inbox.close())).await;
}

/// What nobody should do without being asked.
fn dangerous(text: &str) -> anyhow::Result<Letter> {
    letter("worker", text, MessageType::Command, Priority::Critical)
}

fn letter(to: &str, text: &str, act: MessageType, priority: Priority) -> anyhow::Result<Letter> {
    let mut draft = Draft::new(json!({ "agent": to }), json!({ "text": text }));
    (draft.message_type, draft.priority) = (act, priority);
    let expected = if priority == Priority::Critical { Reason::Deliberating } else { Reason::Stored };
    Ok(Letter {
        from: "acme/planner".parse().map_err(anyhow::Error::msg)?,
        target: to.to_owned(),
        act: act.to_string(),
        text: text.to_owned(),
        routing: Routing::Agent,
        message_id: draft.message_id.clone(),
        body: draft.encode(Encoding::Json),
        expected: Expected::One(expected),
    })
}
