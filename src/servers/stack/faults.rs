//! What is broken in a stack on purpose, and how does it come back? Only its own children, their connections and what they
//! are told are touched; where experiments are not allowed, nothing is.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

use super::{FolderError, Node, ServerError, Stack};
use crate::servers::proxy::Passage;

/// The longest latency.
const LATENCY_MAX: Duration = Duration::from_secs(10);

/// Something that is done to a running fleet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Fault {
    /// A process is alive, and does nothing (SIGSTOP).
    Stall { target: String },
    /// A process is gone (SIGKILL), and is started again.
    Kill { target: String },
    /// What goes between a node and a server is late, each way.
    Latency {
        node: String,
        from: Server,
        #[serde(with = "humantime_serde")]
        each_way: Duration,
    },
    /// Nothing passes between a node and a server.
    Partition { node: String, from: Server },
    /// Connections between a node and a server fail as soon as they are made.
    Errors { node: String, from: Server },
    /// A node keeps calls of this kind away though nothing has failed.
    OpenBreaker { node: String, breaker: String },
    /// A node's clock is ahead; less than 0: behind.
    Clock { node: String, ahead_ms: i64 },
    /// A server has no room: no file of NATS grows, Redis' memory is used up.
    Full { target: Server },
}

/// What nodes ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Server {
    Nats,
    Redis,
}

/// Stands for each node.
pub const ALL_NODES: &str = "nodes";

/// Why nothing is broken, or what was broken is not mended.
#[derive(Debug, thiserror::Error)]
pub enum FaultError {
    #[error("experiments are not allowed with this fleet: start it by `agentbus up --chaos`")]
    NotAllowed,
    #[error("found {found:?}, expected one of {expected}")]
    Unknown { found: String, expected: String },
    #[error("each_way is {}, expected at most {}", humantime::format_duration(*found), humantime::format_duration(LATENCY_MAX))]
    TooLate { found: Duration },
    #[error("this fleet has no Redis")]
    NoRedis,
    #[error("the limit of nats-server's files cannot be set: {cause}")]
    Limit { cause: std::io::Error },
    #[error(transparent)]
    Server(#[from] ServerError),
    #[error(transparent)]
    Folder(#[from] FolderError),
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Server {
    fn as_str(self) -> &'static str {
        match self {
            Self::Nats => "nats",
            Self::Redis => "redis",
        }
    }
}

/// In one sentence, for people.
impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stall { target } => write!(f, "{target} stalls"),
            Self::Kill { target } => write!(f, "{target} is killed"),
            Self::Latency { node, from, each_way } => {
                let late = humantime::format_duration(*each_way);
                write!(f, "{late} each way between {node} and {from}")
            }
            Self::Partition { node, from } => write!(f, "nothing passes between {node} and {from}"),
            Self::Errors { node, from } => write!(f, "connections between {node} and {from} fail"),
            Self::OpenBreaker { node, breaker } => write!(f, "the {breaker} breaker of {node} is held open"),
            Self::Clock { node, ahead_ms } => {
                let side = if *ahead_ms < 0 { "behind" } else { "ahead" };
                write!(f, "the clock of {node} is {} ms {side}", ahead_ms.unsigned_abs())
            }
            Self::Full { target } => write!(f, "{target} has no room"),
        }
    }
}

impl Fault {
    /// The process that it is done to, or [`ALL_NODES`]. What depends on that one feels it.
    pub fn reaches(&self) -> &str {
        match self {
            Self::Stall { target } | Self::Kill { target } => target,
            Self::Latency { node, .. }
            | Self::Partition { node, .. }
            | Self::Errors { node, .. }
            | Self::OpenBreaker { node, .. }
            | Self::Clock { node, .. } => node,
            Self::Full { target } => target.as_str(),
        }
    }
}

impl Fault {
    /// What is under way when it is mended, comes as late yet as it is to be.
    fn bounded(&self) -> Result<(), FaultError> {
        match self {
            Self::Latency { each_way, .. } if *each_way > LATENCY_MAX => {
                Err(FaultError::TooLate { found: *each_way })
            }
            _ => Ok(()),
        }
    }
}

impl Stack {
    /// From now on, until [`Stack::mend`].
    pub async fn inflict(&mut self, fault: &Fault) -> Result<(), FaultError> {
        if !self.options.chaos {
            return Err(FaultError::NotAllowed);
        }
        fault.bounded()?;
        match fault {
            Fault::Stall { target } => self.each(target, |child| child.pause()),
            Fault::Kill { target } => {
                self.each(target, |_| {})?;
                for child in self.children_mut().filter(|child| is_meant(target, child.name())) {
                    child.kill().await;
                }
                Ok(())
            }
            Fault::Latency { node, from, each_way } => self.pass(node, *from, Passage::Late(*each_way)),
            Fault::Partition { node, from } => self.pass(node, *from, Passage::Parted),
            Fault::Errors { node, from } => self.pass(node, *from, Passage::Cut),
            Fault::OpenBreaker { node, breaker } => {
                self.tell(node, "open_breakers", breaker.clone().into()).await
            }
            Fault::Clock { node, ahead_ms } => self.tell(node, "clock_ahead_ms", (*ahead_ms).into()).await,
            Fault::Full { target: Server::Nats } => self.limit_files(Some(0)),
            Fault::Full { target: Server::Redis } => {
                Ok(self.redis.as_ref().ok_or(FaultError::NoRedis)?.limit_memory(Some(1)).await?)
            }
        }
    }

