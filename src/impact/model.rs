//! Which model scores: its files, its tokens, its head, and the numbers it answers with.
//!
//! A model is an encoder ([`distilbert`](super::distilbert)), the tokenizer it was trained with and
//! a head of its own, which makes a score of `normalize(mean(hidden states))`. The three belong
//! together by SHA-256. Knows nothing of messages, threads and time.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use sha2::{Digest as _, Sha256};

use super::{
    Semantic,
    distilbert::{Config, Encoder, Scratch},
};

mod digests;
mod error;
mod files;
mod head;
mod info;
mod tokens;

pub use super::distilbert::{Choice, Engine, Precision, RunError};
pub use error::ModelError;
pub use files::{FILES, sha256_of};
pub(super) use files::{file_of, plain_name};
pub use head::{Head, HeadError, Output, Outputs};
pub use info::Info;
pub use tokens::{TEXT_MAX, TokenizerError, TooLong, Windows};

use digests::Digests;
use files::Files;
pub(super) use tokens::Tokens;

/// Where the files are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// Inside the program.
    Embedded,
    /// A folder in Hugging Face layout, with a `head.json`.
    Dir(PathBuf),
}

/// A loaded model, for all threads. Never changes.
pub struct Model {
    name: String,
    digest: [u8; 32],
    source: Source,
    files: Digests,
    /// Shared with those that differ by their head alone.
    encoder: Arc<Encoder>,
    tokens: Arc<Tokens>,
    head: Option<Head>,
}

/// What to load besides the encoder, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    pub choice: Choice,
    pub part: Part,
}

/// How much of a model is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Scores: the head is needed and says at which layer it reads.
    Scorer,
    /// Pooled states for training a head, of the first so many layers, or of all.
    Encoder { layers: Option<usize> },
}

/// One thread's way to a model: the model and the buffers.
pub struct Session {
    model: Arc<Model>,
    scratch: Scratch,
}

impl Model {
    /// Loads encoder, tokenizer and head. Without a precision: the fastest that this CPU has.
    pub fn load(source: &Source, precision: Option<Precision>) -> Result<Self, ModelError> {
        let choice = Choice { precision, engine: None };
        Self::load_with(source, Options { choice, part: Part::Scorer })
    }

    /// Loads encoder and tokenizer, all layers: for training a head.
    pub fn load_encoder(source: &Source, precision: Option<Precision>) -> Result<Self, ModelError> {
        let choice = Choice { precision, engine: None };
        Self::load_with(source, Options { choice, part: Part::Encoder { layers: None } })
    }

    pub fn load_with(source: &Source, options: Options) -> Result<Self, ModelError> {
        let files = Files::read(source, options.part == Part::Scorer)?;
        let config = Config::parse(&files.config)
            .map_err(|cause| ModelError::Config { place: files.place("config.json"), cause })?;
        let digests = files.digests();
        let head = match (options.part, &files.head) {
            (Part::Encoder { .. }, _) | (_, None) => None,
            (Part::Scorer, Some(bytes)) => Some(
                Head::parse(bytes)
                    .and_then(|head| head.check(&config).map(|()| head))
                    .map_err(|cause| ModelError::Head { place: files.place("head.json"), cause })?,
            ),
        };
        let layers = match (&head, options.part) {
            (Some(head), _) => head.layer,
            (None, Part::Encoder { layers: Some(layers) }) => layers,
            (None, _) => config.n_layers,
        };
        let tokens = Tokens::load(&files.tokenizer, &config)
            .map_err(|cause| ModelError::Tokenizer { place: files.place("tokenizer.json"), cause })?;
        let encoder = Encoder::load(&config, layers, &files.weights, options.choice)
            .map_err(|cause| ModelError::encoder(files.place("model.safetensors"), cause))?;
        if let Some(head) = &head {
            head.belongs(&digests)
                .map_err(|cause| ModelError::Head { place: files.place("head.json"), cause })?;
        }
        let digest = digests.of_all(head.is_some(), layers);
        let name = full_name(&files.name(&config), digest, encoder.precision());
        let (encoder, tokens) = (Arc::new(encoder), Arc::new(tokens));
        Ok(Self { name, digest, source: source.clone(), files: digests, encoder, tokens, head })
    }

    /// The same encoder and tokenizer with the head in another file, which must be theirs. Called as it is
    /// called, a tenant's own for example.
    pub fn with_head(&self, name: &str, path: &Path) -> Result<Self, ModelError> {
        let bytes = files::head(path)?;
        let wrong = |cause| ModelError::Head { place: path.display().to_string(), cause };
        let head = Head::parse(&bytes).map_err(wrong)?;
        head.check(self.encoder.config()).map_err(wrong)?;
        head.belongs(&self.files).map_err(wrong)?;
        if head.layer != self.layers() {
            return Err(wrong(HeadError::OtherLayer { found: head.layer, max: self.layers() }));
        }
        let files = Digests { head: Some(Sha256::digest(&bytes).into()), ..self.files.clone() };
        let digest = files.of_all(true, self.layers());
        let (encoder, tokens) = (Arc::clone(&self.encoder), Arc::clone(&self.tokens));
        let name = full_name(name, digest, self.precision());
        Ok(Self { name, digest, source: self.source.clone(), files, encoder, tokens, head: Some(head) })
    }

    /// As in verdicts: `minilm-l4@1a2b3c4d/int8`, the digest being the first bytes of [`Self::digest`].
    pub fn name(&self) -> &str {
        &self.name
    }

    /// SHA-256 over the digests of configuration, encoder, tokenizer and head. Two models of one
    /// digest and one precision give equal scores.
    pub fn digest(&self) -> [u8; 32] {
        self.digest
    }

    pub fn precision(&self) -> Precision {
        self.encoder.precision()
    }

    pub fn engine(&self) -> Engine {
        self.encoder.engine()
    }

    /// Numbers in one pooled state.
    pub fn width(&self) -> usize {
        self.encoder.config().dim
    }

    /// How many layers run.
    pub fn layers(&self) -> usize {
        self.encoder.layers()
    }

    /// The token ids of a normalised text, in windows that overlap. A text of nothing is one window.
    pub fn windows(&self, text: &str, limits: &Windows) -> Result<Vec<Vec<u32>>, TooLong> {
        let positions = self.encoder.config().max_position_embeddings;
        self.tokens.windows(text, &Windows { tokens: limits.tokens.min(positions), ..*limits })
    }

    pub fn session(self: &Arc<Self>) -> Session {
        Session { model: self.clone(), scratch: Scratch::default() }
    }
}

impl Session {
    pub fn model(&self) -> &Arc<Model> {
        &self.model
    }

    /// The mean of each window's hidden states, of length 1. Each as if it were alone.
    pub fn pooled(&mut self, windows: &[&[u32]]) -> Result<Vec<Vec<f32>>, ModelError> {
        Ok(self.model.encoder.pooled(windows, &mut self.scratch)?)
    }

    /// What the head says of each window.
    pub fn scores(&mut self, windows: &[&[u32]]) -> Result<Vec<Semantic>, ModelError> {
        let head = self.model.head.as_ref().ok_or(ModelError::NoHead)?;
        let pooled = self.model.encoder.pooled(windows, &mut self.scratch)?;
        Ok(pooled.iter().map(|pooled| head.say(pooled)).collect())
    }
}

fn full_name(name: &str, digest: [u8; 32], precision: Precision) -> String {
    format!("{name}@{}/{precision}", hex::encode(digest.get(..4).unwrap_or_default()))
}

/// SHA-256 over parts, each with its length before it.
pub(super) fn sha256<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}

#[cfg(test)]
mod tests;
