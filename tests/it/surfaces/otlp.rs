//! Does a collector get one trace of a message, wherever it goes, and does no message wait for a collector?

use std::{os::unix::fs::PermissionsExt as _, process::Command, time::Duration};

use agentbus::{
    client::{AgentClient, Draft, Patience},
    domain::{Encoding, Priority, Reason, Status, Verb, Verdict},
    tenants::Plan,
    trace::TraceContext,
};
use futures_util::StreamExt as _;
use opentelemetry_proto::tonic::{
    metrics::v1::metric::Data,
    trace::v1::{Span, span::SpanKind},
};
use serde_json::{Value, json};

use crate::{
    support::{bus::Bus, servers},
    surfaces::clients::AGENTBUS,
};

mod collector;

use collector::{Collector, text};

/// What no span, number or line may say.
const CONTENT: &str = "the launch code is hunter2";
const SENDERS_SPAN: u64 = 0xb7ad_6b71_6920_3331;

/// A trace of a sender, that is told of or not.
fn traced(number: u8, sampled: bool) -> String {
    format!("00-0af7651916cd43dd8448eb211c8031{number:02x}-{SENDERS_SPAN:016x}-{:02x}", u8::from(sampled))
}

/// A client that sends within it.
fn within(agent: &AgentClient, traceparent: &str) -> AgentClient {
    agent.clone().continuing(Some(traceparent.to_owned()))
}

fn trace_of(spans: &[Span], traceparent: &str) -> Vec<Span> {
    let id = TraceContext::parse(traceparent).unwrap().trace_id.0.to_be_bytes();
    spans.iter().filter(|span| span.trace_id == id).cloned().collect()
}

/// The span of this name, which is there once.
fn named<'a>(spans: &'a [Span], name: &str) -> &'a Span {
    let found: Vec<_> = spans.iter().filter(|span| span.name == name).collect();
    let [span] = found[..] else {
        panic!(
            "{} times {name} in {:?}",
            found.len(),
            spans.iter().map(|span| &span.name).collect::<Vec<_>>()
        )
    };
    span
}

fn has(spans: &[Span], traceparent: &str, name: &str) -> bool {
    trace_of(spans, traceparent).iter().any(|span| span.name == name)
}

/// Each of these is a child of the one before, and the first of the sender's span.
fn in_a_row(spans: &[Span], names: &[&str]) {
    let mut parent = SENDERS_SPAN.to_be_bytes().to_vec();
    for name in names {
        let span = named(spans, name);
        assert_eq!(span.parent_span_id, parent, "{name}");
        parent.clone_from(&span.span_id);
    }
}

/// What its recipient continues.
fn handed(message: &async_nats::Message) -> TraceContext {
    let header = message.headers.as_ref().unwrap().get("traceparent").unwrap();
    TraceContext::parse(header.as_str()).unwrap()
}

async fn send(agent: &AgentClient, draft: &Draft) -> Verdict {
    agent.send(draft.encode(Encoding::Json), Patience::default()).await.unwrap()
}

async fn kept(agent: &AgentClient) -> async_nats::Message {
    let inbox = agent.durable_inbox(&"acme".parse().unwrap()).unwrap();
    let mut messages =
        inbox.batch().max_messages(1).expires(Duration::from_secs(60)).messages().await.unwrap();
    let message = messages.next().await.unwrap().unwrap();
    message.ack().await.unwrap();
    message.message
}

