//! Two nodes of one name.

use std::net::TcpListener;

use agentbus::{app, shutdown::Shutdown, skew};

use super::{numbers, until};
use crate::{intake, support::bus::Bus};

#[tokio::test(flavor = "multi_thread")]
async fn two_nodes_of_one_name_both_say_so_until_one_is_gone() {
    let bus = Bus::start(1).await;
    let first = bus.stack.nodes()[0].http();
    let mut config =
        intake::node(&bus, TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port());
    bus.stack.nodes()[0].name().clone_into(&mut config.node.name);
    let (second, shutdown) = (config.http.listen.to_string(), Shutdown::default());
    let running =
        tokio::spawn(app::run_with(config, None, shutdown.clone(), Default::default(), skew::wall_clock));
    intake::ready(second.rsplit(':').next().unwrap().parse().unwrap()).await;
    for http in [&first, &second] {
        let (_, told) = until(http, |_, report| report["parts"]["name"]["state"] == "degraded").await;
        assert_eq!(told["status"], "degraded", "it serves all the same: {told}");
        assert!(numbers(http).await.contains("agentbus_part_healthy{part=\"name\"} 0"));
    }
    let log = std::fs::read_to_string(bus.stack.nodes()[0].child().log()).unwrap();
    assert!(log.contains("another node has the name of this one"), "{log}");
    shutdown.request();
    running.await.unwrap().unwrap();
    until(&first, |_, report| report["status"] == "ready").await;
    bus.stop().await;
}
