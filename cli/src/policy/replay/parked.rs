//! What would be parked for its impact, by another threshold? As records of the same messages say what they scored.

use std::{collections::HashMap, path::PathBuf};

use agentbus::policy::{Decision, comparison::Answer};
use clap::Args;

use crate::{known::known, share::share};

#[derive(Debug, Args)]
pub(super) struct ParkedArgs {
    /// Count what is parked for its impact too, as these records of the same messages say, one of JSON a line
    #[arg(long, value_name = "FILE", requires = "threshold")]
    records: Option<PathBuf>,
    /// From which score on a message would be parked
    #[arg(long, value_name = "SCORE", requires = "records", value_parser = share)]
    threshold: Option<f64>,
}

/// Of each decision, by its id.
#[derive(Default)]
pub(super) struct Parked(HashMap<String, Fate>);

/// Whether its message was parked, and whether it would be; nothing where its score was not looked for so closely.
struct Fate {
    before: bool,
    after: Option<bool>,
}

impl ParkedArgs {
    /// `None`: by the policy alone.
    pub(super) fn read(&self) -> anyhow::Result<Option<Parked>> {
        let (Some(records), Some(threshold)) = (&self.records, self.threshold) else { return Ok(None) };
        let fates = known(records)?.into_iter().filter_map(|known| {
            let before = known.before?;
            let (least, most) = before.score;
            let after = match (least >= threshold, most >= threshold) {
                (true, _) => Some(true),
                (false, false) => Some(false),
                (false, true) => None,
            };
            // Decided without a score, as it would be again.
            let after = if before.parts.is_some() { after } else { Some(before.parked) };
            Some((known.decision?, Fate { before: before.parked, after }))
        });
        Ok(Some(Parked(fates.collect())))
    }
}

impl Parked {
    /// Both answers, with `deliberate` where the message is parked. `None`: nobody knows.
    pub(super) fn with(&self, decision: &str, before: &Answer, after: Answer) -> Option<(Answer, Answer)> {
        let fate = self.0.get(decision)?;
        Some((parked(before.clone(), fate.before), parked(after, fate.after?)))
    }
}

fn parked(answer: Answer, parked: bool) -> Answer {
    answer.map(|decision| match decision {
        Decision::Allowed(mut obligations) => {
            obligations.deliberate |= parked;
            Decision::Allowed(obligations)
        }
        denied @ Decision::Denied { .. } => denied,
    })
}
