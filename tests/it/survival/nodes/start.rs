//! A node that has not begun to serve has nothing to finish: SIGTERM ends it at once, whatever it waits for.

use std::{
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use agentbus::tenants::{BusUser, User};
use rustix::process::{Pid, Signal, kill_process};

use crate::support::bus::Bus;

/// Storage that does not answer: whoever opens it waits for ever.
fn silent(path: &Path) -> String {
    assert!(Command::new("mkfifo").args(["-m", "600"]).arg(path).status().unwrap().success());
    path.to_string_lossy().into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_ends_a_node_in_every_phase_of_its_start() {
    let bus = Bus::start(0).await;
    let folder = tempfile::tempdir().unwrap();
    let folder_of = |name: &str, inside: &str| {
        let path = folder.path().join(name);
        std::fs::create_dir(&path).unwrap();
        silent(&path.join(inside));
        path.to_string_lossy().into_owned()
    };
    let key = bus.stack.seed_path(&User::Bus(BusUser::Node)).to_string_lossy().into_owned();
    let nats = bus.stack.nats_url();
    let silent_server = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let good =
        ["--nats", &nats, "--nkey-file", &key, "--http", "127.0.0.1:0", "--set", "impact.scorer=keywords"];
    for (what, arguments) in [
        ("a policy module", vec!["--policy-dir".to_owned(), folder_of("policies", "m.rego")]),
        (
            "the model",
            vec![
                "--set".to_owned(),
                "impact.scorer=model".to_owned(),
                "--model-dir".to_owned(),
                folder_of("model", "config.json"),
            ],
        ),
        ("NATS, which is not there", vec!["--nats".to_owned(), "nats://127.0.0.1:1".to_owned()]),
        (
            "NATS, which says nothing",
            vec!["--nats".to_owned(), format!("nats://{}", silent_server.local_addr().unwrap())],
        ),
    ] {
        // The last of a flag counts, except where one may be given once only.
        let given: Vec<&str> = good
            .chunks(2)
            .filter(|pair| pair[0] == "--set" || !arguments.contains(&pair[0].to_owned()))
            .flatten()
            .copied()
            .collect();
        let mut child = Command::new(env!("CARGO_BIN_EXE_agentbus"))
            .args(["node", "--name", "starting"])
            .args(given)
            .args(&arguments)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        assert!(child.try_wait().unwrap().is_none(), "{what}: it has ended before it was told to");
        kill_process(Pid::from_raw(child.id().cast_signed()).unwrap(), Signal::TERM).unwrap();
        let asked = Instant::now();
        while child.try_wait().unwrap().is_none() {
            if asked.elapsed() > Duration::from_secs(8) {
                child.kill().unwrap();
                child.wait().unwrap();
                panic!("{what}: it goes on after SIGTERM");
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        println!("{what}: ended {} ms after SIGTERM", asked.elapsed().as_millis());
        assert_eq!(child.wait().unwrap().code(), Some(0), "{what}");
    }
    bus.stop().await;
}
