//! What do all have in common that start a bus?

use std::time::{Duration, Instant};

use agentbus::client::AgentClient;
use anyhow::ensure;

/// A stored verdict takes some 700 bytes of Redis: at full speed the default window of ten minutes would fill the
/// memory of a Redis on one machine within a minute. Storing costs the same.
pub(crate) const WINDOW: &str = "idempotency.window = \"10s\"";
/// How long a side may take until it answers its first request as it should.
const FIRST_ANSWER_WAIT: Duration = Duration::from_secs(10);

/// A node that was just started may not have reached Redis yet, and says so.
pub(crate) async fn register(agent: &AgentClient) -> anyhow::Result<()> {
    let started = Instant::now();
    loop {
        let answer = agent.register(&[]).await?;
        if answer.get("status").is_some_and(|status| status == "ok") {
            return Ok(());
        }
        ensure!(started.elapsed() < FIRST_ANSWER_WAIT, "{} cannot register: {answer}", agent.id());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
