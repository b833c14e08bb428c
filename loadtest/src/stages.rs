//! How long does a message spend in each stage of the node? Read from the node's own metrics.

use std::collections::BTreeMap;

use anyhow::Context as _;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::{Duration, timeout},
};

const ANSWER_WAIT: Duration = Duration::from_secs(2);
/// A node's whole page of metrics is some twenty kilobytes.
const PAGE_BYTES_MAX: u64 = 1024 * 1024;

/// Sum in seconds and count, by stage.
pub(crate) type Stages = BTreeMap<String, (f64, f64)>;

/// Reads `…stage…_sum` and `…_count` of every stage.
pub(crate) async fn read(address: &str) -> anyhow::Result<Stages> {
    let page = timeout(ANSWER_WAIT, page(address)).await.context("no metrics in time")??;
    let mut stages = Stages::new();
    for line in page.lines() {
        let Some((series, value)) = line.rsplit_once(' ') else { continue };
        let Some((name, labels)) = series.split_once('{') else { continue };
        let Some(stage) = labels.split_once("stage=\"").and_then(|(_, rest)| rest.split_once('"')) else {
            continue;
        };
        let Ok(value) = value.parse::<f64>() else { continue };
        let entry = stages.entry(stage.0.to_owned()).or_default();
        if name.ends_with("_sum") {
            entry.0 = value;
        } else if name.ends_with("_count") {
            entry.1 = value;
        }
    }
    Ok(stages)
}

/// What was added between two readings: mean microseconds of each stage.
pub(crate) fn means(before: &Stages, after: &Stages) -> BTreeMap<String, f64> {
    after
        .iter()
        .filter_map(|(stage, (sum, count))| {
            let (sum_before, count_before) = before.get(stage).copied().unwrap_or_default();
            let added = count - count_before;
            (added > 0.0).then(|| (stage.clone(), (sum - sum_before) / added * 1e6))
        })
        .collect()
}

/// The node's numbers.
pub(crate) async fn page(address: &str) -> anyhow::Result<String> {
    get(address, "/metrics").await
}

/// An answer with its head.
pub(crate) async fn get(address: &str, path: &str) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut page = String::new();
    stream.take(PAGE_BYTES_MAX).read_to_string(&mut page).await?;
    Ok(page)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mean_is_of_what_was_added_between_two_readings() {
        let before = Stages::from([("policy".to_owned(), (1.0, 1000.0))]);
        let after = Stages::from([("policy".to_owned(), (1.002, 2000.0)), ("idle".to_owned(), (0.0, 0.0))]);
        let means = means(&before, &after);
        assert_eq!(means.len(), 1);
        assert!(means.get("policy").is_some_and(|mean| (mean - 2.0).abs() < 1e-9), "{means:?}");
    }
}
