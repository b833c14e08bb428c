//! Who says how harmful words sound, on the command line: the model that was asked for, or keywords. Shared by
//! `score` and `model`.

use std::{num::NonZeroUsize, path::PathBuf, thread};

#[cfg(feature = "model")]
use agentbus::impact::{
    classifier::{Classifier, ClassifierError},
    model::{Precision, Source},
};
use agentbus_modelkit::judge::Judge;
use clap::{Args, ValueEnum};

/// Which scorer, and how many of it.
#[derive(Debug, Args)]
pub(super) struct JudgeArgs {
    /// What reads the words
    #[arg(long, value_enum, default_value_t = ScorerArg::default())]
    scorer: ScorerArg,
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    threads: ThreadArgs,
}

/// Which model, and how it computes.
#[derive(Debug, Clone, Args)]
pub(super) struct ModelArgs {
    /// Folder of a model (config.json, model.safetensors, tokenizer.json, and head.json or guard.toml),
    /// instead of the one inside
    #[arg(long, value_name = "DIR")]
    pub(super) model_dir: Option<PathBuf>,
    /// How to compute; auto is the fastest that this CPU has
    #[arg(long, value_enum, default_value_t)]
    pub(super) precision: PrecisionArg,
    /// Another head over the same encoder, such as a tenant's own
    #[arg(long, value_name = "FILE")]
    pub(super) head: Option<PathBuf>,
}

#[derive(Debug, Clone, Args)]
pub(super) struct ThreadArgs {
    /// Threads, each with an instance of its own [default: one for each core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    threads: Option<u16>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum ScorerArg {
    /// The impact model
    #[cfg_attr(feature = "model", default)]
    Model,
    /// A count of alarming words
    #[cfg_attr(not(feature = "model"), default)]
    Keywords,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum PrecisionArg {
    // The fastest that the processor has.
    #[default]
    Auto,
    F32,
    Bf16,
    Int8,
}

#[cfg(feature = "model")]
impl PrecisionArg {
    /// As a model takes it.
    pub(super) fn asked(self) -> Option<Precision> {
        match self {
            Self::Auto => None,
            Self::F32 => Some(Precision::F32),
            Self::Bf16 => Some(Precision::Bf16),
            Self::Int8 => Some(Precision::Int8),
        }
    }
}

impl ThreadArgs {
    pub(super) fn count(&self) -> NonZeroUsize {
        let asked = self.threads.and_then(|threads| NonZeroUsize::new(threads.into()));
        asked.or_else(|| thread::available_parallelism().ok()).unwrap_or(NonZeroUsize::MIN)
    }
}

impl JudgeArgs {
    pub(super) fn threads(&self) -> NonZeroUsize {
        self.threads.count()
    }

    #[cfg(feature = "model")]
    pub(super) fn judge(&self) -> anyhow::Result<Judge> {
        match self.scorer {
            ScorerArg::Keywords => Ok(Judge::Keywords),
            ScorerArg::Model => Ok(Judge::Model(self.model.load()?)),
        }
    }

    #[cfg(not(feature = "model"))]
    pub(super) fn judge(&self) -> anyhow::Result<Judge> {
        match self.scorer {
            ScorerArg::Keywords => Ok(Judge::Keywords),
            ScorerArg::Model => {
                anyhow::bail!("this agentbus was built without the model; there is --scorer keywords")
            }
        }
    }
}

#[cfg(feature = "model")]
impl ModelArgs {
    pub(super) fn source(&self) -> Source {
        self.model_dir.clone().map_or(Source::Embedded, Source::Dir)
    }

    pub(super) fn load(&self) -> Result<Classifier, ClassifierError> {
        let model = Classifier::load(&self.source(), self.precision.asked())?;
        match &self.head {
            None => Ok(model),
            Some(path) => model.with_head(&path.file_stem().unwrap_or_default().to_string_lossy(), path),
        }
    }
}
