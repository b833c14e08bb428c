//! How well is a part of the node? A value that each part gives of itself; who collects them knows no part.

/// What a part says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    pub state: State,
    /// For people: why, and what to do.
    pub note: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    Up,
    /// Works, with less than all; the note says with what less.
    Degraded,
    Down,
}

/// A part of a node that others depend on.
pub trait Part: Send + Sync {
    /// `None`: nothing that an operator would look at.
    fn health(&self) -> Option<Health>;
}

impl Health {
    pub fn up(note: impl Into<String>) -> Self {
        Self { state: State::Up, note: note.into() }
    }

    pub fn degraded(why: impl Into<String>) -> Self {
        Self { state: State::Degraded, note: why.into() }
    }

    pub fn down(why: impl Into<String>) -> Self {
        Self { state: State::Down, note: why.into() }
    }

    /// Well, unless there is a reason why it is not.
    pub fn degraded_if(why: Option<String>) -> Self {
        why.map_or_else(|| Self::up(""), Self::degraded)
    }
}

impl State {
    pub fn as_str(self) -> &'static str {
        match self {
            State::Up => "up",
            State::Degraded => "degraded",
            State::Down => "down",
        }
    }
}
