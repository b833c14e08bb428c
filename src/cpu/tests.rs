//! Is the pool fair, bounded and hard to kill? Each test says when a job may end, so none waits for a clock.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::sync::{
    atomic::{AtomicUsize, Ordering},
    mpsc,
};

use futures_util::future::join_all;

use super::*;

#[derive(Default)]
struct Seen {
    skipped: AtomicUsize,
    panicked: AtomicUsize,
    refused: AtomicUsize,
    ran: AtomicUsize,
}

impl Meter for Seen {
    fn see(&self, event: Event) {
        let counter = match event {
            Event::Skipped => &self.skipped,
            Event::Panicked => &self.panicked,
            Event::Refused => &self.refused,
            Event::Ran { .. } => &self.ran,
            Event::Queued { .. } | Event::Taken { .. } => return,
        };
        counter.fetch_add(1, Ordering::SeqCst);
    }
}

fn pool(threads: usize, queue: usize) -> (Arc<Cpu>, Arc<Seen>) {
    let seen = Arc::new(Seen::default());
    let mut cpu = Cpu::start(CpuSettings { threads, queue }, Arc::clone(&seen) as Arc<dyn Meter>).unwrap();
    // A busy machine is not what is tested.
    (cpu.wait_max, cpu.run_max) = (Duration::from_secs(60), Duration::from_secs(60));
    (Arc::new(cpu), seen)
}

fn tenant(name: &str) -> TenantId {
    format!("tenant-{name}").parse().unwrap()
}

/// A job that runs until its end of the channel is used or dropped; the other says that it has begun.
fn held() -> (impl FnOnce() + Send + 'static, mpsc::Receiver<()>, mpsc::Sender<()>) {
    let (begun, has_begun) = mpsc::channel();
    let (end, may_end) = mpsc::channel::<()>();
    let job = move || {
        let _ = begun.send(());
        let _ = may_end.recv();
    };
    (job, has_begun, end)
}

/// Starts what is held, in a task, and returns when it runs.
async fn hold(cpu: &Arc<Cpu>, of: &str) -> (tokio::task::JoinHandle<Result<(), CpuError>>, mpsc::Sender<()>) {
    let (job, begun, end) = held();
    let (cpu, of) = (Arc::clone(cpu), tenant(of));
    let task = tokio::spawn(async move { cpu.run(&of, Work::Policy, job).await });
    tokio::task::spawn_blocking(move || begun.recv().unwrap()).await.unwrap();
    (task, end)
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

#[tokio::test]
async fn a_job_runs_on_a_named_thread_of_the_pool_and_a_small_one_where_it_is_asked_for() {
    let (cpu, _) = pool(2, 8);
    let name = || std::thread::current().name().unwrap_or_default().to_owned();
    let there = cpu.run_sized(BYTES_HERE_MAX + 1, &tenant("a"), Work::Decode, name).await.unwrap();
    assert!(there.starts_with("cpu-"), "{there}");
    let here = cpu.run_sized(BYTES_HERE_MAX, &tenant("a"), Work::Decode, name).await.unwrap();
    assert_eq!(here, name());
}

#[tokio::test]
async fn a_tenant_never_has_all_of_the_threads() {
    let (cpu, _) = pool(2, 64);
    let (task, end) = hold(&cpu, "hostile").await;
    let more: Vec<_> = (0..8)
        .map(|_| {
            tokio::spawn({
                let cpu = Arc::clone(&cpu);
                async move { cpu.run(&tenant("hostile"), Work::Policy, || ()).await }
            })
        })
        .collect();
    until(|| cpu.queue.waiting() == 8).await;
    // The hostile tenant's jobs wait, and there is a thread for the other.
    for n in 0..20 {
        assert_eq!(cpu.run(&tenant("other"), Work::Policy, move || n).await, Ok(n));
    }
    assert_eq!(cpu.queue.waiting(), 8);
    drop(end);
    assert_eq!(task.await.unwrap(), Ok(()));
    assert!(join_all(more).await.into_iter().all(|done| done.unwrap() == Ok(())));
}

#[tokio::test]
async fn tenants_take_turns_whoever_asked_more() {
    let (cpu, _) = pool(1, 64);
    let (task, end) = hold(&cpu, "first").await;
    let order = Arc::new(parking_lot::Mutex::new(Vec::new()));
    let mut asked = Vec::new();
    for (of, jobs) in [("hostile", 6), ("b", 2), ("c", 1)] {
        for _ in 0..jobs {
            let (pool, order, waiting) = (Arc::clone(&cpu), Arc::clone(&order), cpu.queue.waiting());
            asked.push(tokio::spawn(async move {
                pool.run(&tenant(of), Work::Policy, move || order.lock().push(of)).await
            }));
            until(|| cpu.queue.waiting() > waiting).await;
        }
    }
    drop(end);
    task.await.unwrap().unwrap();
    join_all(asked).await;
    let expected = ["hostile", "b", "c", "hostile", "b", "hostile", "hostile", "hostile", "hostile"];
    assert_eq!(*order.lock(), expected);
    // Nothing is kept of tenants without a job. A thread says so after its answer.
    until(|| cpu.queue.tenants() == 0).await;
}

#[tokio::test]
async fn what_finds_no_room_is_refused_at_once_and_one_tenant_has_half_of_the_room() {
    let (cpu, seen) = pool(1, 4);
    let (task, end) = hold(&cpu, "hostile").await;
    let ask = |of: &'static str| {
        let cpu = Arc::clone(&cpu);
        tokio::spawn(async move { cpu.run(&tenant(of), Work::Policy, || ()).await })
    };
    let kept: Vec<_> = ["hostile", "hostile"].map(ask).into();
    until(|| cpu.queue.waiting() == 2).await;
    assert_eq!(ask("hostile").await.unwrap(), Err(CpuError::Busy { waiting: 2 }));
    let others: Vec<_> = ["a", "b"].map(ask).into();
    until(|| cpu.queue.waiting() == 4).await;
    assert_eq!(ask("c").await.unwrap(), Err(CpuError::Busy { waiting: 0 }));
    assert_eq!(seen.refused.load(Ordering::SeqCst), 2);
    drop(end);
    task.await.unwrap().unwrap();
    for asked in kept.into_iter().chain(others) {
        assert_eq!(asked.await.unwrap(), Ok(()));
    }
}

