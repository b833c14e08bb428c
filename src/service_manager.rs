//! What does a process tell the service manager that started it? systemd's protocol `sd_notify`: lines in datagrams, to
//! the socket that `NOTIFY_SOCKET` names.
//!
//! Nothing waits for a manager that does not read: what it has no room for is an error, and can be told again.

use std::{
    env,
    ffi::{OsStr, OsString},
    io,
    os::unix::{
        ffi::OsStrExt as _,
        net::{SocketAddr, UnixDatagram},
    },
    time::Duration,
};

/// Characters of a status; one line on a terminal has less.
const STATUS_CHARS_MAX: usize = 200;

/// Who started this process, and wants to hear of it.
#[derive(Debug)]
pub struct ServiceManager {
    socket: UnixDatagram,
    manager: SocketAddr,
    watchdog: Option<Duration>,
}

/// What can be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notice<'a> {
    Ready,
    Stopping,
    /// It still starts, and is given up if nothing is heard within this.
    Starting(Duration),
    /// It works.
    Beat,
    /// For people.
    Status(&'a str),
}

/// What the manager wants is not understood.
#[derive(Debug, thiserror::Error)]
pub enum ServiceManagerError {
    #[error("{variable}: found {found:?}, expected {expected}")]
    Variable { variable: &'static str, found: OsString, expected: &'static str },
    #[error("a datagram socket: {0}")]
    Socket(#[from] io::Error),
}

impl ServiceManager {
    /// `None`: nobody wants to hear.
    pub fn of_environment() -> Result<Option<Self>, ServiceManagerError> {
        Self::found(|variable| env::var_os(variable))
    }

    fn found(variable: impl Fn(&str) -> Option<OsString>) -> Result<Option<Self>, ServiceManagerError> {
        let variable = |name| variable(name).filter(|value| !value.is_empty());
        let Some(named) = variable("NOTIFY_SOCKET") else { return Ok(None) };
        let manager = address(&named)?;
        let for_us = variable("WATCHDOG_PID").is_none_or(|pid| pid == *std::process::id().to_string());
        let watchdog = variable("WATCHDOG_USEC").filter(|_| for_us).map(|limit| microseconds(&limit));
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        Ok(Some(Self { socket, manager, watchdog: watchdog.transpose()? }))
    }

    /// One that listens at a path.
    #[cfg(test)]
    pub(crate) fn at(
        path: &std::path::Path,
        watchdog: Duration,
    ) -> Result<Option<Self>, ServiceManagerError> {
        Self::found(|name| match name {
            "NOTIFY_SOCKET" => Some(path.into()),
            "WATCHDOG_USEC" => Some(watchdog.as_micros().to_string().into()),
            _ => None,
        })
    }

    /// Within which time it wants a beat; `None`: it does not.
    pub fn watchdog(&self) -> Option<Duration> {
        self.watchdog
    }

