//! The whole of a breaker as a function: what was, what happens, and when; it reads no clock and asks nobody.
//!
//! Closed, calls pass. After faults it is open: none passes until a pause is over. Then it is half-open: one call passes,
//! the probe, and what becomes of that decides. Each change of phase begins a generation, and what is heard of a call of
//! an earlier one says nothing any more.

use std::time::Duration;

use super::{Recovery, Settings, window::Window};

/// A probe that is not heard of for so long is given up, and another passes.
const PROBE_WITHIN: Duration = Duration::from_secs(5);
/// When to ask again, while a probe is out or nobody knows.
const ASK_AGAIN: Duration = Duration::from_millis(250);
const ASK_AGAIN_BY_HAND: Duration = Duration::from_secs(15);

/// Times are since any beginning, the same for all that one machine is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Machine {
    phase: Phase,
    generation: u64,
    window: Window,
    /// Faults without a good call between them.
    row: u32,
    /// Times that it has opened without a good call since.
    trips: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Phase {
    #[default]
    Closed,
    /// `None`: not by itself.
    Open { until: Option<Duration> },
    /// Until when the probe that is out may take; `None`: none is.
    HalfOpen { probe: Option<Duration> },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// Somebody would like to call. For so long after the pause it leaves it to others to be let through by
    /// [`Event::Released`].
    Asked { patience: Duration },
    /// Calls of this generation went well.
    Good { generation: u64, calls: u64 },
    /// One did not.
    Bad { generation: u64 },
    /// One was given up, which says nothing.
    Left { generation: u64 },
    /// Nothing but what is asked can be the reason: one fault is enough.
    Fell,
    /// Other nodes have found it at fault, for so long.
    OpenedElsewhere { pause: Duration },
    /// It is worth a try: the next call is the probe.
    Released,
    /// It is known to be well.
    Restored,
}

/// What becomes of who has asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// Says with this what came of it.
    Through {
        generation: u64,
    },
    Refused {
        after: Duration,
    },
    /// Nobody has asked.
    Noted,
}

impl Machine {
    pub fn phase(&self) -> Phase {
        self.phase
    }

    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// It is closed, and the last call went well.
    pub fn is_calm(&self) -> bool {
        self.phase == Phase::Closed && self.row == 0 && self.trips == 0
    }

    /// What it is afterwards, and the answer.
    #[must_use]
    pub fn step(mut self, event: Event, at: Duration, settings: &Settings) -> (Self, Answer) {
        let answer = match event {
            Event::Asked { patience } => self.asked(patience, at),
            Event::Good { generation, calls } if generation == self.generation => self.good(calls, at),
            Event::Bad { generation } if generation == self.generation => self.bad(at, settings),
            Event::Left { generation } if generation == self.generation => self.left(),
            // Of a call from before the last change.
            Event::Good { .. } | Event::Bad { .. } | Event::Left { .. } => Answer::Noted,
            Event::Fell => self.fell(at, settings),
            Event::OpenedElsewhere { pause } => self.opened_elsewhere(pause, at, settings),
            Event::Released => self.released(),
            // A person wants to be asked.
            Event::Restored if settings.recovery == Recovery::Manual => Answer::Noted,
            Event::Restored => self.restored(),
        };
        (self, answer)
    }

    fn asked(&mut self, patience: Duration, at: Duration) -> Answer {
        let refused = |until: Duration| Answer::Refused { after: until.saturating_sub(at).max(ASK_AGAIN) };
        match self.phase {
            Phase::Closed => Answer::Through { generation: self.generation },
            Phase::Open { until: None } => Answer::Refused { after: ASK_AGAIN_BY_HAND },
            Phase::Open { until: Some(until) } if at < until.saturating_add(patience) => refused(until),
            Phase::HalfOpen { probe: Some(until) } if at < until => Answer::Refused { after: ASK_AGAIN },
            Phase::Open { .. } | Phase::HalfOpen { .. } => {
                self.becomes(Phase::HalfOpen { probe: Some(at.saturating_add(PROBE_WITHIN)) });
                Answer::Through { generation: self.generation }
            }
        }
    }

    fn good(&mut self, calls: u64, at: Duration) -> Answer {
        match self.phase {
            Phase::Closed => {
                self.window.add(at, calls, 0);
                (self.row, self.trips) = (0, 0);
            }
            // The next pause is the longer one still, until a call after this one has gone well too.
            Phase::HalfOpen { .. } => self.becomes(Phase::Closed),
            Phase::Open { .. } => {}
        }
        Answer::Noted
    }

    fn bad(&mut self, at: Duration, settings: &Settings) -> Answer {
        match self.phase {
            Phase::Closed => {
                self.window.add(at, 0, 1);
                self.row = self.row.saturating_add(1);
                let (good, bad) = self.window.counts(at);
                let most = bad >= u64::from(settings.failures) && bad >= good;
                if most || self.row >= settings.failures {
                    self.opens(at, settings);
                }
            }
            Phase::HalfOpen { .. } => self.opens(at, settings),
            Phase::Open { .. } => {}
        }
        Answer::Noted
    }

    fn left(&mut self) -> Answer {
        if let Phase::HalfOpen { probe } = &mut self.phase {
            *probe = None;
        }
        Answer::Noted
    }

    fn fell(&mut self, at: Duration, settings: &Settings) -> Answer {
        if !matches!(self.phase, Phase::Open { .. }) {
            self.opens(at, settings);
        }
        Answer::Noted
    }

    fn opened_elsewhere(&mut self, pause: Duration, at: Duration, settings: &Settings) -> Answer {
        if self.phase == Phase::Closed {
            let until = settings.pause(1).map(|_| at.saturating_add(pause.min(settings.open_for)));
            self.becomes(Phase::Open { until });
        }
        Answer::Noted
    }

    fn released(&mut self) -> Answer {
        if matches!(self.phase, Phase::Open { .. }) {
            self.becomes(Phase::HalfOpen { probe: None });
        }
        Answer::Noted
    }

    fn restored(&mut self) -> Answer {
        if self.phase != Phase::Closed {
            self.becomes(Phase::Closed);
        }
        (self.row, self.trips) = (0, 0);
        Answer::Noted
    }

    fn opens(&mut self, at: Duration, settings: &Settings) {
        self.trips = self.trips.saturating_add(1);
        let until = settings.pause(self.trips).map(|pause| at.saturating_add(pause));
        self.becomes(Phase::Open { until });
    }

    /// What was before the change is no evidence after it.
    fn becomes(&mut self, phase: Phase) {
        self.phase = phase;
        self.generation = self.generation.wrapping_add(1);
        (self.window, self.row) = (Window::default(), 0);
    }
}

#[cfg(test)]
mod tests;
