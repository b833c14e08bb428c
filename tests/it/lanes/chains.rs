//! Are agents stopped that answer each other for ever, and nobody else? Whatever they say of themselves.

use std::time::Duration;

use agentbus::{
    client::{AgentClient, Draft, Patience, is_delivery, outcome},
    domain::{Encoding, MessageType, Reason, Status, Verb, Verdict},
    tenants::Plan,
};
use async_nats::Message;
use futures_util::{Stream, StreamExt as _};
use serde_json::json;
use tempfile::TempDir;
use tokio::process::Command;

use crate::support::bus::{self, Bus};

const POLICY: &str =
    "package agentbus.modules.own\n\ndefault allow := false\n\nallow if input.message.content\n";
const AGENTS: &str = "a = {}\nb = {}\nc = {}\nd = {}\ne = {}\njudge = { roles = [\"judicial\"] }\n";
const PATIENT: Patience = Patience { attempt: Duration::from_secs(5), deadline: Duration::from_secs(60) };

/// Tenants acme, within these limits, and globex.
async fn bus(nodes: usize, chain: &str) -> (Bus, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("own.rego"), POLICY).unwrap();
    let plan = format!(
        "[tenants.acme.limits]\n{chain}\n[tenants.acme.agents]\n{AGENTS}[tenants.globex.agents]\n{AGENTS}"
    );
    let bus = Bus::with(nodes, |options| {
        options.plan = Plan::parse(&plan).unwrap();
        let dir = folder.path().to_str().unwrap().to_owned();
        options.node_overrides.insert("policy".to_owned(), toml::toml! { dir = dir }.into());
    })
    .await;
    (bus, folder)
}

type Inbox = std::pin::Pin<Box<dyn Stream<Item = Message> + Send>>;

async fn listening(bus: &Bus, tenant: &str, name: &str) -> (Inbox, AgentClient) {
    let agent = bus.agent(tenant, name).await;
    agent.register(&[]).await.unwrap();
    (Box::pin(agent.inbox().await.unwrap()), agent)
}

async fn next(inbox: &mut Inbox) -> Message {
    tokio::time::timeout(Duration::from_secs(60), inbox.next()).await.expect("in time").unwrap()
}

fn header<'a>(message: &'a Message, name: &str) -> &'a str {
    message.headers.as_ref().and_then(|headers| headers.get(name)).map_or("", |value| value.as_str())
}

/// By what a delivery is handed back.
#[derive(Clone, Copy, Debug, PartialEq)]
enum By {
    Message,
    Decision,
    Traceparent,
}

async fn send(from: &AgentClient, draft: &Draft) -> Verdict {
    bus::send(from, draft.encode(Encoding::Json)).await
}

/// Each answers the one before it and sends that on to the next, until one may not: what was delivered, and its verdict.
async fn for_ever(bus: &Bus, ring: &[&str], by: By) -> (Vec<Message>, Verdict) {
    let mut agents = Vec::new();
    for name in ring {
        agents.push(listening(bus, "acme", name).await);
    }
    let (mut delivered, mut at) = (Vec::new(), 0);
    let mut draft = Draft::to_agent(ring[1], "and you?");
    while delivered.len() < 50 {
        let verdict = send(&agents[at].1, &draft).await;
        if verdict.status != Status::Delivered {
            return (delivered, verdict);
        }
        at = (at + 1) % ring.len();
        let (inbox, agent) = &mut agents[at];
        let message = next(inbox).await;
        draft = Draft::to_agent(ring[(at + 1) % ring.len()], "and you?");
        match by {
            By::Message => draft.in_reply_to = Some(header(&message, "Agentbus-Message-Id").to_owned()),
            By::Decision => draft.in_reply_to = Some(header(&message, "Agentbus-Decision").to_owned()),
            By::Traceparent => {
                *agent = agent.clone().continuing(Some(header(&message, "traceparent").to_owned()));
            }
        }
        delivered.push(message);
    }
    panic!("{ring:?} answer each other for ever by {by:?}");
}

