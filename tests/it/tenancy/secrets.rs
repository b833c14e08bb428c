//! Is a file with a secret that others can read refused wherever one is read?

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, chown},
    path::Path,
    process::Command,
};

use agentbus::tenants::{BusUser, Plan, User};

use crate::support::bus::Bus;

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// What `agentbus` says on standard error, and that it fails.
fn refused(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_agentbus"))
        .args(arguments)
        .env_remove("AGENTBUS_CONFIG")
        .output()
        .unwrap();
    assert!(!output.status.success(), "{arguments:?} went well");
    String::from_utf8(output.stderr).unwrap()
}

/// What `agentbus up` and the demo run on.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_bus_on_one_machine_writes_of_secrets_is_for_its_owner_only() {
    let bus = Bus::start(1).await;
    let dir = bus.stack.dir().to_path_buf();
    let mut secrets = vec![dir.join("nodes/node-1.toml")];
    for folder in fs::read_dir(dir.join("keys")).unwrap() {
        let folder = folder.unwrap().path();
        secrets.extend(fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()));
    }
    assert!(secrets.len() > 5, "{secrets:?}");
    for path in secrets {
        let mode = path.metadata().unwrap().permissions().mode() & 0o7777;
        assert_eq!(mode, 0o600, "{} has mode {mode:04o}", path.display());
    }
    bus.stop().await;
}

#[test]
fn every_command_refuses_a_key_that_others_can_read_and_says_what_to_type() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    Plan::example().unwrap().generate(dir).unwrap();
    let [node, operator] = [BusUser::Node, BusUser::Operator].map(|user| User::from(user).seed_path(dir));
    let planner = User::Agent("acme".parse().unwrap(), "planner".parse().unwrap()).seed_path(dir);
    let secret = dir.join("webhook.secret");
    fs::write(&secret, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n").unwrap();
    mode(&secret, 0o600);
    let with_password = dir.join("node.toml");
    fs::write(&with_password, "[redis]\nurl = \"redis://:hunter2@127.0.0.1:1\"\nallow_no_seal = true\n")
        .unwrap();
    mode(&with_password, 0o600);
    let webhook = format!("webhook.secret_file={}", secret.display());
    let (shown, key) = (dir.display().to_string(), node.display().to_string());
    let config = with_password.display().to_string();
    let nowhere = "nats://127.0.0.1:1";
    let node_arguments = [
        "--config",
        &config,
        "--nkey-file",
        &key,
        "--set",
        "webhook.url=http://127.0.0.1:1",
        "--set",
        &webhook,
        "--http",
        "127.0.0.1:0",
    ];
    let check = [&["config", "check"][..], &node_arguments].concat();
    let good = Command::new(env!("CARGO_BIN_EXE_agentbus")).args(&check).output().unwrap();
    assert!(good.status.success(), "{}", String::from_utf8_lossy(&good.stderr));

    let run = [&["node", "--server", nowhere, "--http", "127.0.0.1:0"][..], &node_arguments[..4]].concat();
    let send = ["send", "--dir", &shown, "--as", "acme/planner", "--server", nowhere, "--to", "worker", "hi"];
    let letters = ["dead-letters", "list", "--dir", &shown, "--server", nowhere];
    for (path, named, arguments) in [
        (&node, "nats.nkey_file", &check[..]),
        (&secret, "webhook.secret_file", &check),
        (&with_password, "redis.url", &check),
        (&node, "nats.nkey_file", &run),
        (&with_password, "redis.url", &run),
        (&planner, "", &send),
        (&operator, "", &letters),
    ] {
        for found in [0o644, 0o640, 0o604, 0o660] {
            mode(path, found);
            let error = refused(arguments);
            for told in [named, &format!("mode {found:04o}"), &format!("chmod 600 {}", path.display())] {
                assert!(error.contains(told), "{arguments:?}: {told:?} is not in {error}");
            }
            assert!(!error.contains("hunter2"), "{error}");
        }
        mode(path, 0o600);
    }

    // Only root can give a file away.
    let stranger = 65_533;
    if chown(&node, Some(stranger), None).is_ok() {
        let error = refused(&check);
        assert!(error.contains("belongs to the user with number 65533"), "{error}");
        assert!(error.contains(&format!("chown 0 {key}")), "{error}");
    }
}
