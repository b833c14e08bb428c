//! Is the unit hardened, and does its manager hear what a node is?

use std::{
    fs,
    io::ErrorKind,
    os::unix::net::UnixDatagram,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};

use super::{run, tool};
use crate::{
    support::{bus::Bus, root},
    surfaces::clients::AGENTBUS,
};

/// Of `systemd-analyze security`, times ten.
const EXPOSURE_MAX: &str = "20";
const PATIENCE: Duration = Duration::from_secs(60);
const WATCHDOG: Duration = Duration::from_secs(2);

const UNITS: [&str; 2] = ["agentbus-node.service", "agentbus-keeper.service"];

fn unit(name: &str) -> String {
    fs::read_to_string(root().join("deploy/systemd").join(name)).unwrap()
}

#[test]
fn the_units_are_understood_and_leave_little_to_what_was_taken_over() {
    let Some(analyze) = tool("systemd-analyze") else { return };
    for name in UNITS {
        let security = ["security", "--offline=true", "--no-pager", "--threshold", EXPOSURE_MAX];
        let (good, told) =
            run(Command::new(&analyze).args(security).arg(root().join("deploy/systemd").join(name)));
        assert!(good, "{name}: {told}");
        // It looks for the program, which is not installed.
        let folder = tempfile::tempdir().unwrap();
        let copy = folder.path().join(name);
        fs::write(&copy, unit(name).replace("/usr/bin/agentbus", AGENTBUS)).unwrap();
        let (good, told) = run(Command::new(&analyze).args(["verify", "--man=no"]).arg(&copy));
        assert!(good && !told.contains("Unknown"), "{name}: {told}");
    }
}

#[test]
fn a_keeper_is_started_as_it_takes_it_and_by_a_user_that_there_is() {
    let keeper = unit("agentbus-keeper.service");
    let line = |begins: &str| keeper.lines().find_map(|line| line.strip_prefix(begins)).unwrap();
    super::keeper_is_understood(line("ExecStart=/usr/bin/agentbus ").split(' '));
    let users = unit("agentbus.sysusers");
    for name in UNITS {
        let user = unit(name).lines().find_map(|line| line.strip_prefix("User=").map(str::to_owned)).unwrap();
        assert!(users.contains(&format!("u {user} - ")), "{name}: {user}");
    }
}

/// What a node says to its manager.
struct Manager(UnixDatagram);

impl Manager {
    fn at(path: &Path) -> Self {
        let socket = UnixDatagram::bind(path).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self(socket)
    }

    /// One datagram, if one comes within this.
    fn next(&self, within: Duration) -> Option<String> {
        self.0.set_read_timeout(Some(within)).unwrap();
        let mut bytes = [0; 4096];
        let count = loop {
            match self.0.recv(&mut bytes) {
                // Another test's child has ended.
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                received => break received.ok()?,
            }
        };
        Some(String::from_utf8_lossy(&bytes[..count]).into_owned())
    }

    /// All lines until this one.
    fn until(&self, line: &str) -> Vec<String> {
        let mut heard = Vec::new();
        while !heard.iter().any(|said| said == line) {
            let more = self.next(PATIENCE).unwrap_or_else(|| panic!("{line} is not in {heard:?}"));
            heard.extend(more.lines().map(str::to_owned));
        }
        heard
    }

    /// All that has come by now is passed over.
    fn forget(&self) {
        while self.next(Duration::from_millis(10)).is_some() {}
    }
}

/// A node beside those of the bus, as a service.
fn service(bus: &Bus, http: &str, notify: &Path) -> Child {
    Command::new(AGENTBUS)
        .args(["node", "--name", "served", "--http", http, "--config"])
        .arg(bus.stack.dir().join("nodes/node-1.toml"))
        .env("NOTIFY_SOCKET", notify)
        .env("WATCHDOG_USEC", WATCHDOG.as_micros().to_string())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

async fn readyz(http: &str) -> u16 {
    reqwest::get(format!("http://{http}/readyz")).await.unwrap().status().as_u16()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manager_hears_of_a_node_that_is_ready_stalled_and_stopping() {
    let mut bus = Bus::start(1).await;
    let http = format!("127.0.0.1:{}", agentbus::servers::ports::free().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let manager = Manager::at(&folder.path().join("notify"));

    bus.stack.nats_mut().child_mut().pause();
    let mut child = service(&bus, &http, &folder.path().join("notify"));
    let pid = Pid::from_child(&child);
    for _ in 0..3 {
        let said = manager.next(PATIENCE).unwrap();
        assert!(said.starts_with("EXTEND_TIMEOUT_USEC=") && !said.contains("READY"), "{said}");
        assert_eq!(readyz(&http).await, 503);
    }
    bus.stack.nats_mut().child_mut().resume();
    manager.until("READY=1");
    assert_eq!(readyz(&http).await, 200);

    manager.until("WATCHDOG=1");
    kill_process(pid, Signal::STOP).unwrap();
    manager.forget();
    assert_eq!(manager.next(WATCHDOG), None, "a node that is stalled gives no beat");
    kill_process(pid, Signal::CONT).unwrap();
    manager.until("WATCHDOG=1");

    kill_process(pid, Signal::TERM).unwrap();
    assert!(!manager.until("STOPPING=1").contains(&"READY=1".to_owned()), "it is told once");
    let status = tokio::task::spawn_blocking(move || child.wait().unwrap()).await.unwrap();
    assert!(status.success(), "{status}");
    bus.stop().await;
}
