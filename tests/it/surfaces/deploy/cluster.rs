//! Is `deploy/compose.yml` right, and does all of it run? `deploy/local-cluster` runs it without containers.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::PathBuf,
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use agentbus::{
    client::{AgentClient, Draft, Patience},
    domain::{AgentId, Encoding, Status},
    servers::{Child, redis::NODE_RIGHTS},
    tenants::{Seed, User},
};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use serde_json::Value;
use tokio::time::sleep;

use super::{monitoring, tool};
use crate::{
    support::root,
    surfaces::clients::{AGENTBUS, text},
};

/// For what follows by itself, on a busy machine.
const SOON: Duration = Duration::from_secs(90);

/// What compose.yml says, read as compose reads it.
fn compose() -> Option<Value> {
    let python = tool("../venv/bin/python")?;
    let read = "import json, sys, yaml; json.dump(yaml.safe_load(sys.stdin), sys.stdout)";
    let file = fs::File::open(root().join("deploy/compose.yml")).unwrap();
    let output = Command::new(python).args(["-c", read]).stdin(file).output().unwrap();
    let told = text(&output.stderr);
    if told.contains("No module named 'yaml'") && std::env::var("CI").as_deref() != Ok("true") {
        println!("SKIPPED: PyYAML is not here; `deploy/install-servers --deploy` installs it");
        return None;
    }
    assert!(output.status.success(), "{told}");
    Some(serde_json::from_slice(&output.stdout).unwrap())
}

fn strings(value: &Value) -> Vec<&str> {
    value.as_array().into_iter().flatten().map(|one| one.as_str().unwrap()).collect()
}

/// The names before a port in a text, such as `nats-1` of `nats://nats-1:4222`.
fn hosts(text: &str) -> BTreeSet<&str> {
    let ends =
        text.match_indices(':').filter(|(at, _)| text[at + 1..].starts_with(|c: char| c.is_ascii_digit()));
    let before = ends.filter_map(|(at, _)| {
        text[..at].rsplit(|c: char| !c.is_ascii_alphanumeric() && c != '-' && c != '.').next()
    });
    before.filter(|host| host.starts_with(|c: char| c.is_ascii_alphabetic())).collect()
}

#[test]
fn the_compose_file_names_only_what_is_there_and_pins_what_it_takes() {
    let Some(compose) = compose() else { return };
    let services = compose["services"].as_object().unwrap();
    let read = |path: &str| fs::read_to_string(root().join(path)).unwrap();
    let nats = read("deploy/install-servers");
    let nats = nats.lines().find_map(|line| line.strip_prefix("NATS_VERSION=")).unwrap();
    let opa = read("deploy/tools/opa/go.mod");
    let opa =
        opa.split("github.com/open-policy-agent/opa v").nth(1).unwrap().split_whitespace().next().unwrap();
    let pinned = BTreeMap::from([
        ("nats", format!("{nats}-alpine")),
        ("openpolicyagent/opa", format!("{opa}-static")),
        ("agentbus", env!("CARGO_PKG_VERSION").to_owned()),
    ]);
    let volumes: BTreeSet<_> = compose["volumes"].as_object().unwrap().keys().map(String::as_str).collect();
    let mut used = BTreeSet::new();
    for (name, service) in services {
        let (image, tag) = service["image"].as_str().unwrap().split_once(':').expect("a tag");
        assert!(tag.matches('.').count() >= 2, "{name}: {image}:{tag} is some version of several");
        assert!(
            pinned.get(image).is_none_or(|pinned| pinned == tag),
            "{name}: {image}:{tag}, not {pinned:?}"
        );
        for mount in strings(&service["volumes"]) {
            let source = mount.split(':').next().unwrap();
            match source.starts_with('.') {
                true => assert!(root().join("deploy").join(source).exists(), "{name}: {source}"),
                false => assert!(volumes.contains(source), "{name}: {source}"),
            }
            used.insert(source);
        }
        let needs: Vec<_> = match &service["depends_on"] {
            Value::Object(needs) => needs.keys().map(String::as_str).collect(),
            needs => strings(needs),
        };
        assert!(needs.iter().all(|need| services.contains_key(*need)), "{name}: {needs:?}");
        let words = strings(&service["command"]).join("\n");
        let unknown: Vec<_> =
            hosts(&words).into_iter().filter(|host| !services.contains_key(*host)).collect();
        assert!(unknown.is_empty(), "{name}: {unknown:?} are no services");
        // Whatever one service of these can be made to do, it changes nothing of the machine's.
        assert_eq!((&service["read_only"], &service["cap_drop"][0]), (&true.into(), &"ALL".into()), "{name}");
    }
    assert!(volumes.iter().all(|volume| used.contains(volume)), "{volumes:?}");
    let folder = root().join("deploy/cluster");
    let files = fs::read_dir(&folder).unwrap().map(|file| file.unwrap().path());
    for file in files.filter(|file| file.is_file()) {
        let name = file.file_name().unwrap().to_str().unwrap();
        assert!(used.contains(format!("./cluster/{name}").as_str()), "{name} is mounted nowhere");
        let told = fs::read_to_string(&file).unwrap();
        let known = |host: &&str| !services.contains_key(*host) && !host.starts_with("host");
        assert_eq!(hosts(&told).into_iter().filter(known).collect::<Vec<_>>(), [""; 0], "{name}");
    }
    assert!(
        read("deploy/cluster/setup")
            .contains(&format!("rights='{}'", NODE_RIGHTS.split_whitespace().collect::<Vec<_>>().join(" ")))
    );
}

