//! What reads words by a network: the bus's model with its head, or somebody's guard. One way to load
//! them, to cut texts into windows, and to score.

use std::{path::Path, sync::Arc};

use super::{
    Semantic,
    guard::{Guard, GuardError, GuardSession, is_guard},
    model::{Model, ModelError, Precision, Session, Source, TooLong, Windows},
};

#[derive(Clone)]
pub enum Classifier {
    Model(Arc<Model>),
    Guard(Arc<Guard>),
}

/// One thread's way to a classifier.
pub enum ClassifierSession {
    Model(Box<Session>),
    Guard(Box<GuardSession>),
}

#[derive(Debug, thiserror::Error)]
pub enum ClassifierError {
    #[error(transparent)]
    Model(#[from] ModelError),
    #[error(transparent)]
    Guard(#[from] GuardError),
    #[error("{guard} is a guard and takes no head; a head is for the bus's own kind of model")]
    Headless { guard: String },
}

impl Classifier {
    /// A folder with a `guard.toml`, or of a classifier without a head of ours, is a guard, which
    /// computes in f32 whatever is asked for.
    pub fn load(source: &Source, precision: Option<Precision>) -> Result<Self, ClassifierError> {
        match source {
            Source::Dir(folder) if is_guard(folder) => Ok(Self::Guard(Arc::new(Guard::load(folder)?))),
            Source::Dir(_) | Source::Embedded => Ok(Self::Model(Arc::new(Model::load(source, precision)?))),
        }
    }

    /// The same with another head. A guard has none.
    pub fn with_head(&self, name: &str, path: &Path) -> Result<Self, ClassifierError> {
        match self {
            Self::Model(model) => Ok(Self::Model(Arc::new(model.with_head(name, path)?))),
            Self::Guard(guard) => Err(ClassifierError::Headless { guard: guard.name().to_owned() }),
        }
    }

    pub fn name(&self) -> &str {
        match self {
            Self::Model(model) => model.name(),
            Self::Guard(guard) => guard.name(),
        }
    }

    pub fn digest(&self) -> [u8; 32] {
        match self {
            Self::Model(model) => model.digest(),
            Self::Guard(guard) => guard.digest(),
        }
    }

    /// The token ids of a normalised text, in windows that overlap.
    pub fn windows(&self, text: &str, limits: &Windows) -> Result<Vec<Vec<u32>>, TooLong> {
        match self {
            Self::Model(model) => model.windows(text, limits),
            Self::Guard(guard) => guard.windows(text, limits),
        }
    }

    pub fn session(&self) -> ClassifierSession {
        match self {
            Self::Model(model) => ClassifierSession::Model(Box::new(model.session())),
            Self::Guard(guard) => ClassifierSession::Guard(Box::new(guard.session())),
        }
    }
}

impl ClassifierSession {
    pub fn classifier(&self) -> Classifier {
        match self {
            Self::Model(session) => Classifier::Model(Arc::clone(session.model())),
            Self::Guard(session) => Classifier::Guard(Arc::clone(session.guard())),
        }
    }

    pub fn name(&self) -> &str {
        match self {
            Self::Model(session) => session.model().name(),
            Self::Guard(session) => session.guard().name(),
        }
    }

    /// What is said of each window.
    pub fn scores(&mut self, windows: &[&[u32]]) -> Result<Vec<Semantic>, ClassifierError> {
        match self {
            Self::Model(session) => Ok(session.scores(windows)?),
            Self::Guard(session) => Ok(session.scores(windows)?),
        }
    }
}
