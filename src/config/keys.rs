//! What does each key mean? Said here once, for `agentbus config show` and `agentbus node --help`.

use super::{MAY_HOLD_SECRETS, NodeConfig, without_secrets};

/// Each key's path and meaning, tables together, in the order in which they are shown. The keys of
/// `constitution` are those of each of its entries.
pub const KEYS: &[(&str, &str)] = &[
    ("node.name", "Shown in verdicts, records and logs; 1 to 64 of [a-z0-9_-]"),
    ("node.drain", "How long messages in flight may take after SIGTERM; at most 1m"),
    ("node.clock_tolerance", "How far the clock may differ from Redis' and JetStream's; 100ms to 1h"),
    ("node.poll_clock", "wall; or processor, for measurements: some µs more for each poll"),
    ("nats.url", "nats://host:port, several separated by commas"),
    ("nats.nkey_file", "File with the NKey seed of the user node of account BUS"),
    ("nats.kicker_nkey_file", "Of the user kicker of account SYS, to put a stalled node out of service"),
    ("nats.ping_interval", "How often the node asks the server whether it lives"),
    ("nats.timeout", "Bound of every single wait for the server"),
    ("nats.tls.ca_file", "PEM of who signs the server's certificate; not set: the system's"),
    ("nats.tls.certificate_file", "PEM of what the node shows the server; not set: nothing"),
    ("nats.tls.key_file", "Its private key"),
    ("redis.url", "redis://host:port[/db], rediss:// with TLS; not set: in memory"),
    ("redis.user", "Whom the node logs in as; not set: Redis' user default"),
    ("redis.password_file", "File with its password; no other user can read it"),
    ("redis.allow_no_password", "true: Redis may be one that asks for no password"),
    ("redis.seal_key_file", "File with what nodes seal by; a key a line, the first seals"),
    ("redis.allow_no_seal", "true: nothing is sealed, and all that is in Redis is believed"),
    ("redis.accept_unsealed_for", "From its start a node believes what has no seal; at most 7days"),
    ("redis.tls.ca_file", "As nats.tls.ca_file"),
    ("redis.tls.certificate_file", "As nats.tls.certificate_file"),
    ("redis.tls.key_file", "Its private key"),
    ("http.listen", "For /livez, /readyz, /metrics, /thresholds; no log-in, keep it inside"),
    ("http.connections", "At one time; the oldest gives way; at most a quarter of ulimit -n"),
    ("http.tls.certificate_file", "PEM of what the node shows; not set: HTTP without TLS"),
    ("http.tls.key_file", "Its private key"),
    ("http.tls.client_ca_file", "Lets in only clients with a certificate of it; not set: all"),
    ("log.format", "human, json, or auto: human on a terminal, json elsewhere"),
    ("log.filter", "Such as info, or warn,agentbus=debug"),
    ("constitution.hash", "In the file, [[constitution]]: what messages must name, 16 hex digits"),
    ("constitution.from", "In force from, as 2026-01-31T00:00:00Z; not set: always was"),
    ("constitution.until", "In force until then; not set: no end"),
    ("limits.request_bytes", "Of a whole request; below max_payload of the NATS server"),
    ("limits.in_flight", "Messages that the node works on at one time"),
    ("limits.in_flight_per_tenant", "Of these, at most so many of one tenant"),
    ("limits.asks", "Questions that wait for answers at one time, beside those in flight"),
    ("limits.asks_per_tenant", "Of these, at most so many of one tenant"),
    ("limits.answer", "From reading a question to its answer; at most 29s"),
    ("limits.deadline", "From reading a request to its verdict; at most 10m"),
    ("limits.clock_skew", "How far created_at may lie in the future; at most 1h"),
    ("limits.memory_bytes", "Of the node's memory; not set: of its cgroup, or of the machine"),
    ("policy.dir", "Folder of Rego modules beside the shipped ones; all must allow"),
    ("policy.shipped", "false leaves the shipped modules out"),
    ("policy.mode", "rego: in process; opa: by servers; opa_or_rego: in process if none answers"),
    ("policy.tenants", "Tenants with another mode: { acme = \"opa\" }; at most 4096"),
    ("policy.bundle.from", "Policy from bundles: bus (`agentbus policy push`), a URL or a file"),
    ("policy.bundle.token_file", "What a web server is shown as a bearer token"),
    ("policy.bundle.key_file", "PEM of who must have signed them; of HS256 the secret"),
    ("policy.bundle.algorithm", "RS256, ES256 or HS256"),
    ("policy.bundle.scope", "What the signature must be for, if it is to be for something"),
    ("policy.opa.servers", "http://host:port, several separated by commas; at most 16"),
    ("policy.opa.token_file", "What they are shown as a bearer token"),
    ("policy.opa.timeout", "For one question, whoever is asked; below limits.deadline"),
    ("policy.log.share", "Of the messages, whose decisions go to stream DECISIONS; 0 to 1"),
    ("policy.log.content", "true: with their content and metadata"),
    ("policy.log.file", "Where they are written besides, as lines of JSON"),
    ("cpu.threads", "For your own rules and for large bodies; one tenant has all but one"),
    ("cpu.queue", "Pieces of such work that wait at one time, of one tenant up to half"),
    ("lane.threads", "Of the fast lane, each with connections of its own; see scaling.md before"),
    ("lane.busy_poll", "Looks for answers so long instead of sleeping; 0s: never; at most 1ms"),
    ("registry.ttl", "A registration without a heartbeat lives so long"),
    ("idempotency.window", "Repeats within it get the stored verdict; at most 24h"),
    ("idempotency.lease", "After it another node takes over a message; 1.5 deadlines or more"),
    ("durable.give_up_after", "Five attempts at a submitted message take so long, 1s to 10m"),
    ("impact.scorer", "model, or keywords: a poor judge that needs no model"),
    ("impact.model_dir", "Folder of another model and its head; not set: the one built in"),
    ("impact.heads", "Files of heads that tenants name: { acme = \"acme.head.json\" }; at most 16"),
    ("impact.guards", "Folders of guards asked beside it, with a guard.toml; at most 4"),
    ("impact.guard_threads", "That run each of them"),
    ("impact.precision", "f32, bf16, int8, or auto: the fastest that the processor has"),
    ("impact.threads", "That run the model; 0: one less than there are cores, at least 1"),
    ("impact.nice", "Their niceness, and that of readers, 0 to 19: how far others go first"),
    ("impact.idle", "They compute where nothing else wants the core, if they can"),
    ("impact.queue", "Messages that wait for the model; more are not scored"),
    ("impact.deadline", "For a score; below limits.deadline. Without: deliberated"),
    ("impact.long_deadline", "For a score on the durable lane, where nobody waits; at most 20s"),
    ("impact.cache_entries", "Scores of texts that are remembered, about 100 bytes each"),
    ("impact.windows_max", "Windows of 128 tokens that a `send` may fill; more go by the durable lane"),
    ("impact.long_windows_max", "The same on the durable lane; one with more is not scored"),
    ("impact.audit_every", "One in so many that need no model is scored all the same; 0: none"),
    ("impact.senders_max", "Senders whose past is kept, about 1 KiB each"),
    (
        "impact.report_lift_max",
        "How far words lift a message that asks for nothing, 0 to 1; 1: like all others",
    ),
    ("impact.weights.semantic", "What the words count for; only proportions matter, 0 to 1000"),
    ("impact.weights.permission", "What the strongest tool asked for counts for"),
    ("impact.weights.volume", "What the number of a sender's messages counts for"),
    ("impact.weights.context", "What the hour and amounts of money count for"),
    ("impact.weights.drift", "What being unlike the sender's past counts for"),
    ("impact.weights.priority", "What the priority counts for"),
    ("impact.weights.type", "What the type of the message counts for"),
    ("breakers.opa", "Of an OPA server: faults that open it, and how it is tried again"),
    ("breakers.redis", "The same of Redis; recovery: exponential, linear, immediate, manual"),
    ("breakers.model", "Of the model, for each tenant"),
    ("breakers.records", "Of the stream of decision records"),
    ("breakers.jetstream", "Of the durable lane, for each tenant"),
    ("breakers.deliberations", "Of the logs of deliberations, for each tenant"),
    ("breakers.webhook", "Of the webhook; open_for: the longest pause, 100ms to 10m"),
    ("chaos.allowed", "true: experiments may be made with this node; never where it serves"),
    ("chaos.beyond_loopback", "true: although its servers are not on this machine"),
    ("chaos.clock_ahead_ms", "An experiment: its clock is ahead by so much, or behind; at most 1 day"),
    ("chaos.open_breakers", "An experiment: kinds of breakers that are held open, with commas"),
    ("webhook.url", "Hears of what is parked, escalated, decided; not set: nobody does"),
    ("webhook.secret_file", "File with what calls are signed with, whsec_ and base64"),
    ("webhook.timeout", "Of one call, 100ms to 20s"),
    ("webhook.attempts", "After so many calls an event is given up, 1 to 100"),
    ("otlp.endpoint", "Collector, http://host:4318, with grpc :4317; not set: none is told"),
    ("otlp.protocol", "http: protobuf to /v1/traces and so on; or grpc"),
    ("otlp.headers_file", "File with headers for it, `name: value` a line; a secret"),
    ("otlp.traces", "Whether it gets traces"),
    ("otlp.metrics", "Whether it gets the metrics of /metrics"),
    ("otlp.logs", "Whether it gets what is logged"),
    ("otlp.sample", "Of the traces that begin here, 0 to 1; senders decide on theirs"),
    ("otlp.slow", "What takes so long is told in any case, as what is refused or parked"),
    ("otlp.metrics_every", "How often metrics are sent, 1s to 1h"),
    ("otlp.tls.ca_file", "As nats.tls.ca_file"),
    ("otlp.tls.certificate_file", "As nats.tls.certificate_file"),
    ("otlp.tls.key_file", "Its private key"),
];

