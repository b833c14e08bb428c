//! Which of the requests that were read begin, and what becomes of those that find no room?
//!
//! Each loop has a gate: what it cannot work on yet waits there in fair turns, by tenant and then by agent, and what
//! does not fit is told so where it is read. So the connection is read on, whatever comes.

use std::{cell::Cell, sync::Arc, time::Instant};

use bytes::Bytes;
use tokio::task::yield_now;

use super::{
    Bus,
    arrival::Arrival,
    intake::{Again, Incoming, NotSent, Took, Words},
    replies::may_be_verdict,
};
use crate::{
    domain::Verb,
    lanes::{Answer, Request},
    overload::{Entered, Gate, Next},
    shutdown::Shutdown,
    wire,
};

/// Of those that have waited, so many begin, or are told that it was too long, before other tasks have their turn.
const AT_ONCE: usize = 32;

impl Bus {
    /// Begins it, lets it wait or refuses it.
    pub(super) fn arrive(self: &Arc<Self>, arrival: Arrival, shutdown: &Shutdown) -> Took {
        let received = arrival.request.received;
        match self.gates.here().enter(arrival, |arrival| arrival.whose(&self.owners), received) {
            Entered::Begins(mut arrival, place) => {
                arrival.request.place = place;
                self.begin(arrival, shutdown);
                Took::Little
            }
            Entered::Waits => Took::Little,
            Entered::InsteadOf(other) => {
                self.no_room(&other);
                Took::Little
            }
            Entered::Refused(arrival) => Took::Refused(Some(self.refuse(arrival))),
        }
    }

    /// Begins what waits as places come free, and tells who has waited for too long. To be kept running on the loop.
    pub(super) async fn begin_waiting(self: &Arc<Self>, gate: &Gate<Arrival>, shutdown: &Shutdown) {
        loop {
            gate.changed().await;
            while self.begin_some(gate, shutdown).await {
                yield_now().await;
            }
        }
    }

    /// Whether more may begin, after others have had their turn.
    async fn begin_some(self: &Arc<Self>, gate: &Gate<Arrival>, shutdown: &Shutdown) -> bool {
        for (count, late) in gate.late(Instant::now()).iter().enumerate() {
            self.no_room(late);
            if count % AT_ONCE == AT_ONCE - 1 {
                yield_now().await;
            }
        }
        let mut begun = 0;
        while begun < AT_ONCE {
            match gate.next(Instant::now()) {
                None => return false,
                Some(Next::Refused(late)) => self.no_room(&late),
                Some(Next::Begins(mut arrival, place)) => {
                    arrival.request.place = place;
                    self.begin(arrival, shutdown);
                    begun += 1;
                }
            }
        }
        true
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

    /// The same, and how others like it are refused: a fifth of what it costs to find new words.
    fn refuse(self: &Arc<Self>, Arrival { verb, mut request, reply }: Arrival) -> Again {
        let answer = self.lanes.no_room(verb, &request);
        let words = Self::words(&answer);
        self.refused(&reply, &words);
        // It would keep all that was read with it.
        request.payload = Bytes::new();
        let (count, bytes) = (Cell::new(0), Cell::new(0));
        let alike = Alike { bus: Arc::clone(self), verb, request, answer, words, count, bytes };
        Box::new(move |message| alike.refuse(message))
    }

    fn refused(&self, reply: &[u8], words: &Words) {
        match self.intakes.get().map(|intakes| intakes.here().refuse(reply, words)) {
            Some(Err(NotSent::Full)) => self.lanes.metrics.nats.dropped(),
            Some(Err(error)) => self.unsent(error),
            Some(Ok(())) | None => {}
        }
    }
}

/// Requests that get the answer of one that found no room. They are counted together, at their end.
struct Alike {
    bus: Arc<Bus>,
    verb: Verb,
    request: Request,
    answer: Answer,
    words: Words,
    count: Cell<u64>,
    bytes: Cell<u64>,
}

impl Alike {
    /// Whether it is one of them.
    fn refuse(&self, Incoming { reply, headers, payload, .. }: &Incoming) -> bool {
        let Some(reply) = reply else { return false };
        if wire::encoding_of(payload) != self.answer.encoding || may_be_verdict(headers) {
            return false;
        }
        self.bus.refused(reply, &self.words);
        self.count.update(|count| count + 1);
        self.bytes.update(|bytes| bytes + payload.len() as u64);
        true
    }
}

impl Drop for Alike {
    fn drop(&mut self) {
        let (count, bytes) = (self.count.get(), self.bytes.get());
        if count > 0 {
            self.bus.lanes.no_room_either((self.verb, &self.request), &self.answer, (count, bytes));
        }
    }
}
