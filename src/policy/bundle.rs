//! Is a bundle fit to be a policy? OPA's own format: a tar.gz of `.manifest`, `data.json`, `*.rego` and, where a key is
//! configured, `.signatures.json`.
//!
//! Whoever made it is a stranger until its signature says otherwise: everything about it has a bound.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

use serde::Deserialize;
use serde_json::{Map, Value};

use super::{
    rego,
    sources::{LoadError, Module, PolicySources},
};
use crate::domain::{Timestamp, id::shown};

mod archive;
mod build;
mod canonical;
mod signature;

use archive::Files;
pub use archive::PACKED_BYTES_MAX;
pub use build::{build, build_for_opa};
pub use signature::{Algorithm, KeyError, SignatureError, Verifier};

const MANIFEST: &str = ".manifest";
/// Of what a bundle calls itself.
const REVISION_CHARS_MAX: usize = 128;
/// The end of the year 9999, in milliseconds since 1970.
const BUILT_AT_MAX: u64 = 253_402_300_799_000;
/// Of nested folders with data.
const DATA_DEPTH_MAX: usize = 16;

/// What was in it.
#[derive(Debug, Clone)]
pub struct Bundle {
    pub label: Label,
    pub sources: PolicySources,
}

/// What a bundle says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub struct Label {
    /// As its maker called it; empty: it has no name.
    pub revision: Arc<str>,
    /// When it was made, by `metadata.agentbus.built_at` of its manifest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub built_at: Option<Timestamp>,
}

/// Why it is not. Shown to the operator as it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BundleError {
    #[error("it is no tar.gz: {cause}")]
    Archive { cause: String },
    #[error("{what} has more than {limit} bytes")]
    TooLarge { what: String, limit: u64 },
    #[error("it has more than {limit} files and folders")]
    TooManyFiles { limit: usize },
    #[error("the path {path} leads out of it, or is not plain")]
    Path { path: String },
    #[error("{path} is a link or a device, expected files and folders alone")]
    NoFile { path: String },
    #[error("{path} is in it twice")]
    Twice { path: String },
    #[error("{path}: {problem}")]
    File { path: String, problem: String },
    #[error("{path} is outside of its roots: {outside}")]
    OutsideRoots { path: String, outside: String },
    #[error(transparent)]
    Signature(#[from] SignatureError),
}

#[derive(Deserialize)]
struct Manifest {
    #[serde(default)]
    revision: String,
    roots: Option<Vec<String>>,
    #[serde(default)]
    rego_version: Option<u8>,
    #[serde(default)]
    metadata: Metadata,
}

#[derive(Deserialize, Default)]
struct Metadata {
    #[serde(default)]
    agentbus: Built,
}

#[derive(Deserialize, Default)]
struct Built {
    built_at: Option<Timestamp>,
}

impl Bundle {
    /// Unpacks and checks it. Blocks.
    pub fn open(packed: &[u8], shipped: bool, verifier: Option<&Verifier>) -> Result<Self, BundleError> {
        let files = archive::unpack(packed)?;
        // Before anything in it is looked at.
        if let Some(verifier) = verifier {
            verifier.verify(&files)?;
        }
        let Described { label, roots } = manifest(&files)?;
        let mut sources =
            PolicySources { shipped, modules: Vec::new(), tests: Vec::new(), data: data(&files, &roots)? };
        for (path, bytes) in &files {
            if let Some(module) = module(path, bytes)? {
                let of = match path.ends_with("_test.rego") {
                    true => &mut sources.tests,
                    false => &mut sources.modules,
                };
                roots.hold(path, &rego::package(&module).map_err(|cause| wrong(path, cause.to_string()))?)?;
                of.push(module);
            }
        }
        Ok(Self { label, sources })
    }
}

impl Label {
    /// Unpacks a bundle for what it calls itself. Nothing else of it is checked.
    pub fn of(packed: &[u8]) -> Result<Self, BundleError> {
        Ok(manifest(&archive::unpack(packed)?)?.label)
    }

    /// Whether it was made before the other, as far as it can be known: who does not say when it was made is older
    /// than who does.
    pub fn is_older_than(&self, other: &Self) -> bool {
        match (self.built_at, other.built_at) {
            (_, None) => false,
            (None, Some(_)) => true,
            (Some(own), Some(other)) => own < other,
        }
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = if self.revision.is_empty() { "a bundle without a name" } else { &self.revision };
        match self.built_at {
            None => f.write_str(name),
            Some(Timestamp(ms)) => {
                // A year that no calendar has is a bundle's own mistake.
                let at = UNIX_EPOCH.checked_add(Duration::from_millis(ms.min(BUILT_AT_MAX)));
                let at = humantime::format_rfc3339_seconds(at.unwrap_or(UNIX_EPOCH));
                write!(f, "{name} of {at}")
            }
        }
    }
}

struct Described {
    label: Label,
    roots: Roots,
}

