//! A real OPA, and where it is.

use std::{
    env, fs,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use agentbus::{
    domain::Timestamp,
    policy::{PolicySources, build_for_opa},
};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value as Json, json};

use super::root;

/// The program, or `None` after saying plainly that the test is skipped. In CI that is a failure.
pub(crate) fn program() -> Option<PathBuf> {
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
pub(crate) fn policies() -> PathBuf {
    root().join("policies/agentbus")
}

/// An OPA server on a free loopback port, ended with its guard.
pub(crate) struct Opa {
    child: Child,
    program: PathBuf,
    address: SocketAddr,
    client: reqwest::Client,
}

impl Opa {
    /// With the shipped policies and whatever is in `extra`.
    pub(crate) async fn start(program: &Path, extra: Option<&Path>) -> Self {
        Self::start_with(program, extra, &[], Stdio::inherit).await
    }

    /// The same with more words, and a place for its log.
    pub(crate) async fn start_with(
        program: &Path,
        extra: Option<&Path>,
        words: &[&str],
        log: impl Fn() -> Stdio,
    ) -> Self {
        let policies = policies();
        let words = words.iter().map(Path::new);
        let what: Vec<&Path> = words.chain([policies.as_path()]).chain(extra).collect();
        Self::logged(program, &what, log).await
    }

    /// With a policy, as `agentbus policy build --for opa` makes it.
    pub(crate) async fn with_policy(program: &Path, policy: &PolicySources) -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self::with_bundle(program, &bundle(folder.path(), policy)).await
    }

    pub(crate) async fn with_bundle(program: &Path, bundle: &Path) -> Self {
        Self::run(program, &[Path::new("--bundle"), bundle]).await
    }

    /// With these arguments.
    pub(crate) async fn run(program: &Path, what: &[&Path]) -> Self {
        Self::logged(program, what, Stdio::inherit).await
    }

    async fn logged(program: &Path, what: &[&Path], log: impl Fn() -> Stdio) -> Self {
        // A port can be taken between probing and binding, so try a few.
        for _ in 0..5 {
            let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
            let client = reqwest::Client::builder().timeout(Duration::from_secs(10)).build().unwrap();
            let child = spawn(program, address, what, log());
            let mut opa = Self { child, program: program.to_owned(), address, client };
            if opa.healthy().await {
                return opa;
            }
        }
        panic!("opa did not become healthy");
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Stopped it takes connections and says nothing.
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Ends it, and starts another at the same place.
    pub(crate) async fn restart(&mut self, policy: &PolicySources) {
        self.kill();
        let folder = tempfile::tempdir().unwrap();
        let bundle = bundle(folder.path(), policy);
        let what = [Path::new("--bundle"), &bundle];
        self.child = spawn(&self.program, self.address, &what, Stdio::inherit());
        assert!(self.healthy().await, "opa did not become healthy");
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

    /// Gives it a module in place of the one of this name, or says why it does not take it.
    pub(crate) async fn put(&self, name: &str, module: &str) -> Result<(), String> {
        let url = format!("http://{}/v1/policies/{name}", self.address);
        let answer = self.client.put(url).body(module.to_owned()).send().await.unwrap();
        match answer.status().is_success() {
            true => Ok(()),
            false => Err(answer.text().await.unwrap()),
        }
    }

    /// `data.agentbus.decision`, or what OPA says went wrong.
    pub(crate) async fn decide(&self, input: &Json) -> Result<Json, String> {
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

fn bundle(folder: &Path, policy: &PolicySources) -> PathBuf {
    let path = folder.join("bundle.tar.gz");
    fs::write(&path, build_for_opa(policy, "test", Timestamp(1)).unwrap()).unwrap();
    path
}

fn spawn(program: &Path, address: SocketAddr, what: &[&Path], log: Stdio) -> Child {
    let mut command = Command::new(program);
    command.args(["run", "--server", "--log-level=error", "--disable-telemetry", "--addr"]);
    command.arg(address.to_string()).args(what);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap()
}

impl Drop for Opa {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
