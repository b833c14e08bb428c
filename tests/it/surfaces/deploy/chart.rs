//! Does the chart make what Kubernetes takes, and a node understands?

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde_json::Value;

use super::{run, tool};
use crate::{
    support::root,
    surfaces::clients::{AGENTBUS, text},
};

/// The oldest that the chart names, and the newest there is a schema for.
const KUBERNETES: [&str; 2] = ["1.27", "1.34"];

fn chart() -> PathBuf {
    root().join("deploy/helm/agentbus")
}

fn golden(name: &str) -> PathBuf {
    root().join("deploy/helm/tests").join(name)
}

/// What the chart makes, or why not.
fn rendered(helm: &Path, words: &[&str]) -> Result<String, String> {
    let mut command = Command::new(helm);
    command.args(["template", "bus", "--namespace", "agents", "--kube-version", KUBERNETES[1]]).arg(chart());
    let output = command.args(words).output().unwrap();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

#[test]
fn the_chart_is_well_formed_and_makes_what_it_made_before() {
    let Some(helm) = tool("helm") else { return };
    let (good, told) = run(Command::new(&helm).args(["lint", "--strict", "--quiet"]).arg(chart()));
    assert!(good, "{told}");
    let full = golden("full.values.yaml").display().to_string();
    for (name, words) in [("default.yaml", vec![]), ("full.yaml", vec!["--values", full.as_str()])] {
        let made = rendered(&helm, &words).unwrap();
        if std::env::var_os("AGENTBUS_NEW_GOLDEN").is_some() {
            fs::write(golden(name), &made).unwrap();
        }
        assert_eq!(
            made,
            fs::read_to_string(golden(name)).unwrap(),
            "{name}: AGENTBUS_NEW_GOLDEN=1 writes it anew"
        );
    }
}

/// A Python with the schemas of Kubernetes; CI leaves nothing out.
fn schemas() -> Option<PathBuf> {
    let python = root().join(".servers/venv/bin/python");
    let probe = Command::new(&python).args(["-c", "import kubernetes_validate"]).output();
    if probe.is_ok_and(|output| output.status.success()) {
        return Some(python);
    }
    let how = "the schemas are not here; `deploy/install-servers --deploy` installs them";
    assert!(std::env::var("CI").as_deref() != Ok("true"), "{how}");
    println!("SKIPPED: {how}");
    None
}

#[test]
fn kubernetes_takes_what_the_chart_makes() {
    let Some(python) = schemas() else { return };
    for name in ["default.yaml", "full.yaml"] {
        let manifests = fs::File::open(golden(name)).unwrap();
        let mut validate = Command::new(&python);
        let (good, told) = run(validate.arg(golden("validate.py")).args(KUBERNETES).stdin(manifests));
        assert!(good, "{name}: {told}");
    }
}

#[test]
fn values_that_the_chart_does_not_know_or_that_hold_a_secret_are_refused() {
    let Some(helm) = tool("helm") else { return };
    for (value, told) in [
        ("replica=3", "replica"),
        ("nats.url=nats://user:secret@nats:4222", "url"),
        ("redis.url=redis://:secret@redis:6379", "url"),
        ("replicas=0", "replicas"),
        ("otlp.endpoint=http://collector", "endpoint"),
        ("terminationGracePeriodSeconds=5", "terminationGracePeriodSeconds"),
    ] {
        let refused = rendered(&helm, &["--set", value]).unwrap_err();
        assert!(refused.contains("schema") && refused.contains(told), "{value}: {refused}");
    }
}

#[test]
fn dashboards_and_rules_come_as_they_are_in_the_repository() {
    let Some(helm) = tool("helm") else { return };
    let made = rendered(&helm, &["--set", "monitoring.dashboards=true"]).unwrap();
    for name in ["fleet", "tenants", "deliberation"] {
        let key = format!("  agentbus-{name}.json: ");
        let line = made.lines().find_map(|line| line.strip_prefix(&key)).unwrap();
        let dashboard: Value = serde_json::from_str(&serde_json::from_str::<String>(line).unwrap()).unwrap();
        let original = fs::read_to_string(root().join(format!("deploy/grafana/{name}.json"))).unwrap();
        assert_eq!(dashboard, serde_json::from_str::<Value>(&original).unwrap());
    }
    let full = fs::read_to_string(golden("full.yaml")).unwrap();
    let rules = fs::read_to_string(root().join("deploy/prometheus/alerts.yml")).unwrap();
    for alert in rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")) {
        assert!(full.contains(&format!("- alert: {alert}\n")), "{alert}");
        let link = format!(
            "runbook_url: https://git.example.org/agentbus/docs/runbooks.md#{}\n",
            alert.to_lowercase()
        );
        assert!(full.contains(&link), "{link}");
    }
}

