//! Can one tenant, with every agent it has and within its permissions, keep another from being served? Each way alone,
//! and all at once, while honest agents go on (G9).

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use agentbus::{
    client::{AgentClient, Draft, Patience},
    domain::{Encoding, MessageType, Status, TenantId, Verb},
    tenants::Seed,
};
use agentbus_testkit::agents;
use bytes::Bytes;
use futures_util::{StreamExt as _, future::join_all};
use tokio::time::{Instant, sleep, timeout_at};

use super::{ATTACKED_FROM, apart::Apart, field::Field, raw::Raw};

/// All but the two that are honest.
const AGENTS: [&str; 5] = ["mallory", "sink", "reader", "judge-1", "judge-2"];
/// Of each agent, at one time.
const AT_ONCE: usize = 64;
const LASTS: Duration = Duration::from_millis(1_200);
const LASTS_FULL: Duration = Duration::from_secs(20);
/// So many of the agents wait for nothing: each fills its connection, with so much. Together that is twice what the
/// server keeps for a node.
const TORRENTS: usize = 4;
const TORRENT_BYTES: usize = 8 * 1024 * 1024;
const TORRENT_MESSAGES: usize = 5_000;
/// As many as its tenant may have, and more.
const CONNECTIONS: usize = 300;
/// The first of them, after the time of its way.
const FIRST_WITHIN: Duration = Duration::from_secs(15);
const AGAIN_AFTER: Duration = Duration::from_millis(100);
/// Sentences that no two are alike of, a second.
const SENTENCES: u64 = 40;
/// For what a colleague submits: what is refused for now is not asked for again.
const ONCE: Patience = Patience { attempt: Duration::from_secs(5), deadline: Duration::from_secs(5) };
const PATIENT: Patience = Patience { attempt: Duration::from_secs(5), deadline: Duration::from_secs(30) };
const READ_AT_ONCE: usize = 200;
/// What was acknowledged gives its place back within it.
const PLACE_WITHIN: Duration = Duration::from_secs(60);
/// An answer that does not come holds nothing up.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// Who takes, and all that it needs where it runs.
struct Attackers {
    full: bool,
    nats_port: u16,
    /// For more connections of one agent.
    seed: Seed,
    /// By connections of their own, of which nothing runs where honest agents do.
    agents: Vec<AgentClient>,
}

/// One way to take more than one's share.
#[derive(Debug, Clone, Copy)]
enum Taking {
    Messages,
    Large,
    Torrent,
    Flood,
    Model,
    Inboxes,
    Unread,
    Reviews,
    Heartbeats,
    Lists,
    Pulls,
    Connections,
}

const ALL: [Taking; 12] = [
    Taking::Messages,
    Taking::Large,
    Taking::Torrent,
    Taking::Flood,
    Taking::Model,
    Taking::Inboxes,
    Taking::Unread,
    Taking::Reviews,
    Taking::Heartbeats,
    Taking::Lists,
    Taking::Pulls,
    Taking::Connections,
];

pub(crate) async fn play(field: &mut Field) -> anyhow::Result<()> {
    let lasts = if field.full { LASTS_FULL } else { LASTS };
    let apart = Apart::start()?;
    let connecting = Attackers::connect(field.stack().nats_url(), field.dir().to_owned());
    let agents = apart.run(connecting).await?;
    let attackers = Attackers {
        full: field.full,
        nats_port: field.nats_port(),
        seed: field.seed(ATTACKED_FROM, "mallory")?,
        agents,
    };
    let attackers = Arc::new(attackers);
    let (((), alone), _) = field.meanwhile_timed(sleep(lasts)).await;
    println!(
        "alone: another tenant's P99 is {:.1} ms, of {} messages",
        alone.most.as_secs_f64() * 1e3,
        alone.count
    );
    // Of what their own tenant makes, its honest agents may notice something.
    field.forgive_colleagues(true);
    let ways = ALL.iter().map(std::slice::from_ref).chain([&ALL[..]]);
    for ways in ways {
        let name = match ways {
            [one] => one.what().to_owned(),
            _ => "all of these at once".to_owned(),
        };
        let until = Instant::now() + lasts;
        let taking = join_all(ways.iter().map(|&taking| {
            let attackers = Arc::clone(&attackers);
            apart.run(async move { taking.play(&attackers, until).await })
        }));
        let ((taken, beside), hurt) = field.meanwhile_timed(taking).await;
        let taken = taken.into_iter().sum::<anyhow::Result<u64>>();
        let slower = beside.most.as_secs_f64() / alone.most.as_secs_f64().max(1e-6);
        let asked = taken.as_ref().copied().unwrap_or_default();
        let of = beside.count;
        let what =
            format!("{name}: {asked} asked, P99 of another tenant's {of} messages {slower:.1} × alone");
        field.judge(what, taken.map(|_| hurt)).await?;
    }
    field.forgive_colleagues(false);
    // What is looked at next is asked for by those that are honest again.
    drop((attackers, apart));
    let tenant = ATTACKED_FROM.parse()?;
    let colleague = field.client(ATTACKED_FROM, "planner").await?;
    field
        .attempt("place for others in durable inboxes that were filled", others_find_room(&colleague))
        .await?;
    for name in ["sink", "reader"] {
        let agent = field.client(ATTACKED_FROM, name).await?;
        let back = place_comes_back(&agent, &tenant, &colleague);
        field.attempt(format!("place in {name}'s inbox, once it has acknowledged"), back).await?;
    }
    Ok(())
}

