//! What there is to say about a loaded model.

use serde::Serialize;

use super::{Engine, Model, Precision, Source};

/// Facts for `agentbus model info`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Info {
    pub name: String,
    /// The folder, or `embedded`.
    pub source: String,
    pub digest: String,
    pub precision: Precision,
    pub engine: Engine,
    pub layers: usize,
    pub layers_in_file: usize,
    pub width: usize,
    pub heads: usize,
    pub hidden_width: usize,
    pub positions: usize,
    pub vocabulary: usize,
    /// Of the layers that run.
    pub parameters: u64,
    pub config_sha256: String,
    pub encoder_sha256: String,
    pub tokenizer_sha256: String,
    pub head_sha256: Option<String>,
    pub trained_on: Option<serde_json::Value>,
}

impl Model {
    pub fn info(&self) -> Info {
        let config = self.encoder.config();
        Info {
            name: self.name.clone(),
            source: match &self.source {
                Source::Embedded => "embedded".to_owned(),
                Source::Dir(folder) => folder.display().to_string(),
            },
            digest: hex::encode(self.digest),
            precision: self.encoder.precision(),
            engine: self.encoder.engine(),
            layers: self.encoder.layers(),
            layers_in_file: config.n_layers,
            width: config.dim,
            heads: config.n_heads,
            hidden_width: config.hidden_dim,
            positions: config.max_position_embeddings,
            vocabulary: config.vocab_size,
            parameters: config.parameters(self.encoder.layers()),
            config_sha256: hex::encode(self.files.config),
            encoder_sha256: hex::encode(self.files.encoder),
            tokenizer_sha256: hex::encode(self.files.tokenizer),
            head_sha256: self.head.as_ref().and(self.files.head).map(hex::encode),
            trained_on: self.head.as_ref().map(|head| head.trained_on.clone()),
        }
    }
}
