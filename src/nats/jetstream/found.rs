//! Is there a message? That there is none is an answer, and no error.

use async_nats::jetstream::{
    message::StreamMessage,
    stream::{LastRawMessageErrorKind, RawMessageError, Stream},
};

pub(in crate::nats) fn found<T>(answer: Result<T, RawMessageError>) -> Result<Option<T>, RawMessageError> {
    match answer {
        Ok(message) => Ok(Some(message)),
        Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// The first message on a subject from `next` on, which is then behind it.
pub(in crate::nats) async fn next_on(
    stream: &Stream<()>,
    subject: &str,
    next: &mut u64,
) -> Result<Option<StreamMessage>, RawMessageError> {
    let message = found(stream.get_first_raw_message_by_subject(subject, *next).await)?;
    if let Some(message) = &message {
        *next = message.sequence + 1;
    }
    Ok(message)
}
