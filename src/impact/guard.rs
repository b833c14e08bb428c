//! Somebody else's classifier as a scorer: a folder as Hugging Face lays it out, and a `guard.toml`
//! beside it that gives each of its labels a level.
//!
//! It computes in f32, on the calling thread alone, with tensors that all threads share. Knows
//! nothing of messages and of time.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    Semantic,
    distilbert::{Engine, Scratch},
    model::{Tokens, TooLong, Windows, file_of, plain_name, sha256},
};

mod config;
mod error;
mod info;
mod labels;
mod network;
mod one_thread;

pub use config::is_classifier;
pub use error::GuardError;
pub use info::GuardInfo;
pub use network::NetworkError;

use config::Config;
use labels::Labels;
use network::Network;

/// What says what a guard's labels mean.
pub const GUARD_FILE: &str = "guard.toml";

/// A loaded guard, for all threads. Never changes.
pub struct Guard {
    folder: PathBuf,
    name: String,
    digest: [u8; 32],
    config: Config,
    labels: Labels,
    tokens: Tokens,
    network: Network,
}

/// One thread's way to a guard: the guard and the buffers.
pub struct GuardSession {
    guard: Arc<Guard>,
    scratch: Scratch,
}

impl Guard {
    pub fn load(folder: &Path) -> Result<Self, GuardError> {
        let place = |file: &str| folder.join(file).display().to_string();
        let config_bytes = needed(folder, "config.json", || "take all files of the model".to_owned())?;
        let config = Config::parse(&config_bytes)
            .map_err(|cause| GuardError::Config { place: place("config.json"), cause })?;
        let written =
            needed(folder, GUARD_FILE, || format!("write one: {}", labels::example(&config.labels)))?;
        let labels = Labels::parse(&written, &config.labels, config.positions)
            .map_err(|cause| GuardError::Labels { place: place(GUARD_FILE), cause })?;
        let tokenizer = needed(folder, "tokenizer.json", || {
            "`AutoTokenizer.from_pretrained(folder).save_pretrained(folder)` of transformers writes it"
                .to_owned()
        })?;
        let tokens = Tokens::load_any(&tokenizer, config.vocabulary)
            .map_err(|cause| GuardError::Tokenizer { place: place("tokenizer.json"), cause })?;
        let weights = needed(folder, "model.safetensors", || other_weights(folder))?;
        let network = Network::load(&config, &weights)
            .map_err(|cause| GuardError::Network { place: place("model.safetensors"), cause })?;
        let digest = sha256([config_bytes.as_slice(), &weights, &tokenizer, &written]);
        let short = hex::encode(digest.get(..4).unwrap_or_default());
        let name = format!("{}@{short}/f32", name_of(folder, &config, &labels));
        Ok(Self { folder: folder.to_owned(), name, digest, config, labels, tokens, network })
    }

    /// As in verdicts: `prompt-guard@1a2b3c4d/f32`, the digest being the first bytes of [`Self::digest`].
    pub fn name(&self) -> &str {
        &self.name
    }

    /// SHA-256 over configuration, weights, tokenizer and `guard.toml`.
    pub fn digest(&self) -> [u8; 32] {
        self.digest
    }

    pub fn engine(&self) -> Engine {
        self.network.engine()
    }

    /// Tokens of a window, at most.
    pub fn window_tokens(&self) -> usize {
        self.labels.window_tokens.unwrap_or(Windows::default().tokens).min(self.config.positions)
    }

    /// The token ids of a normalised text, in windows that overlap. A text of nothing is one window.
    pub fn windows(&self, text: &str, limits: &Windows) -> Result<Vec<Vec<u32>>, TooLong> {
        self.tokens.windows(text, &Windows { tokens: self.window_tokens(), ..*limits })
    }

    pub fn session(self: &Arc<Self>) -> GuardSession {
        GuardSession { guard: Arc::clone(self), scratch: Scratch::default() }
    }

