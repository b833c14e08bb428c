//! Does one node's answer serve the others, and is nothing worse than before where it does not?

use std::{sync::Arc, time::Duration};

use agentbus::{
    policy::{Event, Gate, Mode, PolicyEngine as _, SharedTier, Source, cache, reads::Fields},
    skew::Skew,
    state::{RedisSettings, RedisStore, SealKeys, SharedAnswers, Trust},
    supervisor::Supervisor,
};
use tokio::task::JoinHandle;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    Seen,
    question::Owned,
    rollout::question,
    servers::{Asking, PATIENT},
    with_modules,
};
use crate::{
    support::opa::{self, Opa},
    survival::{golden::check::same, state::server::Server},
};

const OWN: &str = "package agentbus.modules.own\n\ndefault allow := false\n\n\
                   allow if input.message.priority != \"critical\"\n\n\
                   reasons contains \"not now\" if input.message.priority == \"critical\"\n\n\
                   obligations := {\"redact\": [\"n\"]} if input.message.priority == \"high\"\n";

/// A node that asks OPA servers, with its own cache and its connection to Redis.
struct Node {
    gate: Gate,
    seen: Seen,
    store: Arc<RedisStore>,
    asking: Asking,
    keeping: JoinHandle<()>,
    shutdown: CancellationToken,
}

impl Node {
    async fn start(redis: &Server, url: &str, key: char) -> Self {
        let asking = Asking::new(&with_modules(&[("own.rego", OWN)]), &[url.to_owned()], Mode::Opa, PATIENT);
        let shutdown = CancellationToken::new();
        let mut settings = RedisSettings::new(redis.url());
        settings.command_timeout = Duration::from_secs(2);
        let keys = SealKeys::parse(&String::from(key).repeat(32)).unwrap();
        settings.trust = Trust { keys: Some(keys), unsealed_for: Duration::from_secs(600) };
        let (stop, tracker) = (shutdown.clone(), TaskTracker::new());
        let store =
            RedisStore::connect(settings, stop, &tracker, &Supervisor::default(), &Skew::default()).unwrap();
        assert!(store.ready(Duration::from_secs(60)).await);
        let (store, seen) = (Arc::new(store), Seen::default());
        let tier =
            Arc::new(SharedTier::new(Arc::clone(&store) as Arc<dyn SharedAnswers>, Arc::new(seen.clone())));
        let gate = Gate::new(Arc::new(asking.engine.clone()));
        gate.share(Arc::clone(&tier));
        let keeping = tokio::spawn(async move { tier.run().await });
        Self { gate, seen, store, asking, keeping, shutdown }
    }

    /// Who answers, and whether it is allowed.
    async fn ask(&self, asked: &Owned) -> (Source, bool) {
        let ruling = self.gate.decide_by(&self.gate.in_force(), &asked.ask(), "").await;
        (ruling.source, ruling.permit.is_ok())
    }

