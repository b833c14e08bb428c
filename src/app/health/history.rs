//! How has the node been of late? A look each second, the last 300 kept, and a notice when its level changes.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use async_nats::Client;
use parking_lot::Mutex;
use tokio::sync::{self, mpsc};

use super::NodeHealth;
use crate::{
    domain::Timestamp,
    nats::{Level, StatusSource as _, WebhookDispatcher},
    tenants::names,
    webhook::Occasion,
};

const EVERY: Duration = Duration::from_secs(1);
const KEPT: usize = 300;
/// Notices that wait for the webhook; a node that changes faster is told of less often.
const NOTICES_MAX: usize = 16;
/// Over which a rate is told.
const RATE_OVER: Duration = Duration::from_secs(10);

/// The last looks, the oldest first.
#[derive(Default)]
pub(super) struct History(Mutex<VecDeque<Look>>);

/// What the webhook is to hear.
pub(super) struct Notices {
    noticed: mpsc::Sender<Occasion>,
    waiting: sync::Mutex<mpsc::Receiver<Occasion>>,
}

impl Default for Notices {
    fn default() -> Self {
        let (noticed, waiting) = mpsc::channel(NOTICES_MAX);
        Self { noticed, waiting: sync::Mutex::new(waiting) }
    }
}

#[derive(Clone, Copy)]
struct Look {
    at: Instant,
    level: Level,
    requests: u64,
}

impl History {
    /// Another look. The level before, if it is another now.
    fn looked(&self, at: Instant, level: Level, requests: u64) -> Option<Level> {
        let mut looks = self.0.lock();
        let before = looks.back().map(|look| look.level);
        if looks.len() == KEPT {
            looks.pop_front();
        }
        looks.push_back(Look { at, level, requests });
        before.filter(|before| *before != level)
    }

    /// Requests a second up to now.
    pub(super) fn per_second(&self, requests: u64) -> f64 {
        let looks = self.0.lock();
        let Some(from) = looks.iter().rev().take_while(|look| look.at.elapsed() <= RATE_OVER).last() else {
            return 0.0;
        };
        let passed = from.at.elapsed().as_secs_f64();
        if passed < 0.5 { 0.0 } else { requests.saturating_sub(from.requests) as f64 / passed }
    }
}

impl NodeHealth {
    /// Looks, until the future is dropped.
    pub(in crate::app) async fn watch(self: Arc<Self>, client: Client, clock: fn() -> Timestamp) {
        let mut tick = tokio::time::interval(EVERY);
        loop {
            tick.tick().await;
            let status = self.status();
            let Some(before) = self.history.looked(Instant::now(), status.level, status.requests) else {
                continue;
            };
            let (from, to) = (before.as_str(), status.level.as_str());
            let why =
                status.parts.iter().map(|(name, part)| format!("{name} {}", part.state)).collect::<Vec<_>>();
            tracing::warn!(from, to, score = status.score, parts = why.join(", "), "this node is {to} now");
            let notice = serde_json::json!({ "node": status.node, "from": from, "to": to, "score": status.score,
                "parts": status.parts });
            // Nobody may hear it; who wants to know for sure asks.
            let _ = client.publish(names::health_notice(&status.node), notice.to_string().into()).await;
            // Full where there is no webhook, or a slow one.
            let _ = self.notices.noticed.try_send(Occasion::health(&status.node, &notice, clock()));
        }
    }

    /// Has the webhook hear of it, one notice after the other, until the future is dropped.
    pub(in crate::app) async fn tell(self: Arc<Self>, webhook: Arc<WebhookDispatcher>) {
        let mut waiting = self.notices.waiting.lock().await;
        while let Some(occasion) = waiting.recv().await {
            webhook.tell(&occasion).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_of_level_is_told_once_and_old_looks_go() {
        let (history, now) = (History::default(), Instant::now());
        assert_eq!(history.looked(now, Level::Healthy, 0), None);
        assert_eq!(history.looked(now, Level::Critical, 1), Some(Level::Healthy));
        for requests in 0..1_000 {
            assert_eq!(history.looked(now, Level::Critical, requests), None);
        }
        assert_eq!(history.0.lock().len(), KEPT);
        assert_eq!(history.looked(now, Level::Degraded, 1_000), Some(Level::Critical));
    }

    #[test]
    fn the_rate_is_of_the_last_ten_seconds() {
        let (history, now) = (History::default(), Instant::now());
        for second in (0..60).rev() {
            history.looked(now - Duration::from_secs(second), Level::Healthy, 100 * (60 - second));
        }
        let rate = history.per_second(6_000);
        assert!((80.0..101.0).contains(&rate), "{rate}");
        assert!(History::default().per_second(7).abs() < f64::EPSILON);
    }
}