    /// What one full window takes at its best, on a thread of its own: also finds weights that
    /// answer with no number.
    pub fn measure(self: &Arc<Self>) -> Result<Duration, GuardError> {
        const RUNS: usize = 3;
        let ends = self.windows("", &Windows::default()).unwrap_or_default().concat();
        let (first, last) = (ends.first().copied(), ends.last().copied());
        let inner = (0u32..).take(self.window_tokens().saturating_sub(2)).map(|at| at % self.vocabulary());
        let window: Vec<u32> = first.into_iter().chain(inner).chain(last).collect();
        let mut session = self.session();
        let run = || {
            let mut least = Duration::MAX;
            for _ in 0..RUNS {
                let started = Instant::now();
                session.logits(&[&window])?;
                least = least.min(started.elapsed());
            }
            Ok(least)
        };
        std::thread::scope(|scope| scope.spawn(run).join()).unwrap_or(Err(GuardError::Panicked))
    }

    fn vocabulary(&self) -> u32 {
        u32::try_from(self.config.vocabulary).unwrap_or(u32::MAX)
    }
}

impl GuardSession {
    pub fn guard(&self) -> &Arc<Guard> {
        &self.guard
    }

    /// What the labels say of each window.
    pub fn scores(&mut self, windows: &[&[u32]]) -> Result<Vec<Semantic>, GuardError> {
        let logits = self.logits(windows)?;
        Ok(logits.iter().map(|logits| self.guard.labels.say(logits)).collect())
    }

    /// The logits of each window, as if it were alone. Windows of one length that follow each other
    /// are run together.
    pub fn logits(&mut self, windows: &[&[u32]]) -> Result<Vec<Vec<f32>>, GuardError> {
        self.check(windows).map_err(GuardError::Run)?;
        one_thread::only_this().map_err(|cause| GuardError::Thread(Box::new(cause)))?;
        let mut all = Vec::with_capacity(windows.len());
        for equal in windows.chunk_by(|a, b| a.len() == b.len()) {
            all.extend(self.guard.network.logits(equal, &mut self.scratch).map_err(GuardError::Run)?);
        }
        match all.len() == windows.len() && all.iter().flatten().all(|logit| logit.is_finite()) {
            true => Ok(all),
            false => Err(GuardError::Run(NetworkError::NotFinite)),
        }
    }

    fn check(&self, windows: &[&[u32]]) -> Result<(), NetworkError> {
        let Config { positions, vocabulary, .. } = self.guard.config;
        for window in windows {
            if !(1..=positions).contains(&window.len()) {
                return Err(NetworkError::Length { found: window.len(), max: positions });
            }
            if let Some(found) = window.iter().copied().find(|id| *id as usize >= vocabulary) {
                return Err(NetworkError::UnknownToken { found, max: vocabulary });
            }
        }
        Ok(())
    }
}

/// Whether a folder holds a guard and not an encoder with a head of ours.
pub fn is_guard(folder: &Path) -> bool {
    folder.join(GUARD_FILE).exists()
        || (!folder.join("head.json").exists()
            && file_of(folder, "config.json").is_ok_and(|config| config.is_some_and(|it| is_classifier(&it))))
}

fn needed(folder: &Path, file: &str, hint: impl FnOnce() -> String) -> Result<Vec<u8>, GuardError> {
    let found = file_of(folder, file).map_err(|cause| GuardError::File(Box::new(cause)))?;
    found.ok_or_else(|| GuardError::Missing { path: folder.join(file), hint: hint() })
}

/// What to do about weights that are there in another form.
fn other_weights(folder: &Path) -> String {
    let what = if folder.join("model.safetensors.index.json").exists() {
        "the weights are in several files: save them as one"
    } else if folder.join("pytorch_model.bin").exists() {
        "pytorch_model.bin can run code and is not read: convert it to safetensors"
    } else {
        return "take all files of the model".to_owned();
    };
    format!(
        "{what}, `AutoModelForSequenceClassification.from_pretrained(folder).save_pretrained(folder, \
         max_shard_size=\"2GB\")`"
    )
}

fn name_of(folder: &Path, config: &Config, labels: &Labels) -> String {
    let made_from = || config.name.as_ref().and_then(|name| name.rsplit('/').next()).map(str::to_owned);
    let of_folder = || folder.file_name().map(|name| name.to_string_lossy().into_owned());
    plain_name(&labels.name.clone().or_else(made_from).or_else(of_folder).unwrap_or_default())
}

#[cfg(test)]
pub(super) mod tests;
