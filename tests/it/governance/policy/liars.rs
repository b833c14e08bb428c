//! G6: can a server of policies that is broken, or meant to, make a node allow?
//!
//! `make policy-faults` asks 10,000 times of each kind.

use std::{env, sync::Arc, time::Duration};

use agentbus::policy::{Mode, PolicyError, PolicySources};
use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::post,
};
use futures_util::{StreamExt as _, stream};
use serde_json::{Value as Json, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

use super::{question::Owned, rollout::question, servers::Asking};
use crate::support::opa;

/// Of each kind, unless `POLICY_FAULT_MESSAGES` says otherwise.
const MESSAGES: usize = 200;
/// Asked at one time.
const AT_ONCE: usize = 64;

/// How a server answers what an honest one would allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// Takes connections and says nothing.
    Stalled,
    /// Right, and too late.
    Slow,
    /// Ends the connection in the midst of its answer.
    BrokenOff,
    /// No HTTP at all.
    Noise,
    /// HTTP, and no JSON.
    NoJson,
    Huge,
    /// Right, to questions that nobody has asked.
    OtherKeys,
    /// Some of the answers.
    Missing,
    OtherRevision,
    NoRevision,
    /// `"true"` and the like.
    AlmostTrue,
    /// Demands that nobody can honour.
    Demands,
    /// Right, and with a status of 500.
    Error,
    /// A rule fails.
    RuleFailed,
    Redirect,
}

impl Fault {
    const ALL: [Fault; 15] = [
        Fault::Stalled,
        Fault::Slow,
        Fault::BrokenOff,
        Fault::Noise,
        Fault::NoJson,
        Fault::Huge,
        Fault::OtherKeys,
        Fault::Missing,
        Fault::OtherRevision,
        Fault::NoRevision,
        Fault::AlmostTrue,
        Fault::Demands,
        Fault::Error,
        Fault::RuleFailed,
        Fault::Redirect,
    ];

    /// What is sent to a socket that speaks no HTTP; `None`: it does.
    fn bytes(self) -> Option<&'static [u8]> {
        match self {
            Fault::Stalled => Some(b""),
            Fault::Noise => Some(b"true true true true\r\n\r\n"),
            Fault::BrokenOff => {
                Some(b"HTTP/1.1 200 OK\r\ncontent-length: 200\r\n\r\n{\"result\": {\"answers\": {")
            }
            _ => None,
        }
    }
}

/// A probe has no questions, and hears what is right.
async fn answer(State((fault, revision)): State<(Fault, Arc<str>)>, body: Bytes) -> Response {
    const ALLOW: fn() -> Json = || json!({"allow": true, "reasons": [], "obligations": {}});
    let body: Json = serde_json::from_slice(&body).unwrap();
    let keys: Vec<&String> = body["input"]["questions"].as_object().unwrap().keys().collect();
    let answers = |change: &dyn Fn(Json) -> Json| -> Json {
        let pairs = keys.iter().map(|key| ((*key).clone(), change(ALLOW())));
        json!({"result": {"revision": &*revision, "answers": Json::Object(pairs.collect())}})
    };
    let right = answers(&|allow| allow);
    if keys.is_empty() {
        return right.to_string().into_response();
    }
    let with = |name: &'static str, value: Json| {
        answers(&move |mut allow| {
            allow[name] = value.clone();
            allow
        })
    };
    let text = match fault {
        Fault::Slow => {
            tokio::time::sleep(Duration::from_secs(60)).await;
            right.to_string()
        }
        Fault::NoJson => "<html>allow: true</html>".to_owned(),
        Fault::Huge => format!("{right}{}", " ".repeat(4 * 1024 * 1024)),
        Fault::OtherKeys => right.to_string().replace(keys[0].as_str(), "0123456789abcdef"),
        Fault::Missing => json!({"result": {"revision": &*revision, "answers": {}}}).to_string(),
        Fault::OtherRevision => right.to_string().replace(&*revision, "fedcba9876543210"),
        Fault::NoRevision => right.to_string().replace("\"revision\"", "\"version\""),
        Fault::AlmostTrue => with("allow", json!("true")).to_string(),
        Fault::Demands => with("obligations", json!({"encrypt": true})).to_string(),
        Fault::Error => return (StatusCode::INTERNAL_SERVER_ERROR, right.to_string()).into_response(),
        Fault::RuleFailed => {
            let error = json!({"code": "internal_error", "errors": [
                {"code": "eval_conflict_error", "message": "rules must not produce multiple outputs"},
            ]});
            return (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response();
        }
        Fault::Redirect => return (StatusCode::FOUND, [("location", "/elsewhere")]).into_response(),
        Fault::Stalled | Fault::BrokenOff | Fault::Noise => unreachable!("they speak no HTTP"),
    };
    text.into_response()
}

