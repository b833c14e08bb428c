//! Where do the seeds live, and who can read them? One file per user, for its owner only.

use std::{
    fmt,
    fs::{self, DirBuilder, OpenOptions, Permissions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use nkeys::{KeyPair, KeyPairType};

use crate::{
    domain::{AgentId, TenantId},
    secret_file::{self, SecretFileError},
};

use super::{
    names::{User, keys_dir},
    plan::Plan,
};

/// A seed has 58 characters; more than this is not one.
const SEED_FILE_MAX: u64 = 256;
/// Folders and files looked at when sweeping; more are left alone.
const SWEEP_MAX: usize = 100_000;

/// A user's secret. Its `Debug` shows nothing.
#[derive(Clone)]
pub struct Seed(String);

impl fmt::Debug for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seed(..)")
    }
}

/// Why a seed cannot be read or kept. Never holds the seed.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    #[error("cannot use {}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error(transparent)]
    File(#[from] SecretFileError),
    #[error("{} does not hold a NATS user seed; move it away and a new one is made", path.display())]
    NotASeed { path: PathBuf },
    #[error("cannot make a key: {cause}")]
    Key { cause: String },
}

impl Seed {
    /// Reads a user's seed, such as `keys/acme/planner.nk`. Blocks.
    pub fn read(path: &Path) -> Result<Seed, KeysError> {
        let seed = Seed(secret_file::read(path, SEED_FILE_MAX)?.trim().to_owned());
        match seed.key_pair() {
            Ok(pair) if pair.key_pair_type() == KeyPairType::User => Ok(seed),
            _ => Err(KeysError::NotASeed { path: path.to_owned() }),
        }
    }

    /// The secret itself, for the client that logs in with it.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// The user's public name, `U…`.
    pub fn public_key(&self) -> Result<String, KeysError> {
        Ok(self.key_pair()?.public_key())
    }

    /// The answer to a server's challenge: base64 for URLs, without padding.
    pub(crate) fn sign(&self, nonce: &[u8]) -> Result<String, KeysError> {
        let signature = self.key_pair()?.sign(nonce).map_err(|e| KeysError::Key { cause: e.to_string() })?;
        Ok(URL_SAFE_NO_PAD.encode(signature))
    }

    fn new() -> Result<Seed, KeysError> {
        KeyPair::new_user().seed().map(Seed).map_err(|e| KeysError::Key { cause: e.to_string() })
    }

    fn key_pair(&self) -> Result<KeyPair, KeysError> {
        KeyPair::from_seed(&self.0).map_err(|e| KeysError::Key { cause: e.to_string() })
    }
}

/// A user's seed, and how it was found.
pub(super) struct Kept {
    pub(super) seed: Seed,
    /// Made just now.
    pub(super) created: bool,
    /// Others could get at it until now.
    pub(super) exposed: bool,
}

/// Reads the user's seed, or makes one.
pub(super) fn keep(dir: &Path, user: &User) -> Result<Kept, KeysError> {
    let path = user.seed_path(dir);
    let io = |source| KeysError::Io { path: path.clone(), source };
    if fs::exists(&path).map_err(io)? {
        // A copy or an archive may have opened it to others.
        let exposed = fs::metadata(&path).map_err(io)?.permissions().mode() & 0o077 != 0;
        fs::set_permissions(&path, Permissions::from_mode(0o600)).map_err(io)?;
        return Ok(Kept { seed: Seed::read(&path)?, created: false, exposed });
    }
    for folder in [Some(keys_dir(dir)), path.parent().map(Path::to_owned)].into_iter().flatten() {
        DirBuilder::new().recursive(true).mode(0o700).create(&folder).map_err(io)?;
        fs::set_permissions(&folder, Permissions::from_mode(0o700)).map_err(io)?;
    }
    let seed = Seed::new()?;
    write_whole(&path, format!("{}\n", seed.reveal()).as_bytes(), 0o600).map_err(io)?;
    Ok(Kept { seed, created: true, exposed: false })
}

