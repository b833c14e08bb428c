//! What does an attempt know of what its message follows from?

use crate::{domain::MessageId, state::HandedBack};

#[derive(Default)]
pub(super) struct Follows {
    /// The question that it answers, whether it says so or not.
    pub question: Option<MessageId>,
    /// By which it says what it follows from, until it counts.
    pub handed: Option<Box<HandedBack>>,
    /// Of the delivery, where its recipients can hand that back, too.
    pub traceparent: Option<String>,
}
