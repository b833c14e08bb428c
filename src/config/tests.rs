//! What is read from which source, and what is refused.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::io::Write as _;

use super::*;

pub(crate) fn load(
    toml: &str,
    environment: &[(&str, &str)],
    flags: &[(&str, &str)],
) -> Result<NodeConfig, ConfigError> {
    let mut file = tempfile::Builder::new().suffix(".toml").tempfile().unwrap();
    file.write_all(toml.as_bytes()).unwrap();
    let variables = environment.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    let flags: Vec<_> = flags.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    let environment = config::Environment::with_prefix("AGENTBUS").source(Some(variables));
    NodeConfig::load_from(Some(file.path()), environment, &flags)
}

#[test]
fn later_sources_win() {
    let file = "[nats]\nurl = \"nats://file:1\"\n[node]\nname = \"from-file\"\n[redis]\nurl = \"redis://:p@r\"\nseal_key_file = \"k\"";
    let config = load(
        file,
        &[("AGENTBUS__NATS__URL", "nats://env:2"), ("AGENTBUS__LIMITS__IN_FLIGHT", "777")],
        &[("nats.url", "nats://flag:3"), ("idempotency.window", "5m"), ("impact.weights.semantic", "0.5")],
    )
    .unwrap();
    assert_eq!(config.nats.url, "nats://flag:3");
    assert_eq!(config.limits.in_flight, 777);
    assert_eq!(config.node.name, "from-file");
    assert_eq!(config.idempotency.window, Duration::from_secs(300));
    assert_eq!(config.impact.weights.semantic, 0.5);
    assert_eq!(config.redis.unwrap().url, "redis://:p@r");
}

#[test]
fn the_defaults_are_a_valid_configuration() {
    assert_eq!(load("", &[], &[]).unwrap(), NodeConfig::default());
}

#[test]
fn what_is_wrong_is_named() {
    for (toml, named) in [
        ("[nats]\nurls = \"x\"", "urls"),
        ("surprise = 1", "surprise"),
        ("[limits]\nin_flight = 0", "limits.in_flight"),
        ("[limits]\ndeadline = \"soon\"", "deadline"),
        ("[node]\nname = \"A B\"", "node.name"),
        ("constitution = []", "constitution"),
        ("[[constitution]]\nhash = \"XYZ\"", "16 lowercase hexadecimal"),
        ("[[constitution]]\nhash = \"cdd01ef066bc6cf2\"\nfrom = \"tomorrow\"", "constitution[0].from"),
        ("[idempotency]\nlease = \"1s\"", "idempotency.lease"),
        ("[idempotency]\nlease = \"2h\"", "idempotency.lease: found 2h, expected 1ms to 1h"),
        ("[idempotency]\nwindow = \"1s\"", "idempotency.window"),
        ("[idempotency]\nwindow = \"2days\"", "idempotency.window: found 2days, expected 1ms to 1day"),
        ("[limits]\ndeadline = \"18446744073709551615s\"", "limits.deadline"),
        ("[limits]\nclock_skew = \"2h\"", "limits.clock_skew"),
        ("[durable]\ngive_up_after = \"11m\"", "durable.give_up_after: found 11m, expected 1s to 10m"),
        ("[limits]\nin_flight = 100", "limits.in_flight_per_tenant: found 512"),
        ("[limits]\nasks = 100", "limits.asks_per_tenant: found 1024, expected at most limits.asks, 100"),
        ("[limits]\nanswer = \"30s\"", "limits.answer: found 30s, expected 1ms to 29s"),
        ("[http]\nconnections = 3", "http.connections: found 3, expected 4 to 4096"),
        ("[node]\ndrain = \"61s\"", "node.drain: found 1m 1s, expected 0s to 1m"),
        ("[cpu]\nthreads = 0", "cpu.threads: found 0, expected 1 to 256"),
        ("[lane]\nthreads = 0", "lane.threads: found 0, expected 1 to 64"),
        ("[lane]\nbusy_poll = \"2ms\"", "lane.busy_poll: found 2ms, expected 0s to 1ms"),
        ("[nats.tls]", "nats.tls: found an empty table"),
        ("[cpu]\nqueue = 0", "cpu.queue: found 0, expected 1 to 65536"),
        ("[impact]\nsenders_max = 0", "impact.senders_max"),
        ("[impact]\nscorer = \"oracle\"", "oracle"),
        ("[impact]\nreport_lift_max = 1.5", "impact.report_lift_max: found 1.5, expected 0 to 1"),
        ("[impact]\nreport_lift_max = nan", "impact.report_lift_max: found NaN"),
        ("[impact]\nprecision = \"f16\"", "f16"),
        ("[impact]\nqueue = 0", "impact.queue: found 0, expected 1 to 65536"),
        ("[impact]\nguards = [\"a\", \"b\", \"c\", \"d\", \"e\"]", "impact.guards"),
        ("[impact]\nguards = \"a\"\nscorer = \"keywords\"", "impact.guards"),
        ("[impact]\nguard_threads = 0", "impact.guard_threads"),
        ("[impact]\nthreads = 257", "impact.threads"),
        ("[impact]\nwindows_max = 0", "impact.windows_max"),
        ("[impact]\nnice = 20", "impact.nice: found 20, expected 0 to 19"),
        ("[impact]\ndeadline = \"1s\"", "impact.deadline: found 1s, expected less than limits.deadline"),
        ("[impact.weights]\ntype = 1001", "impact.weights: the weight of type is 1001"),
        ("[impact.weights]\ncolour = 1", "colour"),
        ("redis = \"redis://u:p@r\"", "redis://r"),
        ("[webhook]\nurl = \"http://h\"", "secret_file"),
        ("[webhook]\nurl = \"ftp://h\"\nsecret_file = \"s\"", "webhook.url: found \"ftp://h\""),
        ("[webhook]\nurl = \"https://u:hunter2@h/\"\nsecret_file = \"s\"", "found \"https://h/\""),
        ("[webhook]\nurl = \"http://\"\nsecret_file = \"s\"", "webhook.url"),
        ("[webhook]\nurl = \"http://h\"\nsecret_file = \"s\"\ntimeout = \"21s\"", "expected 100ms to 20s"),
        ("[webhook]\nurl = \"http://h\"\nsecret_file = \"s\"\nattempts = 0", "webhook.attempts"),
    ] {
        let error = load(toml, &[], &[]).map(|_| ()).unwrap_err().to_string();
        assert!(error.contains(named), "{toml:?} gave {error:?}");
    }
    let error = load("", &[("AGENTBUS__NATZ__URL", "x")], &[]).map(|_| ()).unwrap_err().to_string();
    assert!(error.contains("natz"), "{error}");
}

