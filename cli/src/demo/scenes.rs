//! What happens, scene by scene: traffic, refusals, a flood, repeats, and a node that dies.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use agentbus::{
    client::Draft,
    domain::{Encoding, Reason, Verb},
    servers::Stack,
};
use anyhow::Context as _;
use futures_util::{TryStreamExt as _, future::try_join_all, stream};
use serde_json::json;

use super::{
    cast::Cast,
    ledger::Series,
    letter::{Expected, Letter, Routing},
    refusals,
    screen::Screen,
};
use crate::context::Who;

/// A person can follow this.
const PACE: Duration = Duration::from_millis(8);
/// Of the paced traffic, one story for each turn through the acts, then one in so many.
const STORIES_FIRST: usize = 27;
const STORY_EVERY: usize = 40;
/// Messages at once in a burst.
const IN_FLIGHT: usize = 32;
/// Messages of the small tenant at once: more than its limit on all nodes together.
const FLOOD: usize = 40;

/// Agents at work, one message after another.
pub(super) async fn work(cast: &Cast, screen: &Screen, letters: &[Letter]) -> anyhow::Result<()> {
    screen.section("Two tenants at work: every message type, every routing, MessagePack and JSON");
    let mut pace = tokio::time::interval(PACE);
    pace.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    for (number, letter) in letters.iter().enumerate() {
        pace.tick().await;
        if let Some((verdict, latency)) = cast.send(letter, Series::Paced(letter.routing)).await? {
            let harmful = verdict.reason != Reason::Delivered;
            if number < STORIES_FIRST || number.is_multiple_of(STORY_EVERY) || harmful {
                screen.story(letter, &verdict, latency);
            }
        }
        screen.progress("at work", number + 1, letters.len(), &cast.ledger.counts());
    }
    Ok(())
}

/// Every kind of refusal.
pub(super) async fn refused(cast: &Cast, screen: &Screen) -> anyhow::Result<()> {
    for (title, letters) in refusals::letters()? {
        screen.section(&format!("Refused: {title}"));
        for letter in &letters {
            refuse(cast, screen, letter).await?;
        }
    }
    screen.section("Refused: what was said before, or too often, or by too many");
    used_id(cast, screen).await?;
    let found = cast.registry("initech/bill", Verb::Register).await?;
    registry(cast, screen, "bill: a third agent of two", found, Reason::QuotaExceeded);
    let found = cast.registry("initech/bill", Verb::Heartbeat).await?;
    registry(cast, screen, "bill: a heartbeat without registration", found, Reason::NotRegistered);
    flood(cast, screen).await
}

async fn refuse(cast: &Cast, screen: &Screen, letter: &Letter) -> anyhow::Result<()> {
    if let Some((verdict, _)) = cast.send(letter, Series::Paced(letter.routing)).await? {
        screen.refusal(letter, &verdict, letter.expected.met_by(&verdict));
    }
    Ok(())
}

fn registry(cast: &Cast, screen: &Screen, what: &str, found: Option<Reason>, expected: Reason) {
    let words = found.map_or("no reason", Reason::as_str);
    screen.check(what, words, found == Some(expected));
    if found != Some(expected) {
        cast.ledger.wrong(format!("{what}: expected {}, found {words}", expected.as_str()));
    }
}

/// One id for two different messages.
async fn used_id(cast: &Cast, screen: &Screen) -> anyhow::Result<()> {
    let first = plain("acme/planner", "worker", "read page 10", Expected::One(Reason::Delivered))?;
    cast.send(&first, Series::Paced(Routing::Agent)).await?;
    let mut other = Draft::to_agent("worker", "read page 10,000");
    other.message_id.clone_from(&first.message_id);
    let second = Letter {
        target: "another text under a used id".to_owned(),
        body: other.encode(Encoding::Json),
        expected: Expected::One(Reason::DuplicateMessage),
        ..first
    };
    refuse(cast, screen, &second).await
}

/// The small tenant sends more than it may; it alone is slowed.
async fn flood(cast: &Cast, screen: &Screen) -> anyhow::Result<()> {
    let expected = Expected::Either(Reason::Delivered, Reason::RateLimited);
    let letters: Vec<Letter> = (0..FLOOD)
        .map(|_| plain("initech/peter", "milton", "have you seen my stapler", expected.clone()))
        .collect::<anyhow::Result<_>>()?;
    let neighbour = plain("acme/planner", "worker", "not disturbed by it", Expected::One(Reason::Delivered))?;
    let (answers, beside) = tokio::try_join!(
        try_join_all(letters.iter().map(|letter| cast.send(letter, Series::Aside))),
        cast.send(&neighbour, Series::Aside),
    )?;
    let limited: Vec<_> =
        answers.iter().flatten().filter(|(verdict, _)| verdict.reason == Reason::RateLimited).collect();
    let delivered = answers.iter().flatten().count() - limited.len();
    let told = limited.iter().all(|(verdict, _)| verdict.retry_after.is_some());
    let right = told && !limited.is_empty() && delivered > 0 && beside.is_some();
    screen.check(
        &format!("peter: {FLOOD} messages at once, 60 a minute allowed"),
        &format!("{delivered} delivered, {} rate_limited and told when to come back", limited.len()),
        right,
    );
    if !right {
        cast.ledger.wrong(format!("of {FLOOD} messages of the small tenant {delivered} were delivered"));
    }
    Ok(())
}

