//! How does a test get real servers of its own? Free ports, a folder that goes with the test, and
//! children that end with the guard. All of it is `agentbus::servers`; this only adds the folder.

use std::sync::atomic::{AtomicU16, Ordering};

use agentbus::servers::{NatsOptions, NatsServer, RedisData, RedisOptions, RedisServer, ports};
use tempfile::TempDir;

/// A redis-server of the test's own. The folder goes after the server.
pub(crate) async fn redis() -> (RedisServer, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    (RedisServer::start(redis_options(&folder, 0, RedisData::InMemory)).await.unwrap(), folder)
}

pub(crate) fn redis_options(folder: &TempDir, port: u16, data: RedisData) -> RedisOptions {
    RedisOptions { name: "redis".into(), folder: folder.path().into(), port, data }
}

/// A nats-server of the test's own with this configuration; `{folder}` in it stands for its folder.
pub(crate) async fn nats(config: &str) -> (NatsServer, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("server.conf");
    std::fs::write(&path, config.replace("{folder}", &folder.path().to_string_lossy())).unwrap();
    let options = NatsOptions { name: "nats".into(), config: path, folder: folder.path().into(), port: 0 };
    (NatsServer::start(options).await.unwrap(), folder)
}

/// A port that is free and that the system gives to nobody who asks for any: below those it chooses from.
pub(crate) fn port() -> u16 {
    const FIRST: u16 = 10_000;
    const EACH: u16 = 100;
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Other test programs may run at the same time.
    let own = FIRST + u16::try_from(std::process::id() % 200).unwrap() * EACH;
    let mut ports = std::iter::repeat_with(|| own + NEXT.fetch_add(1, Ordering::Relaxed) % EACH);
    ports.by_ref().take(usize::from(EACH)).find(|port| ports::is_free(*port)).unwrap()
}
