//! The weights of a linear layer, rounded and laid out as the kernels read them.
//!
//! Outputs go in panels of 64: four vectors that stay in registers while a tile of rows runs past
//! them. A panel is a list of steps; a step holds, for each of its 64 outputs, one 32-bit word of
//! consecutive inputs: one f32, two bf16 or four i8.

use crate::{Mismatch, expect};

/// Outputs that are calculated together.
pub const PANEL: usize = 64;
/// Inputs are read sixteen at a time when they are rounded.
pub const INPUTS: usize = 16;
/// 255 · 127 · this fits 32 bits.
const INPUTS_MAX: usize = 1 << 16;

/// One vector of 512 bits, whatever its bits mean.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
pub struct Line(pub [u32; 16]);

impl Line {
    pub const ZERO: Self = Self([0; 16]);
}

/// What products are made of. Sums are f32, or i32 for [`Format::Int8`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    F32,
    Bf16,
    /// Weights in −127…127, scaled per output; inputs in 0…255, scaled and shifted per row.
    Int8,
}

impl Format {
    /// Inputs in one 32-bit word.
    pub fn inputs_in_word(self) -> usize {
        match self {
            Self::F32 => 1,
            Self::Bf16 => 2,
            Self::Int8 => 4,
        }
    }

    /// What the CPU lacks for it, by the name that people know; `None`: nothing.
    pub fn missing(self) -> Option<&'static str> {
        #[cfg(target_arch = "x86_64")]
        {
            if crate::Level::detect() != crate::Level::Avx512 {
                return Some("AVX-512");
            }
            match self {
                Self::Bf16 if !is_x86_feature_detected!("avx512bf16") => Some("AVX-512 BF16"),
                Self::Int8 if !is_x86_feature_detected!("avx512vnni") => Some("AVX-512 VNNI"),
                Self::F32 | Self::Bf16 | Self::Int8 => None,
            }
        }
        #[cfg(not(target_arch = "x86_64"))]
        Some("AVX-512")
    }
}

/// Why a layer cannot be packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PackError {
    Cpu { missing: &'static str },
    Divisor { what: &'static str, found: usize, by: usize },
    Mismatch(Mismatch),
}

/// `x · wᵀ + b`. That there is one means that this CPU can run it.
#[derive(Debug, Clone)]
pub struct Linear {
    pub(crate) format: Format,
    pub(crate) inputs: usize,
    pub(crate) outputs: usize,
    /// Panel after panel, step after step.
    pub(crate) steps: Vec<[Line; 4]>,
    /// For each panel.
    pub(crate) bias: Vec<[Line; 4]>,
    /// Of [`Format::Int8`], for each panel: what one unit of a weight is worth, and the sum of an
    /// output's weights, which is what a shift of all inputs adds.
    pub(crate) scale: Vec<[Line; 4]>,
    pub(crate) sums: Vec<[Line; 4]>,
}

impl Linear {
    /// `weights` are `[outputs, inputs]`.
    pub fn pack(
        weights: &[f32],
        bias: &[f32],
        inputs: usize,
        outputs: usize,
        format: Format,
    ) -> Result<Self, PackError> {
        if let Some(missing) = format.missing() {
            return Err(PackError::Cpu { missing });
        }
        divisible("inputs", inputs, INPUTS)?;
        divisible("outputs", outputs, PANEL)?;
        if inputs > INPUTS_MAX {
            let found = Mismatch { what: "an output", found: inputs, expected: INPUTS_MAX };
            return Err(PackError::Mismatch(found));
        }
        expect("the weights", weights.len(), inputs * outputs).map_err(PackError::Mismatch)?;
        expect("the bias", bias.len(), outputs).map_err(PackError::Mismatch)?;

        let mut packed = Self {
            format,
            inputs,
            outputs,
            steps: Vec::with_capacity(inputs / format.inputs_in_word() * outputs / PANEL),
            bias: vectors(bias),
            scale: Vec::new(),
            sums: Vec::new(),
        };
        let (mut scales, mut sums) = (Vec::with_capacity(outputs), Vec::with_capacity(outputs));
        for panel in weights.chunks_exact(PANEL * inputs) {
            // One list of words for each output of the panel.
            let words: Vec<Vec<u32>> = panel
                .chunks_exact(inputs)
                .map(|row| match format {
                    Format::F32 => row.iter().map(|weight| weight.to_bits()).collect(),
                    Format::Bf16 => {
                        row.as_chunks().0.iter().map(|[a, b]| bf16(*a) | bf16(*b) << 16).collect()
                    }
                    Format::Int8 => {
                        let (words, scale, sum) = int8(row);
                        scales.push(scale);
                        sums.push(sum);
                        words
                    }
                })
                .collect();
            for at in 0..inputs / format.inputs_in_word() {
                let step: Vec<u32> = words.iter().filter_map(|words| words.get(at)).copied().collect();
                packed.steps.push(four(&step));
            }
        }
        packed.scale = vectors(&scales);
        packed.sums = vectors(&sums);
        Ok(packed)
    }

    pub fn inputs(&self) -> usize {
        self.inputs
    }

    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// Steps of one panel.
    pub(crate) fn depth(&self) -> usize {
        self.inputs / self.format.inputs_in_word()
    }
}

fn divisible(what: &'static str, found: usize, by: usize) -> Result<(), PackError> {
    if found > 0 && found.is_multiple_of(by) { Ok(()) } else { Err(PackError::Divisor { what, found, by }) }
}

/// The upper half of an f32, rounded to nearest, ties to even. Infinities stay, NaN stays one.
fn bf16(value: f32) -> u32 {
    let bits = value.to_bits();
    if value.is_nan() {
        return (bits >> 16) | 0x40;
    }
    (bits.wrapping_add(0x7fff + ((bits >> 16) & 1))) >> 16
}

/// A row in words of four, what one unit is worth, and the sum of the row as rounded.
fn int8(row: &[f32]) -> (Vec<u32>, f32, f32) {
    let most = row.iter().fold(0.0f32, |most, weight| most.max(weight.abs()));
    // A row of zeros has no unit.
    let (scale, inverse) = if most > 0.0 { (most / 127.0, 127.0 / most) } else { (0.0, 0.0) };
    let mut sum = 0i32;
    let mut unit = |weight: f32| {
        let rounded = (weight * inverse).round().clamp(-127.0, 127.0) as i8;
        sum += i32::from(rounded);
        rounded.to_le_bytes()[0]
    };
    let words = row.as_chunks::<4>().0.iter().map(|four| u32::from_le_bytes(four.map(&mut unit))).collect();
    (words, scale, sum as f32 * scale)
}

fn vectors(values: &[f32]) -> Vec<[Line; 4]> {
    values
        .chunks(PANEL)
        .map(|panel| four(&panel.iter().map(|value| value.to_bits()).collect::<Vec<_>>()))
        .collect()
}

fn four(words: &[u32]) -> [Line; 4] {
    let mut lines = [Line::ZERO; 4];
    for (line, words) in lines.iter_mut().zip(words.as_chunks().0) {
        line.0 = *words;
    }
    lines
}
