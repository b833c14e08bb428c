//! What waits for a place, in fair turns: no longer than a moment, and no more than there are free places and can begin
//! within it besides.
//!
//! How much that is, is what has begun of late. So who is refused is refused when it comes, and hardly anything waits
//! in vain. Knows no clock.

use std::time::{Duration, Instant};

use crate::fair_queue::{FairQueue, Owner};

/// Nothing waits for longer: with the time between two looks it is a tenth of a second.
pub(super) const WAIT_MAX: Duration = Duration::from_millis(90);
/// So much may wait as has begun within this.
const ROOM_FOR: Duration = Duration::from_millis(50);

/// What waits.
pub(super) struct Backlog<T> {
    queue: FairQueue<Waiting<T>>,
    least: usize,
    most: usize,
    /// How many may wait.
    room: usize,
    /// How many have begun since, whether they waited or not.
    begun: usize,
    since: Instant,
}

struct Waiting<T> {
    item: T,
    owner: Owner,
    cost: u64,
    since: Instant,
}

/// What came of an item.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Pushed<T> {
    Waits,
    /// It waits, and there is no room any more for the newest of who has most.
    InsteadOf(T),
    /// Nobody has more waiting than its owner.
    Full(T),
}

impl<T> Backlog<T> {
    /// At least and at most so many may wait, where no place is free.
    pub(super) fn new(least: usize, most: usize, now: Instant) -> Self {
        Self { queue: FairQueue::default(), least, most, room: least, begun: 0, since: now }
    }

    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }

    /// `free`: as many places as nobody has, for which there is room besides.
    pub(super) fn push(
        &mut self,
        (owner, cost): (Owner, u64),
        item: T,
        free: usize,
        now: Instant,
    ) -> Pushed<T> {
        self.measure(now);
        let pushed = match self.len() < self.room + free {
            true => Pushed::Waits,
            false => match self.queue.push_out(owner) {
                Some(other) => Pushed::InsteadOf(other.item),
                None => return Pushed::Full(item),
            },
        };
        self.queue.push(owner, Waiting { item, owner, cost, since: now });
        pushed
    }

    /// How many of a tenant's wait.
    pub(super) fn of(&self, owner: Owner) -> usize {
        self.queue.waiting(owner).0
    }

    /// The first of who was given least of these tenants, with its tenant, or what has waited for too long.
    pub(super) fn pop(&mut self, tenant: impl Fn(u64) -> bool, now: Instant) -> Option<Result<(T, u64), T>> {
        let Waiting { item, owner, cost, since } = self.queue.pop_of(tenant)?;
        if is_late(since, now) {
            return Some(Err(item));
        }
        self.queue.charge(owner, cost);
        self.begins(now);
        Some(Ok((item, owner.tenant)))
    }

    /// What has waited for too long.
    pub(super) fn late(&mut self, now: Instant) -> Vec<T> {
        let late = self.queue.take_out(|waiting| is_late(waiting.since, now));
        late.into_iter().map(|waiting| waiting.item).collect()
    }

    /// One begins, without having waited or with.
    pub(super) fn begins(&mut self, now: Instant) {
        self.begun += 1;
        self.measure(now);
    }

    fn measure(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.since);
        if passed >= ROOM_FOR {
            let begun = self.begun as f64 * ROOM_FOR.as_secs_f64() / passed.as_secs_f64();
            self.room = (begun as usize).clamp(self.least, self.most);
            (self.begun, self.since) = (0, now);
        }
    }
}

fn is_late(since: Instant, now: Instant) -> bool {
    now.saturating_duration_since(since) >= WAIT_MAX
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn of(number: u64) -> (Owner, u64) {
        (Owner { tenant: number, sender: number }, 1)
    }

    #[test]
    fn who_floods_it_waits_for_itself_and_others_find_room_and_are_next() {
        let now = Instant::now();
        let mut backlog = Backlog::new(8, 64, now);
        let flood: Vec<_> = (0..100).map(|item| backlog.push(of(1), item, 0, now)).collect();
        assert_eq!(flood.iter().filter(|pushed| **pushed == Pushed::Waits).count(), 8);
        assert_eq!(flood.last(), Some(&Pushed::Full(99)));
        assert_eq!(backlog.push(of(2), 200, 0, now), Pushed::InsteadOf(7), "the newest of who has most");
        let order: Vec<_> =
            std::iter::from_fn(|| backlog.pop(|_| true, now)).map(|popped| popped.unwrap().0).collect();
        assert_eq!(order, [0, 200, 1, 2, 3, 4, 5, 6]);
    }

    #[test]
    fn what_has_waited_for_a_moment_is_told_and_never_begins() {
        let now = Instant::now();
        let mut backlog = Backlog::new(8, 64, now);
        backlog.push(of(1), 1, 0, now);
        backlog.push(of(1), 2, 0, now + WAIT_MAX / 2);
        backlog.push(of(2), 3, 0, now);
        assert_eq!(backlog.late(now + WAIT_MAX / 2), Vec::<i32>::new());
        let any = |_| true;
        assert_eq!(backlog.pop(any, now + WAIT_MAX), Some(Err(1)));
        assert_eq!(backlog.late(now + WAIT_MAX), [3]);
        assert_eq!(backlog.pop(|tenant| tenant != 1, now + WAIT_MAX), None);
        assert_eq!(backlog.pop(any, now + WAIT_MAX), Some(Ok((2, 1))));
        assert_eq!((backlog.pop(any, now), backlog.len()), (None, 0));
    }

    #[test]
    fn as_much_waits_as_can_begin_within_a_moment() {
        let mut now = Instant::now();
        let mut backlog = Backlog::new(8, 500, now);
        // 4,000 a second begin.
        for _ in 0..400 {
            now += Duration::from_micros(250);
            backlog.begins(now);
        }
        let waits = |backlog: &mut Backlog<i32>, now| {
            let pushed = (0..1_000).map(|item| backlog.push(of(1), item, 0, now));
            let waiting = pushed.filter(|pushed| *pushed == Pushed::Waits).count();
            assert_eq!(backlog.late(now + WAIT_MAX).len(), waiting);
            waiting
        };
        assert!((195..=205).contains(&waits(&mut backlog, now)));
        // Nothing begins any more, and after that a million a second.
        assert_eq!(waits(&mut backlog, now + Duration::from_secs(1)), 8);
        now += Duration::from_secs(1);
        (0..100_000).for_each(|_| backlog.begins(now));
        assert_eq!(waits(&mut backlog, now + ROOM_FOR), 500);
    }
}