#[test]
fn a_node_understands_all_that_the_chart_tells_it() {
    let manifests = fs::read_to_string(golden("full.yaml")).unwrap();
    let pairs = manifests.lines().filter_map(|line| line.trim().strip_prefix("- { name: AGENTBUS_"));
    let told: Vec<(String, String)> = pairs
        .filter_map(|pair| pair.trim_end_matches(" }").split_once(", value: "))
        .filter(|(name, _)| name.starts_with('_'))
        .map(|(name, value)| (format!("AGENTBUS_{name}"), value.trim_matches('"').to_owned()))
        .collect();
    assert!(told.len() >= 9, "{told:?}");
    let shown = Command::new(AGENTBUS).args(["config", "show"]).envs(told.clone()).output().unwrap();
    assert!(shown.status.success(), "{}", text(&shown.stderr));
    for (name, value) in told {
        assert!(text(&shown.stdout).contains(&format!("= \"{value}\"")), "{name} is not in force: {value}");
    }
}

/// As `kubectl patch` makes it of a StatefulSet and the patch.
const PATCHED: &str = "
import sys, yaml
patch = yaml.safe_load(sys.stdin)
about = {'apiVersion': 'apps/v1', 'kind': 'StatefulSet', 'metadata': {'name': 'nats'}}
patch['spec'] |= {'serviceName': 'nats', 'selector': {'matchLabels': {'app': 'nats'}}}
patch['spec']['template']['metadata'] = {'labels': {'app': 'nats'}}
yaml.safe_dump(about | patch, sys.stdout)
";

#[test]
fn the_keeper_beside_a_nats_server_is_a_container_that_kubernetes_takes() {
    let patch = root().join("deploy/helm/keeper.yaml");
    let told = fs::read_to_string(&patch).unwrap();
    let line = |begins: &str| told.lines().find_map(|line| line.trim().strip_prefix(begins)).unwrap();
    assert_eq!(line("image: "), concat!("agentbus:", env!("CARGO_PKG_VERSION")));
    let words: Vec<_> = line("args: [").trim_end_matches(']').split(", ").collect();
    super::keeper_is_understood(words.iter().map(|word| word.trim_matches('"')));
    let Some(python) = schemas() else { return };
    let mut patched = Command::new(&python);
    let patched = patched.args(["-c", PATCHED]).stdin(fs::File::open(&patch).unwrap());
    let mut patched = patched.stdout(Stdio::piped()).spawn().unwrap();
    let mut validate = Command::new(&python);
    let validate = validate.arg(golden("validate.py")).args(KUBERNETES);
    let (good, told) = run(validate.stdin(patched.stdout.take().unwrap()));
    assert!(patched.wait().unwrap().success() && good, "{told}");
}

#[test]
fn the_chart_is_of_the_version_that_it_brings() {
    let chart = fs::read_to_string(chart().join("Chart.yaml")).unwrap();
    let version = concat!("appVersion: ", env!("CARGO_PKG_VERSION"));
    assert!(chart.lines().any(|line| line == version), "{version}");
}
