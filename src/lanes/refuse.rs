//! Requests that go no way at all: told so at once, undecoded and unrecorded.

use std::time::Duration;

use super::{
    attempt::Attempt,
    backoff::jittered,
    parts::Lanes,
    request::{Answer, Request},
};
use crate::{
    domain::{Reason, Verb, Verdict},
    rejection::Rejection,
    usage::Used,
};

/// Of a node that has no room: by then it has made some.
const AGAIN_AFTER: Duration = Duration::from_millis(100);

impl Lanes {
    /// For a request that found no room at the node.
    pub fn no_room(&self, verb: Verb, request: &Request) -> Answer {
        let rejection =
            Rejection::new(Reason::Overloaded, "the node has as much to do as it can, and as much waits");
        self.refuse(verb, request, rejection.after(jittered(AGAIN_AFTER)))
    }

    /// So many more of so many bytes have got the answer of one that found no room, as they were read.
    pub fn no_room_either(&self, (verb, like): (Verb, &Request), same: &Answer, (count, bytes): (u64, u64)) {
        let Verdict { status, reason, .. } = same.verdict;
        self.metrics.answered_alike(verb, (status, reason), count);
        let used = Used { messages: count, bytes, refused: count, ..Used::default() };
        self.usage.count(&like.tenant, &like.sender, (self.clock)(), used);
    }

    pub(super) fn refuse(&self, verb: Verb, request: &Request, rejection: Rejection) -> Answer {
        let attempt = Attempt::begin(self, request, self.limits.deadline);
        let answer = attempt.answer(Err(rejection));
        attempt.observed(verb, answer)
    }

    /// For a verb that is none: which there are, and nothing of what was asked for, which a stranger may read.
    pub fn unknown_verb(&self, request: &Request) -> Answer {
        let verbs: Vec<&str> = Verb::ALL.iter().map(|verb| verb.as_str()).collect();
        let detail = format!("expected bus.<you>.<verb> with one of these verbs: {}", verbs.join(", "));
        self.metrics.nats.malformed();
        let attempt = Attempt::begin(self, request, self.limits.deadline);
        attempt.answer(Err(Rejection::new(Reason::UnknownVerb, detail)))
    }
}
