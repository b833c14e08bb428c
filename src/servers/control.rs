//! How is a running fleet told what to break in it, and what sees to it that it does not stay broken?
//!
//! `agentbus up --chaos` listens on a socket in its data folder, which its owner alone can reach. One line says what is to be
//! broken and for how long. It is mended when the connection ends, however whoever asked has ended; when the time is over;
//! and when the stop file appears. So nothing stays broken that nobody wants to be.

use std::{
    io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{UnixListener, UnixStream},
    time::{sleep, timeout},
};

use super::{
    Stack,
    folder::{SOCKET, STOP_FILE},
    stack::Fault,
};

/// Nothing is broken for longer.
pub const LASTS_MAX: Duration = Duration::from_secs(120);
const LINE_BYTES_MAX: u64 = 16 * 1024;
/// Of why something is refused, which may end with the lines of a log: as JSON it is within a line.
const WHY_MAX: usize = 2_000;
/// For the line of whoever has connected.
const LINE_WAIT: Duration = Duration::from_secs(2);
/// To begin, and to mend: a node that starts may load a model.
const ANSWER_WAIT: Duration = Duration::from_secs(90);
/// How soon the stop file is seen.
const STOP_LOOK: Duration = Duration::from_millis(100);

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Order {
    fault: Fault,
    #[serde(with = "humantime_serde")]
    lasts: Duration,
}

/// What is answered: first whether it is in force, then why it is no longer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Answer {
    InForce,
    Refused(String),
    Mended(End),
}

impl Answer {
    fn refused(why: &str) -> Self {
        Self::Refused(why.chars().take(WHY_MAX).collect())
    }
}

/// Why something was mended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// Whoever asked for it wanted it, or is gone.
    Asked,
    /// Its time was over.
    Time,
    /// The stop file is there.
    Stopped,
}

/// Why a fleet was not broken, or not mended.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    #[error("no fleet with which experiments are allowed runs in {}: start one by `agentbus up --chaos`", folder.display())]
    NotAllowed { folder: PathBuf },
    #[error("the fleet refuses: {0}")]
    Refused(String),
    #[error("the fleet does not answer: {0}")]
    Gone(io::Error),
    #[error("cannot listen in {}: {cause}", folder.display())]
    Listen { folder: PathBuf, cause: io::Error },
}

/// Where the file is that ends every experiment and lets none begin.
pub fn stop_file(folder: &Path) -> PathBuf {
    folder.join(STOP_FILE)
}

/// Whether a fleet listens there.
pub fn is_open(folder: &Path) -> bool {
    folder.join(SOCKET).exists()
}

/// Listens for what to break.
#[derive(Debug)]
pub struct Control {
    listener: UnixListener,
    folder: PathBuf,
}

impl Control {
    pub fn listen(folder: &Path) -> Result<Self, ControlError> {
        let socket = folder.join(SOCKET);
        // Of an earlier run: the folder's lock is ours.
        let _ = std::fs::remove_file(&socket);
        let listener = UnixListener::bind(&socket)
            .map_err(|cause| ControlError::Listen { folder: folder.to_path_buf(), cause })?;
        let own = std::fs::Permissions::from_mode(0o600);
        std::fs::set_permissions(&socket, own)
            .map_err(|cause| ControlError::Listen { folder: folder.to_path_buf(), cause })?;
        Ok(Self { listener, folder: folder.to_path_buf() })
    }

    /// The next who wants something broken. Cancel safe.
    pub async fn next(&self) -> UnixStream {
        loop {
            match self.listener.accept().await {
                Ok((stream, _)) => return stream,
                Err(_) => sleep(STOP_LOOK).await,
            }
        }
    }

    /// Breaks what is asked for, and mends it. What cannot be mended has ended, and is found by [`Stack::death`].
    pub async fn perform(&self, stream: UnixStream, stack: &mut Stack) {
        let (from, mut to) = stream.into_split();
        let mut from = BufReader::new(from.take(LINE_BYTES_MAX));
        let answer = match timeout(LINE_WAIT, read::<Order>(&mut from)).await {
            Ok(Ok(order)) => self.break_it(&order, stack).await.map(|()| order),
            Ok(Err(error)) => Err(format!("not read: {error}")),
            Err(_) => Err(format!("found nothing within {LINE_WAIT:?}, expected a line of JSON")),
        };
        let order = match answer {
            Ok(order) => order,
            Err(why) => {
                let _ = write(&mut to, &Answer::refused(&why)).await;
                return;
            }
        };
        tracing::warn!(fault = %order.fault, lasts = ?order.lasts, "an experiment is made with this fleet");
        let _ = write(&mut to, &Answer::InForce).await;
        let mut rest = Vec::new();
        let end = tokio::select! {
            _ = from.read_to_end(&mut rest) => End::Asked,
            () = sleep(order.lasts) => End::Time,
            () = self.stopped() => End::Stopped,
        };
        let answer = match stack.mend(&order.fault).await {
            Ok(()) => Answer::Mended(end),
            Err(error) => Answer::refused(&format!("{}: not mended: {error}", order.fault)),
        };
        let _ = write(&mut to, &answer).await;
    }

