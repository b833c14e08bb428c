//! In which form do the numbers come, and what do they count?

use std::collections::BTreeMap;

use agentbus::domain::Verb;

use crate::support::bus::Bus;

const OPENMETRICS: &str = "application/openmetrics-text";
const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

async fn get(http: &str, accept: Option<&str>) -> (String, String) {
    let request = reqwest::Client::new().get(format!("http://{http}/metrics"));
    let request = match accept {
        Some(accept) => request.header("accept", accept),
        None => request,
    };
    let answer = request.send().await.unwrap();
    let kind = answer.headers()["content-type"].to_str().unwrap().to_owned();
    (kind, answer.text().await.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_numbers_come_in_the_form_that_is_asked_for() {
    let bus = Bus::start(1).await;
    let http = bus.stack.nodes()[0].http();
    for (accept, expected) in [
        (None, TEXT),
        (Some("*/*"), TEXT),
        (Some("text/plain;version=0.0.4"), TEXT),
        (Some("text/plain;version=0.0.4;q=1,*/*;q=0.1"), TEXT),
        (Some("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"), TEXT),
        (Some("application/openmetrics-text;q=0,*/*"), TEXT),
        (Some("text/plain;q=0.9,application/openmetrics-text;version=1.0.0;q=0.5"), TEXT),
        (Some("application/json, rubbish;;;q=x, ,"), TEXT),
        (Some("application/openmetrics-text; version=1.0.0"), OPENMETRICS),
        // Prometheus 2 and 3.
        (
            Some(
                "application/openmetrics-text;version=1.0.0;q=0.8,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
            ),
            OPENMETRICS,
        ),
        (
            Some(
                "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,text/plain;version=0.0.4;q=0.2,*/*;q=0.1",
            ),
            OPENMETRICS,
        ),
    ] {
        let (kind, text) = get(&http, accept).await;
        assert!(kind.starts_with(expected), "{accept:?}: {kind}");
        assert_eq!(text.ends_with("# EOF\n"), expected == OPENMETRICS, "{accept:?}");
    }
    let (_, open) = get(&http, Some(OPENMETRICS)).await;
    let (_, text) = get(&http, Some("text/plain")).await;
    let names = |text: &str| -> std::collections::BTreeSet<String> {
        let samples = text.lines().filter(|line| !line.starts_with('#'));
        samples.map(|line| line.split([' ', '{']).next().unwrap().to_owned()).collect()
    };
    assert_eq!(names(&open), names(&text), "both forms have the same numbers");
    reads_as_text(&text);
    bus.stop().await;
}

/// As the parser of Prometheus' client library in Go does: each sample belongs to the family that is announced
/// above it, by one HELP and one TYPE of the five that there are.
fn reads_as_text(text: &str) {
    let mut kinds: BTreeMap<&str, &str> = BTreeMap::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert!(["counter", "gauge", "histogram", "summary", "untyped"].contains(&kind), "{line}");
            assert!(kinds.insert(name, kind).is_none(), "{name} is announced twice");
        } else if let Some(rest) = line.strip_prefix('#') {
            assert!(rest.starts_with(" HELP "), "{line}");
        } else {
            let name = line.split([' ', '{']).next().unwrap();
            let family = ["_bucket", "_sum", "_count"]
                .iter()
                .filter_map(|suffix| name.strip_suffix(suffix))
                .find(|family| kinds.get(family) == Some(&"histogram"))
                .unwrap_or(name);
            assert!(kinds.contains_key(family), "{line} belongs to no family");
            assert!(line.rsplit(' ').next().unwrap().parse::<f64>().is_ok(), "{line}");
        }
    }
    assert!(kinds.len() > 50, "{kinds:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_messages_count_as_delivered_and_the_process_and_what_governs_it_are_shown() {
    let bus = Bus::start(1).await;
    let (planner, worker) = (bus.agent("acme", "planner").await, bus.agent("acme", "worker").await);
    worker.register(&["sum"]).await.unwrap();
    worker.json(Verb::Heartbeat, "{}".to_owned()).await.unwrap();
    planner.json(Verb::Find, r#"{"capability": "sum"}"#.to_owned()).await.unwrap();
    let (_, text) = get(&bus.stack.nodes()[0].http(), None).await;
    for verb in ["register", "heartbeat", "find"] {
        let line = format!("agentbus_requests_total{{verb=\"{verb}\",status=\"ok\",reason=\"ok\"}} 1");
        assert!(text.contains(&line), "{line} is not in\n{text}");
    }
    assert!(!text.contains("status=\"delivered\""));
    for name in [
        "process_cpu_seconds_total",
        "process_resident_memory_bytes",
        "process_virtual_memory_bytes",
        "process_open_fds",
        "process_max_fds",
        "process_start_time_seconds",
        "agentbus_ready",
    ] {
        let value = text.lines().find_map(|line| line.strip_prefix(&format!("{name} ")));
        let value: f64 = value.unwrap_or_else(|| panic!("{name} is not in\n{text}")).parse().unwrap();
        assert!(value > 0.0, "{name} {value}");
    }
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
    let started = text.lines().find_map(|line| line.strip_prefix("process_start_time_seconds ")).unwrap();
    assert!((now - started.parse::<f64>().unwrap()).abs() < 120.0, "{started}");
    assert!(text.contains("agentbus_policy_info{revision=\""), "{text}");
    assert!(text.contains("agentbus_build_info{version=\""), "{text}");
    bus.stop().await;
}
