//! Which of the requests that were read begin, and what becomes of those that find no room?
//!
//! Each loop has a gate: what it cannot work on yet waits there in fair turns, by tenant and then by agent, and what
//! does not fit is told so where it is read. So the connection is read on, whatever comes.

use std::{sync::Arc, time::Instant};

use tokio::task::yield_now;

use super::{Bus, arrival::Arrival, intake::Took};
use crate::{
    overload::{Entered, Gate, Next},
    shutdown::Shutdown,
};

/// Those that have waited for too long and are told so before other tasks have their turn.
const REFUSED_AT_ONCE: usize = 32;

impl Bus {
    /// Begins it, lets it wait or refuses it.
    pub(super) fn arrive(self: &Arc<Self>, arrival: Arrival, shutdown: &Shutdown) -> Took {
        let received = arrival.request.received;
        match self.gates.here().enter(arrival, |arrival| arrival.whose(&self.owners), received) {
            Entered::Begins(mut arrival, place) => {
                arrival.request.place = place;
                self.begin(arrival, shutdown);
                Took::Work
            }
            Entered::Waits => Took::Little,
            Entered::InsteadOf(other) => {
                self.no_room(&other);
                Took::Little
            }
            Entered::Refused(arrival) => {
                self.no_room(&arrival);
                Took::Refused
            }
        }
    }

    /// Begins what waits as places come free, and tells who has waited for too long. To be kept running on the loop.
    pub(super) async fn begin_waiting(self: &Arc<Self>, gate: &Gate<Arrival>, shutdown: &Shutdown) {
        loop {
            gate.changed().await;
            for (count, late) in gate.late(Instant::now()).iter().enumerate() {
                self.no_room(late);
                if count % REFUSED_AT_ONCE == REFUSED_AT_ONCE - 1 {
                    yield_now().await;
                }
            }
            while let Some(next) = gate.next(Instant::now()) {
                match next {
                    Next::Begins(mut arrival, place) => {
                        arrival.request.place = place;
                        self.begin(arrival, shutdown);
                    }
                    Next::Refused(late) => self.no_room(&late),
                }
            }
        }
    }

    /// Whether requests were refused of late since there was no room.
    pub(super) fn refuses(&self) -> bool {
        let now = Instant::now();
        self.gates.iter().any(|gate| gate.refuses(now))
    }

    /// How many requests wait for a place, and how many places there are.
    pub fn gates(&self) -> (usize, usize) {
        let now = Instant::now();
        let each = self.gates.iter().map(|gate| (gate.waiting(), gate.places(now)));
        each.fold((0, 0), |(waiting, places), (also, more)| (waiting + also, places + more))
    }

    fn no_room(&self, Arrival { verb, request, reply }: &Arrival) {
        self.answer(reply, &self.lanes.no_room(*verb, request));
    }
}
