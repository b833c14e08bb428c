//! Who says how harmful words sound: a model, or keywords.
//!
//! What a text becomes, which windows it is read in, and that the highest counts, is the node's own code.

use std::{num::NonZeroUsize, sync::Arc};

#[cfg(feature = "model")]
use agentbus::impact::{
    classifier::{Classifier, ClassifierError, ClassifierSession},
    model::Source,
};
use agentbus::{
    domain::{Message, TenantLimits},
    impact::{Keywords, LIFT_ALL, Semantic, rescored, score_standalone},
};
use anyhow::anyhow;

use crate::{
    data::Labelled,
    evaluate::Judged,
    in_order::{Progress, in_order},
};

#[cfg(feature = "model")]
pub mod windows;

/// A scorer that any number of threads can work with.
pub enum Judge {
    Keywords,
    #[cfg(feature = "model")]
    Model(Classifier),
}

/// One thread's own.
pub enum Seat {
    Keywords,
    #[cfg(feature = "model")]
    Model(ClassifierSession),
}

/// What a scorer says of one message.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Said {
    pub semantic: Semantic,
    /// Read, over all windows.
    pub tokens: usize,
    /// Its own tokenising, and its share of the batch by tokens.
    pub elapsed_us: u64,
}

#[derive(Debug, Clone, thiserror::Error)]
pub enum JudgeError {
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
    pub fn inside() -> Result<Self, ClassifierError> {
        Ok(Judge::Model(Classifier::load(&Source::Embedded, None)?))
    }

    pub fn seat(&self) -> Seat {
        match self {
            Judge::Keywords => Seat::Keywords,
            #[cfg(feature = "model")]
            Judge::Model(model) => Seat::Model(model.session()),
        }
    }

    pub fn name(&self) -> &str {
        match self {
            Judge::Keywords => "keywords",
            #[cfg(feature = "model")]
            Judge::Model(model) => model.name(),
        }
    }
}

impl Seat {
    pub fn name(&self) -> &str {
        match self {
            Seat::Keywords => "keywords",
            #[cfg(feature = "model")]
            Seat::Model(session) => session.name(),
        }
    }

    /// One answer for each message, in their order.
    pub fn semantics(&mut self, messages: &[Arc<Message>]) -> Vec<Result<Said, JudgeError>> {
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

/// What the judge says of each text, beside what is right: the semantic part, or the score by these limits.
pub fn judged(
    judge: &Judge,
    texts: &[Labelled],
    threads: NonZeroUsize,
    limits: Option<&TenantLimits>,
    progress: Progress<'_>,
) -> anyhow::Result<Vec<Judged>> {
    in_order(
        texts,
        threads,
        progress,
        || judge.seat(),
        |seat, chunk| {
            let messages = chunk.iter().map(|one| one.spoken()).collect::<Result<Vec<Arc<_>>, _>>()?;
            let said = seat.semantics(&messages);
            chunk
                .iter()
                .zip(&messages)
                .zip(said)
                .map(|((one, message), said)| {
                    let start: String = one.text.chars().take(60).collect();
                    let said = said.map_err(|error| anyhow!("the text that begins {start:?}: {error}"))?;
                    Ok(Judged {
                        score: limits
                            .map_or(said.semantic.score, |limits| weighed(message, said.semantic, limits)),
                        levels: said.semantic.levels,
                        high: one.high,
                        level: one.level,
                        group: one.group.clone(),
                        text: one.text.clone(),
                    })
                })
                .collect()
        },
    )
}

/// The whole score of a message that is its sender's first, by a tenant's limits.
fn weighed(message: &Message, semantic: Semantic, limits: &TenantLimits) -> f64 {
    let weights = limits.weights.unwrap_or_default();
    let lift_max = limits.report_lift_max.unwrap_or(LIFT_ALL);
    let parts = score_standalone(message, semantic, "", &weights, message.created_at).parts;
    rescored(&parts, Some(message.message_type), semantic.score, &weights, lift_max)
}
