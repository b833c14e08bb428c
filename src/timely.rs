//! How do bytes leave in time, or not at all? Later, another node may have acted instead of this one, which was stalled.

use std::{
    future::poll_fn,
    io::{Error, ErrorKind, Result},
    pin::Pin,
    task::{Poll, ready},
    time::Instant,
};

use tokio::io::AsyncWrite;

/// Writes all of it, and looks at the clock before each piece. After an error the connection is of no use: half of
/// something may be on it.
pub(crate) async fn write(
    writer: &mut (impl AsyncWrite + Unpin),
    bytes: &[u8],
    by: Option<Instant>,
) -> Result<()> {
    let mut left = bytes;
    poll_fn(|context| {
        loop {
            if by.is_some_and(|by| Instant::now() > by) {
                return Poll::Ready(Err(Error::new(ErrorKind::TimedOut, "it could not be written in time")));
            }
            if left.is_empty() {
                return Pin::new(&mut *writer).poll_flush(context);
            }
            let written = ready!(Pin::new(&mut *writer).poll_write(context, left))?;
            if written == 0 {
                return Poll::Ready(Err(ErrorKind::WriteZero.into()));
            }
            left = left.get(written..).unwrap_or_default();
        }
    })
    .await
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::time::Duration;

    use tokio::io::AsyncReadExt as _;

    use super::*;

    #[tokio::test]
    async fn what_was_begun_in_time_is_not_gone_on_with_when_it_is_late() {
        let (mut near, mut far) = tokio::io::duplex(4);
        let by = Instant::now() + Duration::from_millis(20);
        let reading = async {
            tokio::time::sleep(Duration::from_millis(50)).await;
            let mut read = [0; 16];
            let first = far.read(&mut read).await.unwrap();
            (first, read[..first].to_vec())
        };
        let (written, read) = tokio::join!(write(&mut near, b"12345678", Some(by)), reading);
        assert_eq!(written.unwrap_err().kind(), ErrorKind::TimedOut);
        assert_eq!(read, (4, b"1234".to_vec()));
        drop(near);
        assert_eq!(far.read(&mut [0; 16]).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn all_of_it_is_written_in_as_many_pieces_as_it_takes() {
        let (mut near, mut far) = tokio::io::duplex(3);
        let by = Some(Instant::now() + Duration::from_secs(60));
        let mut read = [0; 8];
        let (written, all) = tokio::join!(write(&mut near, b"12345678", by), far.read_exact(&mut read));
        assert!(written.is_ok() && all.is_ok());
        assert_eq!(&read, b"12345678");
        write(&mut near, b"9", None).await.unwrap();
    }
}
