//! How does another policy come into force? It is read, compiled, tested by its own tests and tried on questions of
//! late; then one pointer is changed. With anything wrong, the one in force stays, and why is told until it is mended.

use std::{path::PathBuf, sync::Arc};

use parking_lot::Mutex;
use tokio::sync::OwnedMutexGuard;

use super::{
    Event, Gate, OffRuntime, PolicyEngine as _, PolicySources, RegoEngine, rego,
    sources::LoadError,
    trial::{self, Trial},
};
use crate::{cpu::Cpu, domain::Timestamp};

/// Where the policy is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Folder {
    /// `None`: the shipped modules alone.
    pub dir: Option<PathBuf>,
    pub shipped: bool,
}

impl Folder {
    /// Reads, compiles and tests what is there. Blocks.
    pub fn load(&self) -> Result<(RegoEngine, usize), LoadError> {
        let sources = PolicySources::read(self.dir.as_deref(), self.shipped)?;
        let engine = RegoEngine::load(&sources)?;
        Ok((engine, rego::test(&sources)?))
    }
}

/// The policy in force, and what may take its place.
pub struct Rollout {
    gate: Arc<Gate>,
    cpu: Arc<Cpu>,
    clock: fn() -> Timestamp,
    state: Mutex<State>,
    /// One at a time.
    turn: Arc<tokio::sync::Mutex<()>>,
}

struct State {
    folder: Folder,
    since: Timestamp,
    refused: Option<Refused>,
}

/// Why what was read last is not in force.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Refused {
    /// By this node's clock, in milliseconds since 1970.
    pub at: Timestamp,
    /// Names file and line where it has some.
    pub why: String,
}

/// What a node says of its policy.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Standing {
    /// In force.
    pub revision: Arc<str>,
    /// In force since then.
    pub since: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<Refused>,
}

/// A policy that could be put in force. As long as it is held, no other can.
pub struct Candidate {
    engine: Arc<OffRuntime>,
    folder: Folder,
    tests: usize,
    trial: Trial,
    _turn: OwnedMutexGuard<()>,
}

/// A policy that was put in force, or was in force already.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Loaded {
    pub revision: Arc<str>,
    /// `false`: the policy that was read is in force already.
    pub changed: bool,
    /// Its own tests, all of which pass.
    pub tests: usize,
    pub trial: Trial,
}

impl Rollout {
    /// With what the gate has in force, read from the folder.
    pub fn new(gate: Arc<Gate>, cpu: Arc<Cpu>, folder: Folder, clock: fn() -> Timestamp) -> Self {
        let state = State { folder, since: clock(), refused: None };
        Self { gate, cpu, clock, state: Mutex::new(state), turn: Arc::default() }
    }

    pub fn gate(&self) -> &Arc<Gate> {
        &self.gate
    }

    pub fn standing(&self) -> Standing {
        let state = self.state.lock();
        Standing { revision: self.gate.revision(), since: state.since, refused: state.refused.clone() }
    }

    /// Reads the folder again, and puts what is there in force.
    pub async fn reload(&self) -> Result<Loaded, LoadError> {
        let folder = self.state.lock().folder.clone();
        Ok(self.put_in_force(self.prepare(folder).await?))
    }

    /// All but putting it in force. With anything wrong, that is told until something is right.
    pub async fn prepare(&self, folder: Folder) -> Result<Candidate, LoadError> {
        let turn = Arc::clone(&self.turn).lock_owned().await;
        let candidate = self.candidate(folder, turn).await;
        if let Err(error) = &candidate {
            self.gate.meter.see(Event::Refused);
            let why = error.to_string();
            tracing::error!(in_force = %self.gate.revision(), why, "another policy is refused; the one in force stays");
            self.state.lock().refused = Some(Refused { at: (self.clock)(), why });
        }
        candidate
    }

    async fn candidate(&self, folder: Folder, turn: OwnedMutexGuard<()>) -> Result<Candidate, LoadError> {
        let read = folder.clone();
        let loaded = tokio::task::spawn_blocking(move || read.load()).await;
        let (engine, tests) = loaded.map_err(|cause| LoadError::Compile { cause: cause.to_string() })??;
        let engine = Arc::new(OffRuntime::new(engine, Arc::clone(&self.cpu)));
        let in_force = self.gate.in_force();
        let trial = match engine.revision() == in_force.revision() {
            true => Trial::default(),
            false => trial::run(&*engine, &in_force, &self.gate.recent.questions())
                .await
                .map_err(|cause| LoadError::Trial { cause })?,
        };
        Ok(Candidate { engine, folder, tests, trial, _turn: turn })
    }

    /// Messages that begin from now on are judged by it.
    pub fn put_in_force(&self, candidate: Candidate) -> Loaded {
        let Candidate { engine, folder, tests, trial, _turn } = candidate;
        let (revision, before) = (Arc::clone(engine.revision()), self.gate.revision());
        let changed = revision != before;
        let mut state = self.state.lock();
        state.folder = folder;
        state.refused = None;
        if changed {
            self.gate.replace(engine);
            state.since = (self.clock)();
        }
        drop(state);
        self.gate.meter.see(if changed { Event::Loaded } else { Event::Unchanged });
        let loaded = Loaded { revision, changed, tests, trial };
        tracing::info!(
            revision = %loaded.revision,
            %before,
            changed,
            tests,
            tried = trial.tried,
            answered_otherwise = trial.changed,
            "the policy was read again"
        );
        loaded
    }
}
