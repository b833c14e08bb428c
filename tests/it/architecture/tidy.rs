//! The direction between modules and between packages, and who owns which foreign crate, as ARCHITECTURE.md says.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
};

mod code;

use crate::support::root;
use code::{Code, Package, circles, room};

/// What is read. Each stands like a room beside those of the library.
const PACKAGES: &[Package] = &[
    Package { name: "", krate: "agentbus", sources: "src" },
    Package { name: "cli", krate: "agentbus_cli", sources: "cli/src" },
    Package { name: "loadtest", krate: "loadtest", sources: "loadtest/src" },
    Package { name: "modelkit", krate: "agentbus_modelkit", sources: "modelkit/src" },
    Package { name: "testkit", krate: "agentbus_testkit", sources: "testkit/src" },
];

/// Folder of a package → packages of this repository that it may depend on.
const MAY_DEPEND: &[(&str, &[&str])] = &[
    ("kernels", &[]),
    (".", &["agentbus-kernels"]),
    ("modelkit", &["agentbus"]),
    ("testkit", &["agentbus"]),
    ("loadtest", &["agentbus", "agentbus-testkit"]),
    ("cli", &["agentbus", "agentbus-modelkit", "agentbus-testkit"]),
];

/// Module, or package → modules of the library that it may name.
const MAY_USE: &[(&str, &[&str])] = &[
    ("domain", &[]),
    ("phrase", &[]),
    ("recent", &[]),
    ("fault_points", &[]),
    ("breakers", &[]),
    ("chaos", &["breakers", "domain", "skew"]),
    ("event_loop", &[]),
    ("fair_queue", &[]),
    ("overload", &["fair_queue"]),
    ("shares", &[]),
    ("shutdown", &[]),
    ("health", &[]),
    ("memory", &[]),
    ("text_file", &[]),
    ("secret_file", &["text_file"]),
    ("supervisor", &[]),
    ("service_manager", &[]),
    ("timely", &[]),
    ("trace", &["recent"]),
    ("tls", &["secret_file", "text_file"]),
    ("http", &["domain", "tls"]),
    ("rejection", &["domain"]),
    ("following", &[]),
    ("freezes", &["domain", "following", "health", "phrase", "rejection"]),
    ("constitutions", &["domain", "following", "health"]),
    ("wire", &["phrase", "domain", "rejection"]),
    ("audit", &["domain", "state", "wire"]),
    ("cpu", &["domain"]),
    ("config", &["breakers", "chaos", "cpu", "domain", "impact", "policy", "secret_file", "skew", "tls"]),
    ("telemetry", &["config", "cpu", "domain", "event_loop", "impact", "memory", "policy", "trace"]),
    ("otlp", &["domain", "http", "secret_file", "telemetry", "tls", "trace"]),
    ("skew", &["domain"]),
    ("trouble", &[]),
    ("usage", &["domain"]),
    (
        "state",
        &["phrase", "domain", "event_loop", "recent", "secret_file", "skew", "supervisor", "timely", "tls"],
    ),
    (
        "policy",
        &[
            "breakers",
            "cpu",
            "domain",
            "http",
            "phrase",
            "rejection",
            "secret_file",
            "state",
            "text_file",
            "trouble",
        ],
    ),
    ("impact", &["breakers", "cpu", "domain", "fair_queue", "recent", "state", "trace", "trouble"]),
    ("deliberation", &["domain", "state"]),
    ("governance", &["phrase", "deliberation", "domain", "impact", "policy", "rejection", "state", "wire"]),
    (
        "lanes",
        &[
            "audit",
            "phrase",
            "constitutions",
            "cpu",
            "deliberation",
            "domain",
            "fault_points",
            "freezes",
            "governance",
            "overload",
            "memory",
            "recent",
            "rejection",
            "wire",
            "shares",
            "skew",
            "state",
            "policy",
            "impact",
            "telemetry",
            "trace",
            "usage",
        ],
    ),
    (
        "review",
        &[
            "audit",
            "phrase",
            "constitutions",
            "cpu",
            "deliberation",
            "domain",
            "freezes",
            "lanes",
            "rejection",
            "state",
            "telemetry",
            "trace",
            "wire",
        ],
    ),
    ("guarded", &["audit", "breakers", "deliberation", "domain", "lanes", "state"]),
    (
        "nats",
        &[
            "audit",
            "breakers",
            "http",
            "phrase",
            "config",
            "constitutions",
            "cpu",
            "deliberation",
            "domain",
            "event_loop",
            "fair_queue",
            "fault_points",
            "following",
            "freezes",
            "governance",
            "lanes",
            "overload",
            "policy",
            "recent",
            "review",
            "shares",
            "shutdown",
            "skew",
            "state",
            "supervisor",
            "telemetry",
            "tenants",
            "timely",
            "tls",
            "usage",
            "webhook",
            "wire",
        ],
    ),
    ("webhook", &["phrase", "config", "domain", "http", "secret_file"]),
    ("admin", &["config", "health", "shutdown", "supervisor", "telemetry", "tls"]),
    ("tenants", &["domain", "secret_file", "text_file", "tls"]),
    ("client", &["config", "domain", "tls", "wire"]),
    ("servers", &["tenants"]),
    (
        "app",
        &[
            "audit",
            "phrase",
            "admin",
            "breakers",
            "chaos",
            "guarded",
            "nats",
            "config",
            "constitutions",
            "cpu",
            "deliberation",
            "domain",
            "event_loop",
            "health",
            "impact",
            "lanes",
            "memory",
            "otlp",
            "policy",
            "review",
            "secret_file",
            "service_manager",
            "shutdown",
            "skew",
            "state",
            "supervisor",
            "telemetry",
            "tenants",
            "tls",
            "trace",
            "webhook",
            "wire",
            "freezes",
        ],
    ),
    ("modelkit", &["config", "domain", "impact", "wire"]),
    ("testkit", &["audit", "client", "domain", "servers", "tenants"]),
];