/// Whether one that has filled nothing is still kept from a recipient that has read all.
async fn others_find_room(colleague: &AgentClient) -> anyhow::Result<Option<String>> {
    let draft = Draft::to_agent("worker", "is there room?").encode(Encoding::Json);
    let verdict = colleague.submit(draft, PATIENT).await?;
    Ok((verdict.status != Status::Stored).then(|| format!("a colleague hears {}", verdict.reason.as_str())))
}

/// Reads all that was stored for an agent. What keeps the next message from it after a minute, if anything does.
async fn place_comes_back(
    agent: &AgentClient,
    tenant: &TenantId,
    colleague: &AgentClient,
) -> anyhow::Result<Option<String>> {
    let inbox = agent.durable_inbox(tenant)?;
    let mut read = 0_u64;
    loop {
        let mut batch = inbox.fetch().max_messages(READ_AT_ONCE).messages().await?;
        let mut came = false;
        while let Some(message) = batch.next().await {
            let message = message.map_err(|error| anyhow::anyhow!("{error}"))?;
            message.ack().await.map_err(|error| anyhow::anyhow!("{error}"))?;
            (came, read) = (true, read + 1);
        }
        if !came {
            break;
        }
    }
    let began = Instant::now();
    loop {
        let draft = Draft::to_agent(agent.id().as_str(), &"x".repeat(60_000)).encode(Encoding::Json);
        let verdict = colleague.submit(draft, ONCE).await?;
        if verdict.status == Status::Stored {
            let after = began.elapsed().as_secs_f64();
            println!("{} read {read} messages, and gets the next {after:.1} s later", agent.id());
            return Ok(None);
        }
        if began.elapsed() > PLACE_WITHIN {
            return Ok(Some(format!("no place {PLACE_WITHIN:?} after it has read: {}", verdict.detail)));
        }
        sleep(Duration::from_secs(1)).await;
    }
}

impl Attackers {
    async fn connect(url: String, dir: PathBuf) -> anyhow::Result<Vec<AgentClient>> {
        let mut connected = Vec::new();
        for name in AGENTS {
            connected.push(agents::connect(&url, &dir, ATTACKED_FROM, name).await?);
        }
        Ok(connected)
    }
}

impl Taking {
    fn what(self) -> &'static str {
        match self {
            Taking::Messages => "messages without a pause",
            Taking::Large => "messages of 60 KiB",
            Taking::Torrent => "messages of 60 KiB whose answers nobody waits for",
            Taking::Flood => "small messages whose answers nobody waits for",
            Taking::Model => "sentences that the model has not read",
            Taking::Inboxes => "durable inboxes",
            Taking::Unread => "a durable inbox that nobody reads",
            Taking::Reviews => "reviews",
            Taking::Heartbeats => "heartbeats",
            Taking::Lists => "lists of what waits",
            Taking::Pulls => "pulls",
            Taking::Connections => "connections",
        }
    }

    /// Goes on until then; how much it has asked for.
    async fn play(self, attackers: &Attackers, until: Instant) -> anyhow::Result<u64> {
        let agents = attackers.agents.as_slice();
        let message = |verb: &'static str, make: fn(u64) -> Draft| {
            flood(agents, AT_ONCE, until, move |agent, number| {
                (format!("bus.{}.{verb}", agent.id()), make(number).encode(Encoding::Json))
            })
        };
        let text = |verb: Verb, body: &'static str| {
            flood(agents, AT_ONCE, until, move |agent, _| {
                (format!("bus.{}.{}", agent.id(), verb.as_str()), Bytes::from_static(body.as_bytes()))
            })
        };
        Ok(match self {
            Taking::Messages => message("send", |number| Draft::to_agent("sink", &format!("{number}"))).await,
            Taking::Large => message("send", |_| Draft::to_agent("sink", &"x".repeat(60_000))).await,
            Taking::Torrent => torrent(attackers, 60_000, until).await,
            Taking::Flood => torrent(attackers, 1, until).await,
            Taking::Model => sentences(agents, until).await,
            Taking::Inboxes => message("submit", |_| Draft::to_agent("sink", &"x".repeat(60_000))).await,
            Taking::Unread => message("submit", |_| Draft::to_agent("reader", &"x".repeat(60_000))).await,
            Taking::Reviews => message("send", parked).await,
            Taking::Heartbeats => text(Verb::Heartbeat, "{}").await,
            Taking::Lists => text(Verb::Deliberations, "{}").await,
            Taking::Pulls => {
                flood(agents, AT_ONCE, until, |agent, _| {
                    let subject = format!("$JS.API.CONSUMER.MSG.NEXT.OUT_{ATTACKED_FROM}.{}", agent.id());
                    (subject, Bytes::from_static(br#"{"batch":1,"no_wait":true}"#))
                })
                .await
            }
            Taking::Connections => connections(attackers, until).await?,
        })
    }
}

