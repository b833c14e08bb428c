//! A node that is short of memory.

use agentbus::{
    client::{Draft, Patience},
    domain::{Encoding, Reason},
};

use super::{numbers, until};
use crate::support::bus::Bus;

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_short_of_memory_says_so_and_takes_nothing_new_before_the_system_ends_it() {
    let bus = Bus::with(1, |options| {
        let limits = toml::toml! { limits = { memory_bytes = 1048576 } };
        options.node_overrides.extend(limits);
    })
    .await;
    let http = bus.stack.nodes()[0].http();
    let (_, told) = until(&http, |_, told| told["parts"]["memory"]["state"] == "degraded").await;
    assert!(told["parts"]["memory"]["note"].as_str().unwrap().contains("of 1 MB are used"), "{told}");
    assert!(numbers(&http).await.contains("agentbus_memory_used_ratio 1"));
    // Agents stay registered meanwhile.
    let _listening = bus.listening(&["worker"]).await;
    let planner = bus.agent("acme", "planner").await;
    let draft = Draft::to_agent("worker", "hello").encode(Encoding::Json);
    for verdict in [
        planner.send(draft.clone(), Patience::default()).await.unwrap(),
        planner.submit(draft, Patience::default()).await.unwrap(),
    ] {
        assert_eq!(verdict.reason, Reason::Overloaded, "{verdict:?}");
        assert!(verdict.retryable && verdict.retry_after.is_some(), "{verdict:?}");
    }
    bus.stop().await;
}
