//! What does the model say of messages: a node's windows of each, scored together, the highest counts.

use std::{sync::Arc, time::Instant};

use super::{JudgeError, Semantic};
use crate::{
    domain::Message,
    impact::{
        Settings,
        model::{Model, Session, TooLong},
        semantic::windows_of,
        text::passages,
    },
};

/// All windows that a node reads of a message. At least one.
pub(in crate::cli) fn windows(model: &Model, message: &Message) -> Result<Vec<Vec<u32>>, TooLong> {
    windows_of(model, &passages(message), Settings::default().windows_max)
}

/// The windows of one message, and what reading them took.
struct Read {
    windows: Vec<Vec<u32>>,
    tokens: usize,
    elapsed_us: f64,
}

pub(super) fn semantics(
    session: &mut Session,
    messages: &[Arc<Message>],
) -> Vec<Result<Semantic, JudgeError>> {
    let model = Arc::clone(session.model());
    let read: Vec<Result<Read, JudgeError>> = messages.iter().map(|message| read(&model, message)).collect();
    let windows: Vec<&[u32]> =
        read.iter().flatten().flat_map(|read| &read.windows).map(Vec::as_slice).collect();
    let tokens: usize = windows.iter().map(|window| window.len()).sum();
    let started = Instant::now();
    let scored = session.scores(&windows);
    let per_token = started.elapsed().as_secs_f64() * 1e6 / tokens.max(1) as f64;
    let mut scores = match scored {
        Ok(scores) => scores.into_iter(),
        Err(error) => {
            let error = JudgeError::Model(Arc::new(error));
            return read.into_iter().map(|read| read.and(Err(error.clone()))).collect();
        }
    };
    read.into_iter()
        .map(|read| {
            let Read { windows, tokens, elapsed_us } = read?;
            let highest = scores.by_ref().take(windows.len()).reduce(f64::max).ok_or(JudgeError::Missing)?;
            let elapsed_us = (elapsed_us + per_token * tokens as f64).round() as u64;
            Ok(Semantic { score: highest, tokens, elapsed_us })
        })
        .collect()
}

fn read(model: &Model, message: &Message) -> Result<Read, JudgeError> {
    let started = Instant::now();
    let windows = windows(model, message).map_err(JudgeError::TooLong)?;
    let tokens = windows.iter().map(Vec::len).sum();
    Ok(Read { windows, tokens, elapsed_us: started.elapsed().as_secs_f64() * 1e6 })
}
