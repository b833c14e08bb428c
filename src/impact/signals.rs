//! What each part of the impact is worth, but for the semantic one: the tables of `docs/impact.md`.
//!
//! Pure functions; every result is in 0..=1.

use std::collections::BTreeSet;

use super::text::words;
use crate::domain::{MessageType, Priority, Timestamp};

mod money;
mod tools;

pub use money::{LARGE_AMOUNT, large_amount};

/// The strongest of the tools asked for.
pub fn permission(tools: &BTreeSet<String>) -> f64 {
    tools.iter().map(|tool| tools::asked(tool)).fold(PERMISSION_NONE, f64::max)
}

const PERMISSION_NONE: f64 = 0.1;
/// Of a tool that changes nothing.
pub(super) const PERMISSION_READ: f64 = 0.2;

/// By the words that are known alone, which is how a tool sounds.
pub(super) fn permission_of_tool(tool: &str) -> f64 {
    words(tool).map(permission_of).fold(PERMISSION_NONE, f64::max)
}

fn permission_of(word: &str) -> f64 {
    match word {
        "execute" | "delete" | "write" | "submit" | "transfer" => 0.9,
        "send" | "update" | "modify" => 0.5,
        "read" | "get" | "list" | "view" => PERMISSION_READ,
        _ => PERMISSION_NONE,
    }
}

/// From the sender's messages within 60 s, this one included.
pub fn volume(messages: u32) -> f64 {
    match messages {
        0..10 => 0.1,
        10..50 => 0.4,
        50..100 => 0.7,
        100.. => 1.0,
    }
}

pub fn context(unusual_hour: bool, large_amount: bool) -> f64 {
    // Written out, so that the sums are exact.
    match (unusual_hour, large_amount) {
        (false, false) => 0.2,
        (true, false) => 0.5,
        (false, true) => 0.6,
        (true, true) => 0.9,
    }
}

/// 01:00 to 05:59 UTC.
pub fn unusual_hour(now: Timestamp) -> bool {
    const HOUR_MS: u64 = 3_600_000;
    (1..6).contains(&(now.0 / HOUR_MS % 24))
}

// The keyword scorer's steps are exactly as wide as the tolerance; they are within it, whatever
// binary fractions make of them.
const DRIFT_TOLERANCE: f64 = 0.3 + 1e-9;
/// At this distance from the mean drift jumps.
pub(super) const DRIFT_JUMP: f64 = DRIFT_TOLERANCE;
/// At this distance drift stops to grow.
pub(super) const DRIFT_FULL: f64 = 0.6;

/// How far this message's semantic part is from the mean of the sender's last ones. Without a past
/// there is nothing to drift from.
pub fn drift(semantic: f64, mean: Option<f64>) -> f64 {
    if distance(semantic, mean) <= DRIFT_TOLERANCE { 0.0 } else { drifted(semantic, mean) }
}

/// As [`drift`] beyond its jump.
pub(super) fn drifted(semantic: f64, mean: Option<f64>) -> f64 {
    (distance(semantic, mean) / 0.3 * 0.5).min(1.0)
}

fn distance(semantic: f64, mean: Option<f64>) -> f64 {
    mean.map_or(0.0, |mean| (semantic - mean).abs())
}

/// Whether a message asks for something: by its type, a tool that does more than read, its urgency or an amount
/// of money. All others report, or say that they do.
pub fn asks(message_type: MessageType, urgent: bool, permission: f64, large_amount: bool) -> bool {
    let by_type = match message_type {
        MessageType::Command
        | MessageType::Query
        | MessageType::TaskRequest
        | MessageType::GovernanceRequest
        | MessageType::GovernanceResponse
        | MessageType::ConstitutionalValidation => true,
        MessageType::TaskResponse
        | MessageType::Response
        | MessageType::Event
        | MessageType::Notification
        | MessageType::Heartbeat
        | MessageType::AuditLog => false,
    };
    by_type || urgent || large_amount || permission > PERMISSION_READ
}

pub fn priority(priority: Priority) -> f64 {
    match priority {
        Priority::Critical => 1.0,
        Priority::High => 0.7,
        Priority::Normal => 0.3,
        Priority::Low => 0.1,
    }
}

pub fn message_type(message_type: MessageType) -> f64 {
    match message_type {
        MessageType::GovernanceRequest
        | MessageType::GovernanceResponse
        | MessageType::ConstitutionalValidation => 0.8,
        MessageType::TaskRequest | MessageType::TaskResponse => 0.5,
        MessageType::Command
        | MessageType::Query
        | MessageType::Response
        | MessageType::Event
        | MessageType::Notification
        | MessageType::Heartbeat
        | MessageType::AuditLog => 0.2,
    }
}
