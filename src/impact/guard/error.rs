//! Why there is no guard, or no answer of it: what was found, what was expected, what to do.

use std::path::PathBuf;

use super::{config::ConfigError, labels::LabelsError, network::NetworkError};
use crate::impact::model::{ModelError, TokenizerError};

#[derive(Debug, thiserror::Error)]
pub enum GuardError {
    #[error(
        "{path} is missing; a guard's folder holds config.json, model.safetensors, tokenizer.json and \
         guard.toml; {hint}", path = path.display()
    )]
    Missing { path: PathBuf, hint: String },
    #[error(transparent)]
    File(Box<ModelError>),
    #[error("{place}: {cause}")]
    Config { place: String, cause: ConfigError },
    #[error("{place}: {cause}")]
    Labels { place: String, cause: LabelsError },
    #[error("{place}: {cause}")]
    Network { place: String, cause: NetworkError },
    #[error("{place}: {cause}")]
    Tokenizer { place: String, cause: TokenizerError },
    #[error("the guard did not run: {0}")]
    Run(NetworkError),
    #[error("the guard panicked; take another one")]
    Panicked,
    #[error("the guard did not compute on one thread: {0}")]
    Thread(Box<rayon::ThreadPoolBuildError>),
}