    async fn until(&self, event: Event, count: usize) {
        while self.seen.count(event) < count {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.keeping.abort();
        self.shutdown.cancel();
    }
}

fn of(priority: &str) -> Owned {
    let mut asked = question();
    Arc::make_mut(&mut asked.message).priority = agentbus::domain::Priority::parse(priority).unwrap();
    asked
}

fn key_of(node: &Node, asked: &Owned) -> cache::Key {
    let fields = node.asking.engine.reads().cacheable().unwrap();
    cache::key(&asked.ask(), node.asking.engine.revision(), fields)
}

/// A miss is a question to OPA: that is what each of these must come to, and never an answer that no node was given.
#[tokio::test]
async fn an_answer_serves_all_nodes_and_one_that_no_node_wrote_serves_none() {
    let Some(program) = opa::program() else { return };
    let (mut redis, policy) = (Server::start(), with_modules(&[("own.rego", OWN)]));
    let opa = Opa::with_policy(&program, &policy).await;
    let first = Node::start(&redis, &opa.url(), 'a').await;
    let kinds = ["normal", "high", "critical"].map(of);
    for asked in &kinds {
        assert_eq!(first.ask(asked).await.0, Source::Policy);
        assert_eq!(first.ask(asked).await.0, Source::Cache);
    }
    first.until(Event::SharedKept, 3).await;

    let second = Node::start(&redis, &opa.url(), 'a').await;
    let answers = [second.ask(&kinds[0]).await, second.ask(&kinds[1]).await, second.ask(&kinds[2]).await];
    // On a busy machine Redis may be late, and then OPA is asked.
    let late = second.seen.count(Event::SharedUnanswered);
    let shared = answers.iter().filter(|(source, _)| *source == Source::Shared).count();
    assert_eq!((answers.map(|(_, allowed)| allowed), shared + late), ([true, true, false], 3));
    assert!(kinds.iter().all(|asked| key_of(&first, asked) == key_of(&second, asked)));

    // Where the policy denies, somebody writes an answer that allows: a copy of another's, one that is made up, one that
    // is sealed by another key, half of one, and what is no answer at all.
    let name = |asked: &Owned| format!("agentbus:{{acme}}:decision:{}", hex::encode(key_of(&first, asked)));
    let (allowed, denied) = (name(&kinds[0]), name(&kinds[2]));
    let stranger = Node::start(&redis, &opa.url(), 'b').await;
    let made_up = br#"{"allow":true,"reasons":[],"obligations":{}}"#.to_vec();
    let copy =
        format!("EVAL \"redis.call('SET', KEYS[2], redis.call('GET', KEYS[1]))\" 2 {allowed} {denied}");
    let half = format!(
        "EVAL \"redis.call('SET', KEYS[2], string.sub(redis.call('GET', KEYS[1]), 1, 60))\" 2 {allowed} {denied}"
    );
    let text = String::from_utf8(made_up.clone()).unwrap().replace('"', "\\\"");
    let mut forged = 0;
    for write in [
        copy,
        format!("SET {denied} \"{text}\""),
        "another key".to_owned(),
        half,
        format!("EVAL \"redis.call('DEL', KEYS[1]); redis.call('RPUSH', KEYS[1], 'x')\" 1 {denied}"),
        format!(
            "EVAL \"redis.call('DEL', KEYS[1]); redis.call('SETRANGE', KEYS[1], 50000000, 'x')\" 1 {denied}"
        ),
    ] {
        if write == "another key" {
            let life = Duration::from_secs(60);
            stranger
                .store
                .put(&kinds[2].tenant.id, &key_of(&first, &kinds[2]), made_up.clone(), life)
                .await
                .unwrap();
        } else {
            assert!(!redis.tell(&write).starts_with('-'), "{write}");
        }
        let node = Node::start(&redis, &opa.url(), 'a').await;
        assert_eq!(node.ask(&kinds[2]).await, (Source::Policy, false), "{write}");
        let seen = node.store.forged(agentbus::state::Forgery::Decision);
        assert!(seen == 1 || node.seen.count(Event::SharedUnanswered) == 1, "{write}: {seen} forgeries");
        forged += seen;
        // What it was answered itself takes the place.
        node.until(Event::SharedKept, 1).await;
    }
    assert!(forged > 0, "not one was looked at in time");

    // Redis stands still, and is gone: the policy is asked, after a moment at most.
    let node = Node::start(&redis, &opa.url(), 'a').await;
    redis.pause();
    assert_eq!(node.ask(&kinds[0]).await, (Source::Policy, true));
    redis.resume();
    redis.kill();
    assert_eq!(node.ask(&kinds[1]).await, (Source::Policy, true));
    assert_eq!(node.seen.count(Event::SharedUnanswered), 2);
}

/// Nodes of two versions share answers, so they must mean the same by a key.
#[test]
fn a_question_has_the_key_that_other_versions_know() {
    let key = cache::key(&question().ask(), "r-1", Fields::ALL);
    same("decision-key.txt", hex::encode(key).as_bytes());
}
