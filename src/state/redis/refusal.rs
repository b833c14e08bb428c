//! What does it mean that Redis answers with an error of its own, and what helps? For the node itself, the
//! log, and whoever asks how the node is.

use std::time::{Duration, Instant};

use fred::error::Error;
use parking_lot::Mutex;

/// A refused command that no probe tries is told for so long after it.
const SHOWN_FOR: Duration = Duration::from_secs(60);
/// The same refusal is logged once in so long.
const LOG_EVERY: Duration = Duration::from_secs(60);
/// Bytes of what Redis says that are told. It names a command or a key, never a password.
const DETAIL_MAX: usize = 160;

/// What Redis says instead of an answer, by the word that it begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Code {
    NoAuth,
    WrongPass,
    NoPerm,
    ReadOnly,
    MasterDown,
    Unblocked,
    NoReplicas,
    Loading,
    Busy,
    ClusterDown,
    TryAgain,
    Moved,
    Oom,
    Misconf,
}

/// What helps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Remedy {
    /// Another connection: this one leads to a server that is not the right one, or not any more.
    Reconnect,
    /// Time: the server will be well by itself.
    Wait,
    /// A person. What is only read is answered meanwhile.
    Mend,
}

impl Code {
    const ALL: [(&str, Code); 15] = [
        ("NOAUTH", Code::NoAuth),
        ("WRONGPASS", Code::WrongPass),
        ("NOPERM", Code::NoPerm),
        ("READONLY", Code::ReadOnly),
        ("MASTERDOWN", Code::MasterDown),
        ("UNBLOCKED", Code::Unblocked),
        ("NOREPLICAS", Code::NoReplicas),
        ("LOADING", Code::Loading),
        ("BUSY", Code::Busy),
        ("CLUSTERDOWN", Code::ClusterDown),
        ("TRYAGAIN", Code::TryAgain),
        ("MOVED", Code::Moved),
        ("ASK", Code::Moved),
        ("OOM", Code::Oom),
        ("MISCONF", Code::Misconf),
    ];

    pub(super) fn of(details: &str) -> Option<Self> {
        let word = details.split(' ').next()?;
        Self::ALL.iter().find(|(name, _)| *name == word).map(|(_, code)| *code)
    }

    pub(super) fn remedy(self) -> Remedy {
        match self {
            // A log-in is made anew with the connection. What has lost its replicas may have been replaced.
            Self::ReadOnly | Self::MasterDown | Self::Unblocked | Self::NoReplicas | Self::NoAuth => {
                Remedy::Reconnect
            }
            Self::Loading | Self::Busy | Self::ClusterDown | Self::TryAgain => Remedy::Wait,
            Self::WrongPass | Self::NoPerm | Self::Moved | Self::Oom | Self::Misconf => Remedy::Mend,
        }
    }

    /// Whether a server that says so still answers what is only read, and truly.
    pub(super) fn reads_go_on(self) -> bool {
        matches!(self, Self::NoPerm | Self::NoReplicas | Self::Oom | Self::Misconf)
    }

    fn explained(self, detail: &str) -> String {
        let explained = match self {
            Self::NoAuth => "redis wants a password and this node has none (NOAUTH): set redis.password_file",
            Self::WrongPass => {
                "redis refuses this node's user or password (WRONGPASS): see redis.user and redis.password_file"
            }
            Self::NoPerm => {
                return format!(
                    "redis lets this node's user not do what a node does ({detail}): see its ACL"
                );
            }
            Self::ReadOnly => {
                "redis is a replica now (READONLY): connecting anew, to find the primary by redis.url"
            }
            Self::MasterDown => {
                "redis is a replica that does not follow its primary (MASTERDOWN): connecting anew"
            }
            Self::Unblocked => "redis has changed its role (UNBLOCKED): connecting anew",
            Self::NoReplicas => {
                "redis has too few replicas to write (NOREPLICAS): start them, or see min-replicas-to-write"
            }
            Self::Loading => "redis reads its data from disk (LOADING): waiting",
            Self::Busy => "redis is held up by a script (BUSY): waiting; SCRIPT KILL ends it",
            Self::ClusterDown => "redis' cluster does not serve all slots (CLUSTERDOWN): waiting",
            Self::TryAgain => "redis' cluster is moving slots (TRYAGAIN): waiting",
            Self::Moved => {
                "redis is a cluster and redis.url names a single server (MOVED): write redis-cluster://"
            }
            Self::Oom => "redis is full (OOM): raise maxmemory, or give it less to keep",
            Self::Misconf => "redis cannot write its data to disk (MISCONF): its log says why",
        };
        explained.to_owned()
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
            tracing::error!("{}", code.explained(&detail));
        }
        drop(logged);
        *self.last.lock() = Some((now, code, detail));
    }

    /// A right was missing of late.
    pub(super) fn lacks_rights(&self) -> bool {
        self.last.lock().as_ref().is_some_and(|(_, code, _)| *code == Code::NoPerm)
    }

    /// Redis has taken what a node wrote: what it refused before, it does not any more. Only a right that is
    /// missing may be another one.
    pub(super) fn written(&self) {
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
    pub(super) fn problem(&self) -> Option<String> {
        let last = self.last.lock();
        let (when, code, detail) = last.as_ref()?;
        (*code != Code::NoPerm || when.elapsed() < SHOWN_FOR).then(|| code.explained(detail))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_of_redis_is_told_by_itself() {
        for (word, code) in Code::ALL {
            let details = format!("{word} something. script: 3f, on @user_script:1.");
            assert_eq!(Code::of(&details), Some(code));
            let refusals = Refusals::default();
            refusals.note_text(&details);
            let told = refusals.problem().unwrap_or_default();
            assert!(told.contains(word) || code == Code::Moved, "{word}: {told}");
        }
        for none in ["", "ERR x", "NOSCRIPT No matching script", "readonly", "READONLYX y"] {
            assert_eq!(Code::of(none), None, "{none}");
        }
    }
}
