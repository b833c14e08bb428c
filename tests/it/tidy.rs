//! The direction between modules, and who owns which foreign crate, as ARCHITECTURE.md says.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

/// Module → modules of this crate that it may name.
const MAY_USE: &[(&str, &[&str])] = &[
    ("domain", &[]),
    ("phrase", &[]),
    ("shutdown", &[]),
    ("text_file", &[]),
    ("secret_file", &["text_file"]),
    ("supervisor", &[]),
    ("tls", &[]),
    ("rejection", &["domain"]),
    ("wire", &["phrase", "domain", "rejection"]),
    ("cpu", &["domain"]),
    ("config", &["cpu", "domain", "impact", "secret_file", "skew"]),
    ("telemetry", &["config", "cpu", "domain", "impact"]),
    ("skew", &["domain"]),
    ("trouble", &[]),
    ("state", &["phrase", "domain", "secret_file", "skew", "supervisor"]),
    ("policy", &["cpu", "domain", "rejection", "text_file", "trouble"]),
    ("impact", &["domain", "state", "trouble"]),
    ("deliberation", &["domain", "state"]),
    ("governance", &["phrase", "deliberation", "domain", "impact", "policy", "rejection", "state", "wire"]),
    (
        "lanes",
        &[
            "phrase",
            "cpu",
            "deliberation",
            "domain",
            "governance",
            "rejection",
            "wire",
            "skew",
            "state",
            "policy",
            "impact",
            "telemetry",
        ],
    ),
    (
        "bus",
        &[
            "phrase",
            "config",
            "cpu",
            "deliberation",
            "domain",
            "lanes",
            "rejection",
            "shutdown",
            "skew",
            "state",
            "supervisor",
            "telemetry",
            "tenants",
            "tls",
            "webhook",
            "wire",
        ],
    ),
    ("webhook", &["phrase", "config", "domain", "secret_file", "tls"]),
    ("admin", &["config", "shutdown", "supervisor", "telemetry"]),
    ("tenants", &["domain", "secret_file", "text_file"]),
    ("client", &["config", "domain", "telemetry", "wire"]),
    ("servers", &["secret_file", "tenants"]),
    (
        "app",
        &[
            "phrase",
            "admin",
            "bus",
            "config",
            "cpu",
            "deliberation",
            "domain",
            "impact",
            "lanes",
            "policy",
            "secret_file",
            "shutdown",
            "skew",
            "state",
            "supervisor",
            "telemetry",
            "tenants",
            "webhook",
            "wire",
        ],
    ),
];

/// Foreign crate → where it may be named.
const OWNED: &[(&str, &[&str])] = &[
    ("async_nats", &["bus", "client", "tenants", "servers", "app", "cli"]),
    ("fred", &["state/redis"]),
    ("regorus", &["policy/rego"]),
    ("rmp", &["wire"]),
    ("rmp_serde", &["client", "wire/"]),
    ("axum", &["admin"]),
    ("prometheus_client", &["telemetry"]),
    ("indicatif", &["cli"]),
    ("unicode_width", &["cli/printable"]),
    ("candle_core", &["impact/distilbert", "impact/guard"]),
    ("candle_nn", &["impact/distilbert", "impact/guard"]),
    ("candle_transformers", &["impact/guard"]),
    ("rayon", &["impact/guard"]),
    ("agentbus_kernels", &["impact/distilbert"]),
    ("tokenizers", &["impact/model"]),
    ("hyper", &["webhook", "admin"]),
    ("hyper_util", &["webhook", "admin"]),
    ("http_body_util", &["webhook"]),
    ("tokio_rustls", &["tls", "webhook"]),
    ("rustls_native_certs", &["tls"]),
    ("hmac", &["state/seal", "webhook"]),
    ("base64", &["servers/secrets", "state/seal", "tenants/keys", "webhook"]),
];

#[test]
fn modules_use_only_what_the_architecture_allows() {
    let mut forbidden = Vec::new();
    for (file, text) in sources() {
        let module = file.split('/').next().unwrap_or_default().trim_end_matches(".rs").to_owned();
        let Some((_, allowed)) = MAY_USE.iter().find(|(name, _)| *name == module) else { continue };
        for used in crate_modules(&text) {
            if used != module && !allowed.contains(&used.as_str()) && is_module(&used) {
                forbidden.push(format!("{file}: {module} may not use {used}"));
            }
        }
    }
    assert!(forbidden.is_empty(), "{}", forbidden.join("\n"));
}

