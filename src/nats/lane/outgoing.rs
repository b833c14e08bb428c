//! What waits to leave on the lane's connection, and who waits for which answer?
//!
//! What waits outlives a session: an absent connection is waited for, within the time that each publish has. What was
//! written and not answered does not: whether it is kept is not known.

use std::{
    collections::{HashMap, VecDeque},
    time::{Duration, Instant},
};

use bytes::{BufMut as _, BytesMut};
use tokio::sync::oneshot;

use crate::{
    lanes::LaneError,
    nats::{
        intake::codec::{self, Publish},
        jetstream::publish::Published,
    },
};

/// Then nobody knows whether it is kept.
pub(super) const CONFIRM_WITHIN: Duration = Duration::from_secs(2);
/// Bytes after which a write is not filled further, so that a socket takes it whole.
const WRITE_BYTES: usize = 64 * 1024;
/// Bytes that wait. Of publishes there are [`super::requests::UNCONFIRMED_MAX`] at most; hints and acknowledgements are
/// left out from then on, and what was not acknowledged comes again.
const WAITING_BYTES_MAX: usize = 64 * 1024 * 1024;
const PING: &[u8] = b"PING\r\n";
const PONG: &[u8] = b"PONG\r\n";

pub(super) type Done = oneshot::Sender<Result<Published, LaneError>>;

/// A publish that is answered.
pub(super) struct Asking<'a> {
    pub(super) subject: &'a str,
    pub(super) headers: &'a [(&'a str, &'a str)],
    pub(super) payload: &'a [u8],
    /// Not to be written after this.
    pub(super) not_after: Option<Instant>,
    /// For the answer.
    pub(super) until: Instant,
}

/// Of all sessions.
pub(super) struct Out {
    /// There is a session that takes something.
    pub(super) open: bool,
    /// What the server takes in one message.
    pub(super) payload_max: usize,
    /// Where answers go to, with a number behind it. The same for all sessions.
    inbox: String,
    /// Of the next publish.
    next: u64,
    /// Who waits for which answer.
    waiting: HashMap<u64, Waiting>,
    /// To be written, oldest first, and all their bytes.
    frames: VecDeque<Frame>,
    bytes: BytesMut,
    /// Pings of the server that wait for an answer.
    pub(super) pongs: usize,
    /// Who wants to know that what is written by now was read.
    fences: Vec<oneshot::Sender<()>>,
    probing: bool,
    /// Pings under way, oldest first.
    pinged: VecDeque<(Instant, Vec<oneshot::Sender<()>>)>,
    /// When one was last answered.
    answered: Option<Instant>,
}

struct Waiting {
    done: Done,
    until: Instant,
    written: bool,
}

struct Frame {
    bytes: usize,
    of: Of,
}

enum Of {
    Publish {
        number: u64,
        not_after: Option<Instant>,
    },
    /// It says nothing any more once its session has ended.
    Hint,
    Acknowledgement,
}

/// What is to be written next.
pub(super) struct Leaving {
    pub(super) bytes: BytesMut,
    /// Later than this, it may not leave.
    pub(super) by: Option<Instant>,
}

impl Out {
    pub(super) fn new(inbox: String, payload_max: usize) -> Self {
        Self {
            open: false,
            payload_max,
            inbox,
            next: 0,
            waiting: HashMap::new(),
            frames: VecDeque::new(),
            bytes: BytesMut::new(),
            pongs: 0,
            fences: Vec::new(),
            probing: false,
            pinged: VecDeque::new(),
            answered: None,
        }
    }

    /// A session begins: what waits goes there.
    pub(super) fn begin(&mut self, payload_max: usize) {
        (self.open, self.payload_max) = (true, payload_max);
        (self.pongs, self.probing, self.answered) = (0, false, Some(Instant::now()));
    }

