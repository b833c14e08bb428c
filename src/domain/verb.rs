//! What an agent can ask of the bus: the last token of a request's subject.

/// The verbs of the bus (`docs/protocol.md`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Verb {
    /// Fast lane: govern now, deliver now, the reply is the verdict.
    Send,
    /// Durable lane: kept now, governed and delivered soon; the verdict comes as an outcome.
    Submit,
    /// Fast lane, and the recipient's answer comes back as the reply.
    Ask,
    /// An answer to a delivery that came of an `ask`; its subject goes on with the question's token.
    Answer,
    /// What waits for this reviewer.
    Deliberations,
    /// A reviewer's vote.
    Vote,
    Register,
    Heartbeat,
    Unregister,
    Find,
    /// What must be known before a message is sent: constitutions, limits, the time.
    About,
    /// It stops itself, until an operator lets it go on.
    Freeze,
}

impl Verb {
    pub const ALL: &[Verb] = &[
        Verb::Send,
        Verb::Submit,
        Verb::Ask,
        Verb::Answer,
        Verb::Deliberations,
        Verb::Vote,
        Verb::Register,
        Verb::Heartbeat,
        Verb::Unregister,
        Verb::Find,
        Verb::About,
        Verb::Freeze,
    ];

    pub fn parse(word: &str) -> Option<Verb> {
        Verb::ALL.iter().copied().find(|verb| verb.as_str() == word)
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Verb::Send => "send",
            Verb::Submit => "submit",
            Verb::Ask => "ask",
            Verb::Answer => "answer",
            Verb::Deliberations => "deliberations",
            Verb::Vote => "vote",
            Verb::Register => "register",
            Verb::Heartbeat => "heartbeat",
            Verb::Unregister => "unregister",
            Verb::Find => "find",
            Verb::About => "about",
            Verb::Freeze => "freeze",
        }
    }
}

impl std::fmt::Display for Verb {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}
