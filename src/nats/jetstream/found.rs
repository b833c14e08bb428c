//! Is there a message? That there is none is an answer, and no error.

use async_nats::jetstream::stream::{LastRawMessageErrorKind, RawMessageError};

pub(in crate::nats) fn found<T>(answer: Result<T, RawMessageError>) -> Result<Option<T>, RawMessageError> {
    match answer {
        Ok(message) => Ok(Some(message)),
        Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => Ok(None),
        Err(error) => Err(error),
    }
}