/// Columns of the narrowest terminal that a help is for.
const HELP_COLUMNS: usize = 80;

/// How to set keys, and each with its meaning.
pub fn help() -> String {
    let width = KEYS.iter().map(|(path, _)| path.len()).max().unwrap_or_default();
    let mut text = "Keys, for the file, for --set, and for the environment, where \
                    AGENTBUS__LIMITS__DEADLINE=500ms sets limits.deadline:\n"
        .to_owned();
    for (path, meaning) in KEYS {
        let room = HELP_COLUMNS - width - 4;
        for (at, line) in lines(meaning, room).iter().enumerate() {
            let path = if at == 0 { path } else { "" };
            text.push_str(&format!("  {path:<width$}  {line}\n"));
        }
    }
    text + "`agentbus config show` prints their values."
}

/// Words in lines of at most so many characters.
fn lines(text: &str, room: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if line.is_empty() => line.push_str(word),
            Some(line) if line.chars().count() + 1 + word.chars().count() <= room => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

/// The configuration as TOML that can be read back, each key below its meaning. Users and passwords
/// are not in it.
pub fn show(config: &NodeConfig) -> Result<String, toml::ser::Error> {
    let root = toml::Table::try_from(config)?;
    let holds_secrets = |path: &str| url(config, path).is_some_and(|url| without_secrets(url) != url);
    let hidden: Vec<&str> = MAY_HOLD_SECRETS.into_iter().filter(|path| holds_secrets(path)).collect();
    let mut tables = Vec::new();
    for keys in KEYS.chunk_by(|(a, _), (b, _)| split(a).0 == split(b).0) {
        let name = keys.first().map_or("", |(path, _)| split(path).0);
        match find(&root, name) {
            Some(toml::Value::Array(entries)) => {
                for entry in entries {
                    tables.push(show_table(&format!("[[{name}]]"), entry.as_table(), keys, &hidden));
                }
            }
            found => {
                let table = found.and_then(toml::Value::as_table);
                let mark = if table.is_some() { "" } else { "# " };
                tables.push(show_table(&format!("{mark}[{name}]"), table, keys, &hidden));
            }
        }
    }
    Ok(tables.join("\n"))
}

fn show_table(header: &str, table: Option<&toml::Table>, keys: &[(&str, &str)], hidden: &[&str]) -> String {
    let mut text = format!("{header}\n");
    for (path, meaning) in keys {
        let (_, key) = split(path);
        text.push_str(&format!("# {meaning}\n"));
        if hidden.contains(path) {
            let variable = variable(path);
            text.push_str(&format!("# Its user and password are left out; {variable} can set it\n"));
        }
        match table.and_then(|table| table.get(key)) {
            Some(value) => text.push_str(&format!("{key} = {value}\n")),
            None => text.push_str(&format!("# {key} is not set\n")),
        }
    }
    text
}

/// The keys in which two configurations differ, in the order in which they are shown; the keys of
/// `constitution` as one.
pub fn changed(old: &NodeConfig, new: &NodeConfig) -> Result<Vec<&'static str>, toml::ser::Error> {
    let (before, after) = (toml::Table::try_from(old)?, toml::Table::try_from(new)?);
    let mut changed = Vec::new();
    for (path, _) in KEYS {
        // Of a list of tables all counts as one.
        let table = split(path).0;
        let list =
            [&before, &after].into_iter().any(|root| find(root, table).is_some_and(toml::Value::is_array));
        let path = if list { table } else { path };
        // What is secret of a URL is not in the tables.
        let url = |config| url(config, path);
        let differs = find(&before, path) != find(&after, path) || url(old) != url(new);
        if differs && changed.last() != Some(&path) {
            changed.push(path);
        }
    }
    Ok(changed)
}

