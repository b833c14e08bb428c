//! Against a model that remembers everything, and the promises one by one.

use proptest::prelude::*;

use super::*;
const SETTINGS: Settings =
    Settings { failures: 3, open_for: Duration::from_secs(15), recovery: Recovery::Exponential };

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// A machine with a clock.
struct Told {
    machine: Machine,
    at: Duration,
    settings: Settings,
}

impl Told {
    fn new(settings: Settings) -> Self {
        Self { machine: Machine::default(), at: Duration::ZERO, settings }
    }

    fn tell(&mut self, event: Event) -> Answer {
        let (machine, answer) = self.machine.step(event, self.at, &self.settings);
        self.machine = machine;
        answer
    }

    fn ask(&mut self) -> Option<u64> {
        match self.tell(Event::Asked { patience: Duration::ZERO }) {
            Answer::Through { generation } => Some(generation),
            Answer::Refused { after } => {
                assert!(after > Duration::ZERO, "who is refused is told when to come again");
                None
            }
            Answer::Noted => unreachable!("somebody has asked"),
        }
    }

    fn bad(&mut self, times: usize) {
        let Some(generation) = self.ask() else { return };
        for _ in 0..times {
            self.tell(Event::Bad { generation });
        }
    }

    fn is_closed(&self) -> bool {
        self.machine.phase() == Phase::Closed
    }
}

#[test]
fn it_opens_at_the_third_fault_in_a_row_and_one_call_finds_out_whether_it_is_well_again() {
    let mut told = Told::new(SETTINGS);
    for _ in 0..2 {
        told.bad(2);
        let generation = told.ask().unwrap();
        told.tell(Event::Good { generation, calls: 10 });
    }
    assert!(told.is_closed(), "a good call between them makes up for faults");
    told.bad(3);
    assert_eq!(told.ask(), None);
    told.at += ms(999);
    assert_eq!(told.ask(), None, "its pause is not over");
    told.at += ms(1);
    let probe = told.ask().expect("its pause is over");
    assert_eq!(told.ask(), None, "one at a time");
    told.tell(Event::Good { generation: probe, calls: 1 });
    assert!(told.is_closed() && told.ask().is_some());
}

#[test]
fn faults_that_are_half_of_the_calls_open_it_though_none_follows_another() {
    let mut told = Told::new(SETTINGS);
    let generation = told.ask().unwrap();
    for _ in 0..2 {
        told.tell(Event::Good { generation, calls: 1 });
        told.tell(Event::Bad { generation });
    }
    assert!(told.is_closed());
    told.tell(Event::Good { generation, calls: 1 });
    told.tell(Event::Bad { generation });
    assert!(!told.is_closed());

    let mut told = Told::new(SETTINGS);
    let generation = told.ask().unwrap();
    for _ in 0..100 {
        told.tell(Event::Good { generation, calls: 2 });
        told.tell(Event::Bad { generation });
        told.at += ms(100);
    }
    assert!(told.is_closed(), "a third of the calls does not");
}

#[test]
fn what_fails_again_is_left_alone_for_longer_until_two_calls_go_well() {
    let mut told = Told::new(SETTINGS);
    told.bad(3);
    for pause in [1, 2, 4, 8, 15, 15].map(Duration::from_secs) {
        told.at += pause - ms(1);
        assert_eq!(told.ask(), None, "{pause:?}");
        told.at += ms(1);
        let probe = told.ask().expect("the pause is over");
        told.tell(Event::Bad { generation: probe });
    }
    told.at += ms(15_000);
    let probe = told.ask().unwrap();
    told.tell(Event::Good { generation: probe, calls: 1 });
    told.bad(3);
    told.at += ms(14_999);
    assert_eq!(told.ask(), None, "a probe alone does not make up for it");
    told.at += ms(1);
    let probe = told.ask().unwrap();
    told.tell(Event::Good { generation: probe, calls: 1 });
    let generation = told.ask().unwrap();
    told.tell(Event::Good { generation, calls: 1 });
    told.bad(3);
    told.at += ms(1_000);
    assert!(told.ask().is_some(), "two do");
}

#[test]
fn a_probe_that_is_lost_or_given_up_leaves_its_place_to_another() {
    let mut told = Told::new(SETTINGS);
    told.bad(3);
    told.at += ms(1_000);
    let lost = told.ask().unwrap();
    told.at += PROBE_WITHIN - ms(1);
    assert_eq!(told.ask(), None);
    told.at += ms(1);
    let second = told.ask().unwrap();
    told.tell(Event::Good { generation: lost, calls: 1 });
    assert!(!told.is_closed(), "what came too late says nothing");
    told.tell(Event::Left { generation: second });
    assert!(told.ask().is_some());
}

#[test]
fn what_others_have_found_counts_for_as_long_as_this_node_may_wait_and_not_longer() {
    let mut told = Told::new(SETTINGS);
    told.tell(Event::OpenedElsewhere { pause: Duration::MAX });
    told.at += ms(14_999);
    assert_eq!(told.ask(), None);
    told.at += ms(1);
    assert_eq!(told.tell(Event::Asked { patience: ms(2_000) }), Answer::Refused { after: ASK_AGAIN });
    told.tell(Event::Released);
    assert!(told.ask().is_some(), "released, the next call is the probe");
}

