//! Does a cluster of three keep what it acknowledged while one of its servers is killed?

use std::{collections::BTreeSet, time::Duration};

use agentbus::tenants::{BusUser, Plan, User, names};
use async_nats::jetstream::{self, consumer::PullConsumer};
use futures_util::StreamExt;
use tokio::time::{Instant, sleep, timeout};

use crate::support::cluster::Cluster;

const MESSAGES: usize = 300;
/// One try of a publish; a killed leader is replaced within a few of them.
const TRY: Duration = Duration::from_secs(2);
/// For all of it, elections on a busy machine included.
const PATIENCE: Duration = Duration::from_secs(90);

#[tokio::test]
async fn a_cluster_loses_nothing_it_acknowledged_when_a_server_is_killed() {
    let mut cluster = Cluster::start(Plan::example().unwrap()).await;
    let operator = cluster.connect(BusUser::Operator).await;
    let operator = jetstream::new(operator);
    for stream in ["IN_acme", "OUT_acme", "DELIBERATIONS_acme", "DEAD_acme", names::RECORDS_STREAM] {
        let info = operator.get_stream(stream).await.unwrap();
        assert_eq!(info.cached_info().config.num_replicas, 3, "{stream}");
    }
    // Without a word about copies they stay.
    let again = cluster.provision_again().await;
    assert!(again.changed.is_empty() && again.created.is_empty(), "{again:?}");
    let led = operator.get_stream("OUT_acme").await.unwrap().cached_info().cluster.clone();
    let leader: usize =
        led.unwrap().leader.unwrap().strip_prefix("nats-").unwrap().parse::<usize>().unwrap() - 1;

    let node = cluster.connect(BusUser::Node).await;
    let context = jetstream::new(node);
    let worker = User::Agent("acme".parse().unwrap(), "worker".parse().unwrap());
    let worker = jetstream::with_domain(cluster.connect(worker).await, names::INBOX_DOMAIN);
    let reading = tokio::spawn(async move {
        let mut seen = BTreeSet::new();
        let until = Instant::now() + PATIENCE;
        // Until all have come: whatever the server's end costs, the consumer goes on afterwards.
        while seen.len() < MESSAGES && Instant::now() < until {
            let Ok(consumer) = worker
                .get_consumer_from_stream::<jetstream::consumer::pull::Config, _, _>("worker", "OUT_acme")
                .await
            else {
                sleep(Duration::from_millis(100)).await;
                continue;
            };
            let consumer: PullConsumer = consumer;
            let Ok(mut batch) = consumer.fetch().max_messages(20).messages().await else { continue };
            while let Ok(Some(Ok(message))) = timeout(TRY, batch.next()).await {
                // An acknowledgement whose confirmation is lost may count: it does not come again.
                seen.insert(String::from_utf8_lossy(&message.payload).into_owned());
                let _ = message.double_ack().await;
            }
        }
        seen
    });

    let started = Instant::now();
    for number in 0..MESSAGES {
        if number == MESSAGES / 3 {
            cluster.server_mut(leader).child_mut().kill().await;
        }
        if number == 2 * MESSAGES / 3 {
            cluster.server_mut(leader).restart().await.unwrap();
        }
        let id = format!("m{number}");
        // Until it is acknowledged. The message id makes a repetition of a stored one no second one.
        loop {
            let mut headers = async_nats::HeaderMap::new();
            headers.insert("Nats-Msg-Id", id.as_str());
            let subject = format!("tenant.acme.stored.worker.message.planner.{id}");
            let publish = async {
                let ack = context.publish_with_headers(subject, headers, id.clone().into()).await.ok()?;
                ack.await.ok()
            };
            if let Ok(Some(_)) = timeout(TRY, publish).await {
                break;
            }
            assert!(started.elapsed() < PATIENCE, "{id} is not acknowledged");
        }
    }
    let seen = timeout(PATIENCE, reading).await.unwrap().unwrap();
    let missing: Vec<_> = (0..MESSAGES).map(|n| format!("m{n}")).filter(|id| !seen.contains(id)).collect();
    assert!(missing.is_empty(), "acknowledged, and never read: {missing:?}");
    let stored = operator.get_stream("OUT_acme").await.unwrap().cached_info().state.messages;
    assert_eq!(stored, MESSAGES as u64, "each once");
}
