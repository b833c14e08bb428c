//! Does the pool keep its bounds, its threads and its promises when its engine is slow or panics?
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::sync::{
    Mutex,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use super::{
    Patience::{Lane, RoundTrip, Within},
    turns::Kind,
    *,
};
use crate::impact::Event;
use crate::impact::Unmetered;

/// What the engines of one pool were told to run.
#[derive(Default)]
struct Log {
    passes: Mutex<Vec<Vec<Vec<u32>>>>,
    threads: Mutex<Vec<String>>,
    made: AtomicUsize,
    /// Texts that are held run now, and go on when this is told.
    held: AtomicUsize,
    go_on: AtomicBool,
}

/// A window is the numbers in a text; the score of a window is its last number in hundredths.
/// `held` runs until it may go on, `panic` panics, `unlucky` on the first thread alone.
struct Plain(Arc<Log>);

impl Engine for Plain {
    fn windows(&mut self, texts: &[String], _: usize) -> Result<Vec<Vec<u32>>, Unscored> {
        assert!(!texts.iter().any(|text| text == "panic"), "as asked");
        let first = std::thread::current().name() == Some("impact-0");
        assert!(!(first && texts.iter().any(|text| text == "unlucky")), "as asked");
        if texts.iter().any(|text| text == "held") {
            self.0.held.fetch_add(1, Ordering::SeqCst);
            while !self.0.go_on.load(Ordering::SeqCst) {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        let numbers = |text: &String| text.split(' ').filter_map(|word| word.parse().ok()).collect();
        Ok(texts.iter().map(numbers).filter(|window: &Vec<u32>| !window.is_empty()).collect())
    }

    fn scores(&mut self, windows: &[&[u32]]) -> Result<Vec<Semantic>, Unscored> {
        assert!(is_pool_thread());
        self.0.threads.lock().unwrap().push(std::thread::current().name().unwrap_or_default().to_owned());
        self.0.passes.lock().unwrap().push(windows.iter().map(|window| window.to_vec()).collect());
        Ok(windows.iter().map(|window| Semantic::from(f64::from(*window.last().unwrap()) / 100.0)).collect())
    }
}

struct Rig {
    pool: Arc<Pool>,
    log: Arc<Log>,
    seen: Arc<Seen>,
}

#[derive(Default)]
struct Seen(Mutex<Vec<Event>>);

impl Meter for Seen {
    fn see(&self, event: Event) {
        self.0.lock().unwrap().push(event);
    }

    fn see_of_guard(&self, _: &str, event: Event) {
        self.see(event);
    }
}

impl Seen {
    fn count(&self, wanted: fn(&Event) -> bool) -> usize {
        self.0.lock().unwrap().iter().filter(|event| wanted(event)).count()
    }
}

const PATIENT: Room = Room { windows: 4_096, deadline: Duration::from_secs(60) };
const SETTINGS: PoolSettings = PoolSettings {
    thread: "impact",
    threads: 1,
    nice: 0,
    idle: false,
    queue: 256,
    brief: PATIENT,
    long: PATIENT,
};

fn rig(settings: PoolSettings) -> Rig {
    let (log, seen) = (Arc::new(Log::default()), Arc::new(Seen::default()));
    let shared = Arc::clone(&log);
    let make: MakeEngine = Arc::new(move || {
        shared.made.fetch_add(1, Ordering::Relaxed);
        Ok(Box::new(Plain(Arc::clone(&shared))) as Box<dyn Engine>)
    });
    let pool = Arc::new(Pool::start(settings, make, Arc::clone(&seen) as Arc<dyn Meter>).unwrap());
    Rig { pool, log, seen }
}

fn texts(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|&text| text.to_owned()).collect()
}

/// One sender, of a tenant of its own.
fn of(number: u64) -> Owner {
    Owner { tenant: number, sender: number }
}

fn said(score: f64) -> Result<f64, Unscored> {
    Ok(score)
}

fn score_of(found: Result<Semantic, Unscored>) -> Result<f64, Unscored> {
    found.map(|found| found.score)
}

/// For a minute at most, so that what never comes about fails.
async fn until(mut done: impl FnMut() -> bool) {
    for _ in 0..60_000 {
        if done() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    panic!("it never came to that");
}

impl Rig {
    /// Keeps a thread busy until [`Rig::go_on`].
    async fn hold(&self) -> tokio::task::JoinHandle<Result<Semantic, Unscored>> {
        let asked = ask(self, &["held"]);
        until(|| self.log.held.load(Ordering::SeqCst) == 1).await;
        asked
    }

    fn go_on(&self) {
        self.log.go_on.store(true, Ordering::SeqCst);
    }

    /// Until so many wait.
    async fn waiting(&self, count: usize) {
        until(|| self.pool.queue.len() == count).await;
    }
}

fn ask(rig: &Rig, wanted: &[&str]) -> tokio::task::JoinHandle<Result<Semantic, Unscored>> {
    let (pool, wanted) = (Arc::clone(&rig.pool), texts(wanted));
    tokio::spawn(async move { pool.score(wanted, of(0), RoundTrip).await })
}

#[tokio::test]
async fn the_highest_of_all_windows_counts_on_a_thread_of_the_pool_alone() {
    let rig = rig(PoolSettings { threads: 2, ..SETTINGS });
    let found = rig.pool.score(texts(&["1 2 30", "90", "7 8"]), of(0), RoundTrip).await.unwrap();
    assert_eq!((found.score, found.tokens), (0.9, 6));
    assert_eq!(score_of(rig.pool.score(texts(&["no numbers"]), of(0), RoundTrip).await), said(0.0));
    assert!(!is_pool_thread(), "a thread of the runtime");
    let threads = rig.log.threads.lock().unwrap();
    assert!(!threads.is_empty() && threads.iter().all(|name| name.starts_with("impact-")), "{threads:?}");
}

#[tokio::test]
async fn who_has_a_probe_learns_how_long_its_text_was_on_which_thread() {
    let rig = rig(SETTINGS);
    let probe = Probe::default();
    let began = Instant::now();
    let scored = probe.within(rig.pool.score(texts(&["1 2 30"]), of(0), RoundTrip)).await;
    assert_eq!(score_of(scored), said(0.3));
    rig.pool.score(texts(&["7 8"]), of(0), RoundTrip).await.unwrap();
    let timings = probe.take();
    let [timing] = &timings[..] else { panic!("{timings:?}") };
    assert!(began <= timing.started && timing.started <= timing.ended);
    let expected = [("thread.name", "impact-0".into()), ("gen_ai.usage.input_tokens", 3_usize.into())];
    assert_eq!((timing.name, &timing.attributes[..]), ("classify", &expected[..]));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_together_is_run_together_by_length_and_nothing_else_waits() {
    let rig = rig(SETTINGS);
    let held = rig.hold().await;
    let waiting = [ask(&rig, &["1 2 3 40"]), ask(&rig, &["20"]), ask(&rig, &["5 60"])];
    rig.waiting(3).await;
    rig.go_on();
    held.await.unwrap().unwrap();
    let mut scores = Vec::new();
    for asked in waiting {
        scores.push(asked.await.unwrap().unwrap().score);
    }
    assert_eq!(scores, [0.4, 0.2, 0.6]);
    let passes = rig.log.passes.lock().unwrap();
    let last = passes.last().unwrap();
    assert_eq!(last.iter().map(Vec::len).collect::<Vec<_>>(), [1, 2, 4]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pass_holds_so_many_tokens_and_a_long_text_takes_several() {
    let rig = rig(SETTINGS);
    let window = vec!["1"; 128].join(" ");
    let many: Vec<String> = (0..9).map(|_| window.clone()).collect();
    assert_eq!(score_of(rig.pool.score(many, of(0), RoundTrip).await), said(0.01));
    let passes = rig.log.passes.lock().unwrap();
    assert_eq!(passes.iter().map(Vec::len).collect::<Vec<_>>(), [4, 4, 1]);
}

/// Texts that together are long, of so many full windows.
fn long(windows: usize) -> Vec<String> {
    vec![format!("{}{} 50", "1 ".repeat(127), " ".repeat(5_000 / windows)); windows]
}

#[tokio::test(flavor = "multi_thread")]
async fn short_texts_go_between_the_passes_of_a_long_one() {
    let rig = rig(SETTINGS);
    let held = rig.hold().await;
    let pool = Arc::clone(&rig.pool);
    let loud = tokio::spawn(async move { pool.score(long(24), of(1), RoundTrip).await });
    rig.waiting(1).await;
    let short: Vec<_> = (0..3).map(|_| ask(&rig, &["70"])).collect();
    rig.waiting(4).await;
    rig.go_on();
    held.await.unwrap().unwrap();
    assert_eq!(score_of(loud.await.unwrap()), said(0.5));
    for asked in short {
        assert_eq!(score_of(asked.await.unwrap()), said(0.7));
    }
    let passes = rig.log.passes.lock().unwrap();
    let place = passes.iter().position(|pass| pass.contains(&vec![70])).unwrap();
    let of_long = passes.iter().filter(|pass| pass.iter().any(|window| window.len() == 128)).count();
    assert!(of_long == 6 && place < 2, "{place} among {of_long}");
}

/// Asks for a long text of the durable lane.
fn ask_slow(rig: &Rig, windows: usize, owner: Owner) -> tokio::task::JoinHandle<Result<Semantic, Unscored>> {
    let pool = Arc::clone(&rig.pool);
    tokio::spawn(async move { pool.score(long(windows), owner, Lane).await })
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_waited_for_goes_between_the_passes_of_what_nobody_waits_for_long_or_short() {
    let rig = rig(SETTINGS);
    let held = rig.hold().await;
    let slow = ask_slow(&rig, 40, of(1));
    rig.waiting(1).await;
    let pool = Arc::clone(&rig.pool);
    let waited_for = tokio::spawn(async move {
        let shorter = [long(16), texts(&["6 60"])].concat();
        pool.score(shorter, of(2), RoundTrip).await
    });
    let short = ask(&rig, &["70"]);
    rig.waiting(3).await;
    rig.go_on();
    held.await.unwrap().unwrap();
    assert_eq!(score_of(slow.await.unwrap()), said(0.5));
    assert_eq!(score_of(waited_for.await.unwrap()), said(0.6));
    assert_eq!(score_of(short.await.unwrap()), said(0.7));
    let passes = rig.log.passes.lock().unwrap();
    let place = |window: &[u32]| passes.iter().position(|pass| pass.iter().any(|it| it == window)).unwrap();
    // Ten passes are of the one, five of the other, which has begun with its shortest window.
    let with_full = passes.iter().filter(|pass| pass.iter().any(|window| window.len() == 128)).count();
    assert_eq!(with_full, 10 + 5);
    assert!(place(&[6, 60]) < 2 && place(&[70]) < 3, "{} and {}", place(&[6, 60]), place(&[70]));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_asked_goes_ahead_of_what_nobody_waits_for_and_behind_a_send_and_has_room_of_its_own() {
    let rig = rig(SETTINGS);
    let held = rig.hold().await;
    let long = |kind: u32, windows: usize| -> Vec<String> {
        (0..windows)
            .map(|at| format!("{}{} 50", format!("{kind} ").repeat(127), " ".repeat(at + 300)))
            .collect()
    };
    let mut asked = Vec::new();
    for (waiting, (kind, patience)) in
        [(1, Lane), (2, Within(PATIENT.deadline)), (3, RoundTrip)].into_iter().enumerate()
    {
        let (pool, texts) = (Arc::clone(&rig.pool), long(kind, 28));
        asked.push(tokio::spawn(async move { pool.score(texts, of(kind.into()), patience).await }));
        rig.waiting(waiting + 1).await;
    }
    rig.go_on();
    held.await.unwrap().unwrap();
    for asked in asked {
        assert_eq!(score_of(asked.await.unwrap()), said(0.5));
    }
    let passes = rig.log.passes.lock().unwrap().clone();
    let first: Vec<u32> = passes.iter().filter_map(|pass| pass[0].first().copied()).take(7).collect();
    let of_kind = |kind| first.iter().filter(|it| **it == kind).count();
    assert_eq!((of_kind(3), of_kind(2), of_kind(1)), (4, 2, 1), "{first:?}");
    let late = rig.pool.score(long(2, 28), of(9), Within(Duration::ZERO)).await;
    assert!(matches!(late, Err(Unscored::TimedOut { .. } | Unscored::TooSlow { .. })), "{late:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn long_texts_of_one_tenant_leave_turns_and_room_to_other_tenants_and_of_one_sender_to_its_colleagues()
{
    let rig = rig(SETTINGS);
    let held = rig.hold().await;
    let colleague = |sender| Owner { tenant: 1, sender };
    let mut loud = Vec::new();
    for waiting in 1..=4 {
        loud.push(ask_slow(&rig, 8, colleague(1)));
        rig.waiting(waiting).await;
    }
    let refused = async |owner| ask_slow(&rig, 8, owner).await.unwrap();
    assert_eq!(refused(colleague(1)).await, Err(Unscored::Busy { waiting: 4 }), "four of one sender");
    for sender in 2..=5 {
        loud.push(ask_slow(&rig, 8, colleague(sender)));
        rig.waiting(loud.len()).await;
    }
    assert_eq!(refused(colleague(6)).await, Err(Unscored::Busy { waiting: 8 }), "eight of one tenant");
    let neighbour = ask_slow(&rig, 8, of(2));
    rig.waiting(9).await;
    let order: Vec<Owner> = std::iter::from_fn(|| {
        let job = rig.pool.queue.pop_long(Kind::Slow, &Unmetered)?;
        rig.pool.queue.charge(&job, 8);
        Some(job.owner)
    })
    .take(3)
    .collect();
    assert_eq!(order, [colleague(1), of(2), colleague(2)]);
    rig.go_on();
    held.await.unwrap().unwrap();
    drop(neighbour);
}

#[tokio::test(flavor = "multi_thread")]
async fn long_texts_of_one_who_asks_leave_turns_and_room_to_others() {
    let rig = rig(SETTINGS);
    let held = rig.hold().await;
    let (order, mut told) = tokio::sync::mpsc::unbounded_channel();
    let of = |owner: u64| {
        let (pool, order) = (Arc::clone(&rig.pool), order.clone());
        tokio::spawn(async move {
            let found = pool.score(long(8), of(owner), RoundTrip).await;
            order.send(owner).unwrap();
            found
        })
    };
    let loud: Vec<_> = (0..4).map(|_| of(1)).collect();
    rig.waiting(4).await;
    assert_eq!(of(1).await.unwrap(), Err(Unscored::Busy { waiting: 4 }), "four of one may wait");
    assert_eq!(told.recv().await, Some(1));
    let quiet = of(2);
    rig.waiting(5).await;
    rig.go_on();
    held.await.unwrap().unwrap();
    for asked in loud.into_iter().chain([quiet]) {
        assert_eq!(score_of(asked.await.unwrap()), said(0.5));
    }
    let order: Vec<u64> = std::iter::from_fn(|| told.try_recv().ok()).collect();
    // Told by tasks of their own, so one or two of the others may be told before.
    assert!(order.iter().position(|owner| *owner == 2).unwrap() < 4, "{order:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_in_a_long_text_costs_it_its_score_and_the_thread_goes_on() {
    let rig = rig(SETTINGS);
    let unlucky = [long(8), texts(&["panic"])].concat();
    assert_eq!(rig.pool.score(unlucky, of(1), RoundTrip).await, Err(Unscored::Failed));
    assert_eq!(score_of(rig.pool.score(long(8), of(1), RoundTrip).await), said(0.5));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_refuses_at_once_and_has_room_again_when_senders_give_up() {
    let rig = rig(PoolSettings { queue: 2, ..SETTINGS });
    let held = rig.hold().await;
    let waiting = [ask(&rig, &["1"]), ask(&rig, &["2"])];
    rig.waiting(2).await;
    assert_eq!(rig.pool.score(texts(&["3"]), of(0), RoundTrip).await, Err(Unscored::Busy { waiting: 2 }));
    for asked in waiting {
        asked.abort();
        assert!(asked.await.is_err());
    }
    let next = ask(&rig, &["4"]);
    rig.waiting(1).await;
    rig.go_on();
    assert_eq!(score_of(next.await.unwrap()), said(0.04));
    held.await.unwrap().unwrap();
    assert!(rig.log.passes.lock().unwrap().iter().flatten().all(|window| window == &[4]));
}

/// Asks for a text of so many tokens, of which the last is its owner.
fn ask_of(rig: &Rig, owner: u64, tokens: usize) -> tokio::task::JoinHandle<Result<Semantic, Unscored>> {
    let (pool, text) = (Arc::clone(&rig.pool), vec![owner.to_string(); tokens].join(" "));
    tokio::spawn(async move { pool.score(vec![text], of(owner), RoundTrip).await })
}

#[tokio::test(flavor = "multi_thread")]
async fn tenants_share_the_threads_by_the_tokens_of_their_texts_however_many_one_sends() {
    let rig = rig(SETTINGS);
    let held = rig.hold().await;
    let mut asked = Vec::new();
    for (owner, texts, tokens) in [(1, 60, 100), (2, 10, 100), (3, 30, 50)] {
        for _ in 0..texts {
            asked.push(ask_of(&rig, owner, tokens));
            rig.waiting(asked.len()).await;
        }
    }
    rig.go_on();
    held.await.unwrap().unwrap();
    for asked in asked {
        asked.await.unwrap().unwrap();
    }
    // Until the second has nothing left, all three are given the same, but for what one pass holds.
    let mut tokens = [0, 0, 0];
    for pass in rig.log.passes.lock().unwrap().iter() {
        for window in pass {
            tokens[window[0] as usize - 1] += window.len();
        }
        if tokens[1] == 1_000 {
            break;
        }
    }
    assert!(tokens.iter().all(|given| given.abs_diff(1_000) <= 300), "{tokens:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_fills_the_queue_loses_its_newest_to_who_has_few_waiting() {
    let rig = rig(PoolSettings { queue: 8, ..SETTINGS });
    let held = rig.hold().await;
    let mut loud = Vec::new();
    for waiting in 1..=8 {
        loud.push(ask_of(&rig, 1, 1));
        rig.waiting(waiting).await;
    }
    let quiet = ask_of(&rig, 2, 1);
    assert_eq!(loud.pop().unwrap().await.unwrap(), Err(Unscored::Busy { waiting: 8 }));
    assert_eq!(ask_of(&rig, 1, 1).await.unwrap(), Err(Unscored::Busy { waiting: 8 }));
    rig.go_on();
    held.await.unwrap().unwrap();
    assert_eq!(score_of(quiet.await.unwrap()), said(0.02));
    for asked in loud {
        assert_eq!(score_of(asked.await.unwrap()), said(0.01));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_passed_over_for_being_late_is_late_whoever_sees_it_first() {
    let limit = Duration::from_micros(50);
    let rig = rig(PoolSettings { brief: Room { deadline: limit, ..PATIENT }, ..SETTINGS });
    for _ in 0..1_000 {
        let late = rig.pool.score(texts(&["1"]), of(0), RoundTrip).await;
        assert!(late == Err(Unscored::TimedOut { limit }) || late.is_ok(), "{late:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_waits_for_any_more_is_not_run() {
    let limit = Duration::from_secs(1);
    let rig = rig(PoolSettings { brief: Room { deadline: limit, ..PATIENT }, ..SETTINGS });
    let held = rig.hold().await;
    let late = ask(&rig, &["77"]);
    assert_eq!(held.await.unwrap(), Err(Unscored::TimedOut { limit }));
    assert_eq!(late.await.unwrap(), Err(Unscored::TimedOut { limit }));
    rig.go_on();
    assert_eq!(score_of(rig.pool.score(texts(&["5"]), of(0), RoundTrip).await), said(0.05));
    assert!(!rig.log.passes.lock().unwrap().iter().flatten().any(|window| window == &[77]));
    assert!(rig.seen.count(|event| matches!(event, Event::Skipped)) >= 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_costs_its_own_batch_a_score_and_the_thread_goes_on() {
    let rig = rig(SETTINGS);
    assert_eq!(score_of(rig.pool.score(texts(&["1"]), of(0), RoundTrip).await), said(0.01));
    assert_eq!(rig.pool.score(texts(&["panic"]), of(0), RoundTrip).await, Err(Unscored::Failed));
    assert_eq!(score_of(rig.pool.score(texts(&["2"]), of(0), RoundTrip).await), said(0.02));
    assert_eq!(rig.log.made.load(Ordering::Relaxed), 2, "a fresh engine");
    assert_eq!(rig.seen.count(|event| matches!(event, Event::Restarted)), 1);
    // A thread that does nothing but panic rests: what comes is refused at once, unrun.
    for _ in 0..20 {
        assert_eq!(rig.pool.score(texts(&["panic"]), of(0), RoundTrip).await, Err(Unscored::Failed));
    }
    assert_eq!(rig.seen.count(|event| matches!(event, Event::Restarted)), 10);
    assert_eq!(rig.pool.score(texts(&["3"]), of(0), RoundTrip).await, Err(Unscored::Failed));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thread_that_rests_takes_nothing_away_from_one_that_works() {
    let rig = rig(PoolSettings { threads: 2, ..SETTINGS });
    let restarts = || rig.seen.count(|event| matches!(event, Event::Restarted));
    for _ in 0..10_000 {
        if restarts() == 10 {
            break;
        }
        let _ = rig.pool.score(texts(&["unlucky"]), of(0), RoundTrip).await;
    }
    assert_eq!(restarts(), 10);
    for n in 0..200 {
        assert_eq!(
            score_of(rig.pool.score(texts(&["unlucky", "2"]), of(0), RoundTrip).await),
            said(0.02),
            "text {n}"
        );
    }
    assert!(rig.pool.close(Duration::from_secs(60)).await, "one that rests ends as well");
}

#[tokio::test(flavor = "multi_thread")]
async fn while_all_threads_rest_what_comes_and_what_waits_fails_at_once() {
    let rig = rig(PoolSettings { threads: 2, ..SETTINGS });
    let started = Instant::now();
    // Far more than two threads take, all at once: the last of them still wait when both rest.
    let all: Vec<_> = (0..200).map(|_| ask(&rig, &["panic"])).collect();
    for asked in all {
        assert_eq!(asked.await.unwrap(), Err(Unscored::Failed));
    }
    assert_eq!(rig.seen.count(|event| matches!(event, Event::Restarted)), 20);
    assert_eq!(rig.pool.score(texts(&["1"]), of(0), RoundTrip).await, Err(Unscored::Failed));
    assert!(started.elapsed() < SETTINGS.brief.deadline, "{:?}", started.elapsed());
    assert!(rig.log.passes.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_thread_that_has_rested_takes_jobs_again() {
    let queue = Queue::new(1, 4);
    let until = Instant::now() + Duration::from_millis(30);
    assert!(queue.rest(until, &Unmetered, |left| assert!(left.is_empty())));
    assert!(Instant::now() >= until);
    let now = Instant::now();
    let job = Job {
        texts: texts(&["1"]),
        answer: Answer::Then(Box::new(|_| {})),
        owner: of(0),
        long: None,
        windows_max: 1,
        enqueued: now,
        deadline: now + Duration::from_secs(5),
        heavy: Arc::default(),
        span: tracing::Span::none(),
        probe: None,
    };
    queue.push(job, &Unmetered).unwrap();
    assert!(queue.pop(&Unmetered).is_some());
    queue.close();
    assert!(!queue.rest(now + Duration::from_secs(60), &Unmetered, |_| {}), "the end wakes it");
}

/// Where a log goes that is to be read.
#[derive(Clone, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Written {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn a_failure_is_logged_for_each_message_of_the_batch_by_its_own_span() {
    use tracing::Instrument as _;

    let written = Written::default();
    let writer = written.clone();
    let log = tracing_subscriber::fmt().json().with_writer(move || writer.clone()).finish();
    let log = tracing::Dispatch::new(log);
    // While there is only one, whether anybody reads a line is asked of the thread that comes to it first,
    // which may be another test's, and remembered for all.
    let _other = tracing::Dispatch::new(tracing_subscriber::registry());
    let here = tracing::dispatcher::set_default(&log);
    let held = Arc::new(Log::default());
    let shared = Arc::clone(&held);
    let make: MakeEngine = Arc::new(move || {
        // For as long as the pool's thread lives.
        std::mem::forget(tracing::dispatcher::set_default(&log));
        Ok(Box::new(Plain(Arc::clone(&shared))) as Box<dyn Engine>)
    });
    let pool = Pool::start(SETTINGS, make, Arc::new(Unmetered)).unwrap();
    let together = async {
        until(|| pool.queue.len() == 2).await;
        held.go_on.store(true, Ordering::SeqCst);
    };
    let ask = |id: &str, text: &str| {
        pool.score(texts(&[text]), of(0), RoundTrip)
            .instrument(tracing::info_span!("message", decision_id = id))
    };
    // While it is held the others come, and join its batch.
    let first = ask("fair", "held");
    let others = async {
        until(|| held.held.load(Ordering::SeqCst) == 1).await;
        tokio::join!(ask("one", "1"), ask("two", "panic"), together)
    };
    let (first, (one, two, ())) = tokio::join!(first, others);
    drop(here);
    let failed = Err(Unscored::Failed);
    assert_eq!((first, one, two), (failed.clone(), failed.clone(), failed));
    let written = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
    let told = |id: &str| {
        let named = |line: &&str| line.contains("the model failed") && line.contains(&format!("\"{id}\""));
        written.lines().filter(named).count()
    };
    assert_eq!((told("fair"), told("one"), told("two")), (1, 1, 1), "{written}");
}

#[tokio::test]
async fn an_engine_that_cannot_be_made_is_tried_again_with_the_next_text() {
    let tried = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&tried);
    let make: MakeEngine = Arc::new(move || match counted.fetch_add(1, Ordering::Relaxed) {
        0 => Err(Unscored::NoModel),
        _ => Ok(Box::new(Plain(Arc::default())) as Box<dyn Engine>),
    });
    let pool = Pool::start(SETTINGS, make, Arc::new(Unmetered)).unwrap();
    assert_eq!(pool.score(texts(&["1"]), of(0), RoundTrip).await, Err(Unscored::NoModel));
    assert_eq!(score_of(pool.score(texts(&["1"]), of(0), RoundTrip).await), said(0.01));
}

/// Too few scores, and scores that are none.
struct Wrong(Vec<f64>);

impl Engine for Wrong {
    fn windows(&mut self, texts: &[String], _: usize) -> Result<Vec<Vec<u32>>, Unscored> {
        Ok(texts.iter().map(|_| vec![1]).collect())
    }

    fn scores(&mut self, _: &[&[u32]]) -> Result<Vec<Semantic>, Unscored> {
        Ok(self.0.iter().copied().map(Semantic::from).collect())
    }
}

#[tokio::test]
async fn an_answer_that_is_no_score_is_never_one() {
    for (wrong, expected) in [
        (vec![], Unscored::Failed),
        (vec![0.1], Unscored::Failed),
        (vec![0.1, 0.2, 0.3], Unscored::Failed),
        (vec![0.1, 1.1], Unscored::OutOfRange { found: 1.1 }),
        (vec![-0.1, 0.9], Unscored::OutOfRange { found: -0.1 }),
    ] {
        let make: MakeEngine = Arc::new(move || Ok(Box::new(Wrong(wrong.clone())) as Box<dyn Engine>));
        let pool = Pool::start(SETTINGS, make, Arc::new(Unmetered)).unwrap();
        assert_eq!(pool.score(texts(&["a", "b"]), of(0), RoundTrip).await, Err(expected));
    }
    let make: MakeEngine = Arc::new(|| Ok(Box::new(Wrong(vec![f64::NAN])) as Box<dyn Engine>));
    let pool = Pool::start(SETTINGS, make, Arc::new(Unmetered)).unwrap();
    assert!(
        matches!(pool.score(texts(&["a"]), of(0), RoundTrip).await, Err(Unscored::OutOfRange { found }) if found.is_nan())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn closing_works_off_what_waits_and_takes_no_more() {
    let rig = rig(SETTINGS);
    let held = rig.hold().await;
    let next = ask(&rig, &["2"]);
    rig.waiting(1).await;
    rig.pool.queue.close();
    rig.go_on();
    assert!(rig.pool.close(Duration::from_secs(60)).await);
    assert_eq!(score_of(held.await.unwrap()), said(0.0));
    assert_eq!(score_of(next.await.unwrap()), said(0.02));
    assert_eq!(rig.pool.score(texts(&["3"]), of(0), RoundTrip).await, Err(Unscored::Stopping));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_glance_is_taken_only_where_nothing_waits() {
    let rig = rig(SETTINGS);
    let (told, mut scores) = tokio::sync::mpsc::channel(4);
    let tell = |told: &tokio::sync::mpsc::Sender<f64>| {
        let told = told.clone();
        Box::new(move |score| {
            let _ = told.try_send(score);
        })
    };
    rig.pool.score_in_background(texts(&["9"]), tell(&told));
    assert_eq!(scores.recv().await, Some(0.09));
    let held = rig.hold().await;
    let waiting = ask(&rig, &["1"]);
    rig.waiting(1).await;
    rig.pool.score_in_background(texts(&["8"]), tell(&told));
    rig.go_on();
    held.await.unwrap().unwrap();
    waiting.await.unwrap().unwrap();
    assert!(scores.try_recv().is_err());
}

/// One window for each text, of as many tokens as it has words; 2 ms each.
struct Steady(Arc<Log>);

impl Engine for Steady {
    fn windows(&mut self, texts: &[String], _: usize) -> Result<Vec<Vec<u32>>, Unscored> {
        Ok(texts.iter().map(|text| text.split(' ').map(|_| 1).collect()).collect())
    }

    fn scores(&mut self, windows: &[&[u32]]) -> Result<Vec<Semantic>, Unscored> {
        self.0.passes.lock().unwrap().push(windows.iter().map(|window| window.to_vec()).collect());
        let tokens: usize = windows.iter().map(|window| window.len()).sum();
        std::thread::sleep(Duration::from_millis(2) * u32::try_from(tokens).unwrap());
        Ok(vec![Semantic::from(0.5); windows.len()])
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_text_that_would_take_longer_than_its_deadline_at_any_time_is_not_run_again() {
    let log = Arc::new(Log::default());
    let shared = Arc::clone(&log);
    let make: MakeEngine = Arc::new(move || Ok(Box::new(Steady(Arc::clone(&shared))) as Box<dyn Engine>));
    let limit = Duration::from_millis(200);
    let pool = Pool::start(
        PoolSettings { brief: Room { deadline: limit, ..PATIENT }, ..SETTINGS },
        make,
        Arc::new(Unmetered),
    )
    .unwrap();
    let words = |count: usize| vec![vec!["word"; count].join(" ")];
    // Nothing is known yet, so it is tried.
    assert_eq!(pool.score(words(150), of(0), RoundTrip).await, Err(Unscored::TimedOut { limit }));
    // Now it is, however busy the machine was: no pass is faster than its engine.
    let mut again = pool.score(words(150), of(0), RoundTrip).await;
    for _ in 0..20 {
        if again == Err(Unscored::TooSlow { limit }) {
            break;
        }
        again = pool.score(words(150), of(0), RoundTrip).await;
    }
    assert_eq!(again, Err(Unscored::TooSlow { limit }));
    assert_eq!(log.passes.lock().unwrap().len(), 1, "it was run once");
    let mut short = pool.score(words(5), of(0), RoundTrip).await;
    for _ in 0..20 {
        if short.is_ok() {
            break;
        }
        assert_eq!(short, Err(Unscored::TimedOut { limit }), "a busy machine");
        short = pool.score(words(5), of(0), RoundTrip).await;
    }
    assert_eq!(score_of(short), said(0.5), "what is short goes on");
}

#[cfg(target_os = "linux")]
mod idle;