#[tokio::test(flavor = "multi_thread")]
async fn one_trace_tells_of_a_message_on_either_lane_and_numbers_and_lines_come_too() {
    let mut collector = Collector::listen(0).await;
    let folder = tempfile::tempdir().unwrap();
    let headers = folder.path().join("headers");
    std::fs::write(&headers, "authorization: Bearer let-me-in\n").unwrap();
    std::fs::set_permissions(&headers, std::fs::Permissions::from_mode(0o600)).unwrap();
    let endpoint = format!("http://127.0.0.1:{}", collector.port);
    let bus = Bus::with(1, |options| {
        let headers_file = headers.to_str().unwrap();
        options.node_overrides.extend(toml::toml! {
            [otlp]
            endpoint = endpoint
            headers_file = headers_file
            sample = 0.0
            slow = "10m"
            metrics_every = "1s"
        });
    })
    .await;
    let (planner, worker) = (bus.agent("acme", "planner").await, bus.agent("acme", "worker").await);
    worker.register(&[]).await.unwrap();
    let mut inbox = worker.inbox().await.unwrap();
    let draft = || Draft { conversation_id: Some("c-1".to_owned()), ..Draft::to_agent("worker", CONTENT) };

    // Live, of a trace that its sender samples, and of one that it does not.
    let (sampled, not, refused, durable) =
        (traced(1, true), traced(2, false), traced(3, false), traced(4, true));
    assert_eq!(send(&within(&planner, &not), &draft()).await.reason, Reason::Delivered);
    assert!(!handed(&inbox.next().await.unwrap()).is_sampled());
    let verdict = send(&within(&planner, &sampled), &draft()).await;
    let delivered = handed(&inbox.next().await.unwrap());
    assert_eq!(send(&planner, &draft()).await.reason, Reason::Delivered, "of a trace of the node's own");
    let unsampled = handed(&inbox.next().await.unwrap());
    // What is refused is told of in any case.
    let nobody = Draft::to_agent("nobody", CONTENT);
    assert_eq!(send(&within(&planner, &refused), &nobody).await.status, Status::Rejected);
    // A program hands its own on, by a flag or as it has got it itself.
    for (flag, given) in [(true, traced(7, false)), (false, traced(8, false))] {
        let mut command = Command::new(AGENTBUS);
        command.args(["send", "--as", "acme/planner", "--to", "worker", "--dir"]).arg(bus.stack.dir());
        match flag {
            true => command.args(["--traceparent", &given]),
            false => command.env("TRACEPARENT", &given),
        };
        let sending = tokio::task::spawn_blocking(move || command.arg("hello").output().unwrap());
        let sent = sending.await.unwrap();
        assert!(sent.status.success(), "{sent:?}");
        assert_eq!(handed(&inbox.next().await.unwrap()).trace_id.0.to_be_bytes(), root_trace(&given));
    }
    // Kept, governed and kept again.
    let queued = within(&planner, &durable).submit(draft().encode(Encoding::Json), Patience::default()).await;
    assert_eq!(queued.unwrap().status, Status::Stored);
    let stored = handed(&kept(&worker).await);

    let spans = collector
        .spans(|spans| {
            has(spans, &sampled, "process bus.{agent}.send")
                && has(spans, &refused, "process bus.{agent}.send")
                && has(spans, &durable, "publish OUT_{tenant}")
        })
        .await;
    let of = trace_of(&spans, &sampled);
    in_a_row(&of, &["process bus.{agent}.send", "publish agent.{agent}.inbox"]);
    let root = named(&of, "process bus.{agent}.send");
    for stage in
        ["admit", "decode", "constitution", "structure", "recipient", "policy", "impact", "claim", "record"]
    {
        let span = named(&of, stage);
        assert_eq!(span.parent_span_id, root.span_id, "{stage}");
        assert!(root.start_time_unix_nano <= span.start_time_unix_nano, "{stage}");
        assert!(span.start_time_unix_nano <= span.end_time_unix_nano, "{stage}");
    }
    let published = named(&of, "publish agent.{agent}.inbox");
    assert_eq!(published.span_id, delivered.span_id.to_be_bytes(), "its recipient continues it");
    assert_eq!((root.kind(), published.kind()), (SpanKind::Consumer, SpanKind::Producer));
    for (key, expected) in [
        ("messaging.system", "nats"),
        ("messaging.operation.type", "process"),
        ("messaging.message.conversation_id", "c-1"),
        ("gen_ai.agent.id", "planner"),
        ("agentbus.tenant", "acme"),
        ("agentbus.decision_id", &verdict.decision_id),
        ("agentbus.reason", "delivered"),
    ] {
        assert_eq!(text(&root.attributes, key), expected);
    }
    let of = trace_of(&spans, &refused);
    let root = named(&of, "process bus.{agent}.send");
    assert_eq!(text(&root.attributes, "error.type"), "recipient_unknown");
    assert!(root.status.is_some(), "{root:?}");
    let of = trace_of(&spans, &durable);
    in_a_row(
        &of,
        &["process bus.{agent}.submit", "publish IN_{tenant}", "process IN_{tenant}", "publish OUT_{tenant}"],
    );
    assert_eq!(named(&of, "publish OUT_{tenant}").span_id, stored.span_id.to_be_bytes());
    assert!(trace_of(&spans, &not).is_empty() && trace_of(&spans, &unsampled.to_string()).is_empty());

    // The numbers, with an exemplar, here and on the page: the last one of as long a request.
    let told_of = [&sampled, &refused];
    let exemplar = |trace: &[u8]| told_of.iter().any(|it| trace == root_trace(it));
    let requests = |data: &Option<Data>| match data {
        Some(Data::Histogram(histogram)) => {
            let points = histogram.data_points.iter();
            points.flat_map(|point| &point.exemplars).any(|it| exemplar(&it.trace_id))
        }
        _ => false,
    };
    let seen = |found: &[_]| -> bool {
        found.iter().any(|it: &opentelemetry_proto::tonic::metrics::v1::Metric| {
            it.name == "agentbus_request_seconds" && requests(&it.data)
        })
    };
    collector.metrics(seen).await;
    let page = |accept: &'static str| {
        let url = format!("http://{}/metrics", bus.stack.nodes()[0].http());
        async move {
            let request = reqwest::Client::new().get(url).header("accept", accept);
            request.send().await.unwrap().text().await.unwrap()
        }
    };
    let ids = told_of.map(|it| TraceContext::parse(it).unwrap().trace_id.to_string());
    let text = page("application/openmetrics-text").await;
    assert!(ids.iter().any(|id| text.contains(&format!(" # {{trace_id=\"{id}\"}} "))), "{text}");
    let text = page("text/plain").await;
    assert!(ids.iter().all(|id| !text.contains(id)), "the older form has no exemplars");
    // What is logged.
    let lines = collector
        .lines(|lines| lines.iter().any(|line| format!("{:?}", line.body).contains("\"serving\"")))
        .await;
    assert!(lines.iter().all(|line| line.severity_number > 0 && line.time_unix_nano > 0));

    for told in &collector.all {
        assert_eq!(told.headers["authorization"], "Bearer let-me-in", "{}", told.path);
        let said = String::from_utf8_lossy(&told.bytes);
        assert!(!said.contains("hunter2"), "{}: {said}", told.path);
    }
    bus.stop().await;
}

