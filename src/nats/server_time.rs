//! What time is it at JetStream? Asked again and again, for whoever doubts this node's clock.

use std::time::{Duration, Instant, UNIX_EPOCH};

use async_nats::Client;

use crate::{shutdown::Shutdown, skew::Skew, supervisor::Supervisor, tenants::names};

const ASK_EVERY: Duration = Duration::from_secs(5);
/// Until it is known for the first time.
const ASK_AGAIN: Duration = Duration::from_millis(250);

/// Part of what JetStream says of a stream: when it said so.
#[derive(serde::Deserialize)]
struct StreamInfo {
    ts: String,
}

/// Tells `skew` until the background ends.
pub fn watch_server_time(client: Client, skew: Skew, background: &Shutdown, supervisor: &Supervisor) {
    supervisor.keep("server time", background.tracker(), background.token().clone(), move || {
        let (client, skew) = (client.clone(), skew.clone());
        async move {
            loop {
                let asked = Instant::now();
                let told = ask(&client).await;
                if let Some(there) = told {
                    skew.heard("JetStream", there, asked.elapsed());
                }
                tokio::time::sleep(if told.is_some() { ASK_EVERY } else { ASK_AGAIN }).await;
            }
        }
    });
}

/// `None`: it does not answer, or is too old to say.
async fn ask(client: &Client) -> Option<Duration> {
    let subject = format!("$JS.API.STREAM.INFO.{}", names::RECORDS_STREAM);
    let answer = client.request(subject, "".into()).await.ok()?;
    let info: StreamInfo = serde_json::from_slice(&answer.payload).ok()?;
    humantime::parse_rfc3339(&info.ts).ok()?.duration_since(UNIX_EPOCH).ok()
}
