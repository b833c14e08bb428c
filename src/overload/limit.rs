//! How many may be worked on at one time? As many as do not slow each other down, and as a loop has time for.
//!
//! A gradient: what one takes now is held against what one takes where few are worked on. Where it takes more than
//! twice as long, the others are in its way, and fewer may begin; else more may, as long as they are wanted. So a node
//! that is slow since what it asks is far away works on many, and one that is slow since it has too much to do works on
//! few (after the gradients of Netflix' concurrency-limits and of Envoy's adaptive concurrency).
//!
//! The gradient takes seconds. Within one turn of the loop the limit follows how long that took: what has begun waits
//! for its first turn behind all others, and so do the connections. Where that takes too long, no more may be worked on
//! than a turn has time for. A function of what it is told: knows no clock.

use std::time::{Duration, Instant};

/// What is told within this is judged together.
const WINDOW: Duration = Duration::from_millis(100);
/// Fewer tell nothing yet.
const SAMPLES_MIN: u32 = 16;
/// One may take so many times as long as where few are worked on.
const TOLERANCE: f64 = 2.0;
/// By how much of what it should be the limit follows in a window.
const STEP: f64 = 0.2;
/// How often it is looked anew what one takes where few are worked on, in windows: the first lets the others end.
const LOOK_EVERY: Duration = Duration::from_secs(30);
const LOOKS: u32 = 2;
/// For all of them.
const LOOK_WITHIN: Duration = Duration::from_secs(1);

/// A turn of the loop may take so long, of the time that it ran: beyond it, whoever waits for an answer of Redis or NATS
/// on it has it too late.
const TURN_MAX: Duration = Duration::from_millis(10);
/// So many may always begin: by them it is seen that turns are short again.
const FEW: f64 = 8.0;
/// Where turns are short, so much more may be worked on in each window.
const MORE: f64 = 1.25;

/// The limit, and what it goes by.
#[derive(Debug)]
pub(super) struct Limit {
    least: f64,
    most: f64,
    now: f64,
    /// As many as a turn of the loop has time for, and when that was changed.
    turn: (f64, Instant),
    /// Seconds that one takes where few are worked on.
    alone: Option<f64>,
    phase: Phase,
    window: Window,
}

#[derive(Debug, Clone, Copy)]
enum Phase {
    Follows {
        until: Instant,
    },
    /// For so many windows more no more than the least may be worked on, and no longer than until then: there may be
    /// nothing to look at.
    Looks {
        windows: u32,
        until: Instant,
    },
}

/// What was told within one.
#[derive(Debug)]
struct Window {
    began: Instant,
    samples: u32,
    seconds: f64,
    /// The most that were worked on.
    in_work: usize,
}

impl Window {
    fn begin(now: Instant) -> Self {
        Self { began: now, samples: 0, seconds: 0.0, in_work: 0 }
    }
}

impl Limit {
    /// Between these; begins with the most.
    pub(super) fn new(least: usize, most: usize, now: Instant) -> Self {
        let most = most.max(1) as f64;
        Self {
            least: (least.max(1) as f64).min(most),
            most,
            now: most,
            turn: (most, now),
            alone: None,
            phase: Phase::Follows { until: now + LOOK_EVERY },
            window: Window::begin(now),
        }
    }

    /// So many may be worked on.
    pub(super) fn places(&self, now: Instant) -> usize {
        let places = match self.phase {
            Phase::Looks { until, .. } if now < until => self.least,
            Phase::Looks { .. } | Phase::Follows { .. } => self.now,
        };
        places.min(self.turn.0) as usize
    }

    /// One that had begun has waited so long for its first turn, and so many are worked on.
    pub(super) fn waited(&mut self, waited: Duration, in_work: usize, now: Instant) {
        let (turn, since) = self.turn;
        if waited > TURN_MAX {
            let fit = in_work as f64 * TURN_MAX.as_secs_f64() / waited.as_secs_f64();
            self.turn = (turn.min(fit.max(FEW.min(self.most))), now);
        } else if turn < self.most && waited * 2 <= TURN_MAX && now.saturating_duration_since(since) >= WINDOW
        {
            self.turn = ((turn * MORE).min(self.most), now);
        }
    }

    /// One took so long, and so many are worked on.
    pub(super) fn took(&mut self, took: Duration, in_work: usize, now: Instant) {
        let window = &mut self.window;
        window.samples += 1;
        window.seconds += took.as_secs_f64();
        window.in_work = window.in_work.max(in_work);
        if window.samples < SAMPLES_MIN || now.saturating_duration_since(window.began) < WINDOW {
            return;
        }
        let mean = window.seconds / f64::from(window.samples);
        let used = window.in_work as f64 * 2.0 >= self.now;
        self.window = Window::begin(now);
        match self.phase {
            Phase::Looks { until, .. } if now >= until => {
                self.phase = Phase::Follows { until: now + LOOK_EVERY };
            }
            Phase::Looks { windows: 0 | 1, .. } => {
                self.alone = Some(mean);
                self.phase = Phase::Follows { until: now + LOOK_EVERY };
            }
            Phase::Looks { windows, until } => self.phase = Phase::Looks { windows: windows - 1, until },
            Phase::Follows { until } => {
                self.follow(mean, used);
                if now >= until {
                    self.phase = Phase::Looks { windows: LOOKS, until: now + LOOK_WITHIN };
                }
            }
        }
    }