/// Starts one that lies so; it ends with the test's runtime.
async fn liar(fault: Fault, revision: &Arc<str>) -> String {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    match fault.bytes() {
        Some(bytes) => drop(tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let mut request = [0; 64 * 1024];
                    let _ = stream.read(&mut request).await;
                    let _ = stream.write_all(bytes).await;
                    if bytes.is_empty() {
                        tokio::time::sleep(Duration::from_secs(60)).await;
                    }
                });
            }
        })),
        None => {
            let app = Router::new()
                .route("/v1/data/agentbus/batch", post(answer))
                .with_state((fault, Arc::clone(revision)));
            drop(tokio::spawn(async move { axum::serve(listener, app).await }));
        }
    }
    url
}

/// A question that an honest server would allow, again and again.
#[tokio::test(flavor = "multi_thread")]
async fn no_kind_of_fault_of_a_server_has_a_message_allowed() {
    let messages = env::var("POLICY_FAULT_MESSAGES").map_or(MESSAGES, |count| count.parse().unwrap());
    let policy = PolicySources::shipped();
    let asked: Owned = question();
    for fault in Fault::ALL {
        let url = liar(fault, &policy.revision()).await;
        let within = Duration::from_millis(200);
        let asking = Asking::new(&policy, &[url], Mode::Opa, within);
        let mut refused = [0; 3];
        let mut answers = stream::iter(0..messages).map(|_| asking.ask(&asked)).buffer_unordered(AT_ONCE);
        while let Some(answer) = answers.next().await {
            match answer {
                Err(PolicyError::Unanswered { .. }) => refused[0] += 1,
                Err(PolicyError::Failed { .. }) => refused[1] += 1,
                Err(PolicyError::Busy { .. } | PolicyError::BreakerOpen { .. }) => refused[2] += 1,
                allowed => panic!("{fault:?}: {allowed:?}"),
            }
        }
        let [unanswered, failed, unasked] = refused;
        println!("{fault:?}: {unanswered} unanswered, {failed} failed, {unasked} not asked, 0 allowed");
        assert_eq!(unanswered + failed + unasked, messages);
        // A rule that fails, and an answer that is too long, are of the question.
        assert!(matches!(fault, Fault::RuleFailed | Fault::Huge | Fault::Slow) || failed == 0, "{fault:?}");
    }
}

/// Beside an honest one, of whatever kind the fault.
#[tokio::test(flavor = "multi_thread")]
async fn beside_a_liar_an_honest_server_answers() {
    let Some(program) = opa::program() else { return };
    let policy = PolicySources::shipped();
    let honest = opa::Opa::with_policy(&program, &policy).await;
    let asked = question();
    for fault in Fault::ALL {
        if fault == Fault::RuleFailed {
            // What a server says of a rule is believed.
            continue;
        }
        let urls = [liar(fault, &policy.revision()).await, honest.url()];
        let asking = Asking::new(&policy, &urls, Mode::Opa, Duration::from_secs(1));
        for _ in 0..5 {
            match (fault, asking.ask(&asked).await) {
                // Who is well by its probes and late with an answer has the question for a reason.
                (Fault::Slow, Err(PolicyError::Failed { .. })) => {}
                (_, answer) => drop(answer.unwrap_or_else(|error| panic!("{fault:?}: {error}"))),
            }
        }
    }
}
