//! How much is read in one turn of the loop, and what is let go where more comes than can be answered?
//!
//! What a stranger sends and the node does not read lies in the server, which cuts the node off when it is too much, for
//! all tenants. So reading has no end while there is more, but others have their turn between. Where much has come and
//! there is still more, and a sender finds no room, the rest of what it sends in that turn is not even refused.

use std::time::{Duration, Instant};

use super::Took;

/// Messages that begin before other tasks have their turn: some 3 µs each.
pub(super) const BEGUN_MAX: usize = 32;
/// Others have their turn after that much reading, and after that much where the node is behind.
const READS_FOR: Duration = Duration::from_millis(5);
const READS_FOR_BEHIND: Duration = Duration::from_millis(20);
/// Behind is who has read so many messages or bytes and found more each time. The server keeps eight times as many bytes
/// (`max_pending`).
const BEHIND_MESSAGES: usize = 2_500;
const BEHIND_BYTES: usize = 2 * 1024 * 1024;
/// Who sends so is told of once in that time.
const TELL_EVERY: Duration = Duration::from_secs(5);
/// Senders that are remembered for a turn.
const SENDERS_MAX: usize = 64;
/// Tokens of a subject that say who has sent it: `tenant.<tenant>.bus.<agent>`.
const SENDER_TOKENS: usize = 4;

/// One after the other, each with what the last has left.
pub(super) struct Turn {
    began: Instant,
    begun: usize,
    /// What came since there was nothing more to read.
    messages: usize,
    bytes: usize,
    /// Who found no room.
    refused: Vec<Box<[u8]>>,
    told: Option<Instant>,
}

impl Turn {
    pub(super) fn begin(now: Instant) -> Self {
        Self { began: now, begun: 0, messages: 0, bytes: 0, refused: Vec::new(), told: None }
    }

    /// There was nothing to read until now.
    pub(super) fn drained(&mut self, now: Instant) {
        (self.messages, self.bytes) = (0, 0);
        self.again(now);
    }

    /// Others have had their turn.
    pub(super) fn again(&mut self, now: Instant) {
        (self.began, self.begun) = (now, 0);
        self.refused.clear();
    }

    /// One of so many bytes is read.
    pub(super) fn read(&mut self, bytes: usize) {
        self.messages += 1;
        self.bytes = self.bytes.saturating_add(bytes);
    }

    /// This message is dropped as it is: its sender has just been told that there is no room.
    pub(super) fn lets_go(&mut self, subject: &[u8], now: Instant) -> bool {
        let lets_go = !self.refused.is_empty() && self.is_behind() && self.knows(sender(subject));
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
            Took::Refused => {
                let who = sender(subject);
                if self.refused.len() < SENDERS_MAX && !self.knows(who) {
                    self.refused.push(who.into());
                }
            }
        }
    }

    /// Who is behind reads on however many begin: as soon as there are no places, it is quick.
    pub(super) fn is_over(&self, now: Instant) -> bool {
        let read_for = now.saturating_duration_since(self.began);
        match self.is_behind() {
            true => read_for >= READS_FOR_BEHIND,
            false => self.begun >= BEGUN_MAX || read_for >= READS_FOR,
        }
    }

    fn knows(&self, sender: &[u8]) -> bool {
        self.refused.iter().any(|refused| **refused == *sender)
    }

    fn is_behind(&self) -> bool {
        self.messages >= BEHIND_MESSAGES || self.bytes >= BEHIND_BYTES
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
    use super::*;

    const OTHERS: &[u8] = b"tenant.acme.bus.planner.send";
    const MALLORY: &[u8] = b"tenant.globex.bus.mallory.send";

    fn behind(turn: &mut Turn) {
        (0..BEHIND_MESSAGES).for_each(|_| turn.read(1));
    }

    #[test]
    fn a_turn_ends_with_so_many_begun_or_after_a_moment() {
        let now = Instant::now();
        let mut turn = Turn::begin(now);
        (1..BEGUN_MAX).for_each(|_| turn.took(OTHERS, Took::Work));
        (0..10_000).for_each(|_| turn.took(OTHERS, Took::Little));
        assert!(!turn.is_over(now) && turn.is_over(now + READS_FOR));
        turn.took(OTHERS, Took::Work);
        assert!(turn.is_over(now));
        turn.again(now);
        assert!(!turn.is_over(now));
    }

    #[test]
    fn who_is_behind_reads_for_longer_and_lets_go_what_follows_of_who_found_no_room() {
        let now = Instant::now();
        let mut turn = Turn::begin(now);
        turn.took(MALLORY, Took::Refused);
        assert!(!turn.lets_go(MALLORY, now), "it is not behind");
        behind(&mut turn);
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
        turn.again(now);
        assert!(!turn.lets_go(MALLORY, now), "in each turn it is told once");
        (0..BEGUN_MAX * 10).for_each(|_| turn.took(OTHERS, Took::Work));
        assert!(!turn.is_over(now + READS_FOR) && turn.is_over(now + READS_FOR_BEHIND));
        turn.drained(now);
        assert!(turn.is_over(now + READS_FOR), "it has caught up");
        turn.read(BEHIND_BYTES);
        assert!(!turn.is_over(now + READS_FOR), "much is as bad as many");
    }

    #[test]
    fn no_more_senders_are_remembered_than_there_is_room_for() {
        let mut turn = Turn::begin(Instant::now());
        for agent in 0..SENDERS_MAX * 2 {
            turn.took(format!("tenant.globex.bus.a{agent}.send").as_bytes(), Took::Refused);
            turn.took(b"tenant.globex.bus.a0.send", Took::Refused);
        }
        assert_eq!(turn.refused.len(), SENDERS_MAX);
    }
}