fn plain(from: &str, to: &str, text: &str, expected: Expected) -> anyhow::Result<Letter> {
    let draft = Draft::new(json!({ "agent": to }), json!({ "text": text }));
    let from: Who = from.parse().map_err(anyhow::Error::msg)?;
    Ok(Letter {
        from,
        target: to.to_owned(),
        act: draft.message_type.to_string(),
        text: text.to_owned(),
        routing: Routing::Agent,
        message_id: draft.message_id.clone(),
        body: draft.encode(Encoding::MessagePack),
        expected,
    })
}

/// Messages that are sent again, later and at the same instant.
pub(super) async fn repeats(
    cast: &Cast,
    screen: &Screen,
    sent: &[Letter],
    twins: &[Letter],
) -> anyhow::Result<()> {
    screen.section("Said twice, done once");
    let wrong = cast.ledger.counts().wrong;
    for letter in sent {
        cast.repeat(letter).await?;
    }
    screen.check(
        &format!("{} messages sent again", sent.len()),
        "each got the verdict it had",
        cast.ledger.counts().wrong == wrong,
    );
    for letter in twins {
        let (first, second) = tokio::try_join!(cast.send(letter, Series::Aside), cast.send_unbooked(letter))?;
        if let (Some((first, _)), Some(second)) = (first, second)
            && first.decision_id != second.decision_id
        {
            cast.ledger.wrong(format!("message {} was decided twice at one instant", letter.message_id));
        }
    }
    screen.check(
        &format!("{} messages sent twice at the same instant", twins.len()),
        "one decision each, whichever node got it",
        cast.ledger.counts().wrong == wrong,
    );
    Ok(())
}

/// How the burst went.
pub(super) struct Burst {
    pub(super) messages: usize,
    pub(super) took: Duration,
}

/// Many messages at once.
pub(super) async fn burst(cast: &Cast, screen: &Screen, letters: &[Letter]) -> anyhow::Result<Burst> {
    screen.section(&format!("As fast as it goes: {} messages, {IN_FLIGHT} at once", letters.len()));
    let started = Instant::now();
    let answered = AtomicUsize::new(0);
    all(cast, screen, letters, "burst", Series::Burst, &answered).await?;
    let took = started.elapsed();
    screen.check(
        "all have a verdict",
        &format!("{:.0} messages/s", letters.len() as f64 / took.as_secs_f64()),
        cast.unknown() == 0,
    );
    Ok(Burst { messages: letters.len(), took })
}

/// One node is killed in the middle of a burst; the senders ask again, and every outcome is known.
pub(super) async fn death(
    cast: &Cast,
    screen: &Screen,
    letters: &[Letter],
    stack: &mut Stack,
) -> anyhow::Result<()> {
    screen.section("A node is killed in the middle");
    let answered = AtomicUsize::new(0);
    let victim = stack.node_mut(1).context("a second node")?;
    let name = victim.name().to_owned();
    let killing = async {
        // Bounded by the answers themselves: each comes or is given up within its deadline.
        while answered.load(Ordering::Relaxed) < letters.len() / 3 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        victim.child_mut().kill().await;
        screen.line(&format!("  SIGKILL to {name} after {} answers", answered.load(Ordering::Relaxed)));
        anyhow::Ok(())
    };
    let unknown_before = cast.unknown();
    let started = Instant::now();
    tokio::try_join!(all(cast, screen, letters, "node killed", Series::Death, &answered), killing)?;
    let unknown = cast.unknown() - unknown_before;
    screen.check(
        &format!("{} messages around it", letters.len()),
        &format!("{unknown} unknown outcomes, after {:.1} s", started.elapsed().as_secs_f64()),
        unknown == 0,
    );
    stack.node_mut(1).context("a second node")?.restart().await?;
    screen.check(&format!("{name} is back"), "nothing had to be restored: nodes keep no state", true);
    Ok(())
}

async fn all(
    cast: &Cast,
    screen: &Screen,
    letters: &[Letter],
    doing: &str,
    series: Series,
    answered: &AtomicUsize,
) -> anyhow::Result<()> {
    stream::iter(letters.iter().map(anyhow::Ok))
        .try_for_each_concurrent(IN_FLIGHT, |letter| async move {
            cast.send(letter, series).await?;
            let done = answered.fetch_add(1, Ordering::Relaxed) + 1;
            screen.progress(doing, done, letters.len(), &cast.ledger.counts());
            Ok(())
        })
        .await
}
