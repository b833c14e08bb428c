//! Do alerts and dashboards ask for what a node tells, and does each alert lead to its page?

use std::{
    collections::BTreeSet,
    fs,
    path::PathBuf,
    process::{Command, Stdio},
    time::Duration,
};

use agentbus::{
    domain::Reason,
    servers::{Child, ports},
};
use serde_json::Value;

use super::{run, tool};
use crate::support::{bus::Bus, root};

const DASHBOARDS: [&str; 3] = ["fleet", "tenants", "deliberation"];

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap()
}

/// What stands after this word, of each line that begins with it.
fn after<'a>(text: &'a str, word: &str) -> Vec<&'a str> {
    text.lines().filter_map(|line| line.trim_start().strip_prefix(word)).map(str::trim).collect()
}

/// The files of a folder, by name.
fn files(folder: &str) -> Vec<PathBuf> {
    let mut found: Vec<_> =
        fs::read_dir(root().join(folder)).unwrap().map(|file| file.unwrap().path()).collect();
    found.sort();
    found
}

/// Words that are a metric's name.
fn metrics(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != ':');
    words
        .filter(|word| ["agentbus_", "process_"].iter().any(|prefix| word.starts_with(prefix)))
        .map(family)
        .collect()
}

fn family(sample: &str) -> String {
    let suffix = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| sample.strip_suffix(suffix));
    suffix.unwrap_or(sample).to_owned()
}

/// All that `docs/operations.md` lists.
fn documented() -> BTreeSet<String> {
    let page = read("docs/operations.md");
    let numbers = page.split("\n## Numbers\n").nth(1).unwrap().split("\n## ").next().unwrap();
    let quoted = |text: &str| -> Vec<String> {
        text.split('`').skip(1).step_by(2).map(|word| word.split('{').next().unwrap().to_owned()).collect()
    };
    let rows = numbers.lines().filter(|line| line.starts_with("| `"));
    let own =
        rows.flat_map(|row| quoted(row.split('|').nth(1).unwrap())).map(|name| format!("agentbus_{name}"));
    own.chain(quoted(numbers).into_iter().filter(|word| word.starts_with("process_"))).collect()
}

/// What the panels of all dashboards ask for.
pub(super) fn asked() -> Vec<String> {
    let mut asked = Vec::new();
    for name in DASHBOARDS {
        let dashboard: Value = serde_json::from_str(&read(&format!("deploy/grafana/{name}.json"))).unwrap();
        let panels = dashboard["panels"].as_array().unwrap();
        let targets = panels.iter().filter_map(|panel| panel["targets"].as_array()).flatten();
        asked.extend(targets.map(|target| target["expr"].as_str().unwrap().to_owned()));
    }
    asked
}

#[test]
fn each_alert_leads_to_its_runbook_and_is_tested() {
    let alerts = read("deploy/prometheus/alerts.yml");
    let names = after(&alerts, "- alert:");
    assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len(), "an alert is there twice");
    let links: Vec<_> =
        names.iter().map(|name| format!("docs/runbooks.md#{}", name.to_lowercase())).collect();
    assert_eq!(after(&alerts, "runbook_url:"), links);
    let runbooks = read("docs/runbooks.md");
    let pages: Vec<_> =
        after(&runbooks, "### Agentbus").iter().map(|rest| format!("Agentbus{rest}")).collect();
    assert_eq!(pages, names, "docs/runbooks.md has a section for each alert, in their order");
    let tests = files("deploy/prometheus/tests")
        .iter()
        .map(|file| fs::read_to_string(file).unwrap())
        .collect::<String>();
    let fires = tests.split("- alertname: ").skip(1).filter(|test| test.contains("exp_alerts:"));
    let fires: BTreeSet<_> = fires.map(|test| test.lines().next().unwrap()).collect();
    assert_eq!(fires, names.into_iter().collect(), "each alert is seen to fire");
}

#[test]
fn the_rules_pass_their_tests() {
    let Some(promtool) = tool("promtool") else { return };
    let rules = ["alerts.yml", "recording.yml"].map(|name| root().join("deploy/prometheus").join(name));
    let (good, told) = run(Command::new(&promtool).args(["check", "rules"]).args(rules));
    assert!(good, "{told}");
    let (good, told) =
        run(Command::new(&promtool).args(["test", "rules"]).args(files("deploy/prometheus/tests")));
    assert!(good, "{told}");
}

