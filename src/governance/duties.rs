//! What does the policy demand beside the way of a message? Its place in its sender's rates, labels for its
//! conversation, and that its sender goes no further.

use std::collections::{BTreeMap, BTreeSet};

use super::{addressees::Addressees, route::Route, rules::Purpose};
use crate::{domain::ConversationLabel, policy::Rate};

/// What must be done before anything is done with the message.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Duties {
    /// By module: what the message counts against.
    pub rates: BTreeMap<String, Rate>,
    /// What its conversation gets, for the policy's later decisions.
    pub labels: BTreeSet<ConversationLabel>,
    /// The module that stops the sender, and why. The message goes nowhere.
    pub freeze: Option<(String, String)>,
}

impl Duties {
    /// A message that is judged anew elsewhere has none here, one that is parked has counted when it is approved, and
    /// labels its conversation only then.
    pub(super) fn of(to: &Addressees, route: &Route, purpose: &Purpose<'_>) -> Self {
        let counts = *route != Route::Queued && purpose.approval.is_none();
        let labels = matches!(route, Route::Live | Route::Durable);
        let (mut rates, obligations) = (BTreeMap::new(), || to.permits.iter().map(|it| it.obligations()));
        for (module, rate) in obligations().filter(|_| counts).flat_map(|it| &it.rates) {
            // A broadcast is one message, whatever it is for each of its recipients.
            let so_far = rates.get(module).map_or(*rate, |so_far: &Rate| so_far.stricter(*rate));
            rates.insert(module.clone(), so_far);
        }
        let labels = obligations().filter(|_| labels).flat_map(|it| &it.labels).cloned().collect();
        // Whatever has approved it: who is to be stopped is stopped.
        let judged_here = *route != Route::Queued;
        let mut whys = obligations().filter(|_| judged_here).flat_map(|it| &it.freezes);
        let freeze = whys.next().map(|(module, why)| (module.clone(), why.clone()));
        Self { rates, labels, freeze }
    }
}
