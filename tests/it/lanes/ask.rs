//! Does an asker hear the answer to its own question, and nothing else? Through a real bus, with real
//! answerers, wrong ones and silent ones.

use std::{
    collections::BTreeMap,
    process::Stdio,
    time::{Duration, Instant},
};

use agentbus::{
    client::{AgentClient, Asked, Draft, Patience},
    domain::{Encoding, MessageType, Reason, Status, Verdict},
    servers::{self, Tool},
    tenants::{BusUser, Plan, User, names},
    wire,
};
use async_nats::{Message, jetstream};
use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use serde_json::{Value, json};
use tokio::task::{JoinHandle, JoinSet};

use crate::support::bus::{self, Bus, keywords};

/// Refuses, hides or delays what an answer says of itself.
const MODULE: &str = r#"package agentbus.modules.answers

default allow := false

allow if not input.message.content.forbidden

reasons contains "this is not said" if input.message.content.forbidden

obligations := {"redact": ["payment.iban"]} if input.message.content.payment

obligations := {"deliberate": true} if input.message.content.delicate
"#;

fn question(text: &str) -> Draft {
    Draft { message_type: MessageType::Query, ..Draft::to_agent("worker", text) }
}

fn answer(content: Value) -> Draft {
    Draft { message_type: MessageType::Response, ..Draft::new(json!({"agent": "planner"}), content) }
}

fn body(message: &Message) -> Value {
    match wire::encoding_of(&message.payload) {
        Encoding::Json => serde_json::from_slice(&message.payload).unwrap(),
        Encoding::MessagePack => rmp_serde::from_slice(&message.payload).unwrap(),
    }
}

fn encode(value: &Value, encoding: Encoding) -> Bytes {
    match encoding {
        Encoding::Json => value.to_string().into(),
        Encoding::MessagePack => rmp_serde::to_vec_named(value).unwrap().into(),
    }
}

fn asking(planner: &AgentClient, message: Bytes) -> JoinHandle<Asked> {
    let planner = planner.clone();
    tokio::spawn(async move { put(&planner, message).await })
}

async fn ask(planner: &AgentClient, draft: &Draft) -> Asked {
    put(planner, draft.encode(Encoding::Json)).await
}

