//! Which DistilBERT: the dimensions in a `config.json` of Hugging Face, and what is refused.

use serde::Deserialize;

/// The part of `config.json` that inference needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Width of the hidden states.
    pub dim: usize,
    pub n_heads: usize,
    pub n_layers: usize,
    /// Width inside the feed-forward part.
    pub hidden_dim: usize,
    pub max_position_embeddings: usize,
    pub vocab_size: usize,
    /// What the model was made from, if the file says so.
    pub name: Option<String>,
}

/// Why a `config.json` is not one of a DistilBERT that can be run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    #[error("not the JSON of a model's configuration: {cause}")]
    Unreadable { cause: String },
    #[error(
        "a model of type `{found}`, expected `distilbert`; take a DistilBERT, or rewrite a BERT as one \
         as models/convert.py does"
    )]
    Architecture { found: String },
    #[error("`{field}` is missing; expected the config.json of a DistilBERT")]
    Missing { field: &'static str },
    #[error("activation `{found}`, expected `gelu`: this encoder has the GELU of the error function only")]
    Activation { found: String },
    #[error("`{field}` is {found}, expected 1 to {max}")]
    OutOfRange { field: &'static str, found: u64, max: usize },
    #[error("{heads} heads do not divide a width of {dim}")]
    Heads { dim: usize, heads: usize },
}

#[derive(Deserialize)]
struct Raw {
    model_type: Option<String>,
    #[serde(rename = "_name_or_path")]
    name: Option<String>,
    activation: Option<String>,
    dim: Option<u64>,
    n_heads: Option<u64>,
    n_layers: Option<u64>,
    hidden_dim: Option<u64>,
    max_position_embeddings: Option<u64>,
    vocab_size: Option<u64>,
}

impl Config {
    pub fn parse(bytes: &[u8]) -> Result<Self, ConfigError> {
        let raw: Raw = serde_json::from_slice(bytes)
            .map_err(|error| ConfigError::Unreadable { cause: error.to_string() })?;
        match raw.model_type.as_deref() {
            Some("distilbert") => {}
            found => {
                return Err(ConfigError::Architecture { found: found.unwrap_or("(not said)").to_owned() });
            }
        }
        match raw.activation.as_deref() {
            Some("gelu") => {}
            Some(found) => return Err(ConfigError::Activation { found: found.to_owned() }),
            None => return Err(ConfigError::Missing { field: "activation" }),
        }
        let config = Self {
            dim: dimension("dim", raw.dim, 4096)?,
            n_heads: dimension("n_heads", raw.n_heads, 128)?,
            n_layers: dimension("n_layers", raw.n_layers, 48)?,
            hidden_dim: dimension("hidden_dim", raw.hidden_dim, 16_384)?,
            max_position_embeddings: dimension("max_position_embeddings", raw.max_position_embeddings, 8192)?,
            vocab_size: dimension("vocab_size", raw.vocab_size, 1_000_000)?,
            name: raw.name,
        };
        if config.dim.checked_rem(config.n_heads) != Some(0) {
            return Err(ConfigError::Heads { dim: config.dim, heads: config.n_heads });
        }
        Ok(config)
    }

    /// Width of one attention head.
    pub fn head_dim(&self) -> usize {
        self.dim / self.n_heads.max(1)
    }

    /// Numbers in the encoder's first `layers` layers and its embeddings.
    pub fn parameters(&self, layers: usize) -> u64 {
        let (d, h) = (self.dim as u64, self.hidden_dim as u64);
        let embeddings = (self.vocab_size as u64 + self.max_position_embeddings as u64 + 2) * d;
        let attention = 4 * (d * d + d);
        let feed_forward = 2 * d * h + h + d;
        let norms = 4 * d;
        embeddings + layers as u64 * (attention + feed_forward + norms)
    }
}

fn dimension(field: &'static str, found: Option<u64>, max: usize) -> Result<usize, ConfigError> {
    let found = found.ok_or(ConfigError::Missing { field })?;
    match usize::try_from(found) {
        Ok(value) if (1..=max).contains(&value) => Ok(value),
        _ => Err(ConfigError::OutOfRange { field, found, max }),
    }
}
