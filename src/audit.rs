//! The one writer of records: what is kept as evidence of what the bus has decided and what was
//! asked of it, and where.
//!
//! Nothing else makes an [`Entry`], and only entries are published to the stream RECORDS. `docs/records.md` tells
//! auditors the same.

mod batch;
mod decode;
mod encode;
mod place;
mod record;

pub use batch::{BATCH_MESSAGES_MAX, Part, Written, batches, together};
pub use decode::decode;
pub use encode::encode;
pub use place::{Entry, PROBE, PROBE_SUBJECT, Place, batch_subject, batches_of, intent_subject};
pub use record::{
    Act, Body, Change, DeadLetter, Decision, Facts, Kind, Link, Mending, Party, Record, Recovery,
    Registration, Remembered, Step, Threshold, Vote,
};
