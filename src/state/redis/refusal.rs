//! Does Redis refuse this node, and why? For the log and for whoever asks how the node is.

use std::time::{Duration, Instant};

use fred::error::Error;
use parking_lot::Mutex;

/// A refused command is told for so long after it.
const SHOWN_FOR: Duration = Duration::from_secs(60);
/// The same refusal is logged once in so long.
const LOG_EVERY: Duration = Duration::from_secs(60);
/// Bytes of what Redis says that are told. It names a command or a key, never a password.
const DETAIL_MAX: usize = 160;

/// Of what Redis refuses a node for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Code {
    NoAuth,
    WrongPass,
    NoPerm,
}

impl Code {
    fn of(details: &str) -> Option<Self> {
        // Redis tells of a script's command after words of its own.
        match details.split(' ').next()? {
            "NOAUTH" => Some(Self::NoAuth),
            "WRONGPASS" => Some(Self::WrongPass),
            "NOPERM" => Some(Self::NoPerm),
            _ => None,
        }
    }

    fn told(self, detail: &str) -> String {
        match self {
            Self::NoAuth => {
                "redis wants a password and this node has none (NOAUTH): set redis.password_file".to_owned()
            }
            Self::WrongPass => "redis refuses this node's user or password (WRONGPASS): see redis.user and \
                                redis.password_file"
                .to_owned(),
            Self::NoPerm => {
                format!("redis lets this node's user not do what a node does ({detail}): see its ACL")
            }
        }
    }
}

/// The last refusal.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    last: Mutex<Option<(Instant, Code, String)>>,
    logged: Mutex<Option<(Instant, Code)>>,
}

impl Refusals {
    /// Notes an error, if it is a refusal.
    pub(super) fn note(&self, error: &Error) {
        self.note_text(error.details());
    }

    pub(super) fn note_text(&self, details: &str) {
        let Some(code) = Code::of(details) else { return };
        let detail: String = details.chars().filter(|c| !c.is_control()).take(DETAIL_MAX).collect();
        let now = Instant::now();
        let mut logged = self.logged.lock();
        if logged.is_none_or(|(when, known)| known != code || now.duration_since(when) >= LOG_EVERY) {
            *logged = Some((now, code));
            tracing::error!("{}", code.told(&detail));
        }
        drop(logged);
        *self.last.lock() = Some((now, code, detail));
    }

    /// A connection was made: the password is good.
    pub(super) fn let_in(&self) {
        let mut last = self.last.lock();
        if last.as_ref().is_some_and(|(_, code, _)| *code != Code::NoPerm) {
            *last = None;
            *self.logged.lock() = None;
        }
    }

    /// Everything that a node does is allowed.
    pub(super) fn allowed(&self) {
        *self.last.lock() = None;
        *self.logged.lock() = None;
    }

    /// Why Redis refuses this node, if it does.
    pub(super) fn told(&self) -> Option<String> {
        let last = self.last.lock();
        let (when, code, detail) = last.as_ref()?;
        (*code != Code::NoPerm || when.elapsed() < SHOWN_FOR).then(|| code.told(detail))
    }
}
