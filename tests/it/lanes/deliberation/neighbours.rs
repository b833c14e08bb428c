//! What does a tenant that has filled its own streams cost the others? Nothing.

use agentbus::tenants::BusUser;
use async_nats::jetstream::{self, Context};

use super::*;
use crate::support::bus;

/// Bytes of a stream that is soon full.
const LITTLE: u64 = 1 << 20;
/// More messages than one tenant's share of a node.
const MANY: usize = 40;

/// Tenants acme, whose streams are small, and globex; what is severe needs one approval.
fn two_tenants(acmes_store: &str) -> Plan {
    let tenants = ["acme", "globex"].map(|tenant| {
        format!(
            "[tenants.{tenant}.agents]\nplanner = {{ roles = [\"executive\"] }}\n\
             second = {{ roles = [\"executive\"] }}\nthird = {{ roles = [\"executive\"] }}\n\
             worker = {{ roles = [\"implementer\"] }}\njudge = {{ roles = [\"judicial\"] }}\n\
             arbiter = {{ roles = [\"judicial\"] }}\n[tenants.{tenant}.deliberation.terms]\n{ONE_OF_TWO}\n"
        )
    });
    Plan::parse(&format!("{}[tenants.acme.store]\n{acmes_store} = {LITTLE}\n", tenants.concat())).unwrap()
}