    /// A session has ended. Whoever waits for an answer of it hears that it is not confirmed.
    pub(super) fn end(&mut self) {
        self.open = false;
        self.fences.clear();
        self.pinged.clear();
        let lost: Vec<u64> =
            self.waiting.iter().filter(|(_, waiting)| waiting.written).map(|(number, _)| *number).collect();
        for number in lost {
            self.told(number, Err(LaneError::Unconfirmed));
        }
    }

    /// The number by which it is forgotten again.
    pub(super) fn ask(&mut self, asking: &Asking<'_>, done: Done) -> Result<u64, LaneError> {
        let Asking { subject, headers, payload, not_after, until } = *asking;
        let size = payload.len() + if headers.is_empty() { 0 } else { codec::header_bytes(headers) };
        if size > self.payload_max {
            return Err(LaneError::Refused(format!(
                "it has {size} bytes, and the server takes {}",
                self.payload_max
            )));
        }
        let number = self.next;
        let reply = format!("{}.{number}", self.inbox);
        let reply = Some(reply.as_bytes());
        self.write(
            &Publish { subject: subject.as_bytes(), reply, headers, payload },
            Of::Publish { number, not_after },
        )?;
        self.next += 1;
        self.waiting.insert(number, Waiting { done, until, written: false });
        Ok(number)
    }

    /// Told to who listens, if it can be.
    pub(super) fn hint(&mut self, subject: &str, headers: &[(&str, &str)]) {
        if self.open {
            let publish = Publish { subject: subject.as_bytes(), reply: None, headers, payload: &[] };
            let _ = self.write(&publish, Of::Hint);
        }
    }

    /// What becomes of a message that was pulled.
    pub(super) fn acknowledge(&mut self, subject: &str, payload: &[u8]) {
        let publish = Publish { subject: subject.as_bytes(), reply: None, headers: &[], payload };
        if self.write(&publish, Of::Acknowledgement).is_err() {
            tracing::debug!("not acknowledged: NATS takes nothing");
        }
    }

    fn write(&mut self, publish: &Publish<'_>, of: Of) -> Result<(), LaneError> {
        let before = self.bytes.len();
        if before + publish.payload.len() > WAITING_BYTES_MAX {
            return Err(LaneError::Away);
        }
        if codec::publish(&mut self.bytes, publish).is_err() {
            // Subjects are made of ids, so this cannot be; and half of it must not leave.
            self.bytes.truncate(before);
            return Err(LaneError::Refused("it has a subject that is none".to_owned()));
        }
        self.frames.push_back(Frame { bytes: self.bytes.len() - before, of });
        Ok(())
    }

    /// Nobody waits for it any more: what is not written will not be.
    pub(super) fn forget(&mut self, number: u64) {
        self.waiting.remove(&number);
    }

    /// An answer has come.
    pub(super) fn told(&mut self, number: u64, answer: Result<Published, LaneError>) {
        if let Some(waiting) = self.waiting.remove(&number) {
            // One who no longer waits has passed its deadline.
            let _ = waiting.done.send(answer);
        }
    }

    /// Hears when the server has read what is to be written by now.
    pub(super) fn fence(&mut self) -> oneshot::Receiver<()> {
        let (read, fenced) = oneshot::channel();
        if self.open {
            self.fences.push(read);
        }
        fenced
    }

    /// The server has read what was written before the oldest ping.
    pub(super) fn ponged(&mut self) {
        self.answered = Some(Instant::now());
        if let Some((_, fences)) = self.pinged.pop_front() {
            for fence in fences {
                let _ = fence.send(());
            }
        }
    }

    /// Whoever has waited for too long hears it.
    pub(super) fn give_up(&mut self, now: Instant) {
        for (_, late) in self.waiting.extract_if(|_, waiting| now > waiting.until) {
            let why = if late.written { LaneError::Unconfirmed } else { LaneError::Away };
            let _ = late.done.send(Err(why));
        }
    }

    /// Whether the server owes an answer to a ping for too long.
    pub(super) fn is_silent(&self, now: Instant) -> bool {
        self.pinged.front().is_some_and(|(at, _)| now.duration_since(*at) > CONFIRM_WITHIN)
    }