fn root_trace(traceparent: &str) -> [u8; 16] {
    TraceContext::parse(traceparent).unwrap().trace_id.0.to_be_bytes()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_is_away_holds_up_nothing_and_hears_of_a_deliberation_when_it_is_back() {
    let port = servers::port();
    let endpoint = format!("http://127.0.0.1:{port}");
    let plan = "[tenants.acme.agents]\nplanner = { roles = [\"executive\"] }\n\
                worker = { roles = [\"implementer\"] }\njudge = { roles = [\"judicial\"] }\n\
                [tenants.acme.deliberation.terms]\nrule = \"roles\"\ndistinct_roles = 1\n";
    let bus = Bus::with(1, |options| {
        options.plan = Plan::parse(plan).unwrap();
        options.node_overrides.extend(toml::toml! {
            [otlp]
            endpoint = endpoint
            protocol = "grpc"
            sample = 0.0
            metrics = false
        });
    })
    .await;
    let agents = ["planner", "worker", "judge"].map(|name| bus.agent("acme", name));
    let [planner, worker, judge] = futures_util::future::join_all(agents).await.try_into().unwrap();
    let (planner, worker, judge): (AgentClient, AgentClient, AgentClient) = (planner, worker, judge);
    worker.register(&[]).await.unwrap();

    // Not sampled, and told of all the same: it waits for people.
    let (sent, voted) = (traced(5, false), traced(6, true));
    let severe = Draft { priority: Priority::Critical, ..Draft::to_agent("worker", CONTENT) };
    let verdict = send(&within(&planner, &sent), &severe).await;
    assert_eq!(verdict.status, Status::Deliberating, "{verdict:?}");
    let id = verdict.deliberation_id.unwrap().to_string();
    let shown = ask(&judge, Verb::Deliberations, json!({ "id": id })).await;
    let vote = json!({ "id": id, "choice": "approve", "digest": shown["deliberation"]["digest"] });
    let counted = ask(&within(&judge, &voted), Verb::Vote, vote).await;
    assert_eq!(counted["status"], "ok", "{counted}");
    let released = handed(&kept(&worker).await);

    let mut collector = Collector::listen(port).await;
    let spans =
        collector.spans(|spans| has(spans, &sent, "publish OUT_{tenant}") && has(spans, &sent, VOTE)).await;
    let of = trace_of(&spans, &sent);
    let parked = "publish DELIBERATIONS_{tenant}";
    in_a_row(
        &of,
        &["process bus.{agent}.send", parked, "process DELIBERATIONS_{tenant}", "publish OUT_{tenant}"],
    );
    in_a_row(&of, &["process bus.{agent}.send", parked, VOTE]);
    let vote = named(&of, VOTE);
    assert_eq!(
        (text(&vote.attributes, "agentbus.choice"), text(&vote.attributes, "gen_ai.agent.id")),
        ("approve", "judge")
    );
    let [link] = &vote.links[..] else { panic!("{vote:?}") };
    assert_eq!(link.trace_id, root_trace(&voted), "the voter's own trace");
    assert_eq!(released.trace_id.0.to_be_bytes(), root_trace(&sent));
    assert!(released.is_sampled());
    assert_eq!(named(&of, "publish OUT_{tenant}").span_id, released.span_id.to_be_bytes());
    bus.stop().await;
}

const VOTE: &str = "process bus.{agent}.vote";

async fn ask(agent: &AgentClient, verb: Verb, body: Value) -> Value {
    let answer = agent.call(verb, body.to_string().into(), Patience::default()).await.unwrap();
    serde_json::from_slice(&answer.payload).unwrap()
}
