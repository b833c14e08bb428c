//! What is there to say about a loaded guard?

use serde::Serialize;

use super::{Engine, Guard};

/// Facts for `agentbus model info`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct GuardInfo {
    pub name: String,
    /// The folder.
    pub source: String,
    pub digest: String,
    pub model_type: String,
    pub precision: &'static str,
    pub engine: Engine,
    pub layers: usize,
    pub width: usize,
    pub positions: usize,
    pub window_tokens: usize,
    pub vocabulary: usize,
    /// Each label and its level, in the order of the outputs.
    pub labels: Vec<(String, usize)>,
}

impl Guard {
    pub fn info(&self) -> GuardInfo {
        let config = &self.config;
        GuardInfo {
            name: self.name.clone(),
            source: self.folder.display().to_string(),
            digest: hex::encode(self.digest),
            model_type: config.model_type.clone(),
            precision: "f32",
            engine: self.engine(),
            layers: config.layers,
            width: config.width,
            positions: config.positions,
            window_tokens: self.window_tokens(),
            vocabulary: config.vocabulary,
            labels: self.labels.outputs().to_vec(),
        }
    }
}
