//! What does a node say of itself by HTTP?

use std::time::Duration;

use anyhow::{Context as _, ensure};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

/// Less than a node leaves a socket that says nothing, so that it cannot answer only after it has closed them.
pub(super) const ANSWER_MAX: Duration = Duration::from_secs(8);
/// Bytes of an answer: the metrics of a node are some tens of kilobytes.
const ANSWER_BYTES_MAX: u64 = 1024 * 1024;

/// Status and body of a GET.
pub(crate) async fn get(address: &str, path: &str) -> anyhow::Result<(u16, String)> {
    let asking = async {
        let mut stream = TcpStream::connect(address).await?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut bytes = Vec::new();
        stream.take(ANSWER_BYTES_MAX).read_to_end(&mut bytes).await?;
        anyhow::Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    let answer =
        timeout(ANSWER_MAX, asking).await.with_context(|| format!("{path}: no answer in time"))??;
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
    let body = answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default();
    Ok((status.with_context(|| format!("{path}: not an HTTP answer"))?, body))
}

/// Whether a node is alive and ready; how often it had to connect to NATS again.
pub(crate) async fn health(address: &str) -> anyhow::Result<u64> {
    for path in ["/livez", "/readyz"] {
        let (status, body) = get(address, path).await?;
        ensure!(status == 200, "{path} answers {status}: {}", body.chars().take(300).collect::<String>());
    }
    let (_, metrics) = get(address, "/metrics").await?;
    let counts = metrics
        .lines()
        .filter(|line| line.starts_with("agentbus_nats_reconnects_total"))
        .filter_map(|line| line.split(' ').nth(1)?.parse::<f64>().ok());
    let counts: Vec<f64> = counts.collect();
    ensure!(!counts.is_empty(), "/metrics does not tell agentbus_nats_reconnects_total");
    Ok(counts.iter().sum::<f64>() as u64)
}
