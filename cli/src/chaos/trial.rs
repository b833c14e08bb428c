//! How is one experiment made? Is the fleet well, then the fault while agents go on, then is it well again, and do the books
//! agree?

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use agentbus::{
    domain::Status,
    servers::control::{Broken, End},
};
use agentbus_testkit::traffic::{Persistence, Receipts, Traffic};
use anyhow::{anyhow, bail};
use tokio::time::sleep;

use super::{
    experiment::Experiment,
    findings::{Course, Findings},
    fleet::Fleet,
};

/// For the fleet to be well beforehand.
const STEADY_WITHIN: Duration = Duration::from_secs(60);
/// Traffic before and after, to see that there is some.
const AROUND: Duration = Duration::from_secs(1);
/// Messages at one time, and the pause of each sender: within the rate of a tenant as shipped.
const IN_FLIGHT: usize = 8;
const PAUSE: Duration = Duration::from_millis(100);
/// One attempt, and all of them beyond the fault.
const ATTEMPT: Duration = Duration::from_millis(400);
const PATIENCE: Duration = Duration::from_secs(30);
/// Of so many messages the policy denies one.
const DENIED_ONE_IN: usize = 8;
/// A fleet that nobody asks any more mends by itself, a little later.
const MARGIN: Duration = Duration::from_secs(5);
const LOOK_EVERY: Duration = Duration::from_millis(100);

pub(super) async fn make(experiment: &Experiment, fleet: &Fleet) -> anyhow::Result<Findings> {
    tokio::select! {
        found = observed(experiment, fleet) => found,
        () = fleet.keep_registered() => bail!("the recipient is not registered any more"),
    }
}

async fn observed(experiment: &Experiment, fleet: &Fleet) -> anyhow::Result<Findings> {
    let since = SystemTime::now();
    // Whoever does not listen is delivered nothing.
    let receipts = Receipts::of(&fleet.recipient, &fleet.tenant).await?;
    let steady = fleet.well(STEADY_WITHIN).await;
    steady.map_err(|why| anyhow!("the fleet is not well before anything is broken: {why}"))?;
    let over = Arc::new(AtomicBool::new(false));
    let traffic = Traffic {
        sender: fleet.sender.clone(),
        recipient: fleet.recipient.id().to_string(),
        in_flight: IN_FLIGHT,
        messages: usize::MAX,
        pause: PAUSE,
        how: Persistence { attempt: ATTEMPT, deadline: experiment.lasts + PATIENCE },
        denied_one_in: DENIED_ONE_IN,
    };
    let broken = async {
        let course = take_course(experiment, fleet).await;
        over.store(true, Ordering::Relaxed);
        course
    };
    let (heard, course) = tokio::join!(traffic.run(Arc::clone(&over)), broken);
    let course = course?;
    let mut faults = heard.faults(&receipts).await;
    // What others send to this agent, and what was sent to see whether all is well.
    faults.retain(|fault| heard.sent.contains(&fault.key.message));
    let delivered = heard.verdicts.iter().filter(|(_, verdict)| verdict.status == Status::Delivered);
    let delivered = delivered.map(|(message, _)| message.as_str()).collect();
    let unrecorded = fleet.unrecorded(&delivered, since).await?;
    Ok(Findings::of(experiment, &course, &heard, &faults, unrecorded))
}

/// Breaks it, mends it, and looks at the fleet meanwhile.
async fn take_course(experiment: &Experiment, fleet: &Fleet) -> anyhow::Result<Course> {
    let Experiment { fault, lasts, during, after, .. } = experiment;
    sleep(AROUND).await;
    let mut broken = Broken::begin(&fleet.folder, fault, *lasts + MARGIN).await?;
    let from = Instant::now();
    let told_after = tokio::select! {
        told = told(during.tells.as_deref(), fleet, *lasts) => told,
        () = broken.ended() => None,
    };
    let until = Instant::now();
    let (mended, well) = tokio::join!(broken.mend(), fleet.well(after.healthy_within * 2));
    match mended? {
        End::Asked => {}
        End::Time => bail!("it was mended before its time"),
        End::Stopped => bail!("stopped; what was broken is mended"),
    }
    sleep(AROUND).await;
    Ok(Course { from, until, told_after, healthy_after: well.ok() })
}

/// For as long as it lasts; when it was first told.
async fn told(part: Option<&str>, fleet: &Fleet, lasts: Duration) -> Option<Duration> {
    let started = Instant::now();
    let mut told = None;
    while started.elapsed() < lasts {
        if let (Some(part), None) = (part, told)
            && fleet.tells(part).await
        {
            told = Some(started.elapsed());
        }
        sleep(LOOK_EVERY.min(lasts.saturating_sub(started.elapsed()))).await;
    }
    told
}
