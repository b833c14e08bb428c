//! Where is a real OPA, and do the Rego tests that ship pass in it?

use std::{
    env,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use serde_json::{Value as Json, json};

use crate::support::root;

/// The program, or `None` after saying plainly that the test is skipped. In CI that is a failure.
pub(super) fn program() -> Option<PathBuf> {
    let named = env::var_os("AGENTBUS_OPA").map(PathBuf::from);
    let local = root().join(".servers/bin/opa");
    let path = env::var_os("PATH").unwrap_or_default();
    let on_path = env::split_paths(&path).map(|dir| dir.join("opa"));
    let found = named.into_iter().chain([local]).chain(on_path).find(|file| file.is_file());
    if found.is_none() {
        assert_ne!(
            env::var("CI").as_deref(),
            Ok("true"),
            "CI needs opa (AGENTBUS_OPA, .servers/bin or PATH)"
        );
        eprintln!("SKIPPED: no opa in AGENTBUS_OPA, .servers/bin or PATH");
    }
    found
}

/// The folder of those that ship.
pub(super) fn policies() -> PathBuf {
    root().join("policies/agentbus")
}

/// An OPA server on a free loopback port, ended with its guard.
pub(super) struct Opa {
    child: Child,
    address: SocketAddr,
    client: reqwest::Client,
}

impl Opa {
    /// With the shipped policies and whatever is in `extra`.
    pub(super) async fn start(program: &Path, extra: Option<&Path>) -> Self {
        Self::start_with(program, extra, &[], Stdio::inherit).await
    }

    /// The same with more words, and a place for its log.
    pub(super) async fn start_with(
        program: &Path,
        extra: Option<&Path>,
        words: &[&str],
        log: impl Fn() -> Stdio,
    ) -> Self {
        // A port can be taken between probing and binding, so try a few.
        for _ in 0..5 {
            let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
            let mut command = Command::new(program);
            command.args(["run", "--server", "--log-level=error", "--disable-telemetry", "--addr"]);
            command.arg(address.to_string()).args(words).arg(policies()).args(extra);
            let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log()).spawn().unwrap();
            let client = reqwest::Client::builder().timeout(Duration::from_secs(10)).build().unwrap();
            let mut opa = Self { child, address, client };
            if opa.healthy().await {
                return opa;
            }
        }
        panic!("opa did not become healthy");
    }

    async fn healthy(&mut self) -> bool {
        for _ in 0..200 {
            if self.child.try_wait().unwrap().is_some() {
                return false;
            }
            let health = self.client.get(format!("http://{}/health", self.address)).send().await;
            if health.is_ok_and(|answer| answer.status().is_success()) {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        false
    }

    /// `data.agentbus.decision`, or what OPA says went wrong.
    pub(super) async fn decide(&self, input: &Json) -> Result<Json, String> {
        let url = format!("http://{}/v1/data/agentbus/decision?strict-builtin-errors=true", self.address);
        let answer = self.client.post(url).json(&json!({"input": input})).send().await.unwrap();
        let status = answer.status();
        let body: Json = answer.json().await.unwrap();
        match status.is_success() {
            true => Ok(body["result"].clone()),
            false => Err(body.to_string()),
        }
    }
}

impl Drop for Opa {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn the_rego_tests_that_ship_pass() {
    let Some(program) = program() else { return };
    for arguments in [&["check", "--strict"][..], &["test"], &["fmt", "--fail", "--list"]] {
        let output = Command::new(&program).args(arguments).arg(policies()).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "opa {arguments:?}: {text}");
        if arguments == ["test"] {
            assert!(text.contains("PASS"), "{text}");
        }
    }
}