/// What `agentbus explain` says of a decision, once its record is there; each field on one line.
async fn explained(bus: &Bus, decision: &str) -> String {
    let mut last = String::new();
    for _ in 0..100 {
        let mut command = Command::new(env!("CARGO_BIN_EXE_agentbus"));
        command.args(["explain", decision, "--dir"]).arg(bus.stack.dir());
        let output = command.args(["--server", &bus.stack.nats_url()]).output().await.unwrap();
        last = String::from_utf8_lossy(&output.stdout).replace("\n           ↳ ", " ");
        if output.status.success() {
            return last;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    panic!("not explained: {last}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pair_and_a_ring_that_answer_each_other_for_ever_are_stopped_and_shown_and_liars_gain_nothing() {
    let (bus, _policy) = bus(2, "").await;
    // The first, and eight that follow; by the trace the first is not known as one.
    for (ring, by, expected, shown) in [
        (&["a", "b"][..], By::Message, 9, "the ring b -> a -> b"),
        (&["a", "b"], By::Decision, 9, "the ring b -> a -> b"),
        (&["a", "b"], By::Traceparent, 10, "the ring a -> b -> a"),
        (&["a", "b", "c", "d", "e"], By::Message, 9, "the ring e -> a -> b -> c -> d -> e"),
    ] {
        let (delivered, refused) = for_ever(&bus, ring, by).await;
        assert_eq!((delivered.len(), refused.reason), (expected, Reason::LoopDetected), "{by:?} {refused:?}");
        assert!(refused.detail.contains("9 messages led to, expected at most 8"), "{refused:?}");
        assert!(refused.detail.ends_with(shown) && !refused.retryable, "{refused:?}");
        let [.., before, last] = &delivered[..] else { panic!() };
        let cause = header(last, "Agentbus-Cause");
        assert!(cause.starts_with("hops=8; conversation="), "{cause}");
        assert!(cause.ends_with(&format!("; parent={}", header(before, "Agentbus-Decision"))), "{cause}");
        let text = explained(&bus, &refused.decision_id).await;
        assert!(text.contains("follows    9 messages, in conversation "), "{text}");
        assert!(text.contains(&shown.replace("the ring ", "ring       ").replace("->", "→")), "{text}");
        let by = format!("by {}", header(last, "Agentbus-Decision"));
        assert!(
            text.lines().any(|line| line.trim_start().starts_with("after ") && line.ends_with(&by)),
            "{text}"
        );
    }

    // Who was not the recipient, names what never was, or says a number, has begun a chain of its own.
    let (delivered, _) = for_ever(&bus, &["a", "b"], By::Decision).await;
    let decision = header(delivered.last().unwrap(), "Agentbus-Decision").to_owned();
    let message = header(delivered.last().unwrap(), "Agentbus-Message-Id").to_owned();
    for (tenant, sender, named) in [
        ("acme", "c", &decision),
        ("acme", "c", &message),
        ("globex", "b", &decision),
        ("acme", "c", &"x".to_owned()),
    ] {
        let (_, sender) = listening(&bus, tenant, sender).await;
        let (mut inbox, _recipient) = listening(&bus, tenant, "d").await;
        let forged = [("hops", "0"), ("Agentbus-Cause", "hops=0; conversation=a/x")];
        let draft = Draft {
            in_reply_to: Some(named.clone()),
            metadata: forged.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
            ..Draft::to_agent("d", "let me")
        };
        assert_eq!(send(&sender, &draft).await.status, Status::Delivered);
        let cause = header(&next(&mut inbox).await, "Agentbus-Cause").to_owned();
        assert_eq!(cause, format!("hops=1; conversation={}/{named}", sender.id()));
    }
    bus.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn questions_and_what_is_submitted_are_stopped_as_well() {
    let (bus, _policy) = bus(1, "").await;
    let (_, asker) = listening(&bus, "acme", "a").await;
    let (mut questions, answerer) = listening(&bus, "acme", "b").await;
    let answering = tokio::spawn(async move {
        while let Some(question) = questions.next().await {
            // It does not even say what it answers.
            let draft = Draft { message_type: MessageType::Response, ..Draft::to_agent("a", "and why?") };
            let reply = question.reply.clone().unwrap();
            answerer.nats().publish(reply, draft.encode(Encoding::Json)).await.unwrap();
        }
    });
    let mut last = None;
    for asked in 0.. {
        let question = Draft {
            message_type: MessageType::Query,
            in_reply_to: last.take(),
            ..Draft::to_agent("b", "why?")
        };
        let heard = asker.ask(question.encode(Encoding::Json), Patience::FOR_AN_ANSWER).await.unwrap();
        let Some(answer) = heard.answer else {
            let verdict = heard.verdict;
            assert_eq!((asked, verdict.reason), (4, Reason::AnswerRejected), "{verdict:?}");
            assert!(verdict.detail.contains("loop_detected"), "{verdict:?}");
            break;
        };
        last = Some(answer["message_id"].as_str().unwrap().to_owned());
    }
    answering.abort();

    let names = ["c", "d"];
    let mut agents = Vec::new();
    for name in names {
        let agent = bus.agent("acme", name).await;
        let inbox = agent.durable_inbox(&"acme".parse().unwrap()).unwrap().messages().await.unwrap();
        agents.push((inbox, agent));
    }
    let (mut answered, mut delivered) = (None, 0);
    let refused = 'stopped: loop {
        let (from, to) = (delivered % 2, (delivered + 1) % 2);
        let draft = Draft { in_reply_to: answered.take(), ..Draft::to_agent(names[to], "and you?") };
        let stored = agents[from].1.submit(draft.encode(Encoding::Json), PATIENT).await.unwrap();
        assert_eq!(stored.status, Status::Stored, "{stored:?}");
        // Its sender hears what became of it, and its recipient has it.
        for of in [from, to] {
            loop {
                let (inbox, agent) = &mut agents[of];
                let next =
                    tokio::time::timeout(Duration::from_secs(60), inbox.next()).await.expect("in time");
                let message = next.unwrap().unwrap();
                message.ack().await.unwrap();
                match outcome(&message, agent.id()) {
                    Some(verdict) if verdict.status == Status::Rejected => break 'stopped verdict,
                    Some(_) if of == from => break,
                    Some(_) => {}
                    None if of == to && is_delivery(&message, agent.id()) => {
                        answered = Some(header(&message, "Agentbus-Message-Id").to_owned());
                        break;
                    }
                    None => {}
                }
            }
        }
        delivered += 1;
        assert!(delivered < 50, "they answer each other for ever");
    };
    assert_eq!((delivered, refused.reason), (9, Reason::LoopDetected), "{refused:?}");
    bus.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_used_up_budget_stops_its_own_conversation_and_no_other_and_people_can_let_it_go_on() {
    let chain = "chain = { hops = 100, fan_out = 3, conversation_messages = 6, at_limit = \"deliberate\" }";
    let (bus, _policy) = bus(1, chain).await;
    let (mut hubs, hub) = listening(&bus, "acme", "e").await;
    let mut others = Vec::new();
    for name in ["a", "b", "c", "d"] {
        others.push((name, listening(&bus, "acme", name).await));
    }
    // A hub answers each of many, who go on in conversations of their own: nobody waits for another.
    for round in 0..3 {
        for (name, (inbox, agent)) in &mut others {
            let within = |draft| Draft { conversation_id: Some(format!("trip-{round}")), ..draft };
            assert_eq!(
                send(agent, &within(Draft::to_agent("e", "where to?"))).await.status,
                Status::Delivered
            );
            let question = header(&next(&mut hubs).await, "Agentbus-Message-Id").to_owned();
            for sent in 0..4 {
                let answer = Draft { in_reply_to: Some(question.clone()), ..Draft::to_agent(name, "there") };
                let verdict = send(&hub, &answer).await;
                // The fourth answer to one delivery is too many, and people are asked.
                let expected = if sent < 3 { Status::Delivered } else { Status::Deliberating };
                assert_eq!(verdict.status, expected, "{round} {name} {sent}: {verdict:?}");
                if sent == 3 {
                    let why =
                        "found 3 messages of the delivery that this message answers, expected at most 3";
                    assert!(verdict.detail.contains(why), "{verdict:?}");
                } else {
                    next(inbox).await;
                }
            }
        }
    }

    // A conversation by its name alone, each agent's its own.
    let within =
        |to: &str| Draft { conversation_id: Some("long".to_owned()), ..Draft::to_agent(to, "and then?") };
    let (_, (_, a)) = &others[0];
    for _ in 0..6 {
        assert_eq!(send(a, &within("e")).await.status, Status::Delivered);
    }
    let parked = send(a, &within("e")).await;
    assert_eq!(parked.status, Status::Deliberating, "{parked:?}");
    let why = "may it go on? found 6 messages of conversation a/long, expected at most 6";
    assert!(parked.detail.contains(why), "{parked:?}");
    let (_, (_, b)) = &others[1];
    assert_eq!(send(b, &within("e")).await.status, Status::Delivered, "another cannot use it up");
    assert_eq!(send(a, &Draft::to_agent("e", "something else")).await.status, Status::Delivered);

    // People let it go on: this message, and as many more.
    let judge = bus.agent("acme", "judge").await;
    let id = parked.deliberation_id.unwrap();
    let shown = judge.json(Verb::Deliberations, json!({ "id": id.as_str() }).to_string()).await.unwrap();
    let digest = &shown["deliberation"]["digest"];
    let vote = json!({ "id": id.as_str(), "choice": "approve", "digest": digest });
    let voted = judge.json(Verb::Vote, vote.to_string()).await.unwrap();
    assert_eq!(voted["judgement"], "approved", "{voted}");
    let mut kept = hub.durable_inbox(&"acme".parse().unwrap()).unwrap().messages().await.unwrap();
    loop {
        let next = tokio::time::timeout(Duration::from_secs(60), kept.next()).await.expect("in time");
        let message = next.unwrap().unwrap();
        message.ack().await.unwrap();
        if is_delivery(&message, hub.id()) {
            assert_eq!(header(&message, "Agentbus-Message-Id"), parked.message_id.unwrap().as_str());
            break;
        }
    }
    assert_eq!(send(a, &within("e")).await.status, Status::Delivered);
    bus.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn agents_that_say_of_nothing_what_it_follows_are_stopped_by_what_they_heard_last_and_by_their_hour() {
    let limits =
        "messages_per_agent_hour = 12\nchain = { conversation_messages = 8, inherit_within = \"10m\" }";
    let (bus, _policy) = bus(1, limits).await;
    let (mut a, mut b) = (listening(&bus, "acme", "a").await, listening(&bus, "acme", "b").await);
    let (mut delivered, mut named) = (0, 0);
    let refused = loop {
        // Another conversation each time, by its own word.
        named += 1;
        let draft =
            |to| Draft { conversation_id: Some(format!("new-{named}")), ..Draft::to_agent(to, "and you?") };
        let verdict = send(&a.1, &draft(b.1.id().as_str())).await;
        if verdict.status != Status::Delivered {
            break verdict;
        }
        next(&mut b.0).await;
        delivered += 1;
        std::mem::swap(&mut a, &mut b);
    };
    assert_eq!((delivered, refused.reason), (8, Reason::BudgetExceeded), "{refused:?}");
    assert!(refused.detail.contains("8 messages of conversation a/new-1"), "{refused:?}");

    // Who has heard nothing goes on, until its hour is used; what it says of itself does not matter.
    let (_, c) = listening(&bus, "acme", "c").await;
    let (_inbox, _d) = listening(&bus, "acme", "d").await;
    let mut sent = 0;
    let refused = loop {
        let draft = Draft { conversation_id: Some(format!("c-{sent}")), ..Draft::to_agent("d", "again") };
        let verdict = c.send(draft.encode(Encoding::Json), PATIENT).await.unwrap();
        if verdict.reason == Reason::RateLimited {
            break verdict;
        }
        sent += 1;
        assert!(sent <= 12, "it sends for ever: {verdict:?}");
    };
    assert_eq!((refused.status, refused.retryable), (Status::Shed, true), "{refused:?}");
    assert_eq!(refused.detail, "c has used its 12 messages an hour");
    bus.stop().await;
}