/// Foreign crate → where it may be named.
const OWNED: &[(&str, &[&str])] = &[
    ("async_nats", &["nats", "client", "tenants", "servers", "app", "cli", "testkit"]),
    ("fred", &["state/redis"]),
    ("redis_protocol", &["state/redis"]),
    ("regorus", &["policy/rego"]),
    ("rmp", &["wire"]),
    ("rmp_serde", &["client", "wire/"]),
    ("axum", &["admin"]),
    ("prometheus_client", &["telemetry"]),
    ("opentelemetry_proto", &["otlp"]),
    ("prost", &["otlp"]),
    ("clap", &["cli"]),
    ("comfy_table", &["cli"]),
    ("indicatif", &["cli/progress", "cli/score"]),
    ("unicode_width", &["cli/printable"]),
    ("candle_core", &["impact/distilbert", "impact/guard"]),
    ("candle_nn", &["impact/distilbert", "impact/guard"]),
    ("candle_transformers", &["impact/guard"]),
    ("rayon", &["impact/guard"]),
    ("agentbus_kernels", &["impact/distilbert"]),
    ("tokenizers", &["impact/model"]),
    ("hyper", &["http", "admin"]),
    ("hyper_util", &["http", "admin"]),
    ("http_body_util", &["http"]),
    ("tokio_rustls", &["http", "tls"]),
    ("rustls_native_certs", &["tls"]),
    ("hmac", &["policy/bundle", "state/seal", "webhook"]),
    ("flate2", &["policy/bundle"]),
    ("tar", &["policy/bundle"]),
    ("ring", &["policy/bundle", "tls"]),
    ("spki", &["policy/bundle"]),
    ("base64", &["policy/bundle", "servers/secrets", "state/seal", "tenants/keys", "webhook"]),
];

/// The programs. They name what they like of the library, and nobody names them.
const ON_TOP: &[&str] = &["cli", "loadtest"];

#[test]
fn modules_use_only_what_the_architecture_allows() {
    let code = code();
    let mut forbidden = Vec::new();
    for (file, named) in code.arrows() {
        let from = room(file);
        let astray = named.iter().filter(|other| ON_TOP.contains(&room(other)) && room(other) != from);
        forbidden.extend(astray.map(|other| format!("{file}: nobody may use a program ({other})")));
        if ON_TOP.contains(&from) || from == "lib" {
            continue;
        }
        let Some((_, allowed)) = MAY_USE.iter().find(|(name, _)| *name == from) else {
            forbidden.push(format!("{file}: MAY_USE does not say what {from} may use"));
            continue;
        };
        for other in named {
            let to = room(other);
            if to != from && to != "lib" && !allowed.contains(&to) {
                forbidden.push(format!("{file}: {from} may not use {to} ({other})"));
            }
        }
    }
    assert!(forbidden.is_empty(), "{}", forbidden.join("\n"));
}

