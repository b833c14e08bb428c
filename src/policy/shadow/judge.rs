//! The thread on which a candidate answers. It gives way to all that messages wait for.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, atomic::Ordering},
};

use tokio::sync::mpsc;

use super::{Judging, Place, example};
use crate::{
    cpu,
    policy::{
        Event, PolicyEngine as _, PolicyError,
        comparison::{Answer, Change, Compared, answer_of},
        decided::Decided,
    },
};

/// Until nobody tells of decisions any more.
pub(super) fn run(place: &Place, mut decided: mpsc::Receiver<Decided>) {
    // To the threads of messages, wherever they want the processor.
    cpu::stand_back(cpu::NICEST);
    while let Some(decided) = decided.blocking_recv() {
        let Some(judging) = place.judging.load_full() else { continue };
        // The operator's rules run here, and so does regorus.
        let judged = catch_unwind(AssertUnwindSafe(|| judging.compare(&decided)));
        match judged.unwrap_or(Some(Event::ShadowUndecided)) {
            None => {}
            Some(event) => {
                if event == Event::ShadowUndecided {
                    judging.undecided.fetch_add(1, Ordering::Relaxed);
                }
                place.meter.see(event);
            }
        }
    }
}

impl Judging {
    /// `None`: it is of no policy that the candidate is compared with.
    fn compare(&self, decided: &Decided) -> Option<Event> {
        if self.counted.lock().against != decided.revision {
            return None;
        }
        let Some(before) = before(decided) else { return Some(Event::ShadowUndecided) };
        let question = decided.question.ask();
        let Some(after) = answer_of(|| self.engine.decide(&question)) else {
            return Some(Event::ShadowUndecided);
        };
        let compared = Compared {
            number: decided.at.0,
            decision_id: &decided.id,
            tenant: question.tenant.id.as_str(),
            sender: question.sender.id.as_str(),
            recipient: question.recipient.id.as_str(),
            message_type: question.message.message_type.as_str(),
            before: &before,
            after: &after,
        };
        let mut counted = self.counted.lock();
        // Another may have come into force meanwhile.
        if counted.against != decided.revision {
            return None;
        }
        let wanted = counted.comparison.count(&compared);
        drop(counted);
        if let Some(change) = wanted
            && let Some(example) =
                example::of(&compared, change, decided, self.engine.log_policy().as_deref())
        {
            let mut counted = self.counted.lock();
            if counted.against == decided.revision {
                counted.comparison.show(example);
            }
        }
        let changed = Change::of(&before, &after).is_some_and(|change| change != Change::Reasons);
        Some(if changed { Event::ShadowChanged } else { Event::ShadowSame })
    }
}

/// `None`: the policy in force gave no answer either.
fn before(decided: &Decided) -> Option<Answer> {
    match &decided.answer {
        Ok(decision) => Some(Ok(Arc::unwrap_or_clone(Arc::clone(decision)))),
        Err(failed @ PolicyError::Failed { .. }) => Some(Err(failed.to_string())),
        Err(
            PolicyError::TimedOut { .. }
            | PolicyError::Busy { .. }
            | PolicyError::Broken { .. }
            | PolicyError::Unanswered { .. }
            | PolicyError::BreakerOpen { .. },
        ) => None,
    }
}
