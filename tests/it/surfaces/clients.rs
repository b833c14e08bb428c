//! Can plain NATS clients and people at a terminal use the bus? Each test runs the real programs, the
//! examples among them, against a real bus.

use std::{
    path::PathBuf,
    process::{Output, Stdio},
    time::Duration,
};

use agentbus::{
    client::{AgentClient, Draft, Patience},
    domain::{Encoding, Status},
    servers::{self, Stack, StackOptions, Tool},
    tenants::{BusUser, Plan, Seed, User},
};
use futures_util::StreamExt as _;
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader, Lines},
    process::{Child, ChildStdout, Command},
    time::timeout,
};

use crate::support::{
    bus::{BUSY, send},
    root,
};

/// No program here needs longer, even on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// On a busy machine no agent is forgotten that has no heartbeat while commands run, and every text is scored.
const PATIENT: &str = "registry.ttl = \"10m\"\nlimits.deadline = \"25s\"\nidempotency.lease = \"40s\"\n\
    impact.deadline = \"20s\"\nimpact.windows_max = 4";
pub const AGENTBUS: &str = env!("CARGO_BIN_EXE_agentbus");

/// A bus in a folder of its own, as `agentbus up` starts it.
pub struct Bus {
    pub stack: Stack,
    folder: tempfile::TempDir,
}

impl Bus {
    pub async fn start() -> Self {
        Self::of(Plan::example().unwrap()).await
    }

    pub async fn of(plan: Plan) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let node_overrides = PATIENT.parse().unwrap();
        let options = StackOptions::new(folder.path().join("bus"), plan, AGENTBUS);
        let options = StackOptions { node_overrides, ..options };
        Self { stack: Stack::start(options).await.unwrap(), folder }
    }

    pub fn dir(&self) -> PathBuf {
        self.folder.path().join("bus")
    }

    pub fn seed(&self, tenant: &str, agent: &str) -> PathBuf {
        User::Agent(tenant.parse().unwrap(), agent.parse().unwrap()).seed_path(&self.dir())
    }

    pub async fn agent(&self, tenant: &str, agent: &str) -> AgentClient {
        let seed = Seed::read(&self.seed(tenant, agent)).unwrap();
        AgentClient::connect(&self.stack.nats_url(), &agent.parse().unwrap(), seed.reveal()).await.unwrap()
    }

    /// `agentbus` with this bus's folder.
    pub fn agentbus(&self, words: &[&str]) -> Command {
        let mut command = Command::new(AGENTBUS);
        command.args(words).arg("--dir").arg(self.dir());
        command
    }

    /// Lets the server route a verdict into the worker's inbox, as an attacker can.
    async fn stray(&self) {
        let planner = self.agent("acme", "planner").await;
        let bait = Draft::to_agent("nobody", "bait").encode(Encoding::Json);
        planner.nats().publish_with_reply("bus.planner.send", "agent.worker.inbox", bait).await.unwrap();
        planner.settled().await;
    }
}

/// What is needed and found; what is not found is a reason to skip, but not in CI.
pub fn needed(what: &str, found: Option<PathBuf>) -> Option<PathBuf> {
    if found.is_none() {
        let how = "`deploy/install-servers --clients` installs it";
        assert!(std::env::var("CI").as_deref() != Ok("true"), "{what} is needed in CI; {how}");
        println!("skipped: {what} is not here; {how}");
    }
    found
}

pub fn python() -> Option<PathBuf> {
    let local = root().join(".servers/venv/bin/python");
    let candidates = [local, PathBuf::from("python3")];
    let found = candidates.into_iter().find(|python| {
        let probe = std::process::Command::new(python).args(["-c", "import nats, nkeys"]).output();
        probe.is_ok_and(|output| output.status.success())
    });
    needed("Python with nats-py and nkeys", found)
}

pub fn tsx() -> Option<PathBuf> {
    let path = root().join("examples/typescript/node_modules/.bin/tsx");
    needed("npm's packages of examples/typescript", path.exists().then_some(path))
}