    /// All of it, in one datagram, or an error.
    pub fn tell(&self, notices: &[Notice<'_>]) -> io::Result<()> {
        if notices.is_empty() {
            return Ok(());
        }
        let lines: Vec<String> = notices.iter().map(|notice| notice.line()).collect();
        self.socket.send_to_addr(lines.join("\n").as_bytes(), &self.manager).map(drop)
    }
}

impl Notice<'_> {
    fn line(&self) -> String {
        match self {
            Notice::Ready => "READY=1".to_owned(),
            Notice::Stopping => "STOPPING=1".to_owned(),
            Notice::Starting(within) => format!("EXTEND_TIMEOUT_USEC={}", within.as_micros()),
            Notice::Beat => "WATCHDOG=1".to_owned(),
            Notice::Status(text) => {
                // A line break would begin another notice.
                let shown = text.chars().map(|c| if c.is_control() { ' ' } else { c });
                format!("STATUS={}", shown.take(STATUS_CHARS_MAX).collect::<String>())
            }
        }
    }
}

/// A path, or a name without a file after `@`.
fn address(named: &OsStr) -> Result<SocketAddr, ServiceManagerError> {
    match named.as_bytes() {
        [b'/', ..] => Ok(SocketAddr::from_pathname(named)?),
        #[cfg(target_os = "linux")]
        [b'@', name @ ..] => {
            use std::os::linux::net::SocketAddrExt as _;
            Ok(SocketAddr::from_abstract_name(name)?)
        }
        _ => Err(ServiceManagerError::Variable {
            variable: "NOTIFY_SOCKET",
            found: named.to_owned(),
            expected: "a socket's path, or @ and its name",
        }),
    }
}

fn microseconds(found: &OsStr) -> Result<Duration, ServiceManagerError> {
    let limit = found.to_str().and_then(|text| text.parse().ok()).filter(|limit| *limit > 0);
    limit.map(Duration::from_micros).ok_or_else(|| ServiceManagerError::Variable {
        variable: "WATCHDOG_USEC",
        found: found.to_owned(),
        expected: "microseconds, 1 or more",
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn by(variables: &[(&str, &str)]) -> Result<Option<ServiceManager>, ServiceManagerError> {
        ServiceManager::found(|name| {
            let found = variables.iter().find(|(variable, _)| *variable == name);
            found.map(|(_, value)| (*value).into())
        })
    }

    fn heard(socket: &UnixDatagram) -> String {
        let mut bytes = [0; 1024];
        let count = socket.recv(&mut bytes).unwrap();
        String::from_utf8_lossy(bytes.get(..count).unwrap()).into_owned()
    }

    #[test]
    fn a_manager_is_told_by_a_path_and_by_a_name_without_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify").to_str().unwrap().to_owned();
        let name = format!("@agentbus-test-{}", std::process::id());
        for named in [path, name] {
            let socket = UnixDatagram::bind_addr(&address(named.as_ref()).unwrap()).unwrap();
            let manager = by(&[("NOTIFY_SOCKET", &named)]).unwrap().unwrap();
            assert_eq!(manager.watchdog(), None);
            manager.tell(&[Notice::Ready, Notice::Beat]).unwrap();
            assert_eq!(heard(&socket), "READY=1\nWATCHDOG=1");
            manager.tell(&[Notice::Starting(Duration::from_secs(2)), Notice::Stopping]).unwrap();
            assert_eq!(heard(&socket), "EXTEND_TIMEOUT_USEC=2000000\nSTOPPING=1");
        }
    }

    #[test]
    fn no_text_of_a_status_begins_another_notice() {
        assert_eq!(Notice::Status("degraded\nREADY=1\r\0").line(), "STATUS=degraded READY=1  ");
        let long = "ü".repeat(10_000);
        assert_eq!(Notice::Status(&long).line().chars().count(), "STATUS=".len() + STATUS_CHARS_MAX);
    }

    #[test]
    fn a_manager_that_does_not_read_holds_nobody_up() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let _unread = UnixDatagram::bind(&path).unwrap();
        let manager = by(&[("NOTIFY_SOCKET", path.to_str().unwrap())]).unwrap().unwrap();
        let refused = (0..100_000).find_map(|_| manager.tell(&[Notice::Beat]).err());
        assert_eq!(refused.unwrap().kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn what_the_environment_asks_for_is_understood_or_named() {
        assert!(by(&[]).unwrap().is_none());
        assert!(by(&[("NOTIFY_SOCKET", ""), ("WATCHDOG_USEC", "x")]).unwrap().is_none());
        let watchdog = |limit, pid| {
            by(&[("NOTIFY_SOCKET", "/run/n"), ("WATCHDOG_USEC", limit), ("WATCHDOG_PID", pid)])
                .map(|manager| manager.unwrap().watchdog())
        };
        let own = std::process::id().to_string();
        assert_eq!(watchdog("2000000", "").unwrap(), Some(Duration::from_secs(2)));
        assert_eq!(watchdog("2000000", &own).unwrap(), Some(Duration::from_secs(2)));
        assert_eq!(watchdog("2000000", "1").unwrap(), None, "the watchdog is for another process");
        for (found, told) in [
            (watchdog("0", "").err(), "WATCHDOG_USEC: found \"0\", expected microseconds, 1 or more"),
            (watchdog("2s", "").err(), "WATCHDOG_USEC: found \"2s\", expected microseconds, 1 or more"),
            (
                by(&[("NOTIFY_SOCKET", "vsock:2:1")]).err(),
                "NOTIFY_SOCKET: found \"vsock:2:1\", expected a socket's path, or @ and its name",
            ),
        ] {
            assert_eq!(found.unwrap().to_string(), told);
        }
    }
}
