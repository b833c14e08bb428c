//! What is counted of the policy, and by whom?

/// What is seen, one for each time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// An answer that was remembered.
    Hit,
    /// The policy is asked, and its answer will be remembered.
    Miss,
    /// The policy is asked, and its answer is never remembered: about an approval or a large content, and all answers of
    /// some policies.
    Uncached,
    /// The policy is asked in process.
    AskedRego,
    /// The policy is asked of OPA servers.
    AskedOpa,
    /// No OPA server has answered, so that the policy is asked in process too.
    InsteadOfOpa,
    /// Another node was given the answer, and has shared it.
    SharedHit,
    /// None has.
    SharedMiss,
    /// Whether one has could not be told in time.
    SharedUnanswered,
    /// What is shared is of another version.
    SharedUnreadable,
    /// A new answer is shared with other nodes.
    SharedKept,
    /// One is not: too many at one time, too long, or it could not be kept.
    SharedLost,
    Denied,
    /// It could not be asked, or came to nothing since the processor was busy.
    Unavailable,
    /// A rule failed on the question.
    Failed,
    /// Another policy was put in force.
    Loaded,
    /// What was read is in force already.
    Unchanged,
    /// What was read is not put in force.
    Refused,
    /// A decision is kept in the decision log.
    Logged,
    /// One is missing there, though it was to be logged.
    LogLost,
    /// One is missing in the file beside it.
    LogFileLost,
    /// A candidate was asked beside the policy in force, and the message would fare the same.
    ShadowSame,
    /// It would fare otherwise.
    ShadowChanged,
    /// The candidate was not asked: decisions come faster than it answers.
    ShadowLost,
    /// One of both gave no answer, as the processor or a server was busy.
    ShadowUndecided,
}

/// Whoever counts that. Never waits.
pub trait Meter: Send + Sync {
    fn see(&self, event: Event);
}

/// Nobody.
impl Meter for () {
    fn see(&self, _: Event) {}
}
