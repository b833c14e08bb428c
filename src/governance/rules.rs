//! For what is a message judged, and by what that holds for every message?

use std::{collections::BTreeSet, time::Duration};

use crate::{
    domain::{Approval, Constitution, ConstitutionHash, Timestamp},
    impact::Patience,
};

/// What holds for every message at this instant.
#[derive(Debug, Clone, Copy)]
pub struct Rules<'a> {
    pub constitutions: &'a [Constitution],
    /// What messages may name on some other node.
    pub elsewhere: &'a BTreeSet<ConstitutionHash>,
    pub clock_skew: Duration,
    /// Whether the clock that `now` is by cannot be gone by.
    pub clock_is_off: bool,
    pub now: Timestamp,
}

/// For what a message is judged.
#[derive(Debug, Clone, Copy)]
pub struct Purpose<'a> {
    pub mode: RetryMode,
    /// A person wants it tried anew, whatever came of it.
    pub redriven: bool,
    /// Its reviewers have approved it: it is asked about again, and needs no score.
    pub approval: Option<&'a Approval>,
}

impl<'a> Purpose<'a> {
    /// As it came.
    pub fn of(mode: RetryMode) -> Self {
        Self { mode, redriven: false, approval: None }
    }

    pub fn approved(approval: &'a Approval) -> Self {
        Self { approval: Some(approval), ..Self::of(RetryMode::Lane) }
    }

    /// What keeps it from being stored.
    pub(super) fn precondition(&self) -> Precondition {
        match self.redriven || self.approval.is_some() {
            true => Precondition::Undelivered,
            false => Precondition::Undecided,
        }
    }
}

/// Who waits for the verdict, and so whether the message comes again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryMode {
    /// The sender, who can ask again.
    Sender,
    /// The same, for an answer as well: what cannot go now is of no use to it later.
    Questioner,
    /// The asker, for an answer that comes once.
    Asker,
    /// Nobody: it is tried again by itself.
    Lane,
    /// Nobody, and it is the last attempt.
    LastOfLane,
}

impl RetryMode {
    /// Whether the same message comes again when it is refused for now.
    pub(super) fn comes_again(self) -> bool {
        match self {
            Self::Sender | Self::Questioner | Self::Lane => true,
            Self::Asker | Self::LastOfLane => false,
        }
    }

    /// Whether somebody waits, so that it goes into a live inbox, or to who waits.
    pub(super) fn waits(self) -> bool {
        match self {
            Self::Sender | Self::Questioner | Self::Asker => true,
            Self::Lane | Self::LastOfLane => false,
        }
    }

    /// Whether it may be for an agent that is away.
    pub(super) fn durable(self) -> bool {
        !matches!(self, Self::Sender | Self::Questioner)
    }

    /// How long its score may take; of a question or an answer, which is of use for so long.
    pub fn patience(self, useful_for: Option<Duration>) -> Patience {
        match (self, useful_for) {
            // It has to be answered as well,
            (Self::Questioner, Some(left)) => Patience::Within(left / 2),
            // and that to be handed back.
            (Self::Asker, Some(left)) => Patience::Within(left / 4 * 3),
            (Self::Sender | Self::Questioner | Self::Asker, _) => Patience::RoundTrip,
            (Self::Lane | Self::LastOfLane, _) => Patience::Lane,
        }
    }
}

/// What must hold for a message to be stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Precondition {
    /// Neither a delivery nor a verdict of it is stored.
    Undecided,
    /// No delivery of it is stored: its first verdict was to wait, or it is tried anew by a person.
    Undelivered,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_leaves_half_of_its_time_to_its_answer_and_that_leaves_some_to_be_handed_back() {
        let left = Some(Duration::from_secs(20));
        for (mode, useful_for, expected) in [
            (RetryMode::Questioner, left, Patience::Within(Duration::from_secs(10))),
            (RetryMode::Asker, left, Patience::Within(Duration::from_secs(15))),
            (RetryMode::Questioner, None, Patience::RoundTrip),
            (RetryMode::Sender, left, Patience::RoundTrip),
            (RetryMode::Lane, left, Patience::Lane),
            (RetryMode::LastOfLane, None, Patience::Lane),
        ] {
            assert_eq!(mode.patience(useful_for), expected, "{mode:?}");
        }
    }
}