/// The value of a key that may hold a secret.
fn url<'a>(config: &'a NodeConfig, path: &str) -> Option<&'a str> {
    match path {
        "nats.url" => Some(&config.nats.url),
        "redis.url" => config.redis.as_ref().map(|redis| redis.url.as_str()),
        "webhook.url" => config.webhook.as_ref().map(|webhook| webhook.url.as_str()),
        _ => None,
    }
}

/// The environment variable that sets a key.
pub(super) fn variable(path: &str) -> String {
    format!("AGENTBUS__{}", path.to_uppercase().replace('.', "__"))
}

/// The table, and the key in it.
fn split(path: &str) -> (&str, &str) {
    path.rsplit_once('.').unwrap_or(("", path))
}

fn find<'a>(root: &'a toml::Table, name: &str) -> Option<&'a toml::Value> {
    let mut parts = name.split('.');
    let first = root.get(parts.next()?)?;
    parts.try_fold(first, |value, part| value.as_table()?.get(part))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::collections::BTreeSet;

    use super::*;
    use crate::config::{
        ClientTls, ConstitutionEntry, Http, Nats, Otlp, OtlpProtocol, Policy, PolicyBundle, PolicyOpa, Redis,
        ServerTls, Webhook, tests::load,
    };
    use crate::{
        impact,
        policy::{Mode, bundle::Algorithm, decision_log},
    };

    /// Every key set. Literals without `..`, so that a new optional key cannot be forgotten here.
    fn full() -> NodeConfig {
        let hash = crate::config::DEFAULT_CONSTITUTION.parse().unwrap();
        let [from, until] = ["2026-01-31T00:00:00Z", "2027-01-31T00:00:00Z"].map(|t| Some(t.to_owned()));
        let Nats { url, ping_interval, timeout, .. } = Nats::default();
        let client = ClientTls {
            ca_file: Some("ca.pem".into()),
            certificate_file: Some("node.pem".into()),
            key_file: Some("node.key.pem".into()),
        };
        let tls = client.clone();
        NodeConfig {
            nats: Nats {
                url,
                nkey_file: Some("node.nk".into()),
                kicker_nkey_file: Some("kicker.nk".into()),
                ping_interval,
                timeout,
                tls: Some(client.clone()),
            },
            http: Http {
                tls: Some(ServerTls {
                    certificate_file: "node.pem".into(),
                    key_file: "node.key.pem".into(),
                    client_ca_file: Some("clients.pem".into()),
                }),
                ..Http::default()
            },
            redis: Some(Redis {
                url: "rediss://127.0.0.1:6379".to_owned(),
                user: Some("agentbus".to_owned()),
                password_file: Some("redis.password".into()),
                allow_no_password: true,
                seal_key_file: Some("seal.key".into()),
                allow_no_seal: true,
                accept_unsealed_for: std::time::Duration::from_secs(60),
                tls: Some(client),
            }),
            constitution: vec![ConstitutionEntry { hash, from, until }],
            policy: Policy {
                dir: Some("a \"b\"\n".into()),
                shipped: false,
                bundle: Some(PolicyBundle {
                    from: PolicyBundle::BUS.to_owned(),
                    token_file: Some("token".into()),
                    key_file: Some("key.pem".into()),
                    algorithm: Algorithm::ES256,
                    scope: Some("write".to_owned()),
                }),
                mode: Mode::Rego,
                tenants: [("acme".parse().unwrap(), Mode::OpaOrRego)].into(),
                opa: Some(PolicyOpa {
                    servers: "http://127.0.0.1:8181, https://opa:8181".to_owned(),
                    token_file: Some("token".into()),
                    timeout: std::time::Duration::from_millis(100),
                }),
                log: decision_log::Settings { share: 0.5, content: true, file: Some("decisions".into()) },
            },
            impact: impact::Settings {
                model_dir: Some("model".into()),
                guards: vec!["guard".into()],
                heads: [("acme".to_owned(), "acme.head.json".into())].into(),
                ..impact::Settings::default()
            },
            limits: crate::config::Limits { memory_bytes: Some(1 << 30), ..Default::default() },
            webhook: Some(Webhook {
                url: "https://example.org/hook".to_owned(),
                secret_file: "webhook.secret".into(),
                timeout: std::time::Duration::from_secs(1),
                attempts: 3,
            }),
            otlp: Some(Otlp {
                endpoint: "https://collector:4317".to_owned(),
                protocol: OtlpProtocol::Grpc,
                headers_file: Some("otlp.headers".into()),
                traces: true,
                metrics: false,
                logs: true,
                sample: 0.5,
                slow: std::time::Duration::from_millis(200),
                metrics_every: std::time::Duration::from_secs(10),
                tls: Some(tls),
            }),
            ..NodeConfig::default()
        }
    }

    fn leaves(at: &str, value: &toml::Value, found: &mut BTreeSet<String>) {
        let below = |key: &str| if at.is_empty() { key.to_owned() } else { format!("{at}.{key}") };
        match value {
            // Names that operators choose are no keys of ours, and of breakers all is said together.
            toml::Value::Table(_)
                if ["impact.heads", "policy.tenants"].contains(&at) || at.starts_with("breakers.") =>
            {
                assert!(found.insert(at.to_owned()))
            }
            toml::Value::Table(table) => table.iter().for_each(|(key, v)| leaves(&below(key), v, found)),
            toml::Value::Array(entries) => entries.iter().for_each(|entry| leaves(at, entry, found)),
            _ => assert!(found.insert(at.to_owned()), "{at} twice"),
        }
    }

    #[test]
    fn every_key_has_a_meaning_and_every_meaning_a_key() {
        let mut keys = BTreeSet::new();
        leaves("", &toml::Value::try_from(full()).unwrap(), &mut keys);
        let told: BTreeSet<String> = KEYS.iter().map(|(path, _)| (*path).to_owned()).collect();
        assert_eq!(keys, told);
        assert_eq!(told.len(), KEYS.len(), "a key is told twice");
    }

    #[test]
    fn what_is_shown_can_be_read_back() {
        for config in [NodeConfig::default(), full()] {
            let text = show(&config).unwrap();
            assert_eq!(load(&text, &[], &[]).unwrap(), config, "{text}");
            for (_, meaning) in KEYS {
                assert!(text.contains(&format!("# {meaning}\n")), "{meaning:?} is not in\n{text}");
            }
        }
    }

    #[test]
    fn what_differs_is_named_down_to_a_password() {
        let toml = "[redis]\nurl = \"redis://:hunter2@c:6379/1\"\nallow_no_seal = true\n[impact.weights]\ndrift = 0.5";
        let old = load(toml, &[], &[]).unwrap();
        assert_eq!(changed(&old, &old).unwrap(), Vec::<&str>::new());
        let new = load(
            "[redis]\nurl = \"redis://:hunter3@c:6379/1\"\nallow_no_seal = true\n[impact.weights]\ndrift = 0.4\n\
             [webhook]\nurl = \"https://d/hook\"\nsecret_file = \"s\"\n\
             [[constitution]]\nhash = \"0123456789abcdef\"\nuntil = \"2027-01-01T00:00:00Z\"",
            &[],
            &[("http.connections", "7")],
        )
        .unwrap();
        let expected = [
            "redis.url",
            "http.connections",
            "constitution",
            "impact.weights.drift",
            "webhook.url",
            "webhook.secret_file",
            "webhook.timeout",
            "webhook.attempts",
        ];
        assert_eq!(changed(&old, &new).unwrap(), expected);
        assert_eq!(changed(&new, &old).unwrap(), expected);
    }

    #[test]
    fn a_line_of_the_help_fits_a_terminal() {
        for line in help().lines().filter(|line| line.starts_with("  ")) {
            assert!(line.len() <= HELP_COLUMNS, "{} bytes: {line}", line.len());
        }
    }

    #[test]
    fn no_secret_is_shown_and_what_is_left_can_be_read() {
        let toml = "[nats]\nurl = \"nats://node:hunter2@a:4222, hunter2@b:4222\"\n\
                    [redis]\nurl = \"redis://:hunter2@c:6379/1\"\nseal_key_file = \"k\"\n\
                    [webhook]\nurl = \"https://d/hook?token=hunter2&a=b\"\nsecret_file = \"s\"";
        let config = load(toml, &[], &[]).unwrap();
        let text = show(&config).unwrap();
        assert!(!format!("{text}{config:?}").contains("hunter2"), "{text}{config:?}");
        assert!(text.contains("AGENTBUS__REDIS__URL can set it\nurl = \"redis://c:6379/1\""), "{text}");
        // A Redis without a password is none to start with, so what was left out is asked for.
        assert!(load(&text, &[], &[]).is_err());
        let read = load(&text, &[("AGENTBUS__REDIS__URL", "redis://:x@c:6379/1")], &[]).unwrap();
        assert_eq!(read.nats.url, "nats://b:4222");
        assert_eq!(read.webhook.unwrap().url, "https://d/hook?a=b");
    }
}
