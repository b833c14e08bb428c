//! What does a message score by itself, when nothing is known of its sender?

use std::collections::BTreeSet;

use super::{Others, Semantic, Sum, assessed, settings::LIFT_ALL, signals};
use crate::domain::{Impact, Message, MessageType, Parts, Priority, Timestamp, Weights};

/// The impact of a message that is its sender's first, for a semantic part that is known. A node
/// gives the same to such a message at the same time of day.
pub fn score_standalone(
    message: &Message,
    semantic: Semantic,
    model: &str,
    weights: &Weights,
    at: Timestamp,
) -> Impact {
    let others = Others::of(message, 1, at);
    let sum = Sum::new(weights, &others, message.priority, None, LIFT_ALL);
    assessed(&sum, &others, semantic, model)
}

/// The score of a message that has nothing but words: a command of normal priority without a tool, by day, its
/// sender's first. The words lift it to `lift_max` at most.
pub fn words_alone(semantic: f64, weights: &Weights, lift_max: f64) -> f64 {
    let priority = Priority::Normal;
    let others = Others {
        permission: signals::permission(&BTreeSet::new()),
        volume: signals::volume(1),
        context: signals::context(false, false),
        priority: signals::priority(priority),
        message_type: signals::message_type(MessageType::Command),
        asks: false,
    };
    Sum::new(weights, &others, priority, None, lift_max).score(semantic)
}

/// The score that the parts of a message make by other weights or with another semantic part. Its drift
/// stays as it was: the past is not known any more.
pub fn rescored(
    parts: &Parts,
    message_type: Option<MessageType>,
    semantic: f64,
    weights: &Weights,
    report_lift_max: f64,
) -> f64 {
    sum_of(parts, message_type, weights, report_lift_max)
        .score_with(semantic, parts.drift.unwrap_or_default())
}

/// Whether no words could change what the threshold makes of a message with these parts, so that a node would
/// not read them. Of its sender's past nothing is known.
pub fn needs_no_words(
    parts: &Parts,
    message_type: Option<MessageType>,
    weights: &Weights,
    report_lift_max: f64,
    threshold: f64,
) -> bool {
    sum_of(parts, message_type, weights, report_lift_max).bounds().decide(threshold)
}

fn sum_of(parts: &Parts, message_type: Option<MessageType>, weights: &Weights, report_lift_max: f64) -> Sum {
    let Parts { permission, volume, context, priority, message_type: typed, .. } = *parts;
    let urgent = priority >= signals::priority(Priority::High);
    let large_amount = context >= signals::context(false, true);
    let asks = message_type.is_none_or(|it| signals::asks(it, urgent, permission, large_amount));
    let others = Others { permission, volume, context, priority, message_type: typed, asks };
    let critical = priority >= signals::priority(Priority::Critical);
    let priority = if critical { Priority::Critical } else { Priority::Normal };
    Sum::new(weights, &others, priority, None, report_lift_max)
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
        let permission = signals::permission(&message.tools);
        Self {
            permission,
            volume: signals::volume(messages),
            context: signals::context(signals::unusual_hour(now), large_amount),
            priority: signals::priority(message.priority),
            message_type: signals::message_type(message.message_type),
            asks: signals::asks(
                message.message_type,
                message.priority >= Priority::High,
                permission,
                large_amount,
            ),
        }
    }
}