#[test]
fn by_hand_it_stays_open_until_somebody_says_so() {
    let mut told = Told::new(Settings { recovery: Recovery::Manual, ..SETTINGS });
    told.bad(3);
    told.at += Duration::from_secs(86_400);
    told.tell(Event::Restored);
    assert_eq!(told.ask(), None);
    told.tell(Event::Released);
    let generation = told.ask().expect("it may be tried");
    told.tell(Event::Good { generation, calls: 1 });
    assert!(told.is_closed());
}

/// What may happen to one, with the call that it is about: one of all that were let through, of whatever age.
#[derive(Debug, Clone, Copy)]
enum Step {
    Later(u64),
    Ask,
    Good(usize),
    Bad(usize),
    Left(usize),
    Fell,
    Elsewhere(u64),
    Released,
    Restored,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0_u64..3_000).prop_map(Step::Later),
        6 => Just(Step::Ask),
        4 => (0_usize..4).prop_map(Step::Good),
        6 => (0_usize..4).prop_map(Step::Bad),
        1 => (0_usize..4).prop_map(Step::Left),
        1 => Just(Step::Fell),
        1 => (0_u64..60_000).prop_map(Step::Elsewhere),
        1 => Just(Step::Released),
        1 => Just(Step::Restored),
    ];
    prop::collection::vec(step, 1..300)
}

/// What a person would keep: all calls of this generation with their times, and since when it is as it is.
#[derive(Default)]
struct Model {
    closed_calls: Vec<(u64, bool)>,
    /// Which of them was the first after it was said to be well.
    row_from: usize,
    open_until: Option<Duration>,
    half_open: bool,
    probe_until: Option<Duration>,
    trips: u32,
    generation: u64,
}

impl Model {
    fn change(&mut self, open_until: Option<Duration>, half_open: bool) {
        let (generation, trips) = (self.generation + 1, self.trips);
        *self = Self { open_until, half_open, generation, trips, ..Self::default() };
    }

    fn open(&mut self, at: Duration) {
        self.trips += 1;
        let seconds = [1, 2, 4, 8, 15][(self.trips as usize - 1).min(4)];
        self.change(Some(at + Duration::from_secs(seconds)), false);
    }

    fn ask(&mut self, at: Duration) -> bool {
        match (self.open_until, self.half_open) {
            (None, false) => true,
            (Some(until), _) if at < until => false,
            (None, true) if self.probe_until.is_some_and(|until| at < until) => false,
            _ => {
                self.change(None, true);
                self.probe_until = Some(at + Duration::from_secs(5));
                true
            }
        }
    }

    fn ended(&mut self, at: Duration, good: bool) {
        if self.half_open {
            if good { self.change(None, false) } else { self.open(at) }
        } else if self.open_until.is_none() {
            self.closed_calls.push((at.as_secs(), good));
            if good {
                self.trips = 0;
                return;
            }
            let row = self.closed_calls[self.row_from..].iter().rev().take_while(|(_, good)| !good).count();
            let recent = self.closed_calls.iter().filter(|(second, _)| at.as_secs() - second < 10);
            let (good, bad): (Vec<_>, Vec<_>) = recent.copied().partition(|(_, good)| *good);
            if row >= 3 || (bad.len() >= 3 && bad.len() >= good.len()) {
                self.open(at);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn it_does_as_a_model_that_remembers_everything(steps in steps()) {
        let (mut told, mut model) = (Told::new(SETTINGS), Model::default());
        let mut calls: Vec<(u64, u64)> = Vec::new();
        for step in steps {
            let at = told.at;
            let call = |calls: &[(u64, u64)], back: usize| calls.iter().rev().nth(back).copied();
            match step {
                Step::Later(later) => told.at += ms(later),
                Step::Ask => {
                    let through = told.ask();
                    prop_assert_eq!(through.is_some(), model.ask(at), "{:?}", told.machine);
                    calls.extend(through.map(|generation| (generation, model.generation)));
                }
                Step::Good(back) => if let Some((generation, of)) = call(&calls, back) {
                    told.tell(Event::Good { generation, calls: 1 });
                    if of == model.generation { model.ended(at, true) }
                }
                Step::Bad(back) => if let Some((generation, of)) = call(&calls, back) {
                    told.tell(Event::Bad { generation });
                    if of == model.generation { model.ended(at, false) }
                }
                Step::Left(back) => if let Some((generation, of)) = call(&calls, back) {
                    told.tell(Event::Left { generation });
                    if of == model.generation { model.probe_until = None }
                }
                Step::Fell => {
                    told.tell(Event::Fell);
                    if model.open_until.is_none() { model.open(at) }
                }
                Step::Elsewhere(pause) => {
                    told.tell(Event::OpenedElsewhere { pause: ms(pause) });
                    if model.open_until.is_none() && !model.half_open {
                        model.change(Some(at + ms(pause.min(15_000))), false);
                    }
                }
                Step::Released => {
                    told.tell(Event::Released);
                    if model.open_until.is_some() { model.change(None, true) }
                }
                Step::Restored => {
                    told.tell(Event::Restored);
                    if model.open_until.is_some() || model.half_open { model.change(None, false) }
                    (model.row_from, model.trips) = (model.closed_calls.len(), 0);
                }
            }
            prop_assert_eq!(told.is_closed(), model.open_until.is_none() && !model.half_open);
            prop_assert_eq!(told.machine.generation(), model.generation);
        }
    }
}