/// What the bus could not do, and nothing else: a full store is its tenant's.
#[test]
fn requests_that_fail_are_those_with_a_reason_of_the_bus_itself() {
    // What is full, and what goes round, are the tenant's.
    let theirs = |reason: &Reason| matches!(reason, Reason::StoreFull | Reason::LoopDetected);
    let ours = |reason: &&Reason| reason.code() >= 500 && !theirs(reason) || **reason == Reason::TimedOut;
    let mut reasons: Vec<_> = Reason::ALL.iter().filter(ours).map(|reason| reason.as_str()).collect();
    reasons.sort_unstable();
    let expected = format!("reason=~\"{}\"", reasons.join("|"));
    let rules = read("deploy/prometheus/recording.yml");
    assert_eq!(rules.matches(&expected).count(), 2, "{expected}");
}

#[test]
fn the_dashboards_show_every_number_that_a_node_has_and_no_other() {
    let (good, told) =
        run(Command::new("python3").arg(root().join("deploy/grafana/dashboards.py")).arg("--check"));
    assert!(good, "{told}");
    let shown: BTreeSet<_> = asked().iter().flat_map(|expression| metrics(expression)).collect();
    assert_eq!(shown, documented());
    let alerts = metrics(&read("deploy/prometheus/alerts.yml"));
    let unknown: Vec<_> = alerts.difference(&shown).collect();
    assert!(unknown.is_empty(), "alerts of numbers that no node has: {unknown:?}");
}

/// A Prometheus of the test's own, with our rules.
async fn prometheus(program: PathBuf, scraped: &str, folder: &std::path::Path) -> (Child, String) {
    let rules = read("deploy/prometheus/recording.yml").replace("interval: 30s", "interval: 1s");
    fs::write(folder.join("recording.yml"), rules).unwrap();
    fs::write(folder.join("alerts.yml"), read("deploy/prometheus/alerts.yml")).unwrap();
    let config = format!(
        "global: {{ scrape_interval: 1s, evaluation_interval: 1s }}\n\
         rule_files: [recording.yml, alerts.yml]\n\
         scrape_configs: [{{ job_name: agentbus, static_configs: [{{ targets: ['{scraped}'] }}] }}]\n"
    );
    fs::write(folder.join("prometheus.yml"), config).unwrap();
    let address = format!("127.0.0.1:{}", ports::free().unwrap());
    let mut command = Command::new(program);
    command
        .current_dir(folder)
        .args(["--config.file=prometheus.yml", "--storage.tsdb.path=data"])
        .arg(format!("--web.listen-address={address}"))
        .stdin(Stdio::null());
    let child = Child::spawn("prometheus", command.into(), &folder.join("prometheus.log")).unwrap();
    (child, format!("http://{address}/api/v1"))
}

/// The answer to a query; none until the server listens.
pub(super) async fn query(api: &str, expression: &str) -> Option<Value> {
    let encoded: String = expression.bytes().map(|byte| format!("%{byte:02X}")).collect();
    let answer = reqwest::get(format!("{api}/query?query={encoded}")).await.ok()?;
    serde_json::from_str(&answer.text().await.ok()?).ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_prometheus_answers_every_query_and_evaluates_every_rule_over_a_real_node() {
    let Some(program) = tool("prometheus") else { return };
    let bus = Bus::start(1).await;
    let http = bus.stack.nodes()[0].http();
    let told = reqwest::get(format!("http://{http}/metrics")).await.unwrap().text().await.unwrap();
    let samples =
        told.lines().filter(|line| !line.starts_with('#')).map(|line| line.split([' ', '{']).next().unwrap());
    let unlisted: Vec<_> = samples.map(family).filter(|name| !documented().contains(name)).collect();
    assert!(unlisted.is_empty(), "docs/operations.md does not list {unlisted:?}");

    let folder = tempfile::tempdir().unwrap();
    let (mut child, api) = prometheus(program, &http, folder.path()).await;
    for turn in 0.. {
        let ready = query(&api, "agentbus:stage_seconds:p99").await;
        if ready
            .is_some_and(|ready| ready["data"]["result"].as_array().is_some_and(|found| !found.is_empty()))
        {
            break;
        }
        assert!(turn < 600, "it never had a number: {}", child.tail());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    for expression in asked() {
        let asked = expression.replace("$instance", ".*").replace("$__rate_interval", "1m");
        let answer = query(&api, &asked).await.unwrap();
        assert_eq!(answer["status"], "success", "{asked}: {answer}");
    }
    let rules = reqwest::get(format!("{api}/rules")).await.unwrap().text().await.unwrap();
    let rules: Value = serde_json::from_str(&rules).unwrap();
    for rule in rules["data"]["groups"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|group| group["rules"].as_array().unwrap())
    {
        assert_ne!(rule["health"], "err", "{rule}");
    }
    child.stop(Duration::from_secs(10)).await;
    bus.stop().await;
}