async fn put(planner: &AgentClient, message: Bytes) -> Asked {
    let started = Instant::now();
    loop {
        let asked = planner.ask(message.clone(), Patience::FOR_AN_ANSWER).await.unwrap();
        let passes = match asked.verdict.reason {
            Reason::Overloaded => no_place(&asked.verdict),
            _ => bus::is_busy(&asked.verdict),
        };
        if !passes || started.elapsed() > Duration::from_secs(60) {
            return asked;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Asks until there is an answer: on a machine that is busy with other things, Rego may miss its limit.
async fn heard(planner: &AgentClient, text: &str) -> Asked {
    for _ in 0..5 {
        let asked = ask(planner, &question(text)).await;
        if asked.answer.is_some() {
            return asked;
        }
        let verdict = &asked.verdict;
        let passes = ["policy_unavailable", "timed_out"].iter().any(|word| verdict.detail.contains(word));
        assert!(verdict.reason == Reason::AnswerRejected && passes, "{verdict:?}");
    }
    panic!("five questions in a row without an answer");
}

/// Passes: a place in flight is free again when the verdict is stored, which is after it is heard.
fn no_place(verdict: &Verdict) -> bool {
    verdict.reason == Reason::Overloaded && verdict.detail.contains("in flight")
}

async fn next(inbox: &mut (impl Stream<Item = Message> + Unpin)) -> Message {
    tokio::time::timeout(Duration::from_secs(60), inbox.next()).await.expect("in time").unwrap()
}

async fn nothing_more(inbox: &mut (impl Stream<Item = Message> + Unpin)) {
    let more = tokio::time::timeout(Duration::from_millis(150), inbox.next()).await;
    assert!(more.is_err(), "delivered once too often: {more:?}");
}

/// A request of an agent's own, and the verdict on it. `None`: nothing within half a minute.
async fn request(agent: &AgentClient, subject: &str, payload: Bytes) -> Option<Verdict> {
    let request = async_nats::Request::new().payload(payload).timeout(Some(Duration::from_secs(30)));
    let reply = agent.nats().send_request(subject.to_owned(), request).await.ok()?;
    Some(wire::decode_verdict(&reply.payload).unwrap())
}

/// What of a plan and a configuration a test is about.
struct Scene {
    bus: Bus,
    planner: AgentClient,
    worker: AgentClient,
    _policy: tempfile::TempDir,
}

impl Scene {
    async fn start(nodes: usize, limits: &str) -> Self {
        let policy = tempfile::tempdir().unwrap();
        std::fs::write(policy.path().join("answers.rego"), MODULE).unwrap();
        let mut config: toml::Table = format!("[limits]\n{limits}").parse().unwrap();
        config.extend(keywords());
        let dir = toml::Value::from(policy.path().display().to_string());
        config.insert("policy".into(), toml::Table::from_iter([("dir".to_owned(), dir)]).into());
        let bus = Bus::with(nodes, |options| {
            options.node_overrides = config;
            options.plan = plan();
        })
        .await;
        let planner = bus.agent("acme", "planner").await;
        let worker = bus.agent("acme", "worker").await;
        worker.register(&["sum"]).await.unwrap();
        Self { bus, planner, worker, _policy: policy }
    }

    /// The worker answers each question with what was asked.
    async fn echo(&self) -> JoinHandle<()> {
        let mut inbox = self.worker.inbox().await.unwrap();
        let worker = self.worker.clone();
        tokio::spawn(async move {
            while let Some(question) = inbox.next().await {
                let asked = body(&question);
                let mut answer = answer(json!({ "text": asked["content"]["text"] })).json();
                answer["in_reply_to"] = asked["message_id"].clone();
                let payload = encode(&answer, wire::encoding_of(&question.payload));
                assert!(worker.answer(&question, payload).await.unwrap(), "{question:?}");
            }
        })
    }
}

/// The example's, with a rate that load does not meet.
fn plan() -> Plan {
    Plan::parse(&Plan::EXAMPLE.replace("messages_per_minute = 10000 ", "messages_per_minute = 10000000 "))
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_asker_hears_the_answer_in_the_encoding_of_the_question() {
    let scene = Scene::start(2, "").await;
    let echo = scene.echo().await;
    for encoding in [Encoding::Json, Encoding::MessagePack] {
        for to in [json!({"agent": "worker"}), json!({"capability": "sum"})] {
            let draft = Draft { to, ..question("what is it?") };
            let asked = put(&scene.planner, draft.encode(encoding)).await;
            assert_eq!((asked.verdict.status, asked.verdict.reason), (Status::Delivered, Reason::Delivered));
            assert_eq!(asked.verdict.message_id.unwrap().as_str(), draft.message_id);
            let heard = asked.answer.unwrap();
            assert_eq!(heard["content"]["text"], "what is it?");
            assert_eq!((&heard["from_agent"], &heard["tenant_id"]), (&json!("worker"), &json!("acme")));
            assert_eq!(heard["in_reply_to"], draft.message_id);

            // The answer is a decision of its own, recorded ahead of it.
            let client = scene.bus.stack.connect(BusUser::Operator).await.unwrap();
            let records = jetstream::new(client).get_stream_no_info(names::RECORDS_STREAM).await.unwrap();
            let subject = format!("record.acme.worker.{}.intent", heard["message_id"].as_str().unwrap());
            let record = records.get_last_raw_message_by_subject(&subject).await.unwrap();
            let record: Value = serde_json::from_slice(&record.payload).unwrap();
            assert_eq!(record["recipients"], json!(["planner"]), "{record}");
            assert_ne!(record["verdict"]["decision_id"], asked.verdict.decision_id.as_str());
        }
    }
    echo.abort();
    scene.bus.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_of_many_askers_hears_its_own_answer() {
    let scene = Scene::start(2, "").await;
    let echo = scene.echo().await;
    let mut running = JoinSet::new();
    let mut by_node = BTreeMap::<String, usize>::new();
    for number in 0..1_000 {
        if running.len() == 64 {
            let node: String = running.join_next().await.unwrap().unwrap();
            *by_node.entry(node).or_default() += 1;
        }
        let planner = scene.planner.clone();
        running.spawn(async move {
            let text = format!("question {number}");
            let asked = heard(&planner, &text).await;
            assert_eq!(asked.answer.unwrap()["content"]["text"], text);
            asked.verdict.node
        });
    }
    while let Some(node) = running.join_next().await {
        *by_node.entry(node.unwrap()).or_default() += 1;
    }
    assert_eq!((by_node.values().sum::<usize>(), by_node.len()), (1_000, 2), "{by_node:?}");
    echo.abort();
    scene.bus.stop().await;
}

/// What the server refuses is told beside its answers, a moment before or after them.
async fn refused_once(agent: &AgentClient) {
    agent.settled().await;
    for _ in 0..3_000 {
        if agent.violations() > 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(agent.violations(), 1, "what the server has refused {}", agent.id());
}

#[tokio::test(flavor = "multi_thread")]
async fn only_who_was_asked_can_answer_and_only_once() {
    let scene = Scene::start(2, "").await;
    let (judge, stranger) =
        (scene.bus.agent("acme", "judge").await, scene.bus.agent("globex", "builder").await);
    let mut inbox = scene.worker.inbox().await.unwrap();
    let waiting = asking(&scene.planner, question("who are you?").encode(Encoding::Json));
    let asked = next(&mut inbox).await;
    let subject = asked.reply.clone().unwrap().to_string();
    let tokens: Vec<&str> = subject.split('.').collect();
    let ["bus", "worker", "answer", node, token] = tokens[..] else { panic!("{subject}") };
    assert_eq!((node.len(), token.len()), (32, 32), "128 random bits each: {subject}");
    let good = answer(json!({"text": "the worker"})).encode(Encoding::Json);

    let theirs = |who: &str| format!("bus.{who}.answer.{node}.{token}");
    for (agent, subject) in [
        (&judge, theirs("judge")),
        (&stranger, theirs("builder")),
        (&scene.planner, theirs("planner")),
        (&scene.worker, format!("bus.worker.answer.{node}.{}", "0".repeat(32))),
        (&scene.worker, "bus.worker.answer".to_owned()),
    ] {
        let verdict = request(agent, &subject, good.clone()).await.expect("a verdict");
        assert_eq!((verdict.status, verdict.reason), (Status::Rejected, Reason::NotAsked), "{subject}");
    }
    // Nobody listens for the answers of a node that is not there.
    let elsewhere = format!("bus.worker.answer.{}.{token}", "0".repeat(32));
    assert!(request(&scene.worker, &elsewhere, good.clone()).await.is_none());
    // Another's subject is refused by the server.
    judge.nats().publish(subject.clone(), good.clone()).await.unwrap();
    refused_once(&judge).await;
    // A verdict that the server is made to route to the answer's subject is no answer.
    scene.worker.nats().publish_with_reply("bus.worker.send", subject.clone(), good.clone()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!waiting.is_finished(), "the asker heard somebody else");

    let verdict = request(&scene.worker, &subject, good.clone()).await.expect("a verdict");
    assert_eq!((verdict.status, verdict.reason), (Status::Delivered, Reason::Delivered), "{verdict:?}");
    assert_eq!(waiting.await.unwrap().answer.unwrap()["content"]["text"], "the worker");
    let second = request(&scene.worker, &subject, good).await.expect("a verdict");
    assert_eq!(second.reason, Reason::NotAsked, "{second:?}");
    scene.bus.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_without_an_answer_says_so_and_is_not_delivered_again() {
    let scene = Scene::start(1, "answer = \"8s\"").await;
    let mut inbox = scene.worker.inbox().await.unwrap();
    let soon = Draft { expires_in: Some(Duration::from_secs(3)), ..question("quick!") };
    for (draft, at_most) in [(question("hello?"), u64::MAX), (soon, 8_000)] {
        let asked = ask(&scene.planner, &draft).await;
        let verdict = &asked.verdict;
        assert_eq!((verdict.status, verdict.reason), (Status::Rejected, Reason::Unanswered), "{verdict:?}");
        assert!(!verdict.reason.retryable() && asked.answer.is_none() && !asked.repeat);
        assert_eq!(verdict.reach.as_ref().unwrap().agent.as_ref().unwrap().as_str(), "worker");
        assert!(verdict.elapsed.as_millis() < at_most.into(), "{verdict:?}");

        let question = next(&mut inbox).await;
        let late = answer(json!({"text": "late"})).encode(Encoding::Json);
        let late = request(&scene.worker, &question.reply.unwrap(), late).await.expect("a verdict");
        assert_eq!(late.reason, Reason::NotAsked, "{late:?}");

        let again = ask(&scene.planner, &Draft { expires_in: None, ..draft }).await;
        assert_eq!((again.verdict.reason, again.repeat), (Reason::Unanswered, true), "{:?}", again.verdict);
        assert_eq!(again.verdict.decision_id, verdict.decision_id);
        nothing_more(&mut inbox).await;
    }
    scene.bus.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_is_governed_like_any_message() {
    let scene = Scene::start(1, "").await;
    let mut inbox = scene.worker.inbox().await.unwrap();
    let other_hash = Draft { constitutional_hash: "0".repeat(16), ..answer(json!({"text": "x"})) };
    let to_judge = Draft { to: json!({"agent": "judge"}), ..answer(json!({"text": "x"})) };
    let to_all = Draft { to: json!({"broadcast": {}}), ..answer(json!({"text": "x"})) };
    let to_another = Draft { in_reply_to: Some("another".to_owned()), ..answer(json!({"text": "x"})) };
    let event = Draft { message_type: MessageType::Event, ..answer(json!({"text": "x"})) };
    for (given, said) in [
        (answer(json!({"forbidden": true})).encode(Encoding::Json), "policy_denied"),
        (other_hash.encode(Encoding::Json), "constitutional_hash_mismatch"),
        (to_judge.encode(Encoding::MessagePack), "found an answer to agent judge, expected planner"),
        (to_all.encode(Encoding::Json), "to nobody else"),
        (to_another.encode(Encoding::Json), "found in_reply_to another"),
        (event.encode(Encoding::Json), "found message_type event, this question takes a response"),
        (Bytes::from_static(b"[1]"), "malformed"),
        (Bytes::new(), "malformed"),
    ] {
        let waiting = asking(&scene.planner, question("well?").encode(Encoding::Json));
        let asked = next(&mut inbox).await;
        assert!(scene.worker.answer(&asked, given).await.unwrap());
        let heard = waiting.await.unwrap();
        let verdict = heard.verdict;
        assert_eq!(
            (verdict.status, verdict.reason),
            (Status::Rejected, Reason::AnswerRejected),
            "{verdict:?}"
        );
        assert!(verdict.detail.contains(said) && heard.answer.is_none(), "{said}: {verdict:?}");
    }

    let waiting = asking(&scene.planner, question("where to pay?").encode(Encoding::MessagePack));
    let asked = next(&mut inbox).await;
    let given = answer(json!({"payment": {"iban": "DE02", "sum": 3}}));
    // In another encoding than the question; the asker hears its own.
    assert!(scene.worker.answer(&asked, given.encode(Encoding::Json)).await.unwrap());
    let heard = waiting.await.unwrap().answer.unwrap();
    assert_eq!(heard["content"]["payment"], json!({"iban": "[redacted]", "sum": 3}));

    // An id stands for one message: what was answered before is not another answer.
    let waiting = asking(&scene.planner, question("and again?").encode(Encoding::Json));
    let asked = next(&mut inbox).await;
    assert!(scene.worker.answer(&asked, given.encode(Encoding::Json)).await.unwrap());
    let verdict = waiting.await.unwrap().verdict;
    assert_eq!(verdict.reason, Reason::AnswerRejected, "{verdict:?}");
    assert!(verdict.detail.contains("used before"), "{verdict:?}");
    scene.bus.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_its_reviewers_must_see_is_parked_and_the_asker_hears_where() {
    let scene = Scene::start(1, "").await;
    let mut inbox = scene.worker.inbox().await.unwrap();
    let waiting = asking(&scene.planner, question("well?").encode(Encoding::Json));
    let asked = next(&mut inbox).await;
    let given = answer(json!({"delicate": true})).encode(Encoding::Json);
    let told = request(&scene.worker, &asked.reply.unwrap(), given).await.expect("a verdict");
    assert_eq!((told.status, told.reason), (Status::Deliberating, Reason::Deliberating), "{told:?}");
    let heard = waiting.await.unwrap();
    assert_eq!(heard.verdict.reason, Reason::AnswerRejected, "{:?}", heard.verdict);
    let id = told.deliberation_id.unwrap();
    assert!(heard.answer.is_none() && heard.verdict.detail.contains(id.as_str()), "{:?}", heard.verdict);
    scene.bus.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_asked_is_refused_before_anything_is_delivered() {
    let scene = Scene::start(1, "").await;
    let mut inbox = scene.worker.inbox().await.unwrap();
    let judge = scene.bus.agent("acme", "judge").await;
    judge.register(&[]).await.unwrap();
    let event = Draft { message_type: MessageType::Event, ..question("x") };
    let response = Draft { message_type: MessageType::Response, ..question("x") };
    let everybody = Draft { to: json!({"broadcast": {}}), ..question("x") };
    // Registered, and nobody listens: the server says so at once, for questions as for any delivery.
    let away = Draft { to: json!({"agent": "judge"}), ..question("x") };
    let forbidden = Draft { content: json!({"forbidden": true}), ..question("x") };
    for (draft, reason, said) in [
        (event, Reason::Malformed, "found message_type event, only query"),
        (response, Reason::Malformed, "found message_type response"),
        (everybody, Reason::Malformed, "found a broadcast"),
        (away, Reason::RecipientOffline, "judge"),
        (forbidden, Reason::PolicyDenied, "this is not said"),
    ] {
        let asked = ask(&scene.planner, &draft).await;
        assert_eq!(asked.verdict.reason, reason, "{:?}", asked.verdict);
        assert!(asked.verdict.detail.contains(said) && asked.answer.is_none(), "{:?}", asked.verdict);
    }
    nothing_more(&mut inbox).await;
    scene.bus.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_of_send_takes_no_answer() {
    let scene = Scene::start(1, "").await;
    let mut inbox = scene.worker.inbox().await.unwrap();
    let sent = question("no answer, please").encode(Encoding::Json);
    let subject = "_INBOX.planner.mine";
    let mut replies = scene.planner.nats().subscribe(subject).await.unwrap();
    scene.planner.nats().publish_with_reply("bus.planner.send", subject, sent).await.unwrap();
    let delivered = next(&mut inbox).await;
    let reply = delivered.reply.clone().unwrap();
    assert!(reply.starts_with("_INBOX.node."), "the outbox's own, for its fence: {reply}");
    let verdict = wire::decode_verdict(&next(&mut replies).await.payload).unwrap();
    assert_eq!(verdict.reason, Reason::Delivered, "{verdict:?}");
    let given = answer(json!({"text": "x"})).encode(Encoding::Json);
    assert!(!scene.worker.answer(&delivered, given.clone()).await.unwrap(), "it is no question");
    scene.worker.nats().publish(reply, given).await.unwrap();
    refused_once(&scene.worker).await;
    nothing_more(&mut replies).await;
    scene.bus.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_lost_its_node_while_waiting_asks_again_and_nothing_is_delivered_twice() {
    let mut scene = Scene::start(1, "").await;
    let mut inbox = scene.worker.inbox().await.unwrap();
    let bytes = question("are you there?").encode(Encoding::Json);
    let short = Patience { attempt: Duration::from_millis(500), deadline: Duration::from_secs(15) };
    let planner = scene.planner.clone();
    let waiting = tokio::spawn(async move { planner.ask(bytes, short).await.unwrap() });
    let asked = next(&mut inbox).await;
    let node = scene.bus.stack.node_mut(0).unwrap();
    node.child_mut().kill().await;
    node.restart().await.unwrap();
    let heard = waiting.await.unwrap();
    assert_eq!((heard.verdict.reason, heard.repeat), (Reason::Unanswered, true), "{:?}", heard.verdict);
    assert!(heard.verdict.detail.contains("handed to worker"), "{:?}", heard.verdict);
    nothing_more(&mut inbox).await;
    // The node of before is gone, and with it whoever would have heard.
    let answer = answer(json!({"text": "yes"})).encode(Encoding::Json);
    assert!(request(&scene.worker, &asked.reply.unwrap(), answer).await.is_none());
    scene.bus.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_stops_tells_its_askers() {
    let mut scene = Scene::start(1, "").await;
    let mut inbox = scene.worker.inbox().await.unwrap();
    let silent = asking(&scene.planner, question("one").encode(Encoding::Json));
    let first = next(&mut inbox).await;
    let answered = asking(&scene.planner, question("two").encode(Encoding::Json));
    let second = next(&mut inbox).await;
    let worker = scene.worker.clone();
    let late = tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(300)).await;
        worker.answer(&second, answer(json!({"text": "just in time"})).encode(Encoding::Json)).await.unwrap()
    });
    let started = Instant::now();
    scene.bus.stack.node_mut(0).unwrap().stop().await;
    println!("stopped after {:?}", started.elapsed());
    assert!(late.await.unwrap());
    let told = silent.await.unwrap().verdict;
    assert_eq!(told.reason, Reason::Unanswered, "{told:?}");
    assert!(told.detail.contains("had to stop"), "{told:?}");
    assert_eq!(answered.await.unwrap().answer.unwrap()["content"]["text"], "just in time");
    drop(first);
    scene.bus.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_recipients_keep_their_tenant_from_asking_and_not_from_sending() {
    let limits = "asks = 4\nasks_per_tenant = 3\nin_flight = 4\nin_flight_per_tenant = 2";
    let scene = Scene::start(1, limits).await;
    let mut inbox = scene.worker.inbox().await.unwrap();
    let mut waiting = Vec::new();
    let mut questions = Vec::new();
    for text in ["a", "b", "c"] {
        waiting.push((text, asking(&scene.planner, question(text).encode(Encoding::Json))));
        questions.push(next(&mut inbox).await);
    }
    let more = ask(&scene.planner, &question("d")).await.verdict;
    assert_eq!((more.status, more.reason), (Status::Shed, Reason::Overloaded), "{more:?}");
    assert!(more.detail.contains("3 questions") && more.retry_after.is_some(), "{more:?}");

    let other = scene.bus.agent("globex", "builder").await;
    other.register(&[]).await.unwrap();
    let mut theirs = other.inbox().await.unwrap();
    let asker = scene.bus.agent("globex", "planner").await;
    let to = Draft { to: json!({"agent": "builder"}), ..question("yours") };
    let _held = asking(&asker, to.encode(Encoding::Json));
    next(&mut theirs).await;

    for _ in 0..10 {
        let sent = Draft::to_agent("worker", "sent").encode(Encoding::Json);
        let started = Instant::now();
        let verdict = loop {
            let verdict = scene.planner.send(sent.clone(), Patience::default()).await.unwrap();
            if !no_place(&verdict) || started.elapsed() > Duration::from_secs(60) {
                break verdict;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        assert_eq!(verdict.reason, Reason::Delivered, "{verdict:?}");
        next(&mut inbox).await;
    }
    for (question, (text, waiting)) in questions.iter().zip(waiting) {
        let given = answer(json!({"text": text})).encode(Encoding::Json);
        assert!(scene.worker.answer(question, given).await.unwrap());
        assert_eq!(waiting.await.unwrap().answer.unwrap()["content"]["text"], text);
    }
    // Their places are free again.
    let again = asking(&scene.planner, question("e").encode(Encoding::Json));
    let question = next(&mut inbox).await;
    assert!(
        scene.worker.answer(&question, answer(json!({"text": "e"})).encode(Encoding::Json)).await.unwrap()
    );
    assert!(again.await.unwrap().answer.is_some());
    scene.bus.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_nats_command_line_answers_with_a_plain_reply() {
    let Ok(nats) = servers::find(Tool::Nats) else {
        assert!(std::env::var("CI").as_deref() != Ok("true"), "the nats command line is needed in CI");
        println!("skipped: the nats command line is not here");
        return;
    };
    let scene = Scene::start(1, "").await;
    let seed = scene.bus.stack.seed_path(&User::Agent("acme".parse().unwrap(), "worker".parse().unwrap()));
    let given = answer(json!({"text": "from a terminal"})).json().to_string();
    let child = tokio::process::Command::new(nats)
        .args(["--server", &scene.bus.stack.nats_url(), "--inbox-prefix", "_INBOX.worker", "--nkey"])
        .arg(seed)
        .args(["reply", "agent.worker.inbox", &given])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let started = Instant::now();
    let heard = loop {
        let asked = ask(&scene.planner, &question("from where?")).await;
        // Until it listens.
        if asked.verdict.reason != Reason::RecipientOffline {
            break asked;
        }
        assert!(started.elapsed() < Duration::from_secs(30), "{:?}", asked.verdict);
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    assert_eq!(
        heard.answer.unwrap_or_else(|| panic!("{:?}", heard.verdict))["content"]["text"],
        "from a terminal"
    );
    drop(child);
    scene.bus.stop().await;
}