#[test]
fn what_may_be_used_is_used_and_makes_no_circle_between_rooms() {
    let code = code();
    let mut used: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    let arrows = code.arrows();
    for (file, named) in &arrows {
        used.entry(room(file)).or_default().extend(named.iter().map(|other| room(other)));
    }
    for (from, allowed) in MAY_USE {
        let unused: Vec<_> = allowed.iter().filter(|to| !used[from].contains(**to)).collect();
        assert!(unused.is_empty(), "{from} may use {unused:?} and does not: take it out");
    }
    let mut left: BTreeMap<&str, BTreeSet<&str>> =
        MAY_USE.iter().map(|(from, allowed)| (*from, allowed.iter().copied().collect())).collect();
    while let Some(end) =
        left.iter().find(|(_, to)| to.iter().all(|to| !left.contains_key(to))).map(|it| *it.0)
    {
        left.remove(end);
    }
    assert!(left.is_empty(), "rooms that lead to themselves: {:?}", left.keys());
}

#[test]
fn no_file_leads_to_itself_through_others_of_its_room() {
    let code = code();
    let arrows = code.arrows();
    let found = circles(&arrows);
    assert!(found.is_empty(), "in a circle, or between two: {found:#?}");
}

#[test]
fn each_foreign_crate_has_its_owner() {
    let code = code();
    let mut forbidden = Vec::new();
    // The load test speaks to the bus as strangers do, by whatever means.
    for file in code.files().filter(|file| room(file) != "loadtest") {
        for (krate, owners) in OWNED {
            if code.names_crate(file, krate) && !owners.iter().any(|owner| file.starts_with(owner)) {
                forbidden.push(format!("{file} names {krate}, which belongs to {owners:?}"));
            }
        }
    }
    assert!(forbidden.is_empty(), "{}", forbidden.join("\n"));
}

/// Caches of what can be computed again. All others are `recent`'s, which never refuses who is new.
const MEMOS: &[&str] = &["impact/semantic", "policy/cache"];

#[test]
fn what_must_be_known_is_kept_by_who_came_last() {
    let code = code();
    let of_their_own = |file: &&str| {
        let text = code.text(file);
        text.contains("moka::") && (text.contains("Cache::new(") || text.contains("Cache::builder("))
    };
    let found: Vec<&str> = code.files().filter(of_their_own).collect();
    let expected = |file: &&&str| ["recent"].iter().chain(MEMOS).any(|memo| file.starts_with(memo));
    assert_eq!(found.iter().filter(expected).count(), found.len(), "not by crate::recent: {found:?}");
    assert_eq!(found.len(), MEMOS.len() + 1, "{found:?}");
}

/// What a function of facts has no use for: waiting, clocks, chance, threads and what others could change.
const IMPURE: &[&str] = &[
    "tokio",
    "async ",
    ".await",
    "Instant::",
    "SystemTime",
    "Utc::",
    "rand::",
    "RandomState",
    "nuid",
    "uuid",
    "std::thread",
    "std::fs",
    "std::net",
    "std::env",
    "Mutex",
    "RwLock",
    "Atomic",
    "RefCell",
    "thread_local",
    "HashMap",
    "HashSet",
    "tracing::",
    "unsafe",
    "Cpu",
    "Gate",
    "Assessor",
    "Senders",
    "dyn ",
    "Registry>",
    "Idempotency",
];

#[test]
fn governance_waits_for_nothing_and_reads_no_clock_and_no_chance() {
    let code = code();
    let core: Vec<&str> = code.files().filter(|file| room(file) == "governance").collect();
    assert!(core.len() > 5, "the core is not where it was");
    let mut impure = Vec::new();
    for file in core {
        for word in IMPURE.iter().filter(|word| code.text(file).contains(**word)) {
            impure.push(format!("{file}: `{word}` has no place in the core"));
        }
    }
    assert!(impure.is_empty(), "{}", impure.join("\n"));
}

#[test]
fn every_module_is_on_the_map() {
    let map = fs::read_to_string(root().join("src/lib.rs")).unwrap();
    for module in map.lines().filter_map(|line| line.strip_prefix("pub mod ")) {
        let module = module.trim_end_matches(';');
        assert!(map.contains(&format!("[`{module}`]")), "src/lib.rs does not say what `{module}` is");
    }
}

#[test]
fn each_package_depends_on_what_the_architecture_allows() {
    for (folder, allowed) in MAY_DEPEND {
        let manifest = fs::read_to_string(root().join(folder).join("Cargo.toml")).unwrap();
        let manifest: toml::Table = manifest.parse().unwrap();
        let own = |table: &str| {
            let packages = manifest.get(table).and_then(|table| table.as_table()).into_iter().flatten();
            packages.map(|(name, _)| name.clone()).filter(|name| name.starts_with("agentbus"))
        };
        let found: Vec<String> = own("dependencies").chain(own("dev-dependencies")).collect();
        assert_eq!(found, *allowed, "{folder}/Cargo.toml");
    }
}

fn code() -> Code {
    Code::of(root(), PACKAGES)
}
