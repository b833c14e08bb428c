//! The encoder's arithmetic, and the one place of agentbus that may be unsafe.
//!
//! Safe functions over slices. Each checks its lengths, and asks the CPU at run time what it can:
//! [`rows`] (bias, GELU, normalisation, softmax) and [`matmul`] run on any CPU; [`Linear`] and
//! [`Attention`] need AVX-512 or AVX2 with FMA, and cannot be made where both are missing. Knows
//! nothing of models, files or messages, and starts no threads.

pub mod attention;
pub mod linear;
pub mod matmul;
pub mod packed;
pub mod rows;

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(test)]
mod declared;
mod level;
mod math;
#[cfg(test)]
mod speed;

pub use attention::Attention;
pub use level::Level;
pub use packed::{Format, Linear};

/// Slices that do not fit together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mismatch {
    pub what: &'static str,
    pub found: usize,
    pub expected: usize,
}

impl std::fmt::Display for Mismatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} has {} values, expected {}", self.what, self.found, self.expected)
    }
}

impl std::error::Error for Mismatch {}

pub(crate) fn expect(what: &'static str, found: usize, expected: usize) -> Result<(), Mismatch> {
    if found == expected { Ok(()) } else { Err(Mismatch { what, found, expected }) }
}
