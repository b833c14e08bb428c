//! When does a forward pass give others its core, and for how much of its time?
//!
//! A pass takes milliseconds, and a system lets a thread keep its core for about three. What reads and answers messages
//! needs microseconds, and should not wait that long for them. But where others compute as well, each giving way costs a
//! whole slice of theirs, and a pass that gave way at every step took twenty times as long: so at most half of a pass
//! is given away.

use std::{
    thread,
    time::{Duration, Instant},
};

/// Products between two times that it gives way: about half a millisecond with AVX2.
const PRODUCTS: usize = 32 << 20;

/// Of one pass.
#[derive(Debug, Default)]
pub(super) struct Turns {
    products: usize,
    /// When it last began to compute.
    since: Option<Instant>,
    shares: Shares,
}

impl Turns {
    pub(super) fn begin(&mut self) {
        *self = Self { since: Some(Instant::now()), ..Self::default() };
    }

    /// So many products were computed. Others may have the core, if it is their turn.
    pub(super) fn computed(&mut self, products: usize) {
        self.products += products;
        if self.products < PRODUCTS {
            return;
        }
        self.products = 0;
        let now = Instant::now();
        self.shares.computed += now - self.since.unwrap_or(now);
        if self.shares.may_give() {
            thread::yield_now();
            let back = Instant::now();
            self.shares.given += back - now;
            self.since = Some(back);
        } else {
            self.since = Some(now);
        }
    }
}

#[derive(Debug, Default)]
struct Shares {
    computed: Duration,
    given: Duration,
}

impl Shares {
    fn may_give(&self) -> bool {
        self.given <= self.computed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_gives_way_often_keeps_half_of_its_time_however_much_others_take() {
        for taken_us in [1, 500, 3_000, 40_000] {
            let (step, taken) = (Duration::from_micros(500), Duration::from_micros(taken_us));
            let mut shares = Shares::default();
            let mut times = 0;
            for _ in 0..1_000 {
                shares.computed += step;
                if shares.may_give() {
                    shares.given += taken;
                    times += 1;
                }
                assert!(shares.given <= shares.computed + taken);
            }
            assert!(times > 0);
            assert!(taken > step || times == 1_000, "where nobody takes more, all have their turn");
        }
    }
}
