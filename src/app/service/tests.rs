#![allow(clippy::unwrap_used, reason = "tests")]

use std::{os::unix::net::UnixDatagram, path::PathBuf, sync::mpsc, thread};

use tempfile::TempDir;

use super::*;
use crate::{
    event_loop::{EventLoop, PerLoop},
    supervisor::Supervisor,
    telemetry::Metrics,
};

/// Longer than anything here takes, also on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// A node's health, two event loops, and a manager with a watchdog of its own.
struct Scene {
    service: Arc<Service>,
    heard: UnixDatagram,
    loops: PerLoop<EventLoop>,
    _folder: TempDir,
}

impl Scene {
    fn new(watchdog: Duration) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path: PathBuf = folder.path().join("notify");
        let heard = UnixDatagram::bind(&path).unwrap();
        heard.set_read_timeout(Some(PATIENCE)).unwrap();
        let manager = ServiceManager::at(&path, watchdog).unwrap().unwrap();
        let health = Arc::new(NodeHealth::new(
            "node-1",
            Arc::new(Metrics::new("node-1")),
            Arc::default(),
            Supervisor::default(),
        ));
        let loops = EventLoop::start_all(2).unwrap();
        let handles = loops.iter().map(|event_loop| event_loop.handle().clone()).collect();
        let service = Arc::new(Service { manager, health, loops: handles, shutdown: Shutdown::default() });
        Self { service, heard, loops, _folder: folder }
    }

    fn next(&self) -> String {
        let mut bytes = [0; 1024];
        let count = self.heard.recv(&mut bytes).unwrap();
        String::from_utf8_lossy(bytes.get(..count).unwrap()).into_owned()
    }

    /// All that has come by now.
    fn rest(&self) -> Vec<String> {
        self.heard.set_nonblocking(true).unwrap();
        let mut all = Vec::new();
        let mut bytes = [0; 1024];
        while let Ok(count) = self.heard.recv(&mut bytes) {
            all.push(String::from_utf8_lossy(bytes.get(..count).unwrap()).into_owned());
        }
        self.heard.set_nonblocking(false).unwrap();
        all
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_starts_is_given_time_as_long_as_it_makes_progress() {
    let scene = Scene::new(Duration::from_millis(200));
    let service = Arc::clone(&scene.service);
    let running = tokio::spawn(async move { service.run().await });
    let first = scene.next();
    assert!(
        first.starts_with("EXTEND_TIMEOUT_USEC=30000000\nWATCHDOG=1\nSTATUS=not ready; node: starting"),
        "{first}"
    );
    assert_eq!(scene.next(), "EXTEND_TIMEOUT_USEC=30000000\nWATCHDOG=1", "its status is told once");
    running.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_loop_that_is_stuck_gives_no_beat_and_the_stop_is_told_all_the_same() {
    let scene = Scene::new(Duration::from_millis(200));
    let service = Arc::clone(&scene.service);
    let running = tokio::spawn(async move { service.run().await });
    scene.next();
    let (go_on, stuck) = mpsc::channel::<()>();
    let (entered, is_stuck) = mpsc::channel();
    scene.loops.iter().last().unwrap().handle().spawn(async move {
        entered.send(()).unwrap();
        let _ = stuck.recv();
    });
    is_stuck.recv().unwrap();
    // The look that was under way may still be told.
    thread::sleep(Duration::from_millis(200));
    scene.rest();
    thread::sleep(Duration::from_millis(600));
    assert_eq!(scene.rest(), Vec::<String>::new(), "nothing moves");

    scene.service.shutdown.request();
    assert_eq!(scene.next(), "STOPPING=1\nSTATUS=stopping");
    go_on.send(()).unwrap();
    assert_eq!(scene.next(), "WATCHDOG=1", "it drains");
    running.abort();
}