fn manifest(files: &Files) -> Result<Described, BundleError> {
    let bytes = files.get(MANIFEST).map_or(&b"{}"[..], Vec::as_slice);
    let Manifest { revision, roots, rego_version, metadata } = parse(MANIFEST, bytes)?;
    if revision.len() > REVISION_CHARS_MAX || !revision.chars().all(|c| matches!(c, ' '..='~')) {
        let expected = format!("at most {REVISION_CHARS_MAX} printable characters of ASCII");
        return Err(wrong(MANIFEST, format!("revision: found {}, expected {expected}", shown(&revision))));
    }
    match rego_version {
        None | Some(1) => Ok(Described {
            label: Label { revision: revision.into(), built_at: metadata.agentbus.built_at },
            roots: Roots(roots.unwrap_or_else(|| vec![String::new()])),
        }),
        Some(other) => Err(wrong(MANIFEST, format!("rego_version: found {other}, expected 1"))),
    }
}

/// A Rego file; `None` for one of another kind.
fn module(path: &str, bytes: &[u8]) -> Result<Option<Module>, BundleError> {
    let name = path.rsplit('/').next().unwrap_or(path);
    match name {
        "data.yaml" | "data.yml" => {
            Err(wrong(path, "data is read as JSON alone; `opa build` makes it".to_owned()))
        }
        "patch.json" => Err(wrong(path, "a delta bundle changes another, expected a whole one".to_owned())),
        "plan.json" => Err(wrong(path, "it is built for another target; use `opa build -t rego`".to_owned())),
        _ if name.ends_with(".wasm") => {
            Err(wrong(path, "it is built for another target; use `opa build -t rego`".to_owned()))
        }
        _ if !name.ends_with(".rego") => Ok(None),
        _ => match std::str::from_utf8(bytes) {
            Ok(text) => Ok(Some(Module { file: path.to_owned(), text: text.to_owned() })),
            Err(_) => Err(wrong(path, "it is not UTF-8".to_owned())),
        },
    }
}

/// Each `data.json`, under the folders that it stands in; `None` without one.
fn data(files: &Files, roots: &Roots) -> Result<Option<String>, BundleError> {
    let mut whole: Option<Map<String, Value>> = None;
    for (path, bytes) in files {
        let Some(folder) = path.strip_suffix("data.json") else { continue };
        if !folder.is_empty() && !folder.ends_with('/') {
            continue;
        }
        let mut value: Map<String, Value> = parse(path, bytes)?;
        let folders: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
        if folders.len() > DATA_DEPTH_MAX {
            return Err(wrong(path, format!("it is more than {DATA_DEPTH_MAX} folders deep")));
        }
        for folder in folders.into_iter().rev() {
            value = Map::from_iter([(folder.to_owned(), Value::Object(value))]);
        }
        roots.hold_data(path, "", &value)?;
        merge(path, whole.get_or_insert_default(), value)?;
    }
    Ok(whole.map(|whole| Value::Object(whole).to_string()))
}

fn merge(path: &str, into: &mut Map<String, Value>, from: Map<String, Value>) -> Result<(), BundleError> {
    for (key, value) in from {
        match (into.get_mut(&key), value) {
            (None, value) => {
                into.insert(key, value);
            }
            (Some(Value::Object(into)), Value::Object(from)) => merge(path, into, from)?,
            _ => return Err(wrong(path, format!("{} is said by another file too", shown(&key)))),
        }
    }
    Ok(())
}

/// What the bundle is for, as paths below `data` with slashes; an empty one is all.
struct Roots(Vec<String>);

impl Roots {
    fn contain(&self, path: &str) -> bool {
        let within = |root: &String| {
            let root = root.trim_matches('/');
            root.is_empty()
                || path.strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        self.0.iter().any(within)
    }

    /// A value that contains a root is looked into.
    fn hold_data(&self, file: &str, at: &str, value: &Map<String, Value>) -> Result<(), BundleError> {
        for (key, value) in value {
            let path = if at.is_empty() { key.clone() } else { format!("{at}/{key}") };
            let above = self.0.iter().any(|root| root.trim_matches('/').starts_with(&format!("{path}/")));
            match value {
                _ if self.contain(&path) => {}
                Value::Object(value) if above => self.hold_data(file, &path, value)?,
                _ => return Err(outside(file, &path)),
            }
        }
        Ok(())
    }

    fn hold(&self, file: &str, package: &str) -> Result<(), BundleError> {
        let path = slashed(package);
        if self.contain(&path) { Ok(()) } else { Err(outside(file, &path)) }
    }
}

/// `data.lib.money` as a path below `data`.
fn slashed(package: &str) -> String {
    package.replacen("data.", "", 1).replace('.', "/")
}

fn outside(file: &str, path: &str) -> BundleError {
    BundleError::OutsideRoots { path: file.to_owned(), outside: shown(path) }
}

fn parse<'a, T: Deserialize<'a>>(path: &str, json: &'a [u8]) -> Result<T, BundleError> {
    serde_json::from_slice(json).map_err(|error| wrong(path, error.to_string()))
}

impl From<BundleError> for LoadError {
    fn from(error: BundleError) -> Self {
        Self::Bundle { cause: error.to_string() }
    }
}

fn wrong(path: &str, problem: String) -> BundleError {
    BundleError::File { path: path.to_owned(), problem }
}
