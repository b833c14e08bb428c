//! How many messages has a tenant's loop asked for that have not come yet?

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

/// The server ends a pull after this.
pub(super) const EXPIRES: Duration = Duration::from_secs(10);
/// Then an end that was not heard is assumed.
const GRACE: Duration = Duration::from_secs(2);

/// Pulls under way, oldest first: the server fills them in this order.
#[derive(Debug, Default)]
pub(super) struct Pulls {
    sent: VecDeque<Pull>,
    last: u64,
}

#[derive(Debug)]
struct Pull {
    number: u64,
    left: usize,
    until: Instant,
}

impl Pulls {
    /// Notes a pull and returns its number.
    pub(super) fn send(&mut self, batch: usize, now: Instant) -> u64 {
        self.last += 1;
        self.sent.push_back(Pull { number: self.last, left: batch, until: now + EXPIRES + GRACE });
        self.last
    }

    pub(super) fn outstanding(&self) -> usize {
        self.sent.iter().map(|pull| pull.left).sum()
    }

    pub(super) fn arrived(&mut self) {
        if let Some(pull) = self.sent.front_mut() {
            pull.left = pull.left.saturating_sub(1);
            if pull.left == 0 {
                self.sent.pop_front();
            }
        }
    }

    /// The server has ended it: expired, or refused.
    pub(super) fn ended(&mut self, number: u64) {
        self.sent.retain(|pull| pull.number != number);
    }

    pub(super) fn expire(&mut self, now: Instant) {
        self.sent.retain(|pull| pull.until > now);
    }

    pub(super) fn forget(&mut self) {
        self.sent.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_and_what_ended_is_no_longer_asked_for() {
        let (mut pulls, now) = (Pulls::default(), Instant::now());
        let (first, second) = (pulls.send(2, now), pulls.send(8, now));
        assert_eq!(pulls.outstanding(), 10);
        pulls.arrived();
        pulls.arrived();
        assert_eq!(pulls.outstanding(), 8, "the first pull is filled first");
        pulls.ended(first);
        assert_eq!(pulls.outstanding(), 8);
        pulls.ended(second);
        assert_eq!(pulls.outstanding(), 0);
        pulls.arrived();
        assert_eq!(pulls.outstanding(), 0, "one that nobody asked for any more");
        pulls.send(4, now);
        pulls.expire(now + EXPIRES + GRACE + Duration::from_millis(1));
        assert_eq!(pulls.outstanding(), 0);
    }
}
