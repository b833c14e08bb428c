//! Does an idle thread run the passes, and does the pool go on where it is starved?

use super::*;

const IDLE: PoolSettings = PoolSettings { idle: true, ..SETTINGS };

fn thread() -> String {
    std::thread::current().name().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn a_thread_of_the_idle_class_runs_the_passes() {
    const SCHED_IDLE: &str = "5";
    let rig = rig(PoolSettings { thread: "rests", ..IDLE });
    // Where the machine is busy the other one may be needed.
    for asked in 0.. {
        assert_eq!(score_of(rig.pool.score(texts(&["7"]), of(0), RoundTrip).await), said(0.07));
        if rig.log.threads.lock().unwrap().iter().any(|name| name == "rests-0-idle") {
            break;
        }
        assert!(asked < 60_000, "it never did");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let tasks = std::fs::read_dir("/proc/self/task").unwrap().map(|task| task.unwrap().path());
    let class = |name: &str| {
        let named = |task: &std::path::PathBuf| {
            std::fs::read_to_string(task.join("comm")).is_ok_and(|it| it.trim() == name)
        };
        let stat = std::fs::read_to_string(tasks.into_iter().find(named).unwrap().join("stat")).unwrap();
        // The 41st field; the second ends with a bracket (proc_pid_stat(5)).
        stat.rsplit_once(") ").unwrap().1.split(' ').nth(38).unwrap().to_owned()
    };
    assert_eq!(class("rests-0-idle"), SCHED_IDLE);
}

/// On an idle thread it is held until it may go on, and panics where it is asked to. The score is the first number.
struct Held(Arc<Log>);

impl Engine for Held {
    fn windows(&mut self, texts: &[String], _: usize) -> Result<Vec<Vec<u32>>, Unscored> {
        Ok(texts.iter().map(|text| vec![text.parse().unwrap()]).collect())
    }

    fn scores(&mut self, windows: &[&[u32]]) -> Result<Vec<Semantic>, Unscored> {
        self.0.threads.lock().unwrap().push(thread());
        if thread().ends_with("-idle") {
            assert!(windows[0][0] != 99, "as asked");
            self.0.held.fetch_add(1, Ordering::SeqCst);
            while !self.0.go_on.load(Ordering::SeqCst) {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        Ok(windows.iter().map(|window| Semantic::from(f64::from(window[0]) / 100.0)).collect())
    }
}

fn held() -> (Arc<Pool>, Arc<Log>, Arc<Seen>) {
    let (log, seen) = (Arc::new(Log::default()), Arc::new(Seen::default()));
    let shared = Arc::clone(&log);
    let make: MakeEngine = Arc::new(move || Ok(Box::new(Held(Arc::clone(&shared))) as Box<dyn Engine>));
    (Arc::new(Pool::start(IDLE, make, Arc::clone(&seen) as Arc<dyn Meter>).unwrap()), log, seen)
}

#[tokio::test]
async fn a_pass_that_is_late_is_run_by_who_waits_and_no_score_of_it_is_taken_for_another() {
    let (pool, log, _) = held();
    for number in 1..20 {
        let score = f64::from(number) / 100.0;
        assert_eq!(score_of(pool.score(texts(&[&number.to_string()]), of(0), RoundTrip).await), said(score));
    }
    assert_eq!(log.held.load(Ordering::SeqCst), 1, "the others were not even tried there");
    log.go_on.store(true, Ordering::SeqCst);
    let mut last = 20;
    while log.held.load(Ordering::SeqCst) == 1 {
        last += 1;
        let number = last % 80;
        let score = f64::from(number) / 100.0;
        assert_eq!(score_of(pool.score(texts(&[&number.to_string()]), of(0), RoundTrip).await), said(score));
        assert!(last < 60_000, "it never came back");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!(pool.close(Duration::from_secs(60)).await);
}

#[tokio::test]
async fn a_panic_on_the_idle_thread_costs_its_pass_the_score_and_all_begins_anew() {
    let (pool, log, seen) = held();
    log.go_on.store(true, Ordering::SeqCst);
    let restarted = |event: &Event| matches!(event, Event::Restarted);
    for asked in 0.. {
        // A score where the thread came to it too late.
        let scored = pool.score(texts(&["99"]), of(0), RoundTrip).await;
        if scored == Err(Unscored::Failed) {
            break;
        }
        assert_eq!(score_of(scored), said(0.99));
        assert!(asked < 60_000, "it never was in time");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(seen.count(restarted), 1);
    assert_eq!(score_of(pool.score(texts(&["3"]), of(0), RoundTrip).await), said(0.03));
}

/// Computes for 30 ms on a core of its own.
struct Steadfast(Arc<Log>);

fn computed() -> Duration {
    let of = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(of.split(' ').next().unwrap().parse().unwrap())
}

impl Engine for Steadfast {
    fn windows(&mut self, texts: &[String], _: usize) -> Result<Vec<Vec<u32>>, Unscored> {
        Ok(texts.iter().map(|_| vec![1; 100]).collect())
    }

    fn scores(&mut self, windows: &[&[u32]]) -> Result<Vec<Semantic>, Unscored> {
        let started = computed();
        while computed() - started < Duration::from_millis(30) {
            std::hint::black_box((0..10_000_u64).fold(1, u64::wrapping_add));
        }
        self.0.threads.lock().unwrap().push(thread());
        Ok(vec![Semantic::from(0.5); windows.len()])
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn where_others_keep_all_cores_busy_scores_still_come() {
    const TEXTS: usize = 5;
    let log = Arc::new(Log::default());
    let shared = Arc::clone(&log);
    let make: MakeEngine = Arc::new(move || Ok(Box::new(Steadfast(Arc::clone(&shared))) as Box<dyn Engine>));
    let pool = Pool::start(IDLE, make, Arc::new(Unmetered)).unwrap();
    let ended = Arc::new(AtomicBool::new(false));
    let spinners = std::thread::available_parallelism().unwrap().get();
    let spinners: Vec<_> = (0..spinners)
        .map(|_| {
            let ended = Arc::clone(&ended);
            std::thread::spawn(move || {
                while !ended.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            })
        })
        .collect();
    let mut scores = Vec::new();
    for _ in 0..TEXTS {
        scores.push(score_of(pool.score(texts(&["a"]), of(0), RoundTrip).await));
    }
    ended.store(true, Ordering::Relaxed);
    spinners.into_iter().for_each(|spinner| spinner.join().unwrap());
    assert_eq!(scores, vec![said(0.5); TEXTS]);
    let threads = log.threads.lock().unwrap();
    assert!(threads.iter().any(|name| name == "impact-0"), "{threads:?}");
}
