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

/// A connection that is away for longer is waited for no more: whoever would, holds its tenant's places meanwhile, and a breaker
/// takes a call that somebody gave up for a fault of what it asked.
const AWAY_MAX: Duration = Duration::from_millis(300);
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
    /// Since when there is no session that takes something.
    closed: Option<Instant>,
    /// How many there have been.
    session: u64,
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
    /// A hint, or that a message is worked on or given back: it says nothing any more once its session has ended.
    Passing {
        session: u64,
    },
    /// That a message is done, which stays so.
    Done,
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
            closed: Some(Instant::now()),
            session: 0,
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
        (self.closed, self.payload_max) = (None, payload_max);
        self.session += 1;
        (self.pongs, self.probing, self.answered) = (0, false, Some(Instant::now()));
    }

    /// Whether there is a session that takes something.
    pub(super) fn is_open(&self) -> bool {
        self.closed.is_none()
    }

    /// The session takes nothing more.
    pub(super) fn close(&mut self) {
        self.closed.get_or_insert_with(Instant::now);
    }

    fn is_away(&self, now: Instant) -> bool {
        self.closed.is_some_and(|since| now.saturating_duration_since(since) > AWAY_MAX)
    }

    /// A session has ended. Whoever waits for an answer of it hears that it is not confirmed.
    pub(super) fn end(&mut self) {
        self.close();
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
        if self.is_away(Instant::now()) {
            return Err(LaneError::Away);
        }
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
        if self.is_open() {
            let publish = Publish { subject: subject.as_bytes(), reply: None, headers, payload: &[] };
            let _ = self.write(&publish, Of::Passing { session: self.session });
        }
    }

    /// What becomes of a message that was pulled. That it is done waits for the next session; by then another may have what was
    /// given back, or is worked on.
    pub(super) fn acknowledge(&mut self, subject: &str, payload: &[u8]) {
        let done = [&b"+ACK"[..], b"+TERM"].iter().any(|word| payload.starts_with(word));
        let of = if done { Of::Done } else { Of::Passing { session: self.session } };
        if !done && !self.is_open() {
            return;
        }
        let publish = Publish { subject: subject.as_bytes(), reply: None, headers: &[], payload };
        if self.write(&publish, of).is_err() {
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
        if self.is_open() {
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
        let away = self.is_away(now);
        let late = |_: &u64, waiting: &mut Waiting| now > waiting.until || (away && !waiting.written);
        for (_, late) in self.waiting.extract_if(late) {
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
        self.probing = self.is_open() && !recent && self.pinged.is_empty();
        self.probing
    }

    /// What is to be written next, if there is anything.
    pub(super) fn leaving(&mut self, now: Instant) -> Option<Leaving> {
        let (mut bytes, mut by) = (BytesMut::new(), None);
        if self.is_open() {
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
        let (number, not_after) = match *of {
            Of::Publish { number, not_after } => (number, not_after),
            Of::Passing { session } => return session == self.session,
            Of::Done => return true,
        };
        if not_after.is_some_and(|not_after| now > not_after) {
            self.told(number, Err(LaneError::TooLate));
            return false;
        }
        let Some(waiting) = self.waiting.get_mut(&number) else { return false };
        if now > waiting.until {
            // The node was stopped for a while, and nobody has been told yet.
            self.told(number, Err(LaneError::Away));
            return false;
        }
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
        out.acknowledge("back", b"-NAK");
        out.hint("hint", &[]);
        out.end();
        out.acknowledge("worked on", b"+WPI");
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
    fn a_connection_that_is_away_for_longer_than_a_moment_is_not_waited_for() {
        let mut out = out();
        out.begin(1_024);
        let (_, mut written_once) = ask(&mut out, "written", None);
        written(&mut out);
        let (_, mut waits) = ask(&mut out, "waits", None);
        let now = Instant::now();
        out.close();
        out.give_up(now + AWAY_MAX / 2);
        assert!(waits.try_recv().is_err(), "it may come back at once");
        out.give_up(now + 2 * AWAY_MAX);
        assert_eq!(waits.try_recv(), Ok(Err(LaneError::Away)));
        assert!(written_once.try_recv().is_err(), "its answer may come yet");
        out.closed = now.checked_sub(2 * AWAY_MAX);
        let (done, _heard) = oneshot::channel();
        let asking = Asking { subject: "x", headers: &[], payload: b"", not_after: None, until: now + SOON };
        assert_eq!(out.ask(&asking, done), Err(LaneError::Away));
        out.begin(1_024);
        assert!(written(&mut out).is_empty(), "written for nobody");
    }

    #[test]
    fn what_a_stopped_node_finds_past_its_time_is_not_written() {
        let mut out = out();
        out.begin(1_024);
        let (_, mut late) = ask(&mut out, "late", None);
        assert!(out.leaving(Instant::now() + 2 * SOON).is_none());
        assert_eq!(late.try_recv(), Ok(Err(LaneError::Away)));
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
