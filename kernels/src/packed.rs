//! The weights of a linear layer, rounded and laid out as the kernels read them.
//!
//! Outputs go in panels: as many lines of sixteen as stay in registers while a tile of rows runs past
//! them. A panel is a list of steps; a step holds, for each of its outputs, one 32-bit word of
//! consecutive inputs: one f32, two bf16, four i8, or two i8 widened to 16 bits for AVX2.

use crate::{Level, Mismatch, expect};

/// Outputs come in so many: the widest panel there is.
pub const PANEL: usize = 64;
/// Outputs of one line.
const LANES: usize = 16;
/// Inputs are read sixteen at a time when they are rounded.
pub const INPUTS: usize = 16;
/// 255 · 127 · this fits 32 bits.
const INPUTS_MAX: usize = 1 << 16;

/// 512 bits, whatever they mean: one vector of AVX-512, two of AVX2.
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
    /// The best kernels that this CPU can run in it, or what the CPU lacks, by the name that people know.
    pub fn level(self) -> Result<Level, &'static str> {
        match self.missing(Level::Avx512) {
            None => Ok(Level::Avx512),
            // Products of bf16 are nowhere else, and f32 of AVX-512 is as fast as int8 of AVX2.
            Some(missing) if self == Self::Bf16 || Level::detect() == Level::Avx512 => Err(missing),
            Some(_) => self.missing(Level::Avx2).map_or(Ok(Level::Avx2), Err),
        }
    }

    /// What this CPU lacks for the kernels of `level`; `None`: nothing.
    pub(crate) fn missing(self, level: Level) -> Option<&'static str> {
        let found = Level::detect();
        match (level, self) {
            (Level::Avx512, _) if found < Level::Avx512 => Some("AVX-512"),
            #[cfg(target_arch = "x86_64")]
            (Level::Avx512, Self::Bf16) if !is_x86_feature_detected!("avx512bf16") => Some("AVX-512 BF16"),
            #[cfg(target_arch = "x86_64")]
            (Level::Avx512, Self::Int8) if !is_x86_feature_detected!("avx512vnni") => Some("AVX-512 VNNI"),
            (Level::Avx512, _) => None,
            (Level::Avx2, Self::Bf16) => Some("AVX-512 BF16"),
            (Level::Avx2, _) if found >= Level::Avx2 => None,
            (Level::Avx2 | Level::Baseline, _) => Some("AVX2 with FMA"),
        }
    }

    /// Inputs in one 32-bit word.
    fn inputs_in_word(self, level: Level) -> usize {
        match self {
            Self::F32 => 1,
            Self::Bf16 => 2,
            Self::Int8 if level == Level::Avx512 => 4,
            Self::Int8 => 2,
        }
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
    pub(crate) level: Level,
    pub(crate) format: Format,
    pub(crate) inputs: usize,
    pub(crate) outputs: usize,
    /// Panel after panel, step after step.
    pub(crate) steps: Vec<Line>,
    /// For each output.
    pub(crate) bias: Vec<Line>,
    /// Of [`Format::Int8`], for each output: what one unit of a weight is worth, and the sum of its
    /// weights, which is what a shift of all inputs adds.
    pub(crate) scale: Vec<Line>,
    pub(crate) sums: Vec<Line>,
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
        let level = format.level().map_err(|missing| PackError::Cpu { missing })?;
        Self::pack_for(level, weights, bias, inputs, outputs, format)
    }

    /// For the kernels of a level that may not be the best this CPU has.
    pub(crate) fn pack_for(
        level: Level,
        weights: &[f32],
        bias: &[f32],
        inputs: usize,
        outputs: usize,
        format: Format,
    ) -> Result<Self, PackError> {
        if let Some(missing) = format.missing(level) {
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

        let in_word = format.inputs_in_word(level);
        let mut packed = Self {
            level,
            format,
            inputs,
            outputs,
            steps: Vec::with_capacity(inputs / in_word * outputs / LANES),
            bias: floats(bias),
            scale: Vec::new(),
            sums: Vec::new(),
        };
        let (mut scales, mut sums) = (Vec::with_capacity(outputs), Vec::with_capacity(outputs));
        for panel in weights.chunks_exact(panel(level) * inputs) {
            // One list of words for each output of the panel.
            let words: Vec<Vec<u32>> = panel
                .chunks_exact(inputs)
                .map(|row| match format {
                    Format::F32 => row.iter().map(|weight| weight.to_bits()).collect(),
                    Format::Bf16 => {
                        row.as_chunks().0.iter().map(|[a, b]| bf16(*a) | bf16(*b) << 16).collect()
                    }
                    Format::Int8 => {
                        let (units, scale, sum) = int8(row);
                        scales.push(scale);
                        sums.push(sum);
                        int8_words(&units, in_word)
                    }
                })
                .collect();
            for at in 0..inputs / in_word {
                let step: Vec<u32> = words.iter().filter_map(|words| words.get(at)).copied().collect();
                packed.steps.extend(step.as_chunks().0.iter().map(|words| Line(*words)));
            }
        }
        packed.scale = floats(&scales);
        packed.sums = floats(&sums);
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
        self.inputs / self.format.inputs_in_word(self.level)
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

/// A row in units, what one unit is worth, and the sum of the row as rounded.
fn int8(row: &[f32]) -> (Vec<i8>, f32, f32) {
    let most = row.iter().fold(0.0f32, |most, weight| most.max(weight.abs()));
    // A row of zeros has no unit.
    let (scale, inverse) = if most > 0.0 { (most / 127.0, 127.0 / most) } else { (0.0, 0.0) };
    let unit = |weight: &f32| (weight * inverse).round().clamp(-127.0, 127.0) as i8;
    let units: Vec<i8> = row.iter().map(unit).collect();
    let sum: i32 = units.iter().map(|unit| i32::from(*unit)).sum();
    (units, scale, sum as f32 * scale)
}

/// Four to a word, or two, each widened to 16 bits.
fn int8_words(units: &[i8], in_word: usize) -> Vec<u32> {
    let byte = |unit: i8| unit.to_le_bytes()[0];
    let half = |unit: i8| u32::from(i16::from(unit).cast_unsigned());
    match in_word {
        4 => units.as_chunks::<4>().0.iter().map(|four| u32::from_le_bytes(four.map(byte))).collect(),
        _ => units.as_chunks().0.iter().map(|[a, b]| half(*a) | half(*b) << 16).collect(),
    }
}

/// Outputs of one panel: as many as the registers have place for beside a tile of rows.
fn panel(level: Level) -> usize {
    match level {
        Level::Avx512 => PANEL,
        Level::Avx2 | Level::Baseline => LANES,
    }
}

fn floats(values: &[f32]) -> Vec<Line> {
    values.as_chunks::<LANES>().0.iter().map(|values| Line(values.map(f32::to_bits))).collect()
}