    /// Nothing that was written waits for an answer.
    pub(super) fn is_answered(&self) -> bool {
        self.pinged.is_empty() && !self.waiting.values().any(|waiting| waiting.written)
    }

    /// Wants a ping if none was answered for so long and none is on its way.
    pub(super) fn probe(&mut self, every: Duration, now: Instant) -> bool {
        let recent = self.answered.is_some_and(|at| now.duration_since(at) < every);
        self.probing = self.open && !recent && self.pinged.is_empty();
        self.probing
    }

    /// What is to be written next, if there is anything.
    pub(super) fn leaving(&mut self, now: Instant) -> Option<Leaving> {
        let (mut bytes, mut by) = (BytesMut::new(), None);
        if self.open {
            bytes.reserve(self.bytes.len().min(WRITE_BYTES) + PING.len());
            while bytes.len() < WRITE_BYTES
                && let Some(frame) = self.frames.pop_front()
            {
                let frame_bytes = self.bytes.split_to(frame.bytes);
                if self.leaves(&frame.of, now, &mut by) {
                    bytes.put_slice(&frame_bytes);
                }
            }
            let all = self.frames.is_empty();
            if all && (std::mem::take(&mut self.probing) || !self.fences.is_empty()) {
                self.pinged.push_back((now, std::mem::take(&mut self.fences)));
                bytes.put_slice(PING);
            }
        }
        for _ in 0..std::mem::take(&mut self.pongs) {
            bytes.put_slice(PONG);
        }
        (!bytes.is_empty()).then_some(Leaving { bytes, by })
    }

