//! Does anything go without a yes? What `agentbus tenants` shows, asks and removes.

use std::{
    fs,
    path::Path,
    process::{Output, Stdio},
};

use agentbus::tenants::{BusUser, Plan, names, public_key_of};
use async_nats::jetstream;
use tokio::process::Command;

use super::server::Server;

const SMALLER: &str = "[tenants.acme.agents]\nplanner = { roles = [\"executive\"] }\n";

/// `agentbus …` where no terminal is.
async fn agentbus(line: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_agentbus"));
    told(command.args(line).stdin(Stdio::null()).kill_on_drop(true).output().await.unwrap())
}

fn told(output: Output) -> (Option<i32>, String) {
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&text).into_owned())
}

/// The same at a terminal, where somebody types this at the question.
async fn at_a_terminal(line: &[&str], reply: &str) -> (Option<i32>, String) {
    const TERMINAL: &str = "\
import os, pty, sys
pid, terminal = pty.fork()
if pid == 0:
    os.execv(sys.argv[2], sys.argv[2:])
seen, asked = b'', False
while True:
    try:
        seen += os.read(terminal, 4096)
    except OSError:
        break
    if not asked and b'[y/N] ' in seen:
        asked = True
        os.write(terminal, sys.argv[1].encode() + b'\\n')
sys.stdout.write(seen.decode())
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
";
    let mut command = Command::new("python3");
    command.args(["-c", TERMINAL, reply, env!("CARGO_BIN_EXE_agentbus")]).args(line);
    told(command.stdin(Stdio::null()).kill_on_drop(true).output().await.unwrap())
}

async fn running() -> (Server, String) {
    let server = Server::started_and_provisioned(&Plan::example().unwrap()).await;
    fs::write(server.dir.path().join("tenants.toml"), SMALLER).unwrap();
    let dir = server.dir.path().to_str().unwrap().to_owned();
    (server, dir)
}

#[tokio::test]
async fn apply_takes_nothing_away_without_a_yes_and_purge_removes_what_is_left() {
    let (server, dir) = running().await;
    let worker = server.agent("acme/worker").await;
    let apply = ["tenants", "apply", "--dir", &dir, "--server", &server.url];
    let seed = server.dir.path().join("keys/acme/worker.nk");

    let (code, text) = agentbus(&apply).await;
    assert_eq!(code, Some(1), "{text}");
    for line in ["- user    acme/worker, 1 connection ends", "- tenant  globex", "- seed", "say --yes"] {
        assert!(text.contains(line), "{line:?} is not in {text}");
    }
    assert_eq!(agentbus(&[&apply[..], &["--dry-run"]].concat()).await.0, Some(5));
    // What was not applied is in use.
    let early = agentbus(&["tenants", "purge", "--dir", &dir, "--server", &server.url, "--yes"]).await;
    assert!(early.0 == Some(1) && early.1.contains("first: agentbus tenants apply"), "{}", early.1);
    let (code, text) = at_a_terminal(&apply, "n").await;
    assert!(code == Some(1) && text.contains("nothing was changed"), "{text}");
    assert!(seed.exists() && worker.events().is_empty(), "{:?}", worker.events());

    // Who only adds is not asked.
    let larger = format!("{}\n[tenants.initech.agents]\nclerk = {{}}\n", Plan::EXAMPLE);
    let file = server.dir.path().join("larger.toml");
    fs::write(&file, larger).unwrap();
    let (code, text) = agentbus(&[&apply[..], &["--file", file.to_str().unwrap()]].concat()).await;
    assert!(code == Some(0) && text.contains("+ tenant  initech"), "{text}");
    assert!(text.contains("+ stream  OUT_initech") && text.contains(" 0 to take away"), "{text}");

    let (code, text) = at_a_terminal(&apply, "y").await;
    assert_eq!(code, Some(0), "{text}");
    assert!(!seed.exists());
    let kept = "left over: 8 streams, inboxes of 5 agents (agentbus tenants purge removes them)";
    assert_eq!(
        text.lines().filter(|line| line.starts_with("left over: ")).collect::<Vec<_>>(),
        [kept],
        "{text}"
    );
    assert_eq!(
        agentbus(&[&apply[..], &["--dry-run"]].concat()).await.0,
        Some(0),
        "nothing is left to change"
    );

    let purge = ["tenants", "purge", "--dir", &dir, "--server", &server.url];
    let (code, text) = agentbus(&purge).await;
    assert!(code == Some(1) && text.contains("- stream  OUT_globex: 0 messages"), "{text}");
    assert_eq!(agentbus(&[&purge[..], &["--dry-run"]].concat()).await.0, Some(5));
    let operator = jetstream::new(server.bus(BusUser::Operator).await.client.clone());
    operator.get_stream("OUT_globex").await.unwrap();
    let (code, text) = agentbus(&[&purge[..], &["--yes"]].concat()).await;
    assert_eq!(code, Some(0), "{text}");
    for gone in ["IN", "OUT", "DELIBERATIONS", "DEAD"].map(|kind| format!("{kind}_globex")) {
        assert!(operator.get_stream(&gone).await.is_err(), "{gone}");
    }
    operator.get_stream("OUT_acme").await.unwrap();
    let accounts = fs::read_to_string(names::accounts_conf(server.dir.path())).unwrap();
    assert!(!accounts.contains("globex"), "the provisioner's rights are as before");
    let (code, text) = agentbus(&purge).await;
    assert!(code == Some(0) && text.starts_with("nothing is left"), "{text}");
    assert!(!agentbus(&apply).await.1.contains("left over"));
}

#[tokio::test]
async fn a_shorter_life_of_what_is_stored_is_asked_about() {
    let (server, dir) = running().await;
    let shorter = format!("{}\n[tenants.acme.store]\ninbox_age = \"1d\"\n", Plan::EXAMPLE);
    fs::write(server.dir.path().join("tenants.toml"), shorter).unwrap();
    let (code, text) = agentbus(&["tenants", "apply", "--dir", &dir, "--server", &server.url]).await;
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("- stored  OUT_acme: max_age 7days → 1day"), "{text}");
}

#[tokio::test]
async fn generate_and_up_delete_no_seed_without_a_yes() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().to_str().unwrap();
    Plan::example().unwrap().generate(folder.path()).unwrap();
    fs::write(folder.path().join("tenants.toml"), SMALLER).unwrap();
    let seed = folder.path().join("keys/globex/planner.nk");
    let free = ["--port", "0", "--redis-port", "0", "--http-port", "0"];
    for line in [vec!["tenants", "generate", "--dir", dir], [&["up", "--dir", dir][..], &free].concat()] {
        let (code, text) = agentbus(&line).await;
        assert!(code == Some(1) && text.contains("- user    globex/planner"), "{line:?}: {text}");
        assert!(seed.exists() && !Path::new(dir).join("up.json").exists(), "{line:?}");
    }
    assert_eq!(agentbus(&["tenants", "generate", "--dir", dir, "--yes"]).await.0, Some(0));
    assert!(!seed.exists());

    // Its nodes would not be let in.
    let other = public_key_of(&folder.path().join("other.nk")).unwrap();
    fs::write(folder.path().join("tenants.toml"), format!("[bus]\nnode = {{ nkey = {other:?} }}\n{SMALLER}"))
        .unwrap();
    let (code, text) = agentbus(&[&["up", "--dir", dir][..], &free].concat()).await;
    assert!(code == Some(1) && text.contains("names keys for node"), "{text}");
}
