//! Strangers with real sockets, and somebody who asks for health beside them.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::net::SocketAddr;

use axum::routing::get;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;

/// Far more than anything here takes that goes well.
const PATIENCE: Duration = Duration::from_secs(30);

struct World {
    address: SocketAddr,
    metrics: Arc<Metrics>,
    stopped: Shutdown,
}

/// A server with one page, of more bytes than a socket takes when nobody reads.
async fn serve_within(bounds: Bounds) -> World {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let large = "x".repeat(64 * 1024 * 1024);
    let app = Router::new()
        .route("/livez", get(|| async { "live\n" }))
        .route("/large", get(move || std::future::ready(large.clone())));
    let (metrics, stopped) = (Arc::new(Metrics::new("node")), Shutdown::default());
    tokio::spawn(serve(Arc::new((listener, None)), app, bounds, Arc::clone(&metrics), stopped.clone()));
    World { address, metrics, stopped }
}

impl World {
    async fn say(&self, text: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(text.as_bytes()).await.unwrap();
        stream
    }

    /// What comes back until the other side closes.
    async fn ask(&self, text: &str) -> String {
        read(&mut self.say(text).await).await
    }

    async fn live(&self) {
        let answer = self.ask("GET /livez HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("live\n"), "{answer}");
    }

    /// Waits for this number: a connection is counted after its end was seen.
    async fn counts(&self, line: &str, expected: u64) {
        let comes = async {
            while self.count(line) != expected {
                sleep(Duration::from_millis(1)).await;
            }
        };
        let came = timeout(PATIENCE, comes).await;
        assert!(came.is_ok(), "{line} is not {expected}: {}", self.metrics.encode());
    }

    fn count(&self, line: &str) -> u64 {
        let text = self.metrics.encode();
        let found = text.lines().find_map(|found| found.strip_prefix(&format!("agentbus_{line} ")));
        found.unwrap().parse().unwrap()
    }
}

async fn read(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    // A reset is an end, too.
    let _ = timeout(PATIENCE, stream.read_to_end(&mut bytes)).await.unwrap();
    String::from_utf8_lossy(&bytes).into_owned()
}

fn bounds(connections: usize) -> Bounds {
    Bounds { connections, head: PATIENCE * 2, life: PATIENCE * 2 }
}

#[tokio::test]
async fn at_the_bound_whoever_comes_is_heard_and_the_oldest_gives_way() {
    let world = serve_within(bounds(8)).await;
    let mut strangers = Vec::new();
    for text in
        ["", "GET /livez HTT", "POST /livez HTTP/1.1\r\nhost: h\r\ncontent-len"].iter().cycle().take(50)
    {
        strangers.push(world.say(text).await);
        world.live().await;
    }
    assert!(world.count("http_connections") <= 8);
    assert!(world.count("http_closed_total{why=\"gave_way\"}") >= 42, "{}", world.metrics.encode());
    // The first one was closed, the last one was not.
    assert_eq!(read(&mut strangers[0]).await, "");
    let last = strangers.last_mut().unwrap();
    assert!(timeout(Duration::from_millis(50), last.read_u8()).await.is_err());
}

#[tokio::test]
async fn who_asks_and_is_answered_stays_while_strangers_come() {
    let world = serve_within(bounds(4)).await;
    let mut asking = TcpStream::connect(world.address).await.unwrap();
    for _ in 0..20 {
        asking.write_all(b"GET /livez HTTP/1.1\r\nhost: h\r\n\r\n").await.unwrap();
        let mut answer = [0; 1024];
        let found = timeout(PATIENCE, asking.read(&mut answer)).await.unwrap().unwrap();
        assert!(answer[..found].ends_with(b"live\n"));
        let _strangers = [world.say("GET").await, world.say("").await];
    }
}

#[tokio::test]
async fn a_head_that_does_not_end_and_an_idle_connection_are_closed_in_time() {
    let world = serve_within(Bounds { head: Duration::from_secs(1), ..bounds(64) }).await;
    let asked = "GET /livez HTTP/1.1\r\nhost: h\r\n\r\n";
    let (mut silent, mut half, mut idle) =
        (world.say("").await, world.say("GET /livez HTTP/1.1\r\nhost").await, world.say(asked).await);
    let mut slow = world.say("GET /livez HTTP/1.1\r\n").await;
    let dripping = async {
        while slow.write_all(b"a").await.is_ok() {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, dripping).await.unwrap();
    for stranger in [&mut silent, &mut half] {
        assert_eq!(read(stranger).await, "");
    }
    assert!(read(&mut idle).await.ends_with("live\n"));
    world.counts("http_connections", 0).await;
    world.counts("http_closed_total{why=\"late\"}", 4).await;
}

#[tokio::test]
async fn a_body_that_never_comes_and_an_answer_that_nobody_reads_hold_nothing() {
    let world = serve_within(Bounds { life: Duration::from_secs(1), ..bounds(64) }).await;
    let head = "POST /livez HTTP/1.1\r\nhost: h\r\ncontent-length: 1000000\r\n\r\n";
    let answer = world.ask(head).await;
    assert!(answer.starts_with("HTTP/1.1 405"), "{answer}");
    let _deaf = world.say("GET /large HTTP/1.1\r\nhost: h\r\n\r\n").await;
    world.counts("http_closed_total{why=\"late\"}", 1).await;
    world.counts("http_connections", 0).await;
}

#[tokio::test]
async fn what_is_no_request_is_answered_and_closed() {
    let world = serve_within(bounds(64)).await;
    for (text, expected) in [
        ("HEAD /livez HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n".to_owned(), "HTTP/1.1 200"),
        ("GET /livez HTTP/1.0\r\n\r\n".to_owned(), "HTTP/1.0 200"),
        ("GET /nowhere HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n".to_owned(), "HTTP/1.1 404"),
        ("DELETE /livez HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n".to_owned(), "HTTP/1.1 405"),
        ("\u{0}\u{1}\u{2} nonsense\r\n\r\n".to_owned(), "HTTP/1.1 400"),
        (format!("GET /livez HTTP/1.1\r\nx: {}", "a".repeat(HEAD_BYTES_MAX)), "HTTP/1.1 431"),
        (format!("GET /livez HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(HEADERS_MAX + 1)), "HTTP/1.1 431"),
    ] {
        let answer = world.ask(&text).await;
        assert!(answer.starts_with(expected), "{text:.80}: {answer}");
    }
    world.counts("http_closed_total{why=\"malformed\"}", 3).await;
}

#[tokio::test]
async fn a_stop_ends_the_idle_and_the_silent() {
    let world = serve_within(bounds(64)).await;
    let (mut silent, mut idle) =
        (world.say("GET").await, world.say("GET /livez HTTP/1.1\r\nhost: h\r\n\r\n").await);
    world.counts("http_connections", 2).await;
    world.stopped.request();
    assert_eq!(read(&mut silent).await, "");
    read(&mut idle).await;
    assert!(world.stopped.finished_within(PATIENCE).await);
}

#[test]
fn few_file_descriptors_leave_few_connections() {
    for (wanted, files, expected) in [
        (128, None, 128),
        (128, Some(1024), 128),
        (128, Some(256), 64),
        (128, Some(64), 16),
        (128, Some(8), CONNECTIONS_MIN),
        (8, Some(1024), 8),
        (4096, Some(1024), 256),
    ] {
        assert_eq!(within(wanted, files), expected, "{wanted} of {files:?}");
    }
}
