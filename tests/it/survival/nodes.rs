//! What does a node say of what it depends on, and does it mend by itself what can be mended?

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    path::Path,
    time::{Duration, Instant},
};

use serde_json::Value;

mod clock;
mod degraded;
mod memory;
mod metrics;
mod names;
mod parts;
mod start;
mod store;

/// Status and report of a node on loopback.
async fn report(http: &str) -> (u16, Value) {
    let answer = reqwest::get(format!("http://{http}/readyz")).await.unwrap();
    (answer.status().as_u16(), serde_json::from_str(&answer.text().await.unwrap()).unwrap())
}

/// Asks until the report is as expected, and says how long that took.
async fn until(http: &str, expected: impl Fn(u16, &Value) -> bool) -> (Duration, Value) {
    let started = Instant::now();
    loop {
        let (status, report) = report(http).await;
        if expected(status, &report) {
            return (started.elapsed(), report);
        }
        assert!(started.elapsed() < Duration::from_secs(60), "the report never came to that: {report}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Waits until a node's log has a line with these words; that line.
async fn logged(log: &Path, words: &str) -> String {
    for _ in 0..1_200 {
        let log = std::fs::read_to_string(log).unwrap();
        if let Some(line) = log.lines().find(|line| line.contains(words)) {
            return line.to_owned();
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{words:?} is not in\n{}", std::fs::read_to_string(log).unwrap());
}

async fn numbers(http: &str) -> String {
    reqwest::get(format!("http://{http}/metrics")).await.unwrap().text().await.unwrap()
}

/// One command in Redis' inline form, as the operator, and the beginning of the answer.
fn tell(port: u16, password: &str, command: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    stream.write_all(format!("AUTH {password}\r\n{command}\r\n").as_bytes()).unwrap();
    let mut ok = [0; 5];
    stream.read_exact(&mut ok).unwrap();
    assert_eq!(&ok, b"+OK\r\n");
    let mut answer = [0; 4096];
    let read = stream.read(&mut answer).unwrap();
    String::from_utf8_lossy(&answer[..read]).into_owned()
}
