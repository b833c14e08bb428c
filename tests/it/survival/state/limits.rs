//! Do nodes that lease from one account keep to its rate together?

use std::time::{Duration, Instant};

use agentbus::state::{Leased, SharedLimits as _, SharedRate};

use super::{LIFETIMES, Node, SOON, Server, tenant};

/// One in six seconds, so that a busy machine adds few.
const RATE: SharedRate = SharedRate { per_minute: 10, burst: 20 };

#[tokio::test]
async fn what_one_node_has_leased_another_has_not_and_each_hears_when_there_is_more() {
    let server = Server::start();
    let (one, other) = (Node::ready(&server, LIFETIMES).await, Node::ready(&server, LIFETIMES).await);
    let acme = tenant("acme");
    let began = Instant::now();
    assert_eq!(one.store.lease(&acme, RATE, 12).await, Ok(Leased::Messages(12)));
    let mut given = 12;
    let wait = loop {
        match other.store.lease(&acme, RATE, 5).await.unwrap() {
            Leased::Messages(messages) => given += messages,
            Leased::After(wait) => break wait,
        }
        assert!(began.elapsed() < SOON, "it never ends");
    };
    // At the most those that came with time.
    let more = u32::try_from(began.elapsed().as_secs() / 6 + 1).unwrap();
    assert!((20..=20 + more).contains(&given), "{given} of 20");
    assert!(!wait.is_zero() && wait <= Duration::from_secs(6), "{wait:?}");
    assert_eq!(one.store.lease(&tenant("globex"), RATE, 1).await, Ok(Leased::Messages(1)), "another tenant");
    // What no node wrote takes no more than a burst from the tenant, and gives it none.
    for forged in ["x", "99999999999999999999", "-1", "1e300", "nan"] {
        server.tell(&format!("SET agentbus:{{acme}}:rate {forged}"));
        match one.store.lease(&acme, RATE, 1_000).await.unwrap() {
            Leased::Messages(messages) => assert!(messages <= RATE.burst, "{forged}: {messages}"),
            Leased::After(wait) => assert!(wait <= Duration::from_secs(6), "{forged}: {wait:?}"),
        }
    }
    assert!(one.stop().await && other.stop().await, "tasks outlive the store");
}
