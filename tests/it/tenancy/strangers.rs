//! Can strangers' sockets keep anybody from a node's health?

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use crate::support::bus::Bus;

/// Far more than a node keeps a silent one, 10 s.
const GONE_WITHIN: Duration = Duration::from_secs(60);

async fn get(bus: &Bus, path: &str) -> (u16, String) {
    // A client of its own, so that no connection is kept.
    let url = format!("http://{}{path}", bus.stack.nodes()[0].http());
    let client = reqwest::Client::builder().timeout(Duration::from_secs(20)).build().unwrap();
    let answer = client.get(url).send().await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

/// Connects and says something that is no whole request, or one whose connection is then left idle.
async fn strangers(bus: &Bus, count: usize) -> Vec<TcpStream> {
    let says = [
        "",
        "GET /livez HTTP/1.1\r\nhost: h\r\n",
        "POST /livez HTTP/1.1\r\nhost: h\r\ncontent-length: 1000\r\n\r\nfew",
        "GET /livez HTTP/1.1\r\nhost: h\r\n\r\n",
    ];
    let mut open = Vec::new();
    for says in says.iter().cycle().take(count) {
        let mut stream = TcpStream::connect(bus.stack.nodes()[0].http()).await.unwrap();
        // It may be closed already.
        let _ = stream.write_all(says.as_bytes()).await;
        open.push(stream);
    }
    open
}

/// Whether the other side closed it; reads what it said before.
async fn closed(stream: &mut TcpStream) -> bool {
    let mut bytes = [0; 4096];
    loop {
        match timeout(Duration::from_millis(1), stream.read(&mut bytes)).await {
            Ok(Ok(0) | Err(_)) => return true,
            Ok(Ok(_)) => {}
            Err(_) => return false,
        }
    }
}

fn number(numbers: &str, name: &str) -> u64 {
    let line = numbers.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("{name} is not in\n{numbers}")).parse().unwrap()
}

async fn healthy(bus: &Bus) {
    for path in ["/livez", "/readyz"] {
        let (status, body) = get(bus, path).await;
        assert_eq!(status, 200, "{path}: {body}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fifteen_hundred_half_open_connections_hold_up_nobody_and_are_gone_in_time() {
    let bus = Bus::start(1).await;
    let mut open = strangers(&bus, 1_500).await;
    // A head that comes byte by byte all the time, on some.
    let mut slow = Vec::new();
    for _ in 0..40 {
        let mut stream = TcpStream::connect(bus.stack.nodes()[0].http()).await.unwrap();
        slow.push(tokio::spawn(async move {
            let _ = stream.write_all(b"GET /livez HTTP/1.1\r\nx: ").await;
            while stream.write_all(b"a").await.is_ok() {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }));
    }
    for _ in 0..5 {
        healthy(&bus).await;
    }
    // Those whose body is not waited for, a quarter, go by themselves.
    let (_, numbers) = get(&bus, "/metrics").await;
    assert!(number(&numbers, "agentbus_http_connections") <= 128, "{numbers}");
    assert!(number(&numbers, "agentbus_http_closed_total{why=\"gave_way\"}") >= 900, "{numbers}");

    let begun = Instant::now();
    for stream in &mut open {
        while !closed(stream).await {
            assert!(begun.elapsed() < GONE_WITHIN, "still open");
        }
    }
    for slow in slow {
        timeout(GONE_WITHIN, slow).await.unwrap().unwrap();
    }
    // The one that asks. A connection is counted after it was closed.
    let begun = Instant::now();
    loop {
        let (_, numbers) = get(&bus, "/metrics").await;
        if number(&numbers, "agentbus_http_connections") <= 2 {
            break;
        }
        assert!(begun.elapsed() < GONE_WITHIN, "{numbers}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    healthy(&bus).await;
    bus.stop().await;
}

/// A bus whose node may have so many files open.
async fn with_files(folder: &Path, files: usize) -> Bus {
    let program = folder.join("agentbus");
    let script = format!("#!/bin/sh\nulimit -n {files} && exec {} \"$@\"\n", env!("CARGO_BIN_EXE_agentbus"));
    fs::write(&program, script).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    Bus::with(1, |options| options.executable = program).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_may_open_few_files_answers_beside_strangers_and_says_so_at_its_start() {
    let folder = tempfile::tempdir().unwrap();
    let bus = with_files(folder.path(), 64).await;
    for _ in 0..5 {
        let open = strangers(&bus, 100).await;
        healthy(&bus).await;
        drop(open);
    }
    let (_, numbers) = get(&bus, "/metrics").await;
    assert!(number(&numbers, "agentbus_http_connections") <= 16, "{numbers}");
    let log = fs::read_to_string(bus.stack.nodes()[0].child().log()).unwrap();
    assert!(log.contains("ulimit -n") && log.contains("\"connections\":16"), "{log}");
    bus.stop().await;
}

/// Fewer file descriptors than the bound on connections reckons with: the system gives no more.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_without_a_file_descriptor_to_spare_takes_one_from_a_stranger() {
    let folder = tempfile::tempdir().unwrap();
    let bus = with_files(folder.path(), 256).await;
    let opened = fs::read_dir(format!("/proc/{}/fd", bus.stack.nodes()[0].child().pid())).unwrap().count();
    bus.stop().await;

    let bus = with_files(folder.path(), opened + 4).await;
    for _ in 0..3 {
        let open = strangers(&bus, 300).await;
        healthy(&bus).await;
        drop(open);
    }
    let (_, numbers) = get(&bus, "/metrics").await;
    assert!(number(&numbers, "agentbus_http_not_accepted_total") > 0, "{opened} were open before\n{numbers}");
    bus.stop().await;
}