    fn follow(&mut self, mean: f64, used: bool) {
        let alone = self.alone.map_or(mean, |alone| alone.min(mean));
        self.alone = Some(alone);
        let gradient = (alone * TOLERANCE / mean.max(f64::MIN_POSITIVE)).clamp(0.5, 1.0);
        let wanted = self.now * gradient + self.now.sqrt();
        if wanted < self.now || used {
            self.now = (self.now + STEP * (wanted - self.now)).clamp(self.least, self.most);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server that takes `alone` for one, and serves no more than so many a second.
    struct Server {
        alone: f64,
        a_second: f64,
    }

    /// More is wanted than there is room for, for so many seconds. What one took at the end.
    fn saturate(limit: &mut Limit, server: &Server, now: &mut Instant, seconds: u32) -> f64 {
        let mut took = 0.0;
        for _ in 0..seconds * 100 {
            *now += Duration::from_millis(10);
            let places = limit.places(*now);
            took = server.alone.max(places as f64 / server.a_second);
            for _ in 0..10 {
                limit.took(Duration::from_secs_f64(took), places, *now);
            }
        }
        took
    }

    #[test]
    fn a_server_that_has_too_much_to_do_works_on_few_and_stays_quick_for_as_long_as_it_lasts() {
        let mut now = Instant::now();
        let mut limit = Limit::new(256, 4_096, now);
        let server = Server { alone: 0.001, a_second: 10_000.0 };
        assert!(saturate(&mut limit, &server, &mut now, 30) > 0.2, "it knows no better yet");
        for _ in 0..20 {
            let took = saturate(&mut limit, &server, &mut now, 30);
            assert!(took < 0.1, "{took} s with {} places", limit.places(now));
        }
        assert!((256..1_000).contains(&limit.places(now)), "{}", limit.places(now));
    }

    #[test]
    fn a_server_whose_answers_come_from_far_away_works_on_as_many_as_it_may() {
        let mut now = Instant::now();
        let mut limit = Limit::new(64, 1_024, now);
        let far = Server { alone: 0.050, a_second: 1e9 };
        saturate(&mut limit, &far, &mut now, 60);
        assert!(limit.places(now) > 900, "{}", limit.places(now));
    }

    #[test]
    fn a_stall_lets_few_begin_and_when_it_is_over_there_is_room_for_all_again() {
        let mut now = Instant::now();
        let mut limit = Limit::new(64, 1_024, now);
        let (well, stalls) = (Server { alone: 0.002, a_second: 1e9 }, Server { alone: 0.200, a_second: 1e9 });
        saturate(&mut limit, &well, &mut now, 10);
        assert_eq!(limit.places(now), 1_024);
        saturate(&mut limit, &stalls, &mut now, 5);
        assert_eq!(limit.places(now), 64);
        saturate(&mut limit, &well, &mut now, 60);
        assert!(limit.places(now) > 900, "{}", limit.places(now));
    }

    #[test]
    fn within_a_turn_that_takes_too_long_no_more_begin_than_it_has_time_for_and_all_may_soon_again() {
        let mut now = Instant::now();
        let mut limit = Limit::new(64, 1_024, now);
        limit.waited(TURN_MAX, 500, now);
        assert_eq!(limit.places(now), 1_024);
        limit.waited(TURN_MAX * 5, 500, now);
        assert_eq!(limit.places(now), 100);
        limit.waited(Duration::from_secs(60), 500, now);
        assert_eq!(limit.places(now), 8);
        // Those that waited beside it know no better, and short turns are believed one after the other.
        limit.waited(Duration::ZERO, 8, now);
        assert_eq!(limit.places(now), 8);
        for _ in 0..25 {
            now += WINDOW;
            (0..9).for_each(|_| limit.waited(TURN_MAX / 2, 8, now));
        }
        assert_eq!(limit.places(now), 1_024);
        let mut tiny = Limit::new(1, 2, now);
        tiny.waited(Duration::from_secs(60), usize::MAX, now);
        tiny.waited(Duration::from_secs(60), 0, now);
        assert_eq!(tiny.places(now), 2);
    }

    #[test]
    fn what_is_not_wanted_does_not_raise_it_and_few_tell_nothing() {
        let mut now = Instant::now();
        let mut limit = Limit::new(64, 1_024, now);
        for _ in 0..SAMPLES_MIN - 1 {
            now += WINDOW;
            limit.took(Duration::from_secs(9), 1, now);
        }
        assert_eq!(limit.places(now), 1_024);
        saturate(&mut limit, &Server { alone: 0.001, a_second: 1e9 }, &mut now, 1);
        saturate(&mut limit, &Server { alone: 1.0, a_second: 1e9 }, &mut now, 5);
        assert_eq!(limit.places(now), 64);
        for _ in 0..1_000 {
            now += Duration::from_millis(10);
            (0..10).for_each(|_| limit.took(Duration::from_millis(1), 1, now));
        }
        assert_eq!(limit.places(now), 64);
    }

    #[test]
    fn a_look_at_which_nothing_comes_ends_by_itself() {
        let mut now = Instant::now();
        let mut limit = Limit::new(64, 1_024, now);
        let far = Server { alone: 0.050, a_second: 1e9 };
        while limit.places(now) > 64 {
            saturate(&mut limit, &far, &mut now, 1);
            now += LOOK_EVERY;
            (0..SAMPLES_MIN).for_each(|_| limit.took(Duration::from_millis(50), 1_024, now));
        }
        assert!(limit.places(now + LOOK_WITHIN) > 900, "{}", limit.places(now + LOOK_WITHIN));
    }

    #[test]
    fn a_window_that_never_sees_enough_ends_nothing_and_bounds_hold_whatever_is_told() {
        let now = Instant::now();
        let mut limit = Limit::new(0, 0, now);
        for seconds in [0, u64::from(u32::MAX), 1] {
            (0..100).for_each(|_| limit.took(Duration::from_secs(seconds), usize::MAX, now + WINDOW));
            assert_eq!(limit.places(now), 1);
        }
    }
}
