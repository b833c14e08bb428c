//! How much is read in one turn of the loop, and what is let go where more comes than can be answered?
//!
//! What a stranger sends and the node does not read lies in the server, which cuts the node off when it is too much, for
//! all tenants. So reading has no end while there is more, but others have their turn between.
//!
//! Where a sender finds no room, the rest of what it sends on that subject in that turn is refused by the same words,
//! which costs hardly more than reading it. Where even that is too much, the rest is not even refused.

use std::time::{Duration, Instant};

use super::{Again, Incoming, Took};

/// Messages that begin before other tasks have their turn: some 3 µs each.
pub(super) const BEGUN_MAX: usize = 32;
/// Others have their turn after so much was read. Not after a time on the wall: where others have the processor
/// meanwhile, or a container may not have more of it, a node would read the less the more there is.
const READ_MAX: Read = Read { messages: 2_048, bytes: 2 * 1024 * 1024 };
/// Who has read so much, and found more each time, is behind, and reads on for so many times as much. The server keeps
/// eight times as many bytes (`max_pending`).
const BEHIND: Read = READ_MAX;
const BEHIND_READS: usize = 4;
/// After so many times as much it is too far behind to refuse anybody by the same words.
const FAR_BEHIND: usize = 8;
/// And it ends when its thread has run for so long, whatever was read.
const READS_FOR: Duration = Duration::from_millis(10);
/// Who sends so is told of once in that time.
const TELL_EVERY: Duration = Duration::from_secs(5);
/// Senders that are remembered for a turn.
const SENDERS_MAX: usize = 64;
/// And words of each: it may ask on several subjects, and in two encodings.
const WORDS_OF_SENDER_MAX: usize = 4;
/// Tokens of a subject that say who has sent it: `tenant.<tenant>.bus.<agent>`.
const SENDER_TOKENS: usize = 4;

/// One after the other, each with what the last has left.
#[derive(Default)]
pub(super) struct Turn {
    begun: usize,
    read: Read,
    /// What came since there was nothing more to read.
    since_drained: Read,
    /// Who found no room.
    refused: Vec<Refused>,
    /// How more of theirs is refused.
    words: Vec<(Box<[u8]>, Again)>,
    told: Option<Instant>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Read {
    messages: usize,
    bytes: usize,
}

impl Read {
    fn add(&mut self, bytes: usize) {
        self.messages += 1;
        self.bytes = self.bytes.saturating_add(bytes);
    }

    fn reaches(self, most: Self, times: usize) -> bool {
        self.messages >= most.messages * times || self.bytes >= most.bytes * times
    }
}

/// Who found no room, and for how many of its subjects there are words.
struct Refused {
    sender: Box<[u8]>,
    /// Each of its messages is refused by other words.
    dear: bool,
    words: usize,
}

impl Turn {
    /// There was nothing to read until now.
    pub(super) fn drained(&mut self) {
        self.since_drained = Read::default();
        self.next();
    }

    /// Others have had their turn.
    pub(super) fn next(&mut self) {
        (self.begun, self.read) = (0, Read::default());
        self.refused.clear();
        self.words.clear();
    }

    /// One of so many bytes is read.
    pub(super) fn read(&mut self, bytes: usize) {
        self.read.add(bytes);
        self.since_drained.add(bytes);
    }

    /// It was refused in the words that were said on its subject before: in one turn nothing comes free.
    pub(super) fn refuses_again(&self, message: &Incoming) -> bool {
        let on_it = self.words.iter().filter(|(subject, _)| **subject == *message.subject);
        on_it.map(|(_, again)| again).any(|again| again(message))
    }

    /// This message is dropped as it is: its sender has just been told that there is no room, and to tell it again would
    /// take too long.
    pub(super) fn lets_go(&mut self, subject: &[u8], now: Instant) -> bool {
        if self.refused.is_empty() || !self.is_behind() {
            return false;
        }
        let (far, sender_of) = (self.since_drained.reaches(BEHIND, FAR_BEHIND), sender(subject));
        let lets_go = self.refused.iter().any(|it| (far || it.dear) && *it.sender == *sender_of);
        if lets_go && self.told.is_none_or(|told| now.saturating_duration_since(told) >= TELL_EVERY) {
            self.told = Some(now);
            let sender = String::from_utf8_lossy(sender(subject));
            tracing::warn!(
                ?sender,
                "a sender sends faster than it can be refused; what it gets no answer to is dropped"
            );
        }
        lets_go
    }

