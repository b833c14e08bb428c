//! What does a message score by itself, when nothing is known of its sender?

use super::{Others, Semantic, Sum, assessed, signals};
use crate::domain::{Impact, Message, Timestamp, Weights};

/// The impact of a message that is its sender's first, for a semantic part that is known. A node
/// gives the same to such a message at the same time of day.
pub fn alone(message: &Message, semantic: Semantic, model: &str, weights: &Weights, at: Timestamp) -> Impact {
    let others = Others::of(message, 1, at);
    assessed(&Sum::new(weights, &others, message.priority, None), &others, semantic, model)
}

impl Others {
    /// Read off a message, its sender's count of messages within 60 s, and the clock.
    pub(super) fn of(message: &Message, messages: u32, now: Timestamp) -> Self {
        Self::with(message, messages, now, signals::large_amount(&message.content))
    }

    /// The least and the most, without a look at the content's numbers.
    pub(super) fn unread(message: &Message, messages: u32, now: Timestamp) -> [Self; 2] {
        [false, true].map(|large| Self::with(message, messages, now, large))
    }

    fn with(message: &Message, messages: u32, now: Timestamp, large_amount: bool) -> Self {
        Self {
            permission: signals::permission(&message.tools),
            volume: signals::volume(messages),
            context: signals::context(signals::unusual_hour(now), large_amount),
            priority: signals::priority(message.priority),
            message_type: signals::message_type(message.message_type),
        }
    }
}