/// Globex parks, approves and gets a message, as ever.
async fn globex_is_served(bus: &Bus) {
    let agent = |name| bus.agent("globex", name);
    let (planner, worker, judge) = tokio::join!(agent("planner"), agent("worker"), agent("judge"));
    worker.register(&[]).await.unwrap();
    let stored = bus.stack.connect(BusUser::Operator).await.unwrap();
    let stored = jetstream::new(stored).get_stream_no_info("OUT_globex").await.unwrap();
    let draft = severe("from the neighbour");
    let id = send(&planner, &draft).await.deliberation_id.expect("it is parked").to_string();
    let shown = ask(&judge, Verb::Deliberations, json!({ "id": id })).await;
    let digest = shown["deliberation"]["digest"].as_str().unwrap().to_owned();
    assert_eq!(Waiting { id, digest }.vote(&judge, "approve").await["judgement"], "approved");
    let subject = format!("tenant.globex.stored.worker.message.planner.{}", draft.message_id);
    let until = Instant::now() + SOON;
    while stored.get_last_raw_message_by_subject(&subject).await.is_err() {
        assert!(Instant::now() < until, "the neighbour's approved message is not delivered in {SOON:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Publishes to these subjects until the stream takes nothing more.
async fn fill(node: &Context, stream: &str, subject: impl Fn(usize) -> String) {
    let mut number = 0;
    for bytes in [100_000, 1_000, 1] {
        loop {
            number += 1;
            let sent = node.publish(subject(number), "x".repeat(bytes).into()).await.unwrap().await;
            match sent {
                Ok(kept) => assert_eq!(kept.stream, stream),
                Err(_) => break,
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_log_keeps_room_for_its_ends_and_fills_for_its_own_tenant_alone() {
    let court = Court::with(ONE_OF_TWO, |options| options.plan = two_tenants("deliberations_bytes")).await;
    let mut parked = Vec::new();
    // Each takes what it may, and leaves as much to the others.
    for sender in ["planner", "second", "third"] {
        let sender = court.agent(sender).await;
        loop {
            let verdict = bus::send(&sender, severe(&"x".repeat(60_000)).encode(Encoding::Json)).await;
            let Some(id) = verdict.deliberation_id else {
                assert_eq!(verdict.reason, Reason::TooManyParked, "{verdict:?}");
                assert!(verdict.retry_after.is_some(), "{verdict:?}");
                break;
            };
            parked.push(id.to_string());
            assert!(parked.len() < 100, "the stream never is full");
        }
    }
    let operator = jetstream::new(court.bus.stack.connect(BusUser::Operator).await.unwrap());
    let held = operator.get_stream("DELIBERATIONS_acme").await.unwrap().cached_info().state.bytes;
    assert!(held > LITTLE / 2 && held <= LITTLE / 100 * 80, "{held} of {LITTLE} bytes are parked messages");

    globex_is_served(&court.bus).await;
    // What it holds comes to its end all the same.
    for id in &parked[..4] {
        let digest = court.show(&court.judge, id).await["digest"].as_str().unwrap().to_owned();
        let vote = json!({ "id": id, "choice": "approve", "digest": digest, "comment": "y".repeat(500) });
        let answer = ask(&court.judge, Verb::Vote, vote).await;
        assert_eq!(answer["judgement"], "approved", "{answer}");
        court.until(id, |shown| shown["conclusion"]["reason"] == "delivered").await;
    }
    court.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn decisions_that_a_full_inbox_keeps_circulating_delay_no_other_tenant() {
    let court = Court::with(ONE_OF_TWO, |options| options.plan = two_tenants("inbox_bytes")).await;
    let mut waiting = Vec::new();
    for number in 0..MANY {
        waiting.push(court.park(&severe(&format!("number {number}"))).await);
    }
    let node = jetstream::new(court.bus.stack.connect(BusUser::Node).await.unwrap());
    fill(&node, "OUT_acme", |number| format!("tenant.acme.stored.judge.message.planner.fill{number}")).await;
    for parked in &waiting {
        assert_eq!(parked.vote(&court.judge, "approve").await["judgement"], "approved");
    }
    globex_is_served(&court.bus).await;
    // An operator is told.
    let http = court.bus.stack.nodes()[0].http();
    let page =
        async |path: &str| reqwest::get(format!("http://{http}/{path}")).await.unwrap().text().await.unwrap();
    let until = Instant::now() + SOON;
    while !page("readyz").await.contains("nearly full: inboxes of 1 tenant;") {
        assert!(Instant::now() < until, "{}", page("readyz").await);
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let metrics = page("metrics").await;
    let filled =
        metrics.lines().find_map(|line| line.strip_prefix("agentbus_streams_filled{kind=\"inboxes\"} "));
    assert!(filled.is_some_and(|share| share.parse::<f64>().unwrap() > 0.9), "{metrics}");
    for parked in &waiting {
        assert!(court.show(&court.judge, &parked.id).await["conclusion"].is_null(), "it was concluded");
    }
    court.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sender_that_fills_the_durable_inboxes_leaves_room_to_others_and_to_what_is_approved() {
    let court = Court::with(ONE_OF_TWO, |options| options.plan = two_tenants("inbox_bytes")).await;
    let waiting = court.park(&severe("let me in")).await;
    let second = court.agent("second").await;
    let patience = Patience { attempt: Duration::from_secs(3), deadline: Duration::from_secs(3) };
    let submit = async |agent: &AgentClient, to: &str| {
        let draft = Draft::to_agent(to, &"x".repeat(60_000));
        agent.submit(draft.encode(Encoding::MessagePack), patience).await.unwrap()
    };
    let (mut stored, refused) = (
        0,
        loop {
            let verdict = submit(&court.planner, "worker").await;
            if verdict.status != Status::Stored {
                break verdict;
            }
        },
    );
    assert_eq!(refused.reason, Reason::RateLimited, "{refused:?}");
    assert!(refused.retry_after.is_some_and(|after| after >= Duration::from_secs(30)), "{refused:?}");
    assert!(refused.detail.contains("are for others"), "{}", refused.detail);
    // The worker reads nothing, so there is none for it; the third has as much room as anybody.
    while submit(&second, "third").await.status == Status::Stored {
        stored += 1;
    }
    assert!(stored >= 2, "another sender stored {stored}");
    assert_eq!(waiting.vote(&court.judge, "approve").await["judgement"], "approved");
    court.until(&waiting.id, |shown| shown["conclusion"]["reason"] == "delivered").await;
    court.stop().await;
}
