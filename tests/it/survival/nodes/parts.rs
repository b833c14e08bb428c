//! Is everything that a node needs, and that could end, looked after?

use std::{collections::BTreeMap, fs};

use crate::support::root;

/// Where a node starts tasks and threads beside its `Supervisor`, how often, and why each may.
const OTHERS: &[(&str, usize, &str)] = &[
    ("admin.rs", 1, "writes one page, which its connection waits for"),
    ("admin/ask.rs", 1, "reads certificates for a question to a node, which waits for it"),
    ("admin/server.rs", 1, "one connection of an operator"),
    ("app/load.rs", 1, "loads the model for the start, which waits for it"),
    ("app/check.rs", 1, "reads files for the start, which waits for it"),
    (
        "event_loop.rs",
        2,
        "a thread of a lane; it runs what the supervisor keeps, and ends with the node. And what is made on it, which is \
         waited for",
    ),
    ("app/service.rs", 1, "one turn of each event loop, which is waited for"),
    ("app/reload.rs", 1, "reads the configuration for the part `reload`, which waits for it"),
    ("nats/requests.rs", 1, "one request"),
    ("nats/answers.rs", 1, "one answer"),
    ("nats/inbound/pulling.rs", 1, "one message of the durable lane; JetStream gives it again"),
    ("nats/intake/session.rs", 1, "reads certificates for one log-in, which waits for it"),
    ("nats/shadow_answers.rs", 1, "one answer to an operator is written"),
    ("nats/tenant_consumers.rs", 1, "one event of deliberations; JetStream gives it again"),
    ("cli/src/node.rs", 1, "the node itself"),
    ("cpu.rs", 1, "catches the panics of what it computes"),
    ("impact/guard.rs", 1, "one measurement at the start, which waits for it"),
    ("impact/pool.rs", 1, "catches the panics of the model"),
    ("impact/pool/idle.rs", 1, "catches the panics of the model, and ends with the engine beside it"),
    ("impact/readers.rs", 1, "catches the panics of what it reads"),
    ("http/channel.rs", 1, "one connection; the next call opens another"),
    ("lanes/chain.rs", 1, "one count; without it a conversation has had one message less"),
    ("lanes/claim.rs", 1, "what follows one answer"),
    ("lanes/fleet.rs", 1, "one question to Redis; without its answer the node goes by its own count"),
    ("policy/decision_log.rs", 1, "the thread that writes the log; what is lost without it is counted"),
    ("policy/shadow.rs", 1, "the thread of a candidate; what is not judged without it is counted"),
    ("policy/rollout.rs", 1, "one policy is read and tried, which waits for it"),
    ("policy/rollout/beside.rs", 1, "one candidate is opened, which waits for it"),
    ("policy/rollout/follow.rs", 1, "one bundle is opened, which waits for it"),
    ("shutdown.rs", 1, "waits for one signal"),
    ("supervisor.rs", 1, "the supervisor"),
    ("tenants/directory.rs", 1, "for tests of the directory; a node keeps its own by the supervisor"),
];

#[test]
fn whatever_a_node_starts_is_supervised_or_is_named_with_its_reason() {
    let src = root().join("src");
    let mut found = BTreeMap::new();
    let mut left = vec![src.clone(), root().join("cli/src/node.rs")];
    while let Some(path) = left.pop() {
        if path.is_dir() {
            left.extend(fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
            continue;
        }
        let name = path.strip_prefix(&src).or_else(|_| path.strip_prefix(root())).unwrap();
        let name = name.to_string_lossy().into_owned();
        // Other commands than `node` start servers.
        let test = name.ends_with("tests.rs") || name.contains("/tests/");
        if !name.ends_with(".rs") || test || name.starts_with("servers") {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        let code = text.split("#[cfg(test)]\nmod tests").next().unwrap().to_owned();
        let code: Vec<_> = code.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
        let count = ["spawn(", "spawn_blocking(", "spawn_local(", "JoinSet"]
            .map(|word| code.iter().filter(|line| line.contains(word)).count())
            .iter()
            .sum::<usize>();
        if count > 0 {
            found.insert(name, count);
        }
    }
    let named: BTreeMap<String, usize> =
        OTHERS.iter().map(|(file, count, _)| ((*file).to_owned(), *count)).collect();
    assert_eq!(found, named, "let the supervisor keep it, or say why it need not");
}
