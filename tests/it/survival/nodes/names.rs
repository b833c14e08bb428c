//! Two nodes of one name.

use agentbus::{app, shutdown::Shutdown, skew};

use super::{logged, numbers, until};
use crate::{
    support::{bus::Bus, servers},
    survival::intake,
};

#[tokio::test(flavor = "multi_thread")]
async fn two_nodes_of_one_name_both_say_so_until_one_is_gone() {
    let bus = Bus::start(1).await;
    let first = bus.stack.nodes()[0].http();
    let mut config = intake::node(&bus, servers::port());
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
    logged(bus.stack.nodes()[0].child().log(), "another node has the name of this one").await;
    shutdown.request();
    running.await.unwrap().unwrap();
    until(&first, |_, report| report["status"] == "ready").await;
    bus.stop().await;
}
