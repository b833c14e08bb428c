//! Which files is a model made of?

use super::sha256;

/// SHA-256 of each file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Digests {
    pub config: [u8; 32],
    pub encoder: [u8; 32],
    pub tokenizer: [u8; 32],
    pub head: Option<[u8; 32]>,
}

impl Digests {
    /// One digest for what decides a score.
    pub fn of_all(&self, with_head: bool, layers: usize) -> [u8; 32] {
        let head = self.head.as_ref().filter(|_| with_head).map_or(&[][..], |head| head.as_slice());
        let layers = (layers as u64).to_le_bytes();
        sha256([&self.config[..], &self.encoder, &self.tokenizer, head, &layers])
    }
}