#[test]
fn each_foreign_crate_has_its_owner() {
    let mut forbidden = Vec::new();
    for (file, text) in sources() {
        for (krate, owners) in OWNED {
            let named = production(&text).contains(&format!("{krate}::"));
            if named && !owners.iter().any(|owner| file.starts_with(owner)) {
                forbidden.push(format!("{file} names {krate}, which belongs to {owners:?}"));
            }
        }
    }
    assert!(forbidden.is_empty(), "{}", forbidden.join("\n"));
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
    let mut impure = Vec::new();
    let core = sources().into_iter().filter(|(file, _)| {
        file == "governance.rs" || (file.starts_with("governance/") && !file.ends_with("tests.rs"))
    });
    let mut files = 0;
    for (file, text) in core {
        files += 1;
        for word in IMPURE.iter().filter(|word| production(&text).contains(**word)) {
            impure.push(format!("{file}: `{word}` has no place in the core"));
        }
    }
    assert!(files > 5, "the core is not where it was");
    assert!(impure.is_empty(), "{}", impure.join("\n"));
}

/// Rooms in which no file needs, by whatever way, one that needs it.
const WITHOUT_CIRCLES: &[&str] = &["governance", "lanes"];

#[test]
fn no_circle_between_the_files_of_a_room() {
    let mut circles = Vec::new();
    for room in WITHOUT_CIRCLES {
        let mut files: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (file, text) in sources() {
            let name = file.strip_prefix(&format!("{room}/")).and_then(|file| file.strip_suffix(".rs"));
            if let Some(name) = name.filter(|name| !name.ends_with("tests")) {
                files.insert(name.to_owned(), modules_after("super::", &text));
            }
        }
        assert!(files.len() > 5, "{room} is not where it was");
        // What needs nothing of what is left goes, until nothing does: the rest goes in circles.
        loop {
            let left: Vec<String> = files.keys().cloned().collect();
            files.retain(|file, needs| needs.iter().any(|need| need != file && left.contains(need)));
            if files.len() == left.len() {
                break;
            }
        }
        circles.extend(files.into_iter().map(|(file, needs)| format!("{room}/{file} needs {needs:?}")));
    }
    assert!(circles.is_empty(), "{}", circles.join("\n"));
}

#[test]
fn every_module_is_on_the_map() {
    let map = fs::read_to_string(src().join("lib.rs")).unwrap();
    for module in map.lines().filter_map(|line| line.strip_prefix("pub mod ")) {
        let module = module.trim_end_matches(';');
        assert!(map.contains(&format!("[`{module}`]")), "src/lib.rs does not say what `{module}` is");
    }
}

fn src() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// Path below src, and text, of every source file.
fn sources() -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut folders = vec![src()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ext| ext == "rs") {
                let name = path.strip_prefix(src()).unwrap().to_string_lossy().into_owned();
                found.insert(name, fs::read_to_string(&path).unwrap());
            }
        }
    }
    found
}

/// Without its unit tests, which may use more, and its comments.
fn production(text: &str) -> String {
    let code = text.split("#[cfg(test)]").next().unwrap_or_default();
    code.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

/// The modules named after `crate::`, in `use` trees as in paths.
fn crate_modules(text: &str) -> Vec<String> {
    modules_after("crate::", text)
}

fn modules_after(prefix: &str, text: &str) -> Vec<String> {
    let text = production(text);
    let mut used = Vec::new();
    for (at, _) in text.match_indices(prefix) {
        let rest = &text[at + prefix.len()..];
        if let Some(tree) = rest.strip_prefix('{') {
            let mut depth = 1;
            let mut name = String::new();
            for c in tree.chars() {
                match c {
                    '{' => depth += 1,
                    '}' => depth -= 1,
                    _ if depth == 1 && (c.is_alphanumeric() || c == '_') => {
                        name.push(c);
                        continue;
                    }
                    _ => {}
                }
                // A name at the top of the tree ends here; what follows it down to `,` is its path.
                if depth <= 1 && !name.is_empty() {
                    used.push(std::mem::take(&mut name));
                }
                if depth == 0 {
                    break;
                }
            }
        } else {
            used.push(rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect());
        }
    }
    used
}

fn is_module(name: &str) -> bool {
    src().join(format!("{name}.rs")).exists()
}