    async fn break_it(&self, Order { fault, lasts }: &Order, stack: &mut Stack) -> Result<(), String> {
        if *lasts > LASTS_MAX {
            return Err(format!("lasts: found {lasts:?}, expected at most {LASTS_MAX:?}"));
        }
        if stop_file(&self.folder).exists() {
            return Err(format!(
                "experiments are stopped; delete {} first",
                stop_file(&self.folder).display()
            ));
        }
        let broken = stack.inflict(fault).await;
        if broken.is_err() {
            // What of it was begun.
            let _ = stack.mend(fault).await;
        }
        broken.map_err(|error| error.to_string())
    }

    async fn stopped(&self) {
        while !stop_file(&self.folder).exists() {
            sleep(STOP_LOOK).await;
        }
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(self.folder.join(SOCKET));
    }
}

/// Something that is broken. Dropping it has it mended, too.
#[derive(Debug)]
pub struct Broken(BufReader<UnixStream>);

impl Broken {
    /// Has the fleet in `folder` broken, and returns when it is.
    pub async fn begin(folder: &Path, fault: &Fault, lasts: Duration) -> Result<Self, ControlError> {
        let connected = UnixStream::connect(folder.join(SOCKET)).await;
        let mut stream = connected.map_err(|_| ControlError::NotAllowed { folder: folder.to_path_buf() })?;
        let order = Order { fault: fault.clone(), lasts };
        write(&mut stream, &order).await.map_err(ControlError::Gone)?;
        let mut stream = BufReader::new(stream);
        match answer(&mut stream).await? {
            Answer::InForce => Ok(Self(stream)),
            Answer::Refused(why) => Err(ControlError::Refused(why)),
            Answer::Mended(_) => Err(ControlError::Refused("it was over at once".to_owned())),
        }
    }

    /// Resolves when it was mended although nobody has asked for it. Cancel safe.
    pub async fn ended(&mut self) {
        // Anything that can be read is the last answer, or the end.
        let _ = self.0.fill_buf().await;
    }

    /// Has it mended, and returns when it is.
    pub async fn mend(mut self) -> Result<End, ControlError> {
        self.0.get_mut().shutdown().await.map_err(ControlError::Gone)?;
        match answer(&mut self.0).await? {
            Answer::Mended(end) => Ok(end),
            Answer::Refused(why) => Err(ControlError::Refused(why)),
            Answer::InForce => Err(ControlError::Refused("it is still in force".to_owned())),
        }
    }
}

async fn answer(stream: &mut BufReader<UnixStream>) -> Result<Answer, ControlError> {
    let late = || io::Error::new(io::ErrorKind::TimedOut, format!("nothing within {ANSWER_WAIT:?}"));
    let read = timeout(ANSWER_WAIT, read(stream)).await.unwrap_or_else(|_| Err(late()));
    read.map_err(ControlError::Gone)
}

async fn read<T: serde::de::DeserializeOwned>(
    stream: &mut BufReader<impl AsyncRead + Unpin>,
) -> io::Result<T> {
    let mut line = String::new();
    (&mut *stream).take(LINE_BYTES_MAX).read_line(&mut line).await?;
    if line.is_empty() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(serde_json::from_str(&line)?)
}

async fn write(stream: &mut (impl tokio::io::AsyncWrite + Unpin), line: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(line)?;
    line.push(b'\n');
    stream.write_all(&line).await
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[tokio::test]
    async fn its_owner_alone_reaches_the_socket() {
        let folder = tempfile::tempdir().unwrap();
        let _control = Control::listen(folder.path()).unwrap();
        let socket = std::fs::metadata(folder.path().join(SOCKET)).unwrap();
        assert_eq!(socket.permissions().mode() & 0o777, 0o600);
    }
}