    fn leaves(&mut self, of: &Of, now: Instant, by: &mut Option<Instant>) -> bool {
        let &Of::Publish { number, not_after } = of else { return true };
        if not_after.is_some_and(|not_after| now > not_after) {
            self.told(number, Err(LaneError::TooLate));
            return false;
        }
        let Some(waiting) = self.waiting.get_mut(&number) else { return false };
        waiting.written = true;
        *by = (*by).into_iter().chain(not_after).min();
        true
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    type Heard = oneshot::Receiver<Result<Published, LaneError>>;

    const SOON: Duration = Duration::from_secs(60);

    fn out() -> Out {
        Out::new("_INBOX.n".to_owned(), 1_024)
    }

    fn ask(out: &mut Out, subject: &str, not_after: Option<Instant>) -> (u64, Heard) {
        let (done, heard) = oneshot::channel();
        let until = Instant::now() + SOON;
        let asking = Asking { subject, headers: &[("a", "b")], payload: b"x", not_after, until };
        (out.ask(&asking, done).unwrap(), heard)
    }

    /// The first word and the subject of each line that leaves now.
    fn written(out: &mut Out) -> Vec<String> {
        let Some(leaving) = out.leaving(Instant::now()) else { return Vec::new() };
        let text = String::from_utf8_lossy(&leaving.bytes).into_owned();
        let is_operation =
            |line: &&str| ["PUB ", "HPUB ", "PING", "PONG"].iter().any(|it| line.starts_with(it));
        let words = |line: &str| line.split(' ').take(2).collect::<Vec<_>>().join(" ");
        text.split("\r\n").filter(is_operation).map(words).collect()
    }

    #[test]
    fn what_waits_leaves_in_order_in_one_write_and_an_answer_finds_who_waits() {
        let mut out = out();
        let (_, mut first) = ask(&mut out, "one", None);
        out.acknowledge("ack", b"+ACK");
        assert!(out.leaving(Instant::now()).is_none(), "written without a session");
        out.begin(1_024);
        out.hint("hint", &[("a", "b")]);
        let (second, _second) = ask(&mut out, "two", Some(Instant::now() + SOON));
        let mut fenced = out.fence();
        assert_eq!(written(&mut out), ["HPUB one", "PUB ack", "HPUB hint", "HPUB two", "PING"]);
        assert!(out.leaving(Instant::now()).is_none() && !out.is_answered());
        let kept = Published::Kept { sequence: 7, duplicate: false };
        out.told(0, Ok(kept));
        assert_eq!(first.try_recv(), Ok(Ok(kept)));
        out.told(second, Ok(kept));
        assert!(fenced.try_recv().is_err());
        out.ponged();
        assert_eq!((fenced.try_recv(), out.is_answered()), (Ok(()), true));
    }

    #[test]
    fn a_session_that_ends_takes_what_was_written_with_it_and_leaves_what_waits() {
        let mut out = out();
        out.begin(1_024);
        let (_, mut lost) = ask(&mut out, "lost", None);
        written(&mut out);
        let (_, mut waits) = ask(&mut out, "waits", None);
        out.acknowledge("ack", b"+ACK");
        out.end();
        assert_eq!(lost.try_recv(), Ok(Err(LaneError::Unconfirmed)));
        assert!(waits.try_recv().is_err() && out.leaving(Instant::now()).is_none());
        out.begin(1_024);
        assert_eq!(written(&mut out), ["HPUB waits", "PUB ack"]);
    }

    #[test]
    fn what_is_too_late_or_waited_for_by_nobody_is_not_written() {
        let mut out = out();
        let now = Instant::now();
        let (_, mut late) = ask(&mut out, "late", Some(now.checked_sub(Duration::from_millis(1)).unwrap()));
        let (gone, _gone) = ask(&mut out, "gone", None);
        let (_, _stays) = ask(&mut out, "stays", Some(now + SOON));
        out.forget(gone);
        out.begin(1_024);
        let leaving = out.leaving(now).unwrap();
        let text = String::from_utf8_lossy(&leaving.bytes).into_owned();
        assert!(text.starts_with("HPUB stays ") && text.matches("HPUB").count() == 1, "{text}");
        assert_eq!((late.try_recv(), leaving.by), (Ok(Err(LaneError::TooLate)), Some(now + SOON)));
    }

    #[test]
    fn whoever_waits_for_too_long_hears_whether_it_may_be_kept() {
        let mut out = out();
        out.begin(1_024);
        let (_, mut asked) = ask(&mut out, "asked", None);
        written(&mut out);
        let (_, mut waits) = ask(&mut out, "waits", None);
        out.give_up(Instant::now());
        assert!(asked.try_recv().is_err() && waits.try_recv().is_err());
        out.give_up(Instant::now() + 2 * SOON);
        assert_eq!(asked.try_recv(), Ok(Err(LaneError::Unconfirmed)));
        assert_eq!(waits.try_recv(), Ok(Err(LaneError::Away)));
        assert!(written(&mut out).is_empty(), "written for nobody");
    }

    #[test]
    fn what_the_server_would_not_take_ends_no_connection() {
        let mut out = out();
        out.begin(64);
        let (done, _) = oneshot::channel();
        let until = Instant::now() + SOON;
        let large = Asking { subject: "x", headers: &[], payload: &[b'x'; 65], not_after: None, until };
        assert!(matches!(out.ask(&large, done), Err(LaneError::Refused(_))));
        let (done, _) = oneshot::channel();
        let bad = Asking { subject: "x\r\ny", headers: &[], payload: b"", not_after: None, until };
        assert!(matches!(out.ask(&bad, done), Err(LaneError::Refused(_))));
        assert!(out.leaving(Instant::now()).is_none());
    }

    #[test]
    fn a_ping_that_is_not_answered_shows_a_dead_connection() {
        let mut out = out();
        out.begin(1_024);
        let now = Instant::now();
        assert!(!out.probe(SOON, now), "a session begins with an answer");
        assert!(out.probe(SOON, now + 2 * SOON));
        assert_eq!(written(&mut out), ["PING"]);
        assert!(!out.is_silent(now) && out.is_silent(now + 2 * CONFIRM_WITHIN + SOON));
        out.ponged();
        assert!(!out.is_silent(now + 2 * CONFIRM_WITHIN + SOON));
    }
}