pub async fn output(command: Command) -> Output {
    output_within(PATIENCE, command).await
}

async fn output_within(patience: Duration, mut command: Command) -> Output {
    command.stdin(Stdio::null()).kill_on_drop(true);
    timeout(patience, command.output()).await.expect("ends in time").unwrap()
}

/// Runs `agentbus` until a node has time for what it asks, as it is told to.
pub async fn answered(bus: &Bus, words: &[&str]) -> Output {
    for _ in 0..200 {
        let ended = output(bus.agentbus(words)).await;
        let said = text(&ended.stdout) + &text(&ended.stderr);
        if !BUSY.iter().any(|reason| said.contains(reason.as_str())) {
            return ended;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("the nodes have no time for {words:?}");
}

/// A program that runs on, and its lines so far unread.
pub struct Running {
    pub child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Running {
    pub fn start(mut command: Command) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    pub async fn line(&mut self) -> String {
        let line = timeout(PATIENCE, self.lines.next_line()).await.expect("a line in time").unwrap();
        line.expect("a line before the end")
    }

    /// How it ended, which must be soon.
    pub async fn end(mut self) -> Option<i32> {
        timeout(PATIENCE, self.child.wait()).await.expect("ends in time").unwrap().code()
    }
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// More than is read there while a sender waits.
fn long_text() -> String {
    const THINGS: [&str; 9] =
        ["garden", "river", "window", "market", "harbour", "tower", "orchard", "bridge", "kitchen"];
    let pairs = THINGS.iter().flat_map(|one| THINGS.iter().map(move |other| (one, other)));
    pairs.map(|(one, other)| format!("The old {one} lies beside the small {other} of the town. ")).collect()
}

/// Two example agents: the worker drops a stray and takes a message that the planner sends twice, and a long one.
async fn example_agents_talk(command: impl Fn(&str) -> Command) {
    let packer = "[tenants.acme.agents]\npacker = { roles = [\"implementer\"], encoding = \"msgpack\" }\n";
    let bus =
        Bus::of(Plan::parse(&Plan::EXAMPLE.replacen("[tenants.acme.agents]\n", packer, 1)).unwrap()).await;
    let url = bus.stack.nats_url();
    let agent = |program: &str, agent: &str, rest: &[&str]| {
        let mut command = command(program);
        command.args([&url, &format!("acme/{agent}")]).arg(bus.seed("acme", agent)).args(rest);
        command
    };
    let mut worker = Running::start(agent("worker", "worker", &["2"]));
    assert_eq!(worker.line().await, "acme/worker is ready");
    bus.stray().await;
    assert_eq!(worker.line().await, "dropped: not delivered by the bus");

    let planner = output(agent("planner", "planner", &["worker", "add 1 and 2"])).await;
    let said = text(&planner.stdout);
    assert!(
        said.starts_with("delivered: delivered (200): handed to worker"),
        "{said}{}",
        text(&planner.stderr)
    );
    assert!(said.contains("repeat: the same verdict"), "{said}");
    assert!(planner.status.success());
    let heard = worker.line().await.replace(' ', "");
    assert_eq!(heard, "plannersays{\"text\":\"add1and2\"}");
    // What is too long to be read at once is stored, and that is no fault.
    let planner = output(agent("planner", "planner", &["worker", &long_text()])).await;
    let said = text(&planner.stdout);
    assert!(said.starts_with("stored: stored (202)"), "{said}{}", text(&planner.stderr));
    assert!(said.contains("repeat: the same verdict\noutcome: delivered (200)"), "{said}");
    assert_eq!(planner.status.code(), Some(0));
    assert!(worker.line().await.contains("The old garden lies beside"));
    assert_eq!(worker.end().await, Some(0));

    // It has unregistered, so there is nobody any more: the bus keeps what is for it, however it was written.
    let packed = Draft::to_agent("worker", "and 2, packed").encode(Encoding::MessagePack);
    let kept = bus.agent("acme", "planner").await.submit(packed, Patience::default()).await.unwrap();
    assert_eq!(kept.status, Status::Stored, "{kept:?}");
    let planner = output(agent("planner", "planner", &["worker", "and 3"])).await;
    let said = text(&planner.stdout);
    for part in [
        "rejected: recipient_unknown (404)",
        "\nstored\n",
        "\noutcome: delivered (200): handed to worker, into its durable inbox\n",
    ] {
        assert!(said.contains(part), "{part:?} is missing in:\n{said}{}", text(&planner.stderr));
    }
    assert_eq!(planner.status.code(), Some(0));
    let mut worker = Running::start(agent("worker", "worker", &["2"]));
    assert_eq!(worker.line().await, "acme/worker is ready");
    let mut heard = [worker.line().await, worker.line().await].map(|line| line.replace(' ', ""));
    heard.sort();
    assert_eq!(heard, ["plannersays{\"text\":\"and2,packed\"}", "plannersays{\"text\":\"and3\"}"]);
    assert_eq!(worker.end().await, Some(0));
    // It was acknowledged.
    let kept =
        output(bus.agentbus(&["inbox", "--as", "acme/worker", "--durable-only", "--for", "300ms"])).await;
    assert_eq!(text(&kept.stdout), "");

    // What is kept in an encoding that it does not read is left for who can, and it goes on.
    let packed = Draft::to_agent("packer", "not for you").encode(Encoding::MessagePack);
    let planner = bus.agent("acme", "planner").await;
    let mut outcomes = planner.outcomes().await.unwrap();
    let kept = planner.submit(packed, Patience::default()).await.unwrap();
    assert_eq!(kept.status, Status::Stored, "{kept:?}");
    timeout(PATIENCE, outcomes.next()).await.expect("an outcome in time").unwrap();
    let mut worker = Running::start(agent("worker", "packer", &["1"]));
    let mut lines = [worker.line().await, worker.line().await];
    lines.sort();
    assert_eq!(lines, ["acme/packer is ready", "not read: application/msgpack"]);
    let sent = send(&planner, Draft::to_agent("packer", "and 4").encode(Encoding::MessagePack)).await;
    assert_eq!(sent.status, Status::Delivered, "{sent:?}");
    // What it left comes again now and then.
    let mut heard = worker.line().await;
    while heard.starts_with("not read") {
        heard = worker.line().await;
    }
    assert_eq!(heard.replace(' ', ""), "plannersays{\"text\":\"and4\"}");
    assert_eq!(worker.end().await, Some(0));
    bus.stack.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn agents_in_python_need_nats_py_and_nothing_else() {
    let Some(python) = python() else { return };
    example_agents_talk(|program| {
        let mut command = Command::new(&python);
        command.arg(root().join(format!("examples/python/agent_{program}.py")));
        command
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn agents_in_typescript_need_the_nats_client_and_nothing_else() {
    let Some(tsx) = tsx() else { return };
    example_agents_talk(|program| {
        let mut command = Command::new(&tsx);
        command.arg(root().join(format!("examples/typescript/{program}.ts")));
        command
    })
    .await;
}

#[test]
fn the_examples_stay_short() {
    for example in [
        "python/agent_worker.py",
        "python/agent_planner.py",
        "python/reviewer.py",
        "typescript/worker.ts",
        "typescript/planner.ts",
    ] {
        let source = std::fs::read_to_string(root().join("examples").join(example)).unwrap();
        assert!(source.lines().count() <= 100, "{example} has {} lines", source.lines().count());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_nats_tool_shows_the_nodes_and_sends_messages() {
    let Some(nats) = needed("the nats tool", servers::find(Tool::Nats).ok()) else { return };
    let bus = Bus::start().await;
    let as_user = |user: &User| {
        let mut command = Command::new(&nats);
        command
            .args(["--server", &bus.stack.nats_url(), "--inbox-prefix", &user.inbox_prefix(), "--nkey"])
            .arg(user.seed_path(&bus.dir()))
            .env("HOME", bus.folder.path());
        command
    };
    for (words, expected) in [
        (&["micro", "list"][..], &["agentbus", "0.1.0"][..]),
        (&["micro", "info", "agentbus"], &["agentbus", "tenant.*.bus.*.send", "nodes"]),
        (&["micro", "stats", "agentbus"], &["send"]),
    ] {
        let mut command = as_user(&User::from(BusUser::Operator));
        command.args(words);
        let shown = output(command).await;
        let said = text(&shown.stdout);
        assert!(shown.status.success(), "{words:?}: {said}{}", text(&shown.stderr));
        for part in expected {
            assert!(said.contains(part), "{words:?} does not show {part:?}:\n{said}");
        }
    }

    let planner = User::Agent("acme".parse().unwrap(), "planner".parse().unwrap());
    let mut command = as_user(&planner);
    let message = Draft::to_agent("worker", "from the nats tool").json().to_string();
    command.args(["request", "--raw", "bus.planner.send", &message]);
    let answer = output(command).await;
    let verdict: Value = serde_json::from_slice(&answer.stdout).unwrap_or_default();
    assert_eq!(verdict["reason"], "recipient_unknown", "{}{}", text(&answer.stdout), text(&answer.stderr));
    bus.stack.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn people_send_receive_and_look_around_on_the_command_line() {
    let bus = Bus::start().await;
    let mut inbox = Running::start(bus.agentbus(&[
        "inbox",
        "--as",
        "acme/worker",
        "--capability",
        "sum",
        "--count",
        "3",
        "--json",
    ]));
    // Registered and listening as soon as others can find it.
    let mut listed = String::new();
    for _ in 0..200 {
        listed = text(
            &output(bus.agentbus(&["agents", "--as", "acme/planner", "--capability", "sum"])).await.stdout,
        );
        if listed.contains("worker") {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(listed, "worker  sum\n");
    bus.stray().await;

    let sent = answered(&bus, &["send", "--as", "acme/planner", "--to", "worker", "good morning"]).await;
    let said = text(&sent.stdout);
    assert!(
        said.starts_with("delivered  handed to worker\n") && said.contains("impact"),
        "{said}{}",
        text(&sent.stderr)
    );
    assert_eq!(sent.status.code(), Some(0));
    let words = ["send", "--as", "acme/planner", "--to", "worker", "--message-id", "once", "only once"];
    let first = text(&answered(&bus, &words).await.stdout);
    let again = answered(&bus, &words).await;
    assert!(first.starts_with("delivered  "), "{first}");
    let (said, noted) = (text(&again.stdout), text(&again.stderr));
    assert!(
        said.starts_with("repeat: delivered  ") && noted.contains("once was used before"),
        "{said}{noted}"
    );
    let words = [
        "send",
        "--as",
        "acme/planner",
        "--capability",
        "sum",
        "--msgpack",
        "--json",
        "--content",
        "{\"n\": [1, 2]}",
    ];
    let sent = answered(&bus, &words).await;
    let verdict: Value = serde_json::from_slice(&sent.stdout).unwrap();
    assert_eq!(
        (&verdict["reason"], &verdict["recipients"]["agent"]),
        (&"delivered".into(), &"worker".into())
    );

    let first: Value = serde_json::from_str(&inbox.line().await).unwrap();
    assert_eq!(
        (&first["content"]["text"], &first["from_agent"]),
        (&"good morning".into(), &"planner".into())
    );
    let second: Value = serde_json::from_str(&inbox.line().await).unwrap();
    assert_eq!(second["content"]["text"], "only once");
    let third: Value = serde_json::from_str(&inbox.line().await).unwrap();
    assert_eq!(third["content"]["n"], serde_json::json!([1, 2]));
    assert_eq!(inbox.end().await, Some(0), "the stray was not counted");

    for (words, code, said) in [
        (&["send", "--as", "acme/planner", "--to", "worker", "still there?"][..], 1, "recipient_unknown"),
        (
            &["send", "--as", "acme/worker", "--to", "planner", "--type", "audit_log", "x"],
            1,
            "recipient_unknown",
        ),
        (
            &["send", "--as", "acme/planner", "--to", "worker", "--hash", "0123456789abcdef", "x"],
            3,
            "constitutional_hash_mismatch",
        ),
        (&["send", "--as", "acme/nobody", "--to", "worker", "x"], 1, "acme/planner"),
        (&["send", "--as", "acme/planner", "x"], 2, "--to"),
        (&["agents", "--as", "globex/planner"], 0, "no live agent in globex"),
        (&["inbox", "--as", "acme/worker", "--count", "1", "--for", "100ms"], 1, "registered"),
    ] {
        let ended = answered(&bus, words).await;
        let all = text(&ended.stdout) + &text(&ended.stderr);
        assert_eq!(ended.status.code(), Some(code), "{words:?}: {all}");
        assert!(all.contains(said), "{words:?} does not say {said:?}:\n{all}");
    }
    bus.stack.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_send_that_is_stored_is_waited_for_at_a_terminal_and_a_repeat_of_it_is_not() {
    let bus = Bus::start().await;
    bus.agent("acme", "worker").await.register(&[]).await.unwrap();
    let long = long_text();
    let words = ["send", "--as", "acme/planner", "--to", "worker", "--message-id", "long", &long];
    let first = answered(&bus, &words).await;
    let said = text(&first.stdout);
    assert!(said.contains("stored") && said.contains("outcome delivered"), "{said}{}", text(&first.stderr));
    assert_eq!(first.status.code(), Some(0));
    let again = answered(&bus, &words).await;
    let said = text(&again.stdout);
    assert!(said.starts_with("repeat: stored") && !said.contains("no outcome yet"), "{said}");
    assert_eq!(again.status.code(), Some(4));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_demo_adds_up_and_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(AGENTBUS);
    command.args(["demo", "--messages", "150"]).env("TMPDIR", folder.path());
    // Seconds where nothing else runs.
    let played = output_within(4 * PATIENCE, command).await;
    let said = text(&played.stdout);
    assert!(played.status.success(), "{said}{}", text(&played.stderr));
    for part in [
        "It adds up",
        "permissions violation",
        "rate_limited",
        "policy_denied",
        "SIGKILL to node-2",
        "p99",
        "messages/s",
        "$ agentbus deliberations vote",
        "deliberation_denied",
        "nothing comes twice",
    ] {
        assert!(said.contains(part), "{part:?} is missing in:\n{said}");
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "the folder is deleted");
    let port = said.split("nats://127.0.0.1:").nth(1).unwrap().split(',').next().unwrap();
    let nats = tokio::net::TcpStream::connect(("127.0.0.1", port.parse::<u16>().unwrap())).await;
    assert!(nats.is_err(), "its NATS still runs");
}

#[tokio::test(flavor = "multi_thread")]
async fn ctrl_c_ends_the_demo_and_its_servers() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(AGENTBUS);
    command.arg("demo").env("TMPDIR", folder.path());
    let mut demo = Running::start(command);
    let up = loop {
        let line = demo.line().await;
        if line.contains("nats://127.0.0.1:") {
            break line;
        }
    };
    let port =
        up.split("nats://127.0.0.1:").nth(1).unwrap().split(',').next().unwrap().parse::<u16>().unwrap();
    let pid = rustix::process::Pid::from_raw(i32::try_from(demo.child.id().unwrap()).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    while timeout(PATIENCE, demo.lines.next_line()).await.expect("ends in time").unwrap().is_some() {}
    assert_eq!(demo.end().await, Some(130));
    assert!(tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_err(), "its NATS still runs");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "the folder is deleted");
}
