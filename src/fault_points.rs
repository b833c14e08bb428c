//! Where can a test kill or stall a node in the middle of a message? In builds with debug assertions alone: an optimised
//! one has none of it.
//!
//! `AGENTBUS_FAULT_POINTS` names a folder. A file in it that is called like a step and says `kill` or `stop` is taken
//! away by the first node that comes there, which does so to itself.

/// How far a message is when its node is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Judged, and not claimed.
    Judged,
    /// Claimed; nothing of it has left the node.
    Claimed,
    /// A part of its record has.
    HalfWritten,
    /// Half of a write with several messages has.
    InTwo,
    /// Its record and its deliveries have; the fence has not come back.
    Written,
    /// The node knows what came of it, and nobody else does.
    Known,
    /// Its verdict is stored.
    Settled,
    /// It is in its recipient's durable inbox, and nothing else says so.
    Stored,
    /// Its verdict is on record; its sender has not been told by an outcome.
    Recorded,
    /// It has been, and the message is not acknowledged.
    Told,
    /// It is long delivered; what will say so is stored, and its content is still there.
    Receipted,
}

impl Step {
    /// Those at which nothing of a message is without the rest of it.
    pub const BETWEEN: [Step; 6] =
        [Step::Judged, Step::Claimed, Step::HalfWritten, Step::Written, Step::Known, Step::Settled];

    /// Those of a message that was queued.
    pub const OF_QUEUED: [Step; 3] = [Step::Stored, Step::Recorded, Step::Told];

    pub fn as_str(self) -> &'static str {
        match self {
            Step::Judged => "judged",
            Step::Claimed => "claimed",
            Step::HalfWritten => "half_written",
            Step::InTwo => "in_two",
            Step::Written => "written",
            Step::Known => "known",
            Step::Settled => "settled",
            Step::Stored => "stored",
            Step::Recorded => "recorded",
            Step::Told => "told",
            Step::Receipted => "receipted",
        }
    }
}

/// The end of the node, if a test wants it here.
pub(crate) fn reached(step: Step) {
    #[cfg(debug_assertions)]
    armed::reached(step);
    #[cfg(not(debug_assertions))]
    let _ = step;
}

/// In which pieces a test wants it to be written, if it `delivers` something; else all of it at once. Behind the first one,
/// [`between_pieces`] is reached.
pub(crate) fn pieces(bytes: &[u8], delivers: bool) -> (&[u8], &[u8]) {
    #[cfg(debug_assertions)]
    let first = if delivers { armed::first_piece(bytes.len()) } else { bytes.len() };
    #[cfg(not(debug_assertions))]
    let (first, _) = (bytes.len(), delivers);
    bytes.split_at_checked(first).unwrap_or((bytes, &[]))
}

pub(crate) fn between_pieces() {
    reached(Step::HalfWritten);
    reached(Step::InTwo);
}

#[cfg(debug_assertions)]
mod armed {
    use std::{fs, path::PathBuf, sync::LazyLock, thread, time::Duration};

    use rustix::process::{Signal, getpid, kill_process};

    use super::Step;

    static FOLDER: LazyLock<Option<PathBuf>> =
        LazyLock::new(|| std::env::var_os("AGENTBUS_FAULT_POINTS").map(PathBuf::from));
    /// Of a record, which is longer.
    const FIRST_BYTES: usize = 200;
    /// Two messages or one large one are shorter than that.
    const SEVERAL_BYTES: usize = 12 * 1024;

    fn file(step: Step) -> Option<PathBuf> {
        FOLDER.as_ref().map(|folder| folder.join(step.as_str()))
    }

    pub(super) fn reached(step: Step) {
        let Some(file) = file(step) else { return };
        let signal = match fs::read(&file).as_deref() {
            Ok(b"kill") => Signal::KILL,
            Ok(b"stop") => Signal::STOP,
            _ => return,
        };
        // Of several nodes one takes it away.
        if fs::remove_file(file).is_ok() {
            let _ = kill_process(getpid(), signal);
            // The other threads may hear of it first.
            thread::sleep(Duration::from_millis(100));
        }
    }

    pub(super) fn first_piece(all: usize) -> usize {
        let is_armed = |step| file(step).is_some_and(|file| file.exists());
        if is_armed(Step::HalfWritten) {
            FIRST_BYTES
        } else if all >= SEVERAL_BYTES && is_armed(Step::InTwo) {
            all / 2
        } else {
            all
        }
    }
}
