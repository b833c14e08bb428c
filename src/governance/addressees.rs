//! To whom does a message go, and who was kept from it?

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    domain::{AgentId, CapabilityId, Encoding, Missed, Parked},
    policy::{Obligations, Permit},
};

/// To whom, each by a permit of its own.
#[derive(Debug, Clone)]
pub struct Addressees {
    /// At least one.
    pub permits: Vec<Permit>,
    /// Matching agents that the policy kept it from.
    pub missed: Vec<Missed>,
    pub fanout: Fanout,
    /// By which the recipients were chosen.
    pub capability: Option<CapabilityId>,
    /// Of those that want their live inbox in a certain encoding.
    pub encodings: BTreeMap<AgentId, Encoding>,
    /// Of all of them.
    pub durable_encodings: BTreeMap<AgentId, Encoding>,
}

impl Addressees {
    /// Whether the policy demands this for any of them.
    pub(super) fn demand(&self, what: impl Fn(&Obligations) -> bool) -> bool {
        self.permits.iter().any(|permit| what(permit.obligations()))
    }

    /// What the policy tells of any of them, each once.
    pub(super) fn notes(&self) -> BTreeSet<String> {
        let notes = self.permits.iter().flat_map(|permit| permit.obligations().note_lines());
        notes.take(Parked::NOTES_MAX).collect()
    }

    /// The most that the policy demands for any of them.
    pub(super) fn approvals_demanded(&self) -> Option<u32> {
        self.permits.iter().filter_map(|permit| permit.obligations().min_approvals).max()
    }
}

/// How several recipients are meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fanout {
    /// One of them, in this order.
    FirstThatListens,
    /// All of them.
    EachOfThem,
}
