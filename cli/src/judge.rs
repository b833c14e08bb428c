//! Who says how harmful words sound, on the command line: the model that was asked for, or keywords.
//!
//! Shared by `score` and `model`. What a text becomes, which windows it is read in, and that the
//! highest counts, is the node's own code.

use std::{num::NonZeroUsize, path::PathBuf, sync::Arc, thread};

use agentbus::{
    domain::Message,
    impact::{Keywords, Precision, Semantic},
};
use clap::{Args, ValueEnum};

#[cfg(feature = "model")]
use agentbus::impact::{
    classifier::{Classifier, ClassifierError, ClassifierSession},
    model::Source,
};

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
    pub(super) precision: Precision,
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

/// A scorer that any number of threads can work with.
pub(super) enum Judge {
    Keywords,
    #[cfg(feature = "model")]
    Model(Classifier),
}

/// One thread's own.
pub(super) enum Seat {
    Keywords,
    #[cfg(feature = "model")]
    Model(ClassifierSession),
}

/// What a scorer says of one message.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Said {
    pub semantic: Semantic,
    /// Read, over all windows.
    pub tokens: usize,
    /// Its own tokenising, and its share of the batch by tokens.
    pub elapsed_us: u64,
}

#[derive(Debug, Clone, thiserror::Error)]
pub(super) enum JudgeError {
    #[error("the scorer gave no answer")]
    Missing,
    #[cfg(feature = "model")]
    #[error("{0}")]
    TooLong(agentbus::impact::model::TooLong),
    #[cfg(feature = "model")]
    #[error("{0}")]
    NoScore(agentbus::impact::Unscored),
    #[cfg(feature = "model")]
    #[error("{0}")]
    Model(Arc<ClassifierError>),
}

impl Judge {
    /// The model within the program.
    #[cfg(feature = "model")]
    pub(super) fn inside() -> anyhow::Result<Self> {
        Ok(Judge::Model(Classifier::load(&Source::Embedded, None)?))
    }

    pub(super) fn seat(&self) -> Seat {
        match self {
            Judge::Keywords => Seat::Keywords,
            #[cfg(feature = "model")]
            Judge::Model(model) => Seat::Model(model.session()),
        }
    }

    #[cfg(feature = "model")]
    pub(super) fn name(&self) -> &str {
        match self {
            Judge::Keywords => "keywords",
            Judge::Model(model) => model.name(),
        }
    }
}

impl Seat {
    pub(super) fn name(&self) -> &str {
        match self {
            Seat::Keywords => "keywords",
            #[cfg(feature = "model")]
            Seat::Model(session) => session.name(),
        }
    }

    /// One answer for each message, in their order.
    pub(super) fn semantics(&mut self, messages: &[Arc<Message>]) -> Vec<Result<Said, JudgeError>> {
        match self {
            Seat::Keywords => messages
                .iter()
                .map(|message| Ok(Said { semantic: Keywords::of(message).into(), tokens: 0, elapsed_us: 0 }))
                .collect(),
            #[cfg(feature = "model")]
            Seat::Model(session) => windows::semantics(session, messages),
        }
    }
}

#[cfg(feature = "model")]
pub(super) mod windows;
