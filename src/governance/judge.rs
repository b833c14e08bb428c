//! In which order is a message judged, and what does each step need? Told here alone.

use super::{
    message::Checked,
    recipients::{Addressed, Permitted, Unaddressed, View},
    route::{Assessed, Routed},
    rules::Purpose,
};
use crate::{domain::Impact, impact::Unassessed, policy::Permit, rejection::Rejection};

/// How far judging is: routed, or what it needs to go on.
#[derive(Debug)]
pub enum Judging<'a> {
    /// Who is registered of those that it could reach.
    NeedsRegistry(Unaddressed<'a>),
    /// What the policy says of each of them.
    NeedsPolicy(Addressed<'a>),
    /// What harm it could do, by its words and its sender's past.
    NeedsModel(Permitted<'a>),
    Routed(Routed<'a>),
}

impl<'a> Checked<'a> {
    /// Begins: whom it would reach comes first, for the policy judges a message *to somebody*.
    pub fn judge(self, purpose: Purpose<'a>) -> Judging<'a> {
        Judging::NeedsRegistry(Unaddressed::new(self, purpose))
    }
}

impl<'a> Unaddressed<'a> {
    /// Then the policy is asked about each of them.
    pub fn found(self, view: View) -> Result<Judging<'a>, Rejection> {
        self.addressed(view).map(Judging::NeedsPolicy)
    }
}

impl<'a> Addressed<'a> {
    /// Then how much harm it could do.
    pub fn answered(
        self,
        answers: impl IntoIterator<Item = Result<Permit, Rejection>>,
    ) -> Result<Judging<'a>, Rejection> {
        self.permitted(answers).map(Judging::NeedsModel)
    }
}

impl<'a> Permitted<'a> {
    /// Which says whether its reviewers see it first.
    pub fn scored(self, impact: Option<Result<Impact, Unassessed>>) -> Result<Judging<'a>, Rejection> {
        Assessed::new(self, impact).route().map(Judging::Routed)
    }
}
