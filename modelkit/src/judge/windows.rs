//! What does the model say of messages: a node's windows of each, scored together, the highest counts.

use std::{slice, sync::Arc, time::Instant};

use agentbus::{
    domain::Message,
    impact::{
        Patience, Semantic, Settings,
        classifier::{Classifier, ClassifierSession},
        highest,
        model::{TooLong, Windows},
        semantic::windows_by,
        text::{Passages, TooMuch, long_passages},
    },
};

use super::{JudgeError, Said};

/// All windows that a node reads of a message; none of one without words.
pub fn windows(model: &Classifier, message: &Message) -> Result<Vec<Vec<u32>>, TooLong> {
    let max = Settings::default().room(Patience::Lane).windows;
    let Passages { content, around } =
        long_passages(message, max).map_err(|TooMuch| TooLong { windows: max.saturating_add(1), max })?;
    // Apart, as on a node: each may be as long as a text may be.
    let cut = |text: &str, limits: &Windows| model.windows(text, limits);
    let mut windows = windows_by(&cut, &content, max)?;
    windows.extend(windows_by(&cut, &around, max)?);
    Ok(windows)
}

/// The windows of one message, and what reading them took.
struct Read {
    windows: Vec<Vec<u32>>,
    tokens: usize,
    elapsed_us: f64,
}

pub(super) fn semantics(
    session: &mut ClassifierSession,
    messages: &[Arc<Message>],
) -> Vec<Result<Said, JudgeError>> {
    let model = session.classifier();
    let read: Vec<Result<Read, JudgeError>> = messages.iter().map(|message| read(&model, message)).collect();
    let windows: Vec<&[u32]> =
        read.iter().flatten().flat_map(|read| &read.windows).map(Vec::as_slice).collect();
    let tokens: usize = windows.iter().map(|window| window.len()).sum();
    let started = Instant::now();
    let scored = session.scores(&windows);
    let per_token = started.elapsed().as_secs_f64() * 1e6 / tokens.max(1) as f64;
    let mut scores = match scored {
        Ok(scores) => scores.into_iter(),
        // What it fails on takes along no text but its own.
        Err(_) if messages.len() > 1 => {
            return messages
                .iter()
                .flat_map(|message| semantics(session, slice::from_ref(message)))
                .collect();
        }
        Err(error) => {
            let error = JudgeError::Model(Arc::new(error));
            return read.into_iter().map(|read| read.and(Err(error.clone()))).collect();
        }
    };
    read.into_iter()
        .map(|read| {
            let Read { windows, tokens, elapsed_us } = read?;
            let own: Vec<Semantic> = scores.by_ref().take(windows.len()).collect();
            if own.len() < windows.len() {
                return Err(JudgeError::Missing);
            }
            // No window, no words, no harm in them: as on a node.
            let semantic = highest(own).map_err(JudgeError::NoScore)?;
            let elapsed_us = (elapsed_us + per_token * tokens as f64).round() as u64;
            Ok(Said { semantic, tokens, elapsed_us })
        })
        .collect()
}

fn read(model: &Classifier, message: &Message) -> Result<Read, JudgeError> {
    let started = Instant::now();
    let windows = windows(model, message).map_err(JudgeError::TooLong)?;
    let tokens = windows.iter().map(Vec::len).sum();
    Ok(Read { windows, tokens, elapsed_us: started.elapsed().as_secs_f64() * 1e6 })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::collections::{BTreeMap, BTreeSet};

    use super::*;
    use agentbus::{
        domain::{BroadcastFilter, MessageType, Priority, Recipient, Timestamp, Value},
        impact::model::Source,
    };

    fn message(text: &str) -> Arc<Message> {
        Arc::new(Message {
            id: "m".parse().unwrap(),
            tenant: "acme".parse().unwrap(),
            sender: "a".parse().unwrap(),
            conversation_id: None,
            in_reply_to: None,
            message_type: MessageType::Command,
            to: Recipient::Broadcast(BroadcastFilter::default()),
            priority: Priority::Normal,
            constitution: "cdd01ef066bc6cf2".parse().unwrap(),
            content: BTreeMap::from([("text".to_owned(), Value::Text(text.to_owned()))]),
            tools: BTreeSet::new(),
            metadata: BTreeMap::new(),
            created_at: Timestamp(0),
            expires_at: None,
        })
    }

    #[test]
    fn a_text_without_words_scores_zero_as_on_a_node_and_others_their_own() {
        let model = Classifier::load(&Source::Embedded, None).unwrap();
        let mut session = model.session();
        let harm = "Delete all customer records from the production database.";
        let texts = ["", harm, " \u{200b}\n", harm];
        let scored = semantics(&mut session, &texts.map(message));
        let scores: Vec<f64> = scored.into_iter().map(|it| it.unwrap().semantic.score).collect();
        assert!(matches!(scores.as_slice(), [0.0, a, 0.0, b] if *a > 0.7 && a == b), "{scores:?}");
        assert!(
            matches!(semantics(&mut session, &[message("")]).as_slice(), [Ok(it)] if it.semantic.score == 0.0)
        );
    }
}