    /// Undoes it; what was killed is ready again.
    pub async fn mend(&mut self, fault: &Fault) -> Result<(), FaultError> {
        match fault {
            Fault::Stall { target } => self.each(target, |child| child.resume()),
            Fault::Kill { target } => self.restart(target).await,
            Fault::Latency { node, from, .. }
            | Fault::Partition { node, from }
            | Fault::Errors { node, from } => self.pass(node, *from, Passage::Open),
            Fault::OpenBreaker { node, .. } => self.tell(node, "open_breakers", "".into()).await,
            Fault::Clock { node, .. } => self.tell(node, "clock_ahead_ms", 0.into()).await,
            Fault::Full { target: Server::Nats } => {
                self.limit_files(None)?;
                // JetStream refuses writes until then, although there is room again.
                self.nats.restart().await?;
                Ok(self.note_children()?)
            }
            Fault::Full { target: Server::Redis } => {
                Ok(self.redis.as_ref().ok_or(FaultError::NoRedis)?.limit_memory(None).await?)
            }
        }
    }

    /// Whatever stalls goes on: a process that is stopped cannot be asked to end.
    pub(super) fn resume_all(&mut self) {
        self.children_mut().for_each(|child| child.resume());
    }

    fn each(&mut self, target: &str, done: impl Fn(&mut super::Child)) -> Result<(), FaultError> {
        let mut meant = 0;
        for child in self.children_mut().filter(|child| is_meant(target, child.name())) {
            done(child);
            meant += 1;
        }
        if meant > 0 { Ok(()) } else { Err(self.unknown(target)) }
    }

    async fn restart(&mut self, target: &str) -> Result<(), FaultError> {
        if target == self.nats.child().name() {
            self.nats.restart().await?;
        }
        if let Some(redis) = self.redis.as_mut().filter(|redis| redis.child().name() == target) {
            redis.restart().await?;
        }
        let killed = self.nodes.iter_mut().filter(|node| is_meant(target, node.name()));
        futures_util::future::try_join_all(killed.map(Node::restart)).await?;
        // Whoever ends the children after a crash of this process must know their new ids.
        Ok(self.note_children()?)
    }

    fn pass(&mut self, node: &str, from: Server, passage: Passage) -> Result<(), FaultError> {
        let meant = self.nodes.iter().zip(&self.links).filter(|(it, _)| is_meant(node, it.name()));
        let links: Vec<_> = meant.map(|(_, links)| links).collect();
        if links.is_empty() {
            return Err(self.unknown(node));
        }
        for links in links {
            let proxy = match from {
                Server::Nats => &links.nats,
                Server::Redis => links.redis.as_ref().ok_or(FaultError::NoRedis)?,
            };
            proxy.pass(passage);
        }
        Ok(())
    }

    /// Has a node read another value of `[chaos]`.
    async fn tell(&mut self, node: &str, key: &str, value: toml::Value) -> Result<(), FaultError> {
        let chaos = toml::Table::from_iter([(key.to_owned(), value)]);
        let over = toml::Table::from_iter([("chaos".to_owned(), chaos.into())]);
        let mut meant = false;
        for told in self.nodes.iter_mut().filter(|it| is_meant(node, it.name())) {
            told.reload(&over).await?;
            meant = true;
        }
        if meant { Ok(()) } else { Err(self.unknown(node)) }
    }

    fn limit_files(&mut self, bytes: Option<u64>) -> Result<(), FaultError> {
        let limited = self.nats.child_mut().limit_files(bytes);
        limited.map_err(|cause| FaultError::Limit { cause })
    }

    fn unknown(&mut self, found: &str) -> FaultError {
        let mut names: Vec<_> = self.children_mut().map(|child| child.name().to_owned()).collect();
        names.push(ALL_NODES.to_owned());
        FaultError::Unknown { found: found.to_owned(), expected: names.join(", ") }
    }
}

fn is_meant(target: &str, name: &str) -> bool {
    target == name || (target == ALL_NODES && name.starts_with("node-"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn what_would_be_late_long_after_it_is_mended_is_refused() {
        let late = |each_way| {
            Fault::Latency { node: "nodes".to_owned(), from: Server::Nats, each_way }
                .bounded()
                .map_err(|error| error.to_string())
        };
        assert_eq!(late(LATENCY_MAX), Ok(()));
        let refused = late(Duration::from_secs(3_600)).unwrap_err();
        assert_eq!(refused, "each_way is 1h, expected at most 10s");
    }
}
