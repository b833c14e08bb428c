//! Do nodes learn over Redis what one of them has found out of what they all ask?

use std::{sync::Arc, time::Duration};

use agentbus::{
    breakers::{Breaker, Breakers, Kind},
    guarded::Spread,
    state::{BreakerSeen, SharedBreakers},
};
use tokio::task::JoinHandle;

use super::{LIFETIMES, Node, Server, eventually};

/// A node that tells others of its breakers, and hears of theirs.
struct Telling {
    _node: Node,
    records: Arc<Breaker>,
    task: JoinHandle<()>,
}

impl Telling {
    async fn start(server: &Server) -> Self {
        let node = Node::ready(server, LIFETIMES).await;
        let breakers = Arc::new(Breakers::default());
        let spread = Spread::new(&breakers, Arc::clone(&node.store) as Arc<dyn SharedBreakers>);
        let task = tokio::spawn(async move { spread.run().await });
        Self { _node: node, records: breakers.of(Kind::Records), task }
    }

    fn fails(&self) {
        while let Ok(call) = self.records.admit() {
            call.bad(&"no answer");
        }
    }
}

impl Drop for Telling {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[tokio::test]
async fn what_one_node_finds_at_fault_the_other_leaves_alone_until_it_is_well() {
    let server = Server::start();
    let (one, other) = (Telling::start(&server).await, Telling::start(&server).await);
    one.fails();
    eventually(async || {
        // It is tried again and again, and fails.
        one.fails();
        !other.records.is_closed()
    })
    .await;
    assert!(other.records.trouble().unwrap().0.contains("other nodes"));
    eventually(async || {
        // One tries for both, and whoever had left it alone looks once for itself.
        [&one, &other].into_iter().filter_map(|node| node.records.admit().ok()).for_each(|call| call.good());
        one.records.is_closed() && other.records.is_closed()
    })
    .await;
}

#[tokio::test]
async fn a_node_that_alone_cannot_reach_something_closes_it_for_nobody_else() {
    let server = Server::start();
    let (cut_off, well) = (Telling::start(&server).await, Telling::start(&server).await);
    for _ in 0..40 {
        cut_off.fails();
        for _ in 0..20 {
            well.records.admit().expect("it answers this node").good();
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(!cut_off.records.is_closed());
}

#[tokio::test]
async fn of_all_who_would_try_one_does_until_it_has_closed_it() {
    let server = Server::start();
    let nodes = [Node::ready(&server, LIFETIMES).await, Node::ready(&server, LIFETIMES).await];
    let due = |closed| BreakerSeen { closed, due: !closed, ..faulty(1) };
    let tries = async |closed| {
        let mut tries = 0;
        for node in &nodes {
            let told = node.store.share(&[due(closed)]).await.unwrap();
            tries += told.iter().filter(|standing| standing.tries).count();
        }
        tries
    };
    assert_eq!((tries(false).await, tries(true).await, tries(false).await), (1, 0, 1));
}

fn faulty(bad: u64) -> BreakerSeen {
    BreakerSeen {
        name: "records".to_owned(),
        good: 0,
        bad,
        failures: 3,
        open_for: Duration::from_secs(1),
        closed: false,
        due: false,
    }
}

#[tokio::test]
async fn whatever_stands_in_the_place_of_the_table_is_as_if_nothing_did() {
    let server = Server::start();
    let node = Node::ready(&server, LIFETIMES).await;
    for junk in [
        "SET agentbus:breakers nonsense",
        "SET agentbus:breakers 7",
        "SET agentbus:breakers {\"records\":{\"untl\":\"x\",\"buckets\":[1,[2],{}]}}",
        "SET agentbus:breakers {\"records\":{\"untl\":1e300,\"probe\":-1}}",
        "SADD agentbus:breakers a",
    ] {
        server.tell(junk);
        let told = node.store.share(&[faulty(1)]).await.unwrap();
        let standing = told.iter().find(|standing| standing.name == "records").unwrap();
        assert!(standing.open_for <= Duration::from_secs(3_600) && !standing.tries, "{junk}: {standing:?}");
        server.tell("DEL agentbus:breakers");
    }
    // Nor is there ever more of it than its bound.
    for round in 0..3 {
        let many = (0..200).map(|number| BreakerSeen { name: format!("{round}-{number}"), ..faulty(1) });
        node.store.share(&many.collect::<Vec<_>>()).await.unwrap();
    }
    assert!(node.store.share(&[]).await.unwrap().len() <= agentbus::state::BREAKERS_MAX);
}
