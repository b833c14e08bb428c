//! May a server be asked, after what has become of the last calls? A function of time and outcomes; it asks nobody.

use std::time::Duration;

use tokio::time::Instant;

/// Faults of a server, one after the other, after which it is left alone.
const FAULTS_MAX: u32 = 3;
/// For so long at first, and the double each time that it was not better after.
const OPEN_FOR: Duration = Duration::from_secs(1);
const OPEN_FOR_MAX: Duration = Duration::from_secs(15);

/// Closed, the server is asked; open, it is not, until a probe has an answer after some time.
#[derive(Debug, Default)]
pub(super) struct Breaker {
    faults: u32,
    open_until: Option<Instant>,
    /// The next time it is open for so long.
    pause: Option<Duration>,
}

impl Breaker {
    pub(super) fn is_closed(&self) -> bool {
        self.open_until.is_none()
    }

    /// A question was answered.
    pub(super) fn answered(&mut self) {
        (self.faults, self.pause) = (0, None);
    }

    /// A question was not, and that was the server's fault.
    pub(super) fn faulted(&mut self, now: Instant) {
        self.faults += 1;
        if self.faults >= FAULTS_MAX {
            self.open(now);
        }
    }

    /// Nothing but the server can have been the reason.
    pub(super) fn open(&mut self, now: Instant) {
        let pause = self.pause.unwrap_or(OPEN_FOR);
        if self.open_until.is_none_or(|until| until <= now) {
            self.open_until = Some(now + pause);
            self.pause = Some(OPEN_FOR_MAX.min(pause * 2));
        }
        self.faults = 0;
    }

    /// A probe was answered. What a question comes to is not known by that, so a server that fails soon again is left
    /// alone for longer.
    pub(super) fn probed(&mut self, now: Instant) {
        if self.open_until.is_some_and(|until| until <= now) {
            self.open_until = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_opens_at_the_third_fault_in_a_row_and_closes_by_a_probe_after_its_time() {
        let (mut breaker, start) = (Breaker::default(), Instant::now());
        for _ in 0..2 {
            breaker.faulted(start);
            breaker.faulted(start);
            assert!(breaker.is_closed());
            breaker.answered();
        }
        for _ in 0..3 {
            breaker.faulted(start);
        }
        assert!(!breaker.is_closed());
        breaker.probed(start);
        assert!(!breaker.is_closed(), "its time is not over");
        breaker.probed(start + OPEN_FOR);
        assert!(breaker.is_closed());
    }

    #[test]
    fn a_server_that_only_answers_probes_is_left_alone_for_longer_each_time() {
        let (mut breaker, mut now) = (Breaker::default(), Instant::now());
        for pause in [1, 2, 4, 8, 15, 15].map(Duration::from_secs) {
            breaker.open(now);
            breaker.probed(now + pause - Duration::from_millis(1));
            assert!(!breaker.is_closed(), "{pause:?}");
            now += pause;
            breaker.probed(now);
            assert!(breaker.is_closed(), "{pause:?}");
        }
        breaker.answered();
        breaker.open(now);
        breaker.probed(now + OPEN_FOR);
        assert!(breaker.is_closed(), "an answer makes up for it");
    }

    #[test]
    fn faults_of_questions_that_were_under_way_do_not_make_the_pause_longer() {
        let (mut breaker, start) = (Breaker::default(), Instant::now());
        for _ in 0..30 {
            breaker.faulted(start);
        }
        breaker.probed(start + OPEN_FOR);
        assert!(breaker.is_closed());
    }
}
