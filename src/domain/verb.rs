//! What an agent can ask of the bus: the last token of a request's subject.

/// The verbs of the bus (`docs/protocol.md`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Verb {
    /// Fast lane: govern now, deliver now, the reply is the verdict.
    Send,
    Register,
    Heartbeat,
    Unregister,
    Find,
}

impl Verb {
    pub const ALL: &[Verb] = &[Verb::Send, Verb::Register, Verb::Heartbeat, Verb::Unregister, Verb::Find];

    pub fn as_str(self) -> &'static str {
        match self {
            Verb::Send => "send",
            Verb::Register => "register",
            Verb::Heartbeat => "heartbeat",
            Verb::Unregister => "unregister",
            Verb::Find => "find",
        }
    }
}

impl std::fmt::Display for Verb {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}