#[tokio::test]
async fn a_panic_is_one_jobs_own() {
    let (cpu, seen) = pool(1, 4);
    let fall = || -> u8 { panic!("on purpose") };
    assert_eq!(cpu.run(&tenant("a"), Work::Policy, fall).await, Err(CpuError::Panicked));
    assert_eq!(cpu.run(&tenant("a"), Work::Policy, || 7).await, Ok(7));
    assert_eq!(seen.panicked.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn what_nobody_waits_for_is_not_run() {
    let (cpu, seen) = pool(1, 4);
    let (task, end) = hold(&cpu, "a").await;
    let ran = Arc::new(AtomicUsize::new(0));
    let asked = tokio::spawn({
        let (cpu, ran) = (Arc::clone(&cpu), Arc::clone(&ran));
        async move { cpu.run(&tenant("a"), Work::Policy, move || ran.fetch_add(1, Ordering::SeqCst)).await }
    });
    until(|| cpu.queue.waiting() == 1).await;
    asked.abort();
    assert!(asked.await.is_err());
    drop(end);
    task.await.unwrap().unwrap();
    cpu.run(&tenant("a"), Work::Policy, || ()).await.unwrap();
    assert_eq!((ran.load(Ordering::SeqCst), seen.skipped.load(Ordering::SeqCst)), (0, 1));
}

#[tokio::test]
async fn who_waits_too_long_learns_whether_it_had_begun() {
    let mut cpu = Cpu::start(CpuSettings { threads: 1, queue: 4 }, Arc::new(())).unwrap();
    // Time enough for a busy machine to begin the first.
    (cpu.wait_max, cpu.run_max) = (Duration::from_secs(1), Duration::from_millis(50));
    let cpu = Arc::new(cpu);
    let (task, end) = hold(&cpu, "a").await;
    let late = cpu.run(&tenant("b"), Work::Policy, || ()).await;
    assert_eq!(late, Err(CpuError::Late { limit: cpu.wait_max }));
    assert_eq!(task.await.unwrap(), Err(CpuError::Overran { limit: cpu.run_max }));
    drop(end);
}

#[tokio::test]
async fn a_pool_that_ends_works_off_what_waits_and_takes_no_more() {
    let (cpu, seen) = pool(2, 16);
    let (task, end) = hold(&cpu, "a").await;
    let asked: Vec<_> = (0..5)
        .map(|_| {
            tokio::spawn({
                let cpu = Arc::clone(&cpu);
                async move { cpu.run(&tenant("a"), Work::Policy, || ()).await }
            })
        })
        .collect();
    until(|| cpu.queue.waiting() == 5).await;
    let ending = tokio::spawn({
        let cpu = Arc::clone(&cpu);
        async move { cpu.close(Duration::from_secs(60)).await }
    });
    until(|| cpu.queue.is_closed()).await;
    assert_eq!(cpu.run(&tenant("b"), Work::Policy, || ()).await, Err(CpuError::Stopping));
    drop(end);
    assert!(ending.await.unwrap());
    task.await.unwrap().unwrap();
    assert!(join_all(asked).await.into_iter().all(|done| done.unwrap() == Ok(())));
    assert_eq!(seen.ran.load(Ordering::SeqCst), 6);
}
