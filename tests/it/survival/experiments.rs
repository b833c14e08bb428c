//! `agentbus chaos`: are experiments made only where they are allowed, is what they break mended in any case, and do they tell
//! a bus that holds from one that does not?

use std::{fs, path::Path, time::Duration};

use agentbus::{
    servers::{
        Control, Stack,
        control::{Broken, ControlError, End, stop_file},
        stack::{Fault, Server},
    },
    tenants::Plan,
};
use serde_json::Value;
use tokio::process::Command;

use crate::support::bus::Bus;

/// A node that refuses messages while it cannot ask Redis.
const PARTED: &str = r#"
hypothesis = "A node that is parted from Redis says so"
radius = ["node-1"]
lasts = "2500ms"
fault = { kind = "errors", node = "node-1", from = "redis" }
during = { served_min = 0.0, tells = "store" }
after = { healthy_within = "60s" }
"#;

/// Two nodes that may be broken, with what `agentbus up` writes beside them.
async fn fleet() -> (Bus, Control) {
    let bus = Bus::with(2, |options| options.chaos = true).await;
    fs::write(bus.stack.dir().join("tenants.toml"), Plan::EXAMPLE).unwrap();
    let control = Control::listen(bus.stack.dir()).unwrap();
    (bus, control)
}

/// As `agentbus up --chaos` does.
async fn obey(control: &Control, stack: &mut Stack) {
    loop {
        let asking = control.next().await;
        control.perform(asking, stack).await;
    }
}

async fn chaos(words: &[&str], dir: &Path) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_agentbus"));
    let output =
        command.arg("chaos").args(words).arg("--dir").arg(dir).kill_on_drop(true).output().await.unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

async fn stalls(child: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{child}/stat")).unwrap();
    stat.rsplit_once(')').unwrap().1.trim_start().starts_with('T')
}

/// Waits until the process stalls, or does not.
async fn until(child: u32, stalled: bool) {
    for _ in 0..6_000 {
        if stalls(child).await == stalled {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("stalled: never {stalled}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_experiment_holds_or_does_not_and_what_is_broken_is_mended_however_it_ends() {
    let (mut bus, control) = fleet().await;
    let dir = bus.stack.dir().to_owned();
    let redis = bus.stack.redis().unwrap().child().pid();
    let files = tempfile::tempdir().unwrap();
    let file = |name: &str, text: String| {
        let path = files.path().join(name);
        fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let good = file("parted.toml", PARTED.to_owned());
    let bad = file("expects-too-much.toml", PARTED.replace("tells = \"store\"", "tells = \"weather\""));
    let play = async {
        let (code, out, err) = chaos(&["run", &good, &bad, "--json"], &dir).await;
        let found: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!((code, found.len()), (1, 2), "{out}{err}");
        assert_eq!(found[0]["failed"], serde_json::json!([]), "{out}");
        assert!(found[0]["messages"].as_u64().unwrap() > 0 && found[0]["healthy_after_ms"].is_u64(), "{out}");
        assert_eq!(
            found[0]["verdicts"]["policy_denied"].as_u64().map(|denied| denied > 0),
            Some(true),
            "{out}"
        );
        assert!(found[1]["failed"][0].as_str().unwrap().contains("weather"), "{out}");

        let stall = Fault::Stall { target: "redis".to_owned() };
        let begin = |lasts| Broken::begin(&dir, &stall, lasts);
        // Whoever has asked is gone.
        let broken = begin(Duration::from_secs(60)).await.unwrap();
        until(redis, true).await;
        drop(broken);
        until(redis, false).await;
        // Its time is over.
        let mut broken = begin(Duration::from_millis(300)).await.unwrap();
        broken.ended().await;
        assert_eq!(broken.mend().await.unwrap(), End::Time);
        assert!(!stalls(redis).await);
        // Everything is stopped, and nothing begins.
        let mut broken = begin(Duration::from_secs(60)).await.unwrap();
        assert_eq!(chaos(&["stop"], &dir).await.0, 0);
        broken.ended().await;
        assert_eq!(broken.mend().await.unwrap(), End::Stopped);
        assert!(!stalls(redis).await);
        let refused = begin(Duration::from_secs(1)).await.unwrap_err();
        assert!(matches!(&refused, ControlError::Refused(why) if why.contains("stopped")), "{refused}");
        fs::remove_file(stop_file(&dir)).unwrap();
        // What is no experiment breaks nothing.
        for (fault, lasts, told) in [
            (Fault::Kill { target: "node-9".to_owned() }, 1, "expected one of node-1, node-2"),
            (Fault::Partition { node: "node-9".to_owned(), from: Server::Redis }, 1, "\"node-9\""),
            (
                Fault::OpenBreaker { node: "node-1".to_owned(), breaker: "weather".to_owned() },
                1,
                "not taken over",
            ),
            (stall.clone(), 600, "at most 120s"),
        ] {
            let refused = Broken::begin(&dir, &fault, Duration::from_secs(lasts)).await.unwrap_err();
            assert!(matches!(&refused, ControlError::Refused(why) if why.contains(told)), "{refused}");
        }
    };
    tokio::select! {
        () = play => {}
        () = obey(&control, &mut bus.stack) => {}
    }
    bus.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fleet_that_does_not_allow_it_is_left_alone() {
    let mut bus = Bus::with(0, |_| {}).await;
    let (code, _, err) = chaos(&["run", "redis-stalls"], bus.stack.dir()).await;
    assert!(code == 1 && err.contains("experiments are not allowed"), "{code} {err}");
    let stall = Fault::Stall { target: "redis".to_owned() };
    let refused = Broken::begin(bus.stack.dir(), &stall, Duration::from_secs(1)).await.unwrap_err();
    assert!(matches!(refused, ControlError::NotAllowed { .. }), "{refused}");
    // Nor by another who has the stack.
    assert!(bus.stack.inflict(&stall).await.is_err());
    assert!(!stalls(bus.stack.redis().unwrap().child().pid()).await);
    bus.stop().await;
}
