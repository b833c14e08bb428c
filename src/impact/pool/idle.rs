//! How does a model compute so that others hardly notice it, and is not starved where they never rest?
//!
//! A thread of the scheduler's idle class runs the passes: whatever else wakes up goes first at once. Where others keep
//! the cores busy it gets next to nothing, and without a privilege no thread leaves that class. So who waits for a pass
//! that is late runs it itself, and all others until the idle thread is done with it.

use std::{
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

use super::{Engine, MakeEngine, Pace, Semantic, Unscored, WORKING};

/// A pass is late when it took so many times what it takes at best: the idle thread had less than half of a core.
const TIMES: u32 = 2;
/// And so much beyond: what waking up may take, and a moment of others' work, which is what such a thread is for. A
/// verdict has some hundred milliseconds.
const SLACK: Duration = Duration::from_millis(25);

type Scores = Result<Vec<Semantic>, Unscored>;

/// Makes engines that leave their passes to an idle thread each.
pub(super) fn relieved(make: MakeEngine) -> MakeEngine {
    Arc::new(move || {
        let engine = Relieved { own: make()?, idle: Idle::start(&make), pace: Pace::unknown() };
        Ok(Box::new(engine) as Box<dyn Engine>)
    })
}

struct Relieved {
    own: Box<dyn Engine>,
    /// Nothing where the system gives no such thread.
    idle: Option<Idle>,
    pace: Pace,
}

impl Engine for Relieved {
    fn windows(&mut self, texts: &[String], max: usize) -> Result<Vec<Vec<u32>>, Unscored> {
        self.own.windows(texts, max)
    }

    fn scores(&mut self, windows: &[&[u32]]) -> Scores {
        let tokens = windows.iter().map(|window| window.len()).sum();
        let limit = self.pace.least(tokens) * TIMES + SLACK;
        let mut started = Instant::now();
        let scores = match self.idle.as_mut().and_then(|idle| idle.scores(windows, limit)) {
            Some(scores) => scores,
            None => {
                started = Instant::now();
                self.own.scores(windows)
            }
        };
        self.pace.saw(tokens, started.elapsed());
        scores
    }
}

/// A thread of the idle class with an engine of its own. It ends when this is dropped, after the pass that it is at.
struct Idle {
    passes: SyncSender<Vec<Vec<u32>>>,
    ran: Receiver<thread::Result<Scores>>,
    /// It is still at a pass that somebody else has run by now.
    late: bool,
}

impl Idle {
    fn start(make: &MakeEngine) -> Option<Self> {
        // One pass at a time.
        let (passes, todo) = sync_channel(1);
        let (done, ran) = sync_channel(1);
        let make = Arc::clone(make);
        let name = format!("{}-idle", thread::current().name().unwrap_or_default());
        let run = move || {
            WORKING.set(true);
            if become_idle() {
                work(&make, &todo, &done);
            }
        };
        if let Err(error) = thread::Builder::new().name(name).spawn(run) {
            tracing::warn!(%error, "there is no idle thread for the model");
            return None;
        }
        Some(Self { passes, ran, late: false })
    }

    /// What it makes of a pass in time.
    fn scores(&mut self, windows: &[&[u32]], limit: Duration) -> Option<Scores> {
        if self.late {
            match self.ran.try_recv() {
                Ok(ran) => drop(unless_panicked(ran)),
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => return None,
            }
            self.late = false;
        }
        // Gone where the class, or an engine, was not to be had.
        self.passes.send(windows.iter().map(|window| window.to_vec()).collect()).ok()?;
        match self.ran.recv_timeout(limit) {
            Ok(ran) => Some(unless_panicked(ran)),
            Err(RecvTimeoutError::Timeout) => {
                self.late = true;
                None
            }
            Err(RecvTimeoutError::Disconnected) => None,
        }
    }
}

/// A panic goes on where the pass was asked for: there it is counted, and all begins anew.
fn unless_panicked(ran: thread::Result<Scores>) -> Scores {
    ran.unwrap_or_else(|panic| resume_unwind(panic))
}

fn work(make: &MakeEngine, todo: &Receiver<Vec<Vec<u32>>>, done: &SyncSender<thread::Result<Scores>>) {
    let Ok(mut engine) = make() else { return };
    for windows in todo {
        let windows: Vec<&[u32]> = windows.iter().map(Vec::as_slice).collect();
        let ran = catch_unwind(AssertUnwindSafe(|| engine.scores(&windows)));
        let panicked = ran.is_err();
        if done.send(ran).is_err() || panicked {
            return;
        }
    }
}

/// Whether this thread is of the idle class now.
#[cfg(target_os = "linux")]
fn become_idle() -> bool {
    use thread_priority::{NormalThreadSchedulePolicy::Idle, ThreadPriority, ThreadSchedulePolicy::Normal};
    let this = thread_priority::thread_native_id();
    let became = thread_priority::set_thread_priority_and_policy(this, ThreadPriority::Min, Normal(Idle));
    if let Err(error) = &became {
        tracing::warn!(?error, "the model's idle thread is not of that class, and does nothing");
    }
    became.is_ok()
}

#[cfg(not(target_os = "linux"))]
fn become_idle() -> bool {
    false
}
