//! In which order does a node stop, and how long may each step take?

use std::time::Duration;

use super::{basis::Basis, build::Node};

/// Who stops a node often waits ten seconds and kills it then. With the 8 s that `node.drain` is unless
/// configured, and what follows it one after the other, it is 8 + 0.75 + 0.5 + 0.5 = 9.75 s at most.
/// First what is told to others, side by side: records, senders' pasts, the model's last scores.
const TELL_LIMIT: Duration = Duration::from_millis(750);
/// Then the goodbye to NATS.
const CLOSE_LIMIT: Duration = Duration::from_millis(500);
/// Last, what ran beside the messages.
const BACKGROUND_LIMIT: Duration = Duration::from_millis(500);

impl Node {
    /// Finishes what is in flight, tells others what they are to know, and ends.
    pub(super) async fn stop(&self) {
        let Basis { config, shutdown, background, .. } = &self.basis;
        self.health.stopping();
        tracing::info!("stopping: no new requests, finishing those in flight");
        if !shutdown.finished_within(config.node.drain).await {
            tracing::warn!("some requests did not finish in time; their senders ask again");
        }
        self.tell().await;
        // What was answered, acknowledged and given back last has left before its connection ends.
        let goodbye = async { tokio::join!(self.bus.close(), self.lane.fence()) };
        if tokio::time::timeout(CLOSE_LIMIT, goodbye).await.is_err() {
            tracing::warn!("NATS did not take the goodbye in time");
        }
        background.request();
        background.finished_within(BACKGROUND_LIMIT).await;
        tracing::info!("stopped");
    }

    async fn tell(&self) {
        self.registrations.flush();
        let model_ends = async {
            let all = self.model.pools.iter().map(|pool| pool.close(TELL_LIMIT));
            futures_util::future::join_all(all).await.into_iter().all(|ended| ended)
        };
        let (model_ended, cpu_ended, recorded, (), counted) = tokio::join!(
            model_ends,
            self.cpu.close(TELL_LIMIT),
            self.outbox.flush(TELL_LIMIT),
            self.senders.flush_all((self.basis.clock)(), TELL_LIMIT),
            self.usage.flush(TELL_LIMIT),
        );
        if !model_ended {
            tracing::warn!("the model's threads did not end in time");
        }
        if !cpu_ended {
            tracing::warn!("the threads for computing did not end in time");
        }
        if !counted {
            tracing::warn!("some of what agents have used is not kept");
        }
        if !recorded {
            tracing::warn!("some records are not confirmed");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    #[test]
    fn the_limits_of_a_stop_add_up_to_less_than_ten_seconds() {
        let limits = [config::Node::default().drain, TELL_LIMIT, CLOSE_LIMIT, BACKGROUND_LIMIT];
        assert!(limits.iter().sum::<Duration>() < Duration::from_secs(10), "{limits:?}");
    }
}
