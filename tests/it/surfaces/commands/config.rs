//! Does `agentbus config check` say what a node would say, and does a setting have one name?

use std::{
    fs,
    net::TcpListener,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Command as Process, Output},
};

use agentbus::tenants::{BusUser, Plan, User};

use super::AGENTBUS;
use crate::{support::bus::Bus, surfaces::clients::text};

fn run(words: &[&str], variables: &[(&str, &str)]) -> Output {
    Process::new(AGENTBUS).args(words).envs(variables.iter().copied()).output().unwrap()
}

/// What the program says at its end.
fn last(output: &Output) -> String {
    let said = text(&output.stderr);
    said.lines().rfind(|line| line.starts_with("agentbus: ")).unwrap_or_default().to_owned()
}

fn keep(path: &Path, text: &str, mode: u32) -> String {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    path.display().to_string()
}

#[test]
fn what_ends_a_start_is_refused_by_config_check_in_the_same_words() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    Plan::example().unwrap().generate(dir).unwrap();
    let key = User::from(BusUser::Node).seed_path(dir).display().to_string();
    let (open, short) = (dir.join("open"), dir.join("short"));
    let open = keep(&open, "SU\n", 0o644);
    let short = keep(&short, "whsec_c2hvcnQ=\n", 0o600);
    let rego = dir.join("policy");
    fs::create_dir(&rego).unwrap();
    fs::write(rego.join("own.rego"), "package agentbus.modules.own\nallow := ").unwrap();
    let rego = format!("policy.dir={}", rego.display());
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = format!("http.listen={}", taken.local_addr().unwrap());
    let (short, open_key) = (format!("webhook.secret_file={short}"), format!("nats.nkey_file={open}"));
    let redis = |url: &str| format!("redis.url={url}");
    let (clear, bare, socket) = (redis("redis://h:6379"), redis("h:6379"), redis("unix:///r.sock"));
    let trusting = ["redis.allow_no_password=true", "redis.allow_no_seal=true"];
    for (settings, told) in [
        (vec!["nats.nkey_file=/nope"], "nats.nkey_file"),
        (vec![open_key.as_str()], "chmod 600"),
        (vec!["nats.url=nats://:bad port"], "nats.url: found nats://:bad port"),
        (vec!["nats.url=nats://127.0.0.1:1,::"], "nats.url"),
        (vec![bare.as_str(), trusting[0], trusting[1]], "redis.url"),
        (vec![socket.as_str(), trusting[0], trusting[1]], "redis.url"),
        (
            vec![clear.as_str(), trusting[0], trusting[1], "redis.tls.ca_file=/x"],
            "expected rediss://host:port",
        ),
        (vec!["nats.tls.ca_file=/nope"], "nats.tls: cannot read /nope"),
        (vec!["nats.tls.key_file=/nope"], "nats.tls: found key_file alone"),
        (vec!["http.tls.certificate_file=/nope", "http.tls.key_file=/nope"], "http.tls"),
        (vec!["http.tls.certificate_file=/nope"], "key_file"),
        (vec!["webhook.url=ftp://h", "webhook.secret_file=/nope"], "webhook.url"),
        (vec!["webhook.url=http://h", "webhook.secret_file=/nope"], "webhook.secret_file"),
        (vec!["webhook.url=http://h", short.as_str()], "webhook.secret_file"),
        (vec!["policy.dir=/nope"], "policy"),
        (vec![rego.as_str()], "own.rego"),
        (vec!["http.listen=192.0.2.1:80"], "http.listen"),
        (vec![taken.as_str()], "http.listen"),
        (vec!["limits.in_flight=0"], "limits.in_flight"),
    ] {
        let common = ["--server", "nats://127.0.0.1:1", "--nkey-file", &key, "--http", "127.0.0.1:0"];
        let sets = settings.iter().flat_map(|setting| ["--set", setting]);
        let words: Vec<&str> = common.into_iter().chain(sets).collect();
        let checked = run(&[&["config", "check"], words.as_slice()].concat(), &[]);
        assert_eq!(checked.status.code(), Some(1), "{settings:?}: {checked:?}");
        let started = run(&[&["node"], words.as_slice()].concat(), &[]);
        assert_eq!(started.status.code(), Some(1), "{settings:?}: {started:?}");
        assert_eq!(last(&checked), last(&started), "{settings:?}");
        assert!(last(&checked).contains(told), "{settings:?}: {}", last(&checked));
        assert!(last(&checked).matches("(os error").count() <= 1, "a cause twice: {}", last(&checked));
    }
    // Without its model a node serves what needs none, so that only the check refuses it.
    let missing = run(&["config", "check", "--http", "127.0.0.1:0", "--model-dir", "/nope"], &[]);
    assert_eq!(missing.status.code(), Some(1), "{missing:?}");
    assert!(last(&missing).contains("no impact model: /nope"), "{missing:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn config_check_connects_on_demand_and_has_a_line_for_each_that_answers_or_not() {
    let mut bus = Bus::start(1).await;
    let config = bus.stack.dir().join("nodes/node-1.toml").display().to_string();
    let check = ["config", "check", "--connect", "--config", &config];
    // The node that runs has the socket, and is the one that is checked.
    let good = run(&check, &[]);
    assert!(good.status.success(), "{good:?}");
    for line in ["ok      nats: ", "ok      jetstream: 9 streams for 2 tenants", "ok      redis: "] {
        assert!(text(&good.stdout).contains(line), "{line} is not in {}", text(&good.stdout));
    }
    bus.stack.redis_mut().unwrap().child_mut().kill().await;
    let bad = run(&[&check[..], &["--set", "webhook.url=http://127.0.0.1:1"]].concat(), &[]);
    assert_eq!(bad.status.code(), Some(1), "{bad:?}");
    let bad = run(&check, &[]);
    assert_eq!(bad.status.code(), Some(1), "{bad:?}");
    for line in ["ok      nats: ", "FAILED  redis: redis.url: "] {
        assert!(text(&bad.stdout).contains(line), "{line} is not in {}", text(&bad.stdout));
    }
    bus.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_has_one_name_and_its_old_ones_work_and_say_so() {
    let bus = Bus::start(0).await;
    let (dir, url) = (bus.stack.dir().display().to_string(), bus.stack.nats_url());
    let letters = ["dead-letters", "list", "--dir", &dir];
    let (named, nowhere) = ("AGENTBUS__NATS__URL", "nats://127.0.0.1:1");
    let quiet = run(&letters, &[(named, &url)]);
    assert!(quiet.status.success() && quiet.stderr.is_empty(), "{quiet:?}");
    assert_eq!(run(&letters, &[(named, nowhere)]).status.code(), Some(1), "it is what counts");
    for old in ["AGENTBUS_SERVER", "AGENTBUS_NATS_URL"] {
        let told = run(&letters, &[(old, &url)]);
        assert!(told.status.success(), "{told:?}");
        let said = format!("{old} is the old name of {named}");
        assert!(text(&told.stderr).contains(&said), "{told:?}");
        assert_eq!(run(&letters, &[(old, nowhere)]).status.code(), Some(1), "{old} is not read");
        assert!(run(&letters, &[(old, nowhere), (named, &url)]).status.success(), "{named} goes first");
    }
    let shown = run(&["config", "show", "--nats", "nats://h:1"], &[]);
    assert!(text(&shown.stdout).contains("url = \"nats://h:1\""), "{shown:?}");
    assert!(text(&shown.stderr).contains("--nats is the old name of --server"), "{shown:?}");
    bus.stop().await;
}

#[test]
fn one_thing_is_told_in_the_singular() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("one.toml");
    fs::write(&file, "[tenants.acme.agents]\nplanner = { roles = [\"executive\"] }\n").unwrap();
    let told = run(&["tenants", "check", "--file", &file.display().to_string()], &[]);
    assert!(text(&told.stdout).contains(": 1 tenant, 1 agent, all within bounds"), "{told:?}");
}