    /// So a message was taken.
    pub(super) fn took(&mut self, subject: &[u8], took: Took) {
        match took {
            Took::Work => self.begun += 1,
            Took::Little => {}
            Took::Refused(again) => self.refused(subject, again),
        }
    }

    fn refused(&mut self, subject: &[u8], again: Option<Again>) {
        let sender = sender(subject);
        if !self.refused.iter().any(|it| *it.sender == *sender) {
            if self.refused.len() >= SENDERS_MAX {
                return;
            }
            self.refused.push(Refused { sender: sender.into(), dear: false, words: 0 });
        }
        let Some(refused) = self.refused.iter_mut().find(|it| *it.sender == *sender) else { return };
        match again {
            Some(again) if refused.words < WORDS_OF_SENDER_MAX => {
                refused.words += 1;
                self.words.push((subject.into(), again));
            }
            _ => refused.dear = true,
        }
    }

    /// Its thread has run for so long. Who is behind reads on however many begin.
    pub(super) fn is_over(&self, ran: Duration) -> bool {
        if ran >= READS_FOR {
            return true;
        }
        match self.is_behind() {
            true => self.read.reaches(READ_MAX, BEHIND_READS),
            false => self.begun >= BEGUN_MAX || self.read.reaches(READ_MAX, 1),
        }
    }

    fn is_behind(&self) -> bool {
        self.since_drained.reaches(BEHIND, 1)
    }
}

/// The part of a subject that says who has sent it, which is the server's word.
fn sender(subject: &[u8]) -> &[u8] {
    let mut ends = subject.iter().enumerate().filter(|(_, byte)| **byte == b'.').map(|(at, _)| at);
    let end = ends.nth(SENDER_TOKENS - 1);
    end.and_then(|end| subject.get(..end)).unwrap_or(subject)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };

    use bytes::{Bytes, BytesMut};

    use super::*;
    use crate::nats::intake::codec::{self, Operation};

    const OTHERS: &[u8] = b"tenant.acme.bus.planner.send";
    const MALLORY: &[u8] = b"tenant.globex.bus.mallory.send";

    fn read(turn: &mut Turn, messages: usize) {
        (0..messages).for_each(|_| turn.read(1));
    }

    #[test]
    fn a_turn_ends_with_so_many_begun_or_read() {
        let mut turn = Turn::default();
        (1..BEGUN_MAX).for_each(|_| turn.took(OTHERS, Took::Work));
        (0..10_000).for_each(|_| turn.took(OTHERS, Took::Little));
        assert!(!turn.is_over(Duration::ZERO));
        turn.took(OTHERS, Took::Work);
        assert!(turn.is_over(Duration::ZERO));
        turn.drained();
        assert!(!turn.is_over(READS_FOR / 2) && turn.is_over(READS_FOR));
        read(&mut turn, READ_MAX.messages - 1);
        assert!(!turn.is_over(Duration::ZERO));
        turn.next();
        turn.read(READ_MAX.bytes);
        turn.next();
        turn.drained();
        assert!(!turn.is_over(Duration::ZERO), "others have had their turn");
    }