#[test]
fn guards_are_a_list_and_with_commas_one_value() {
    let two = vec![std::path::PathBuf::from("/a"), "/b c".into()];
    assert_eq!(load("[impact]\nguards = [\"/a\", \"/b c\"]", &[], &[]).unwrap().impact.guards, two);
    assert_eq!(load("", &[("AGENTBUS__IMPACT__GUARDS", "/a, /b c")], &[]).unwrap().impact.guards, two);
    assert_eq!(load("", &[], &[("impact.guards", "/a,/b c")]).unwrap().impact.guards, two);
    let error = load("[impact]\nguards = 7", &[], &[]).map(|_| ()).unwrap_err().to_string();
    assert!(error.contains("impact.guards") && error.contains("a list of folders"), "{error}");
}

#[test]
fn a_file_with_a_password_that_others_can_read_is_refused() {
    use std::os::unix::fs::PermissionsExt as _;

    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("node.toml");
    let load = |toml: &str, mode: u32| {
        std::fs::write(&path, toml).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        NodeConfig::load_from(Some(&path), config::Environment::with_prefix("AGENTBUS_TEST"), &[])
    };
    for (key, toml) in [
        ("redis.url", "[redis]\nurl = \"redis://:hunter2@h:6379\"\nallow_no_seal = true"),
        ("nats.url", "[nats]\nurl = \"nats://a:4222,nats://u:hunter2@b:4222\""),
        ("webhook.url", "[webhook]\nurl = \"https://h/?token=hunter2\"\nsecret_file = \"s\""),
    ] {
        let error = load(toml, 0o644).unwrap_err().to_string();
        let chmod = format!("chmod 600 {}", path.display());
        let variable = format!("AGENTBUS__{}", key.to_uppercase().replace('.', "__"));
        for told in [key, "mode 0644", "expected", &chmod, &variable] {
            assert!(error.contains(told), "{told:?} is not in {error:?}");
        }
        assert!(!error.contains("hunter2"), "{error}");
        load(toml, 0o600).unwrap();
    }
    load("[redis]\nurl = \"redis://h:6379\"\nallow_no_seal = true\nallow_no_password = true", 0o644).unwrap();
}
