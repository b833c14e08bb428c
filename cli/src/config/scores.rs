//! How do the reference texts score by what a node is configured to have?

use std::time::Duration;

use agentbus::impact::{
    Patience, Semantic, SemanticScorer, Settings, Unscored, Words,
    reference::{self, Reference, Text},
    semantic::Prepared,
};
use agentbus_modelkit::line::bare_message;
use futures_util::future::join_all;

use crate::parked::Gauge;

/// All texts are scored within this, or it is told that they were not. The model takes a second.
const WITHIN: Duration = Duration::from_secs(20);

/// Asks each model and head whose scores are not in the program.
pub(super) async fn gauge(settings: &Settings, model: &Prepared) -> Gauge {
    let heads = join_all(model.heads.iter().map(async |(name, head)| (name.clone(), of(&**head).await)));
    let (usual, heads) = tokio::join!(of(&*model.scorer), heads);
    Gauge {
        weights: settings.weights,
        report_lift_max: settings.report_lift_max,
        usual,
        heads: heads.into_iter().collect(),
    }
}

async fn of(scorer: &dyn SemanticScorer) -> Result<Reference, String> {
    let shipped = Reference::shipped().map_err(|error| error.to_string())?;
    if shipped.is_of(scorer.name()) {
        return Ok(shipped);
    }
    let measured = tokio::time::timeout(WITHIN, measure(scorer)).await;
    let why = match measured {
        Ok(Ok(scores)) => return Ok(scores),
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("{} takes more than {} s for the texts", scorer.name(), WITHIN.as_secs()),
    };
    Err(format!("{why}; agentbus model evaluate takes its time"))
}

async fn measure(scorer: &dyn SemanticScorer) -> anyhow::Result<Reference> {
    let mut scores = Vec::new();
    for Text { text, level } in reference::texts()? {
        let message = bare_message(&text)?;
        scores.push((level, patient(scorer, scorer.read(&message, Patience::RoundTrip)?).await?.score));
    }
    Ok(Reference::of(scorer.name(), scores))
}

/// Late for a message is not late here: it is asked again until [`WITHIN`] is past.
async fn patient(scorer: &dyn SemanticScorer, words: Words) -> Result<Semantic, Unscored> {
    loop {
        match scorer.score(words.clone()).await {
            Err(Unscored::TimedOut { .. }) => {}
            said => return said,
        }
    }
}