/// The label of the tenant has reviewers decide these.
fn parked(number: u64) -> Draft {
    Draft { message_type: MessageType::TaskRequest, ..Draft::to_agent("sink", &format!("task {number}")) }
}

/// So many of each agent wait for their answer at one time; how many were asked.
async fn flood(
    agents: &[AgentClient],
    at_once: usize,
    until: Instant,
    make: impl Fn(&AgentClient, u64) -> (String, Bytes),
) -> u64 {
    let asked = AtomicU64::new(0);
    let (asked_by, make) = (&asked, &make);
    let all = agents.iter().flat_map(|agent| {
        (0..at_once).map(move |_| async move {
            while Instant::now() < until {
                let (subject, body) = make(agent, asked_by.fetch_add(1, Ordering::Relaxed));
                let _ = timeout_at(Instant::now() + ANSWER_WITHIN, agent.nats().request(subject, body)).await;
            }
        })
    });
    join_all(all).await;
    asked.into_inner()
}

/// As fast as the connections of some take them; how many left. In full for all of the time.
async fn torrent(attackers: &Attackers, bytes: usize, until: Instant) -> u64 {
    let most = if attackers.full { usize::MAX } else { TORRENT_MESSAGES.min(TORRENT_BYTES / bytes) };
    let each = attackers.agents.iter().take(TORRENTS).map(|agent| async move {
        let content = "x".repeat(bytes);
        let bodies: Vec<_> =
            (0..AT_ONCE).map(|_| Draft::to_agent("sink", &content).encode(Encoding::Json)).collect();
        let (subject, reply) = (format!("bus.{}.send", agent.id()), agent.nats().new_inbox());
        let mut left = 0;
        for body in bodies.into_iter().cycle().take(most) {
            // Not even the connection is waited for where it takes no more.
            let publish = agent.nats().publish_with_reply(subject.clone(), reply.clone(), body);
            match timeout_at(until, publish).await {
                Ok(Ok(())) => left += 1,
                Ok(Err(_)) | Err(_) => break,
            }
        }
        // What is on its way is of this try.
        let _ = timeout_at(Instant::now() + ANSWER_WITHIN, agent.nats().flush()).await;
        left
    });
    join_all(each).await.into_iter().sum()
}

/// At an even pace, whatever the answers do.
async fn sentences(agents: &[AgentClient], until: Instant) -> u64 {
    let every = Duration::from_secs(1) / u32::try_from(SENTENCES).unwrap_or(1);
    let mut waiting = Vec::new();
    for (number, agent) in agents.iter().cycle().enumerate() {
        if Instant::now() >= until {
            break;
        }
        let text = format!("please look at item {} of shelf {}", number * 7_919, rand::random::<u32>());
        let body = Draft::to_agent("sink", &text).encode(Encoding::Json);
        let (nats, subject) = (agent.nats().clone(), format!("bus.{}.send", agent.id()));
        waiting.push(tokio::spawn(async move {
            let _ = timeout_at(Instant::now() + ANSWER_WITHIN, nats.request(subject, body)).await;
        }));
        sleep(every).await;
    }
    let asked = waiting.len() as u64;
    join_all(waiting).await;
    asked
}

/// Of one agent, held until then; how many it got.
async fn connections(attackers: &Attackers, until: Instant) -> anyhow::Result<u64> {
    let mut held = Vec::new();
    loop {
        // Beside all other ways the first may take longer than they last.
        let within = if held.is_empty() { until + FIRST_WITHIN } else { until };
        if Instant::now() >= within || held.len() >= CONNECTIONS {
            break;
        }
        match timeout_at(within, Raw::login(attackers.nats_port, &attackers.seed)).await {
            Ok(Ok(raw)) => held.push(raw),
            // An attacker that the others leave no time says too late who it is.
            Ok(Err(_)) if held.is_empty() => sleep(AGAIN_AFTER).await,
            // The server has no more for this tenant, or the time is over.
            Ok(Err(_)) | Err(_) => break,
        }
    }
    tokio::time::sleep_until(until).await;
    anyhow::ensure!(!held.is_empty(), "not one connection");
    Ok(held.len() as u64)
}
