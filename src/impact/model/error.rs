//! Why there is no model, or no answer of it: what was found, what was expected, what to do.

use std::{io, path::PathBuf};

use super::{
    super::distilbert::{ConfigError, Engine, LoadError, Precision, RunError, Unavailable, WeightsError},
    HeadError, TokenizerError,
};

#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    #[error(
        "{path} is missing; a model's folder holds config.json, model.safetensors, tokenizer.json and \
         head.json{hint}", path = path.display()
    )]
    Missing { path: PathBuf, hint: &'static str },
    #[error("{path} cannot be read: {cause}", path = path.display())]
    Unreadable { path: PathBuf, cause: io::Error },
    #[error("{path} has {bytes} bytes, at most {max} are read", path = path.display())]
    TooLarge { path: PathBuf, bytes: u64, max: u64 },
    #[error("{place}: {cause}")]
    Config { place: String, cause: ConfigError },
    #[error("{place}: {cause}")]
    Weights { place: String, cause: WeightsError },
    #[error("{place}: {cause}")]
    Tokenizer { place: String, cause: TokenizerError },
    #[error("{place}: {cause}")]
    Head { place: String, cause: HeadError },
    #[error("{precision} by {engine} is not to be had: {cause}")]
    PrecisionUnavailable { precision: Precision, engine: Engine, cause: Unavailable },
    #[error("this model was loaded without a head; `agentbus model train-head` makes one")]
    NoHead,
    #[error(transparent)]
    Run(#[from] RunError),
}

impl ModelError {
    pub(super) fn encoder(place: String, error: LoadError) -> Self {
        match error {
            LoadError::Weights(cause) => Self::Weights { place, cause },
            LoadError::Unavailable { engine, precision, cause } => {
                Self::PrecisionUnavailable { precision, engine, cause }
            }
        }
    }
}
