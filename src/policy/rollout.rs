//! How does another policy come into force? It is read, compiled, tested by its own tests and tried on questions of
//! late; then one pointer is changed. With anything wrong, the one in force stays, and why is told until it is mended.

use std::{path::PathBuf, sync::Arc};

use parking_lot::Mutex;
use tokio::sync::{OwnedMutexGuard, watch};

use super::{
    Event, Gate, Moded, Modes, OffRuntime, PolicyEngine as _, PolicySources, RegoEngine,
    bundle::{Label, Verifier},
    sources::LoadError,
    trial::{self, Trial},
};
use crate::{cpu::Cpu, domain::Timestamp};

mod beside;
mod follow;

pub use beside::ShadowOffer;

/// Where the policy comes from.
#[derive(Clone)]
pub enum Origin {
    Folder(Folder),
    /// Bundles, which are followed.
    Bundles {
        shipped: bool,
        verifier: Option<Verifier>,
        /// Of the one in force.
        label: Option<Label>,
    },
}

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
        RegoEngine::tested(&sources)
    }
}

/// The policy in force, and what may take its place.
pub struct Rollout {
    gate: Arc<Gate>,
    modes: Arc<Modes>,
    cpu: Arc<Cpu>,
    clock: fn() -> Timestamp,
    state: Mutex<State>,
    /// One at a time.
    turn: Arc<tokio::sync::Mutex<()>>,
    ready: watch::Sender<bool>,
}

struct State {
    origin: Origin,
    since: Timestamp,
    refused: Option<Refused>,
    /// Why no bundle can be looked for.
    unreachable: Option<String>,
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
    /// In force; empty: none is there yet.
    pub revision: Arc<str>,
    /// In force since then.
    pub since: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<Refused>,
    /// It comes from bundles, not from a folder.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub follows: bool,
    /// What the bundle in force calls itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bundle: Option<Label>,
    /// Why no other bundle can be looked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unreachable: Option<String>,
}

/// A policy that could be put in force. As long as it is held, no other can.
pub struct Candidate {
    engine: Arc<OffRuntime>,
    origin: Origin,
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
    /// With what the gate has in force: what was read from the folder, or nothing until a bundle comes.
    pub fn new(gate: Arc<Gate>, cpu: Arc<Cpu>, origin: Origin, clock: fn() -> Timestamp) -> Self {
        let ready = watch::Sender::new(matches!(origin, Origin::Folder(_)));
        let state = State { origin, since: clock(), refused: None, unreachable: None };
        let modes = Arc::new(Modes::in_process());
        Self { gate, modes, cpu, clock, state: Mutex::new(state), turn: Arc::default(), ready }
    }

    /// What comes into force is asked so.
    pub fn asked_by(self, modes: Arc<Modes>) -> Self {
        Self { modes, ..self }
    }

    pub fn gate(&self) -> &Arc<Gate> {
        &self.gate
    }

    pub fn modes(&self) -> &Modes {
        &self.modes
    }

    pub fn standing(&self) -> Standing {
        let State { origin, since, refused, unreachable } = &*self.state.lock();
        let (follows, bundle) = match origin {
            Origin::Folder(_) => (false, None),
            Origin::Bundles { label, .. } => (true, label.clone()),
        };
        let (revision, since) = (self.gate.revision(), *since);
        let (refused, unreachable) = (refused.clone(), unreachable.clone());
        Standing { revision, since, refused, follows, bundle, unreachable }
    }

    /// Reads the folder again, and puts what is there in force.
    pub async fn reload(&self) -> Result<Loaded, LoadError> {
        let turn = Arc::clone(&self.turn).lock_owned().await;
        // Only now: who had the turn before may have brought another folder.
        let Origin::Folder(folder) = self.state.lock().origin.clone() else {
            return Err(LoadError::NoFolder);
        };
        Ok(self.put_in_force(self.candidate(folder, turn).await?))
    }

    /// All but putting it in force. With anything wrong, that is told until something is right.
    pub async fn prepare(&self, folder: Folder) -> Result<Candidate, LoadError> {
        let turn = Arc::clone(&self.turn).lock_owned().await;
        self.candidate(folder, turn).await
    }

    async fn candidate(&self, folder: Folder, turn: OwnedMutexGuard<()>) -> Result<Candidate, LoadError> {
        match self.read(&folder).await {
            Ok((engine, tests, trial)) => {
                Ok(Candidate { engine, origin: Origin::Folder(folder), tests, trial, _turn: turn })
            }
            Err(error) => Err(self.refuse(error)),
        }
    }

    async fn read(&self, folder: &Folder) -> Result<(Arc<OffRuntime>, usize, Trial), LoadError> {
        let read = folder.clone();
        let loaded = tokio::task::spawn_blocking(move || read.load()).await;
        let (engine, tests) = loaded.map_err(|cause| LoadError::Compile { cause: cause.to_string() })??;
        let (engine, trial) = self.tried(engine).await?;
        Ok((engine, tests, trial))
    }

    /// On questions of late, if it is another than the one in force.
    async fn tried(&self, engine: RegoEngine) -> Result<(Arc<OffRuntime>, Trial), LoadError> {
        let engine = Arc::new(OffRuntime::new(engine, Arc::clone(&self.cpu)));
        let in_force = self.gate.in_force();
        if engine.revision() == in_force.revision() {
            return Ok((engine, Trial::default()));
        }
        let trial = trial::run(&*engine, &in_force, &self.gate.recent.questions()).await;
        Ok((engine, trial.map_err(|cause| LoadError::Trial { cause })?))
    }

    /// The one in force stays, and why is told until something is right.
    fn refuse(&self, error: LoadError) -> LoadError {
        self.gate.meter.see(Event::Refused);
        let why = error.to_string();
        tracing::error!(in_force = %self.gate.revision(), why, "another policy is refused; the one in force stays");
        self.state.lock().refused = Some(Refused { at: (self.clock)(), why });
        error
    }

    /// Messages that begin from now on are judged by it.
    pub fn put_in_force(&self, candidate: Candidate) -> Loaded {
        let Candidate { engine, origin, tests, trial, _turn } = candidate;
        let (revision, before) = (Arc::clone(engine.revision()), self.gate.revision());
        let changed = revision != before;
        let mut state = self.state.lock();
        state.origin = origin;
        state.refused = None;
        if changed {
            self.gate.replace(Arc::new(Moded::new(engine, Arc::clone(&self.modes))));
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
