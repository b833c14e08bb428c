//! Whom does it concern what cannot be read in Redis? Under the keys of one agent: nobody else.

use std::{collections::BTreeMap, time::Duration};

use agentbus::{
    client::{AgentClient, Draft},
    domain::{Status, Verb},
};
use anyhow::{Context as _, ensure};
use futures_util::StreamExt as _;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::{
    calls,
    field::Field,
    redis::{Insider, Redis},
};

/// What is delivered has come within this time.
const WAIT_MAX: Duration = Duration::from_secs(10);

pub(crate) async fn play(field: &mut Field) -> anyhow::Result<()> {
    let insider = Insider::of(field.stack())?;
    let long = "x".repeat(100_000);
    let (entry, agents, cap) =
        ("agentbus:{initech}:agent:other", "agentbus:{initech}:agents", "agentbus:{initech}:cap:sum");
    let cases: Vec<(&str, Vec<Vec<&str>>)> = vec![
        ("an entry that is no JSON", vec![vec!["SET", entry, "garbage"]]),
        ("an empty entry", vec![vec!["SET", entry, ""]]),
        ("an entry of 100 KB", vec![vec!["SET", entry, &long]]),
        ("an entry of another agent", vec![vec!["SET", entry, r#"{"id":"worker","capabilities":["sum"]}"#]]),
        ("an entry of a list", vec![vec!["DEL", entry], vec!["LPUSH", entry, "x"]]),
        ("an entry of a hash", vec![vec!["DEL", entry], vec!["HSET", entry, "a", "b"]]),
        (
            "a made-up registration",
            vec![
                vec!["SET", "agentbus:{initech}:agent:ghost", r#"{"id":"ghost","capabilities":["sum"]}"#],
                vec!["ZADD", agents, "9999999999999", "ghost"],
                vec!["ZADD", cap, "9999999999999", "ghost"],
            ],
        ),
        (
            "a name in the index that is none",
            vec![vec!["ZADD", agents, "9999999999999", "no such\r\nname > *"]],
        ),
        ("a name of 100 KB in the index", vec![vec!["ZADD", agents, "9999999999999", &long]]),
        ("a name in a capability that is none", vec![vec!["ZADD", cap, "9999999999999", "../x"]]),
        ("an index that is a text", vec![vec!["SET", agents, "x"]]),
        ("a capability that is a text", vec![vec!["SET", cap, "x"]]),
        ("an index of a member at infinity", vec![vec!["ZADD", agents, "inf", "other"]]),
        ("an epoch that is no number", vec![vec!["SET", "agentbus:epoch:{initech}", "x"]]),
        (
            "an epoch that is a list",
            vec![vec!["DEL", "agentbus:epoch:{initech}"], vec!["LPUSH", "agentbus:epoch:{initech}", "x"]],
        ),
        ("a past that is none", vec![vec!["SET", "agentbus:{initech}:past:planner", "x"]]),
    ];
    let mut agents_of: BTreeMap<&'static str, AgentClient> = BTreeMap::new();
    for agent in ["planner", "worker", "other"] {
        agents_of.insert(agent, field.connect("initech", agent).await?);
    }
    for (what, commands) in cases {
        let (agents_of, insider) = (agents_of.clone(), insider.clone());
        field
            .attempt(what, async move {
                let mut redis = insider.login().await?;
                let client = |agent: &str| agents_of.get(agent).context("an agent of initech");
                clean(&mut redis).await?;
                for agent in ["planner", "worker", "other"] {
                    let answer = client(agent)?.register(&["sum"]).await?;
                    ensure!(
                        answer.get("status").is_some_and(|it| it == "ok"),
                        "{agent} cannot register: {answer}"
                    );
                }
                let mut inbox = Box::pin(client("worker")?.inbox().await?);
                for command in &commands {
                    let words: Vec<&[u8]> = command.iter().map(|word| word.as_bytes()).collect();
                    redis.done(&words).await?;
                }
                // Whom it concerns mends it by its own next registration; the others must need nothing.
                let worker = client("worker")?.register(&["sum"]).await?;
                let found =
                    calls::answer(client("planner")?, Verb::Find, json!({ "capability": "sum" }).to_string())
                        .await?;
                let names: Vec<&str> = found
                    .get("agents")
                    .and_then(Value::as_array)
                    .into_iter()
                    .flatten()
                    .filter_map(|agent| agent.get("id").and_then(Value::as_str))
                    .collect();
                let mut wrong = Vec::new();
                if worker.get("status").is_none_or(|it| it != "ok") {
                    wrong.push(format!("an innocent agent cannot register: {worker}"));
                }
                if !names.contains(&"worker") || names.contains(&"ghost") {
                    wrong.push(format!("found: {found}"));
                }
                let (status, reason) = calls::send(
                    client("planner")?,
                    &Draft::to_agent("worker", "the weekly summary is ready"),
                )
                .await?;
                if status != Status::Delivered {
                    wrong.push(format!("a message to an innocent agent: {reason}"));
                } else if timeout(WAIT_MAX, inbox.next()).await.is_err() {
                    wrong.push("a message was told as delivered and did not come".to_owned());
                }
                clean(&mut redis).await?;
                Ok((!wrong.is_empty()).then(|| wrong.join("; ")))
            })
            .await?;
    }
    Ok(())
}

/// All keys of `initech` that the cases touch.
async fn clean(redis: &mut Redis) -> anyhow::Result<()> {
    let keys =
        ["agent:planner", "agent:worker", "agent:other", "agent:ghost", "agents", "cap:sum", "past:planner"];
    for key in keys {
        redis.done(&[b"DEL", format!("agentbus:{{initech}}:{key}").as_bytes()]).await?;
    }
    redis.done(&[b"DEL", b"agentbus:epoch:{initech}"]).await?;
    // What a node remembers of who is found lives for a moment after such a change.
    tokio::time::sleep(Duration::from_millis(100)).await;
    Ok(())
}