/// All of it, as processes of this machine. Dropping it ends them.
struct Local {
    child: Child,
    folder: tempfile::TempDir,
}

impl Local {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new(root().join("deploy/local-cluster"));
        command.arg("--dir").arg(folder.path()).args(["--program", AGENTBUS]).stdin(Stdio::null());
        let child =
            Child::spawn("local-cluster", command.into(), &folder.path().join("local-cluster.log")).unwrap();
        let mut local = Self { child, folder };
        let started = Instant::now();
        while !local.child.tail().contains("Ctrl-C ends all") {
            let ended = local.child.try_exited();
            assert!(ended.is_none() && started.elapsed() < SOON, "{ended:?}: {}", local.child.tail());
            sleep(Duration::from_millis(20)).await;
        }
        println!("{}", local.child.tail());
        local
    }

    fn bus(&self) -> PathBuf {
        self.folder.path().join("volumes/bus")
    }

    fn runs(&self) -> BTreeMap<String, (String, Pid)> {
        let told: Value =
            serde_json::from_slice(&fs::read(self.folder.path().join("cluster.json")).unwrap()).unwrap();
        let one = |told: &Value| {
            let pid = i32::try_from(told["pid"].as_i64().unwrap()).unwrap();
            (told["address"].as_str().unwrap().to_owned(), Pid::from_raw(pid).unwrap())
        };
        told.as_object().unwrap().iter().map(|(name, told)| (name.clone(), one(told))).collect()
    }

    async fn agent(&self, id: &str) -> AgentClient {
        let servers: Vec<_> =
            (1..=3).map(|n| format!("nats://{}", self.runs()[&format!("nats-{n}")].0)).collect();
        let id: AgentId = id.parse().unwrap();
        let seed =
            Seed::read(&User::Agent("acme".parse().unwrap(), id.clone()).seed_path(&self.bus())).unwrap();
        AgentClient::connect(&servers.join(","), &id, seed.reveal()).await.unwrap()
    }

    async fn stop(mut self) {
        let runs = self.runs();
        self.child.stop(Duration::from_secs(30)).await;
        let left: Vec<_> = runs.iter().filter(|(_, (_, pid))| test_kill_process(*pid).is_ok()).collect();
        assert!(left.is_empty(), "still there: {left:?}");
    }
}

