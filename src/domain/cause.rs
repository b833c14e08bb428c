//! What led to a message? The messages before it, as far as the bus knows them.

use std::{fmt, str::FromStr};

use super::{AgentId, MessageId};

/// What a message follows from, by what the bus has delivered to its sender. Nothing in it is a number that an agent
/// says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cause {
    pub conversation: Conversation,
    /// How many messages led to it, one after the other. 0: it begins a chain.
    pub hops: u32,
    /// The last of these, the oldest first, at most [`Cause::LINKS_MAX`]. The very first is none of them.
    pub chain: Vec<Link>,
}

/// What is counted together: all that followed from one beginning. Who begins it names it, so that nobody can count
/// against another's by its name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Conversation {
    pub begun_by: AgentId,
    /// `conversation_id` of the message that began it, or what that one answered.
    pub name: MessageId,
}

/// One message of a chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    pub sender: AgentId,
    /// That let it pass.
    pub decision: MessageId,
}

impl Cause {
    pub const LINKS_MAX: usize = 16;
    /// Bytes of its text: two numbers, and identifiers of 64.
    pub const TEXT_MAX: usize = 160 + Self::LINKS_MAX * 130;

    /// Of whatever follows from the message that has this cause.
    #[must_use]
    pub fn followed_by(mut self, sender: &AgentId, decision: &MessageId) -> Self {
        self.hops = self.hops.saturating_add(1);
        self.chain.push(Link { sender: sender.clone(), decision: decision.clone() });
        let gone = self.chain.len().saturating_sub(Self::LINKS_MAX);
        self.chain.drain(..gone);
        self
    }

    /// The agents through which a chain has come back to this sender, from it to it. `None`: it was not part of it.
    pub fn ring(&self, sender: &AgentId) -> Option<Vec<&AgentId>> {
        let last = self.chain.iter().rposition(|link| link.sender == *sender)?;
        let ring = self.chain.iter().skip(last).chain(self.chain.get(last)).map(|link| &link.sender);
        Some(ring.collect())
    }
}

impl fmt::Display for Conversation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.begun_by, self.name)
    }
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.sender, self.decision)
    }
}

/// As it is kept: `hops conversation link link …`.
impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.hops, self.conversation)?;
        self.chain.iter().try_for_each(|link| write!(f, " {link}"))
    }
}

/// It is no text of a cause.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected hops, a conversation and links")]
pub struct NotACause;

impl FromStr for Conversation {
    type Err = NotACause;

    fn from_str(text: &str) -> Result<Self, NotACause> {
        let (begun_by, name) = text.split_once('/').ok_or(NotACause)?;
        Ok(Self {
            begun_by: begun_by.parse().map_err(|_| NotACause)?,
            name: name.parse().map_err(|_| NotACause)?,
        })
    }
}

impl FromStr for Link {
    type Err = NotACause;

    fn from_str(text: &str) -> Result<Self, NotACause> {
        let (sender, decision) = text.split_once(':').ok_or(NotACause)?;
        Ok(Self {
            sender: sender.parse().map_err(|_| NotACause)?,
            decision: decision.parse().map_err(|_| NotACause)?,
        })
    }
}

impl FromStr for Cause {
    type Err = NotACause;

    fn from_str(text: &str) -> Result<Self, NotACause> {
        let mut words = text.split(' ');
        let hops = words.next().and_then(|hops| hops.parse().ok()).ok_or(NotACause)?;
        let conversation = words.next().ok_or(NotACause)?.parse()?;
        let chain: Vec<Link> = words.map(str::parse).collect::<Result<_, _>>()?;
        match chain.len() <= Self::LINKS_MAX {
            true => Ok(Self { conversation, hops, chain }),
            false => Err(NotACause),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use proptest::prelude::*;

    use super::*;

    fn begun() -> Cause {
        Cause { conversation: "planner/c1".parse().unwrap(), hops: 0, chain: Vec::new() }
    }

    proptest! {
        /// Of a chain through any agents: hops count all, the last are kept, and it is read back from its text.
        #[test]
        fn a_chain_counts_all_that_led_to_a_message_and_keeps_the_last(
            agents in prop::collection::vec("[a-z0-9_-]{1,64}", 0..40)
        ) {
            let mut cause = begun();
            for (at, agent) in agents.iter().enumerate() {
                let decision = format!("d{at}").parse().unwrap();
                cause = cause.followed_by(&agent.parse().unwrap(), &decision);
            }
            prop_assert_eq!(usize::try_from(cause.hops).unwrap(), agents.len());
            let kept: Vec<_> = cause.chain.iter().map(|link| link.sender.as_str()).collect();
            let last: Vec<_> = agents.iter().skip(agents.len().saturating_sub(Cause::LINKS_MAX)).collect();
            prop_assert_eq!(&kept, &last);
            let text = cause.to_string();
            prop_assert!(text.len() <= Cause::TEXT_MAX);
            prop_assert_eq!(text.parse::<Cause>().unwrap(), cause);
        }

        /// A ring begins and ends with who is asked about, and has it nowhere between.
        #[test]
        fn a_ring_leads_from_an_agent_back_to_it(agents in prop::collection::vec("[a-d]", 1..20)) {
            let link = |cause: Cause, agent: &String| cause.followed_by(&agent.parse().unwrap(), &"d".parse().unwrap());
            let cause = agents.iter().fold(begun(), link);
            let sender: AgentId = "a".parse().unwrap();
            let kept = cause.chain.iter().any(|link| link.sender == sender);
            let ring = cause.ring(&sender);
            prop_assert_eq!(ring.is_some(), kept);
            if let Some(ring) = ring {
                prop_assert!(ring.first() == Some(&&sender) && ring.last() == Some(&&sender));
                let between = &ring[1..ring.len() - 1];
                prop_assert!(!between.contains(&&sender));
            }
        }

        #[test]
        fn no_text_is_more_than_a_cause_or_none(text in "\\PC{0,200}") {
            if let Ok(cause) = text.parse::<Cause>() {
                prop_assert_eq!(cause.to_string().parse::<Cause>().unwrap(), cause);
            }
        }
    }

    #[test]
    fn what_is_no_cause_is_refused() {
        let long = format!("1 planner/c1{}", " a:d".repeat(Cause::LINKS_MAX + 1));
        for bad in [
            "",
            "1",
            "x planner/c1",
            "-1 planner/c1",
            "1 planner",
            "1 planner/c1 a",
            "1 planner/c1  a:d",
            &long,
        ] {
            assert_eq!(bad.parse::<Cause>(), Err(NotACause), "{bad:?}");
        }
    }
}
