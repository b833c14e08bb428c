//! What does it cost? A small table, in whatever currency it says.

use std::path::Path;

use agentbus::{text_file, usage::Used};
use anyhow::Context as _;
use serde::Deserialize;

const PRICES_BYTES_MAX: u64 = 64 * 1024;
const MEGABYTE: f64 = 1e6;
const MILLION: f64 = 1e6;

/// Prices of one, 0 unless said.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Prices {
    pub(super) currency: String,
    messages: f64,
    megabytes: f64,
    decisions: f64,
    deliveries: f64,
    stored_megabytes: f64,
    deliberations: f64,
    scored: f64,
    million_tokens: f64,
}

impl Prices {
    pub(super) fn read(path: &Path) -> anyhow::Result<Self> {
        let text = text_file::read(path, PRICES_BYTES_MAX).with_context(|| path.display().to_string())?;
        toml::from_str(&text).with_context(|| path.display().to_string())
    }

    pub(super) fn of(&self, used: &Used) -> f64 {
        let each = [
            (self.messages, used.messages as f64),
            (self.megabytes, used.bytes as f64 / MEGABYTE),
            (self.decisions, used.decisions as f64),
            (self.deliveries, used.deliveries as f64),
            (self.stored_megabytes, used.stored_bytes as f64 / MEGABYTE),
            (self.deliberations, used.deliberations as f64),
            (self.scored, used.scored as f64),
            (self.million_tokens, used.tokens as f64 / MILLION),
        ];
        each.iter().map(|(price, number)| price * number).sum()
    }
}