/// Deletes them. A key that opens nothing is only a secret lying about, and one that came back later would
/// revive old copies.
pub(super) fn sweep(seeds: &[PathBuf]) -> Result<(), KeysError> {
    for seed in seeds {
        fs::remove_file(seed).map_err(|source| KeysError::Io { path: seed.clone(), source })?;
        if let Some(folder) = seed.parent() {
            // Fails when there is anything else in it, which then stays.
            let _ = fs::remove_dir(folder);
        }
    }
    Ok(())
}

/// Seeds of agents that the plan does not have, or for which it names other keys. Only what this module could
/// have written: anything else is not ours to delete.
pub(super) fn gone(dir: &Path, plan: &Plan) -> Result<Vec<PathBuf>, KeysError> {
    let mut gone = Vec::new();
    for folder in entries(&keys_dir(dir))? {
        let Some(id) = folder.file_name().and_then(|n| n.to_str()).and_then(|n| n.parse::<TenantId>().ok())
        else {
            continue;
        };
        if super::names::RESERVED_TENANTS.contains(&id.as_str()) {
            continue;
        }
        let tenant = plan.tenants().iter().find(|tenant| tenant.id == id);
        for file in entries(&folder)? {
            let agent = file.file_name().and_then(|n| n.to_str()).and_then(|n| n.strip_suffix(".nk"));
            let Some(agent) = agent.and_then(|n| n.parse::<AgentId>().ok()) else { continue };
            let left = tenant.is_none_or(|tenant| !tenant.agents.contains_key(&agent));
            if left || opens_nothing(plan, &User::Agent(id.clone(), agent), &file) {
                gone.push(file);
            }
        }
    }
    gone.sort();
    Ok(gone)
}

/// Whether the plan names keys for the user, and this seed's is not among them.
fn opens_nothing(plan: &Plan, user: &User, file: &Path) -> bool {
    let Some(named) = plan.named_keys(user) else { return false };
    Seed::read(file).and_then(|seed| seed.public_key()).is_ok_and(|key| !named.contains(&key))
}

/// The public keys with which the user may log in: those that the plan names, or that of its seed. None where
/// the seed is yet to be made, or others could read it: `keep` closes it first.
pub(super) fn public_keys(dir: &Path, plan: &Plan, user: &User) -> Result<Vec<String>, KeysError> {
    if let Some(named) = plan.named_keys(user) {
        return Ok(named.to_vec());
    }
    let path = user.seed_path(dir);
    if !fs::exists(&path).map_err(|source| KeysError::Io { path: path.clone(), source })? {
        return Ok(Vec::new());
    }
    match Seed::read(&path) {
        Ok(seed) => Ok(vec![seed.public_key()?]),
        Err(KeysError::File(SecretFileError::Mode { .. })) => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// The public key of the seed in a file; a new one is made where there is none. Blocks.
pub fn public_key_of(path: &Path) -> Result<String, KeysError> {
    let io = |source| KeysError::Io { path: path.to_owned(), source };
    if !fs::exists(path).map_err(io)? {
        let seed = Seed::new()?;
        write_whole(path, format!("{}\n", seed.reveal()).as_bytes(), 0o600).map_err(io)?;
    }
    Seed::read(path)?.public_key()
}

/// The paths in a folder; none when it is not there or is not a folder.
fn entries(folder: &Path) -> Result<Vec<PathBuf>, KeysError> {
    let io = |source| KeysError::Io { path: folder.to_owned(), source };
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    fs::read_dir(folder).map_err(io)?.take(SWEEP_MAX).map(|entry| Ok(entry.map_err(io)?.path())).collect()
}

/// Writes beside the file and renames, so that no reader and no crash meets half of it.
pub(super) fn write_whole(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let draft = path.with_extension("new");
    // A draft left by a crash might be readable by others: start afresh.
    match fs::remove_file(&draft) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&draft)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&draft, path)
}