/// Messages one after the other from four senders, each until it is delivered.
fn load(planner: &AgentClient) -> (Arc<AtomicUsize>, tokio::task::JoinSet<()>) {
    let delivered = Arc::new(AtomicUsize::new(0));
    let mut senders = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let (planner, delivered) = (planner.clone(), Arc::clone(&delivered));
        senders.spawn(async move {
            loop {
                let message = Draft::to_agent("worker", "hello").encode(Encoding::Json);
                let patience = Patience { attempt: Duration::from_secs(1), deadline: SOON };
                if planner.send(message, patience).await.is_ok_and(|v| v.status == Status::Delivered) {
                    delivered.fetch_add(1, Ordering::Relaxed);
                }
                sleep(Duration::from_millis(5)).await;
            }
        });
    }
    (delivered, senders)
}

async fn more(delivered: &AtomicUsize, after: &str) {
    let (started, before) = (Instant::now(), delivered.load(Ordering::Relaxed));
    while delivered.load(Ordering::Relaxed) < before + 50 {
        assert!(started.elapsed() < SOON, "after {after} nothing is delivered any more");
        sleep(Duration::from_millis(10)).await;
    }
    println!("after {after}: 50 more within {:?}", started.elapsed());
}

async fn a_message_through_it(local: &Local) -> AgentClient {
    let (planner, worker) = (local.agent("planner").await, local.agent("worker").await);
    let inbox = worker.inbox().await.unwrap();
    tokio::spawn(async move {
        let _inbox = inbox;
        loop {
            let _ = worker.register(&[]).await;
            sleep(Duration::from_secs(2)).await;
        }
    });
    let (delivered, _senders) = load(&planner);
    more(&delivered, "the start").await;
    planner
}

/// Every panel's question has an answer, and both nodes are seen.
async fn the_dashboards_are_answered(local: &Local) {
    let api = format!("http://{}/api/v1", local.runs()["prometheus"].0);
    let started = Instant::now();
    let two = async || monitoring::query(&api, "sum(up{job=\"agentbus\"})").await;
    while two().await.is_none_or(|answer| answer["data"]["result"][0]["value"][1] != "2") {
        assert!(started.elapsed() < SOON, "Prometheus does not see both nodes: {:?}", two().await);
        sleep(Duration::from_millis(200)).await;
    }
    for expression in monitoring::asked() {
        let asked = expression.replace("$instance", ".*").replace("$__rate_interval", "1m");
        let answer = monitoring::query(&api, &asked).await.unwrap();
        assert_eq!(answer["status"], "success", "{asked}: {answer}");
    }
}

fn lacks_something() -> bool {
    ["prometheus", "opa"].iter().any(|program| tool(program).is_none()) || compose().is_none()
}

/// `make cluster-walk`: a minute.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "a minute; make cluster-walk"]
async fn messages_go_on_when_a_server_of_each_kind_is_killed() {
    if lacks_something() {
        return;
    }
    let local = Local::start().await;
    let planner = a_message_through_it(&local).await;
    let (delivered, _senders) = load(&planner);
    for name in ["nats-1", "redis-1", "sentinel-1", "opa", "node-1"] {
        let killed = local.runs()[name].1;
        kill_process(killed, Signal::KILL).unwrap();
        more(&delivered, &format!("{name} was killed")).await;
        // The Sentinels take two seconds to believe it.
        if name == "redis-1" {
            sleep(Duration::from_secs(4)).await;
            more(&delivered, "the replica has become the primary").await;
        }
        let started = Instant::now();
        while test_kill_process(killed).is_ok() || local.runs()[name].1 == killed {
            assert!(started.elapsed() < SOON, "{name} is not started again");
            sleep(Duration::from_millis(50)).await;
        }
    }
    the_dashboards_are_answered(&local).await;
    local.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_whole_cluster_of_the_compose_file_delivers_a_message_without_containers() {
    if lacks_something() {
        return;
    }
    let local = Local::start().await;
    a_message_through_it(&local).await;
    the_dashboards_are_answered(&local).await;
    local.stop().await;
}
