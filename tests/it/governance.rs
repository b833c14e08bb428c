//! Is each message judged as the rules say? Policy, score, the sender's past, thresholds that are learned.

mod impact;
mod learning;
mod long_texts;
mod past;
mod policy;