    #[test]
    fn who_is_behind_reads_for_longer_and_lets_go_what_follows_of_who_found_no_room() {
        let now = Instant::now();
        let mut turn = Turn::default();
        turn.took(MALLORY, Took::Refused(None));
        assert!(!turn.lets_go(MALLORY, now), "it is not behind");
        read(&mut turn, BEHIND.messages);
        for (subject, lets_go) in [
            (MALLORY, true),
            (b"tenant.globex.bus.mallory.anything.else", true),
            (b"tenant.globex.bus.mallory2.send", false),
            (b"tenant.acme.bus.mallory.send", false),
            (OTHERS, false),
            (b"nodes.status", false),
            (b"", false),
        ] {
            assert_eq!(turn.lets_go(subject, now), lets_go, "{}", String::from_utf8_lossy(subject));
        }
        turn.next();
        assert!(!turn.lets_go(MALLORY, now), "in each turn it is told once");
        (0..BEGUN_MAX * 10).for_each(|_| turn.took(OTHERS, Took::Work));
        read(&mut turn, READ_MAX.messages);
        assert!(!turn.is_over(Duration::ZERO), "it reads on, however many begin");
        read(&mut turn, READ_MAX.messages * (BEHIND_READS - 1));
        assert!(turn.is_over(Duration::ZERO));
        turn.drained();
        (0..BEGUN_MAX).for_each(|_| turn.took(OTHERS, Took::Work));
        assert!(turn.is_over(Duration::ZERO), "it has caught up");
        turn.read(BEHIND.bytes);
        assert!(!turn.is_over(Duration::ZERO), "much is as bad as many");
    }

    #[test]
    fn more_on_a_subject_without_room_is_refused_alike_until_the_turn_ends_and_no_other() {
        let again = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&again);
        let on = |subject: &[u8], payload: &'static [u8]| {
            let line = [b"MSG ", subject, b" 2 r 1\r\n", payload, b"\r\n"].concat();
            let read = codec::decode(&mut BytesMut::from(&line[..]));
            let Ok(Some(Operation::Message(message))) = read else { panic!("it is a message") };
            message
        };
        let mut turn = Turn::default();
        assert!(!turn.refuses_again(&on(MALLORY, b"{")), "nothing was refused");
        let refuse: Again = Box::new(move |message: &Incoming| {
            counted.fetch_add(1, Ordering::Relaxed);
            message.payload == Bytes::from_static(b"{")
        });
        turn.took(MALLORY, Took::Refused(Some(refuse)));
        turn.took(
            MALLORY,
            Took::Refused(Some(Box::new(|message| message.payload == Bytes::from_static(b"y")))),
        );
        turn.took(OTHERS, Took::Refused(None));
        assert!(turn.refuses_again(&on(MALLORY, b"{")));
        assert!(turn.refuses_again(&on(MALLORY, b"y")), "it is the other case");
        assert!(!turn.refuses_again(&on(MALLORY, b"x")), "it is neither");
        assert!(!turn.refuses_again(&on(b"tenant.globex.bus.mallory.submit", b"{")));
        assert!(!turn.refuses_again(&on(OTHERS, b"{")), "nobody knows how");
        read(&mut turn, BEHIND.messages);
        assert!(turn.lets_go(OTHERS, Instant::now()) && !turn.lets_go(MALLORY, Instant::now()));
        read(&mut turn, BEHIND.messages * (FAR_BEHIND - 1));
        assert!(turn.lets_go(MALLORY, Instant::now()), "it is too far behind");
        turn.next();
        assert!(!turn.refuses_again(&on(MALLORY, b"{")), "something may have come free");
        assert_eq!(again.load(Ordering::Relaxed), 3);
    }

    #[test]
    fn no_sender_takes_what_is_remembered_of_others_and_who_tries_is_let_go() {
        let again = || -> Option<Again> { Some(Box::new(|_: &Incoming| false)) };
        let mut turn = Turn::default();
        for verb in 0..SENDERS_MAX * 2 {
            let subject = format!("tenant.globex.bus.mallory.v{verb}");
            turn.took(subject.as_bytes(), Took::Refused(again()));
        }
        assert_eq!((turn.refused.len(), turn.words.len()), (1, WORDS_OF_SENDER_MAX));
        turn.took(OTHERS, Took::Refused(again()));
        read(&mut turn, BEHIND.messages);
        assert!(turn.lets_go(MALLORY, Instant::now()) && !turn.lets_go(OTHERS, Instant::now()));
        for agent in 0..SENDERS_MAX * 2 {
            turn.took(format!("tenant.globex.bus.a{agent}.send").as_bytes(), Took::Refused(again()));
        }
        assert_eq!(turn.refused.len(), SENDERS_MAX);
        assert_eq!(turn.words.len(), WORDS_OF_SENDER_MAX + SENDERS_MAX - 1);
    }
}
