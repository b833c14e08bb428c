//! Which Rego modules and data make up the policy, and what is their revision?
//!
//! The shipped modules are embedded. A policy folder adds to them, unless `shipped` is off.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use sha2::{Digest, Sha256};

use super::PolicyError;
use crate::text_file;

/// One Rego file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Module {
    /// The path below the policy folder, for messages.
    pub file: String,
    pub text: String,
}

/// Everything that decides what a policy answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicySources {
    /// Whether the shipped modules take part.
    pub shipped: bool,
    /// The operator's own.
    pub modules: Vec<Module>,
    /// Their tests, which decide nothing and are no part of the revision.
    pub tests: Vec<Module>,
    /// The text of `data.json`, a JSON object.
    pub data: Option<String>,
}

macro_rules! shipped {
    ($($name:literal),+ $(,)?) => {
        &[$((
            concat!("agentbus/", $name, ".rego"),
            include_str!(concat!("../../policies/agentbus/", $name, ".rego")),
        )),+]
    };
}

/// The modules that ship: file and text.
pub const SHIPPED: &[(&str, &str)] = shipped!["priorities", "roles", "separation", "tenant", "tools"];

/// How an OPA server joins the modules; a node does the same without them.
pub const AGGREGATION: &[(&str, &str)] = shipped!["batch", "decision", "shape"];

/// Why there is no policy to load. Shown to the operator as it is.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error("{} cannot be read: {source}", path.display())]
    Unreadable { path: PathBuf, source: io::Error },
    #[error("{} holds more than {limit} files or folders", dir.display())]
    TooManyFiles { dir: PathBuf, limit: usize },
    #[error("{} is nested more than {limit} folders deep", dir.display())]
    TooDeep { dir: PathBuf, limit: usize },
    #[error("{} is larger than {limit} bytes", path.display())]
    TooLarge { path: PathBuf, limit: u64 },
    #[error("{}: data is read from data.json at the top of the policy folder only", path.display())]
    NestedData { path: PathBuf },
    #[error("data.json: {cause}")]
    Data { cause: String },
    /// The cause names file, line and column.
    #[error("{cause}")]
    Parse { cause: String },
    #[error(
        "{file}: package {package} belongs to the bus; modules are packages agentbus.modules.<name> \
         with a name that does not ship, or anything outside of agentbus"
    )]
    ReservedPackage { file: String, package: String },
    #[error("the module {module} does not define `allow`, so it would deny everything")]
    NoAllow { module: String },
    #[error("{file}:{line}: {name} is a builtin of OPA alone, so that a node cannot evaluate the rule")]
    NoBuiltin { file: String, line: usize, name: String },
    #[error("there is no module, so everything would be denied; write one or set policy.shipped = true")]
    NoModules,
    #[error("the policy does not hold together: {cause}")]
    Compile { cause: String },
    #[error("a sample message could not be decided: {cause}")]
    Sample { cause: String },
    /// The first of those that fail.
    #[error("{file}:{line}: the test {test} {cause}; of {all} tests {failed} fail")]
    Test { file: String, line: u32, test: String, cause: String, failed: usize, all: usize },
    #[error("there are {found} tests, at most {limit} are run")]
    TooManyTests { found: usize, limit: usize },
    #[error("the tests take longer than {limit:?} together")]
    SlowTests { limit: Duration },
    #[error("the bundle: {cause}")]
    Bundle { cause: String },
    #[error(
        "{found} is older than {in_force}, which is in force; `agentbus policy push --force` is for those who mean it"
    )]
    Older { found: String, in_force: String },
    #[error("the policy comes from bundles, which are followed by themselves; push another")]
    NoFolder,
    #[error("the policy comes from a folder, and bundles are not followed")]
    NoBundles,
    #[error("a question of late could not be decided, which the policy in force decides: {cause}")]
    Trial { cause: PolicyError },
}

impl PolicySources {
    const FILES_MAX: usize = 256;
    const DEPTH_MAX: usize = 8;
    const FILE_BYTES_MAX: u64 = 1024 * 1024;

    /// The shipped policy alone.
    pub fn shipped() -> Self {
        Self { shipped: true, modules: Vec::new(), tests: Vec::new(), data: None }
    }

    /// The modules (`*.rego`) below `dir`, their tests (`*_test.rego`), and its `data.json`. Names that
    /// begin with a dot are passed over, as mounted Kubernetes volumes keep their copies there.
    pub fn read(dir: Option<&Path>, shipped: bool) -> Result<Self, LoadError> {
        let mut sources = Self { shipped, modules: Vec::new(), tests: Vec::new(), data: None };
        if let Some(dir) = dir {
            let mut seen = 0;
            sources.walk(dir, dir, 0, &mut seen)?;
            sources.modules.sort();
            sources.tests.sort();
        }
        Ok(sources)
    }

    fn walk(&mut self, root: &Path, dir: &Path, depth: usize, seen: &mut usize) -> Result<(), LoadError> {
        if depth > Self::DEPTH_MAX {
            return Err(LoadError::TooDeep { dir: root.to_owned(), limit: Self::DEPTH_MAX });
        }
        let unreadable = |source| LoadError::Unreadable { path: dir.to_owned(), source };
        for entry in fs::read_dir(dir).map_err(unreadable)? {
            *seen += 1;
            if *seen > Self::FILES_MAX {
                return Err(LoadError::TooManyFiles { dir: root.to_owned(), limit: Self::FILES_MAX });
            }
            let path = entry.map_err(unreadable)?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if name.starts_with('.') {
                continue;
            }
            if path.is_dir() {
                self.walk(root, &path, depth + 1, seen)?;
            } else if name == "data.json" {
                if depth > 0 {
                    return Err(LoadError::NestedData { path });
                }
                self.data = Some(read(&path)?);
            } else if name.ends_with(".rego") {
                let file = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().into_owned();
                let of = if name.ends_with("_test.rego") { &mut self.tests } else { &mut self.modules };
                of.push(Module { file, text: read(&path)? });
            }
        }
        Ok(())
    }

    /// The first 16 hex digits of the SHA-256 over all names and bytes, sorted by name.
    pub fn revision(&self) -> Arc<str> {
        let shipped = self.shipped.then(|| SHIPPED.iter().chain(AGGREGATION));
        let mut parts: Vec<(&str, &str, &str)> =
            shipped.into_iter().flatten().map(|(file, text)| ("shipped", *file, *text)).collect();
        parts.extend(self.modules.iter().map(|module| ("own", module.file.as_str(), module.text.as_str())));
        parts.extend(self.data.as_deref().map(|data| ("data", "data.json", data)));
        parts.sort_unstable();
        let mut hash = Sha256::new();
        for (origin, name, bytes) in parts {
            for part in [origin, name, bytes] {
                hash.update(part.len().to_le_bytes());
                hash.update(part);
            }
        }
        let mut hex = hex::encode(hash.finalize());
        hex.truncate(16);
        hex.into()
    }
}

fn read(path: &Path) -> Result<String, LoadError> {
    let unreadable = |source| LoadError::Unreadable { path: path.to_owned(), source };
    let metadata = fs::metadata(path).map_err(unreadable)?;
    if metadata.len() > PolicySources::FILE_BYTES_MAX {
        return Err(LoadError::TooLarge { path: path.to_owned(), limit: PolicySources::FILE_BYTES_MAX });
    }
    text_file::read(path, PolicySources::FILE_BYTES_MAX).map_err(unreadable)
}
