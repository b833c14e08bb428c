//! What becomes of a message, on each of its ways? Sent, submitted, asked, answered, parked, released: once, and told.

mod ask;
mod busy;
mod chains;
mod deliberation;
mod durable;
mod journeys;
mod messages;
mod obligations;
mod overload;
mod takeover;
mod threads;
mod verbs;
