//! Does a message follow too far from what it follows from?

use super::route::{Route, Routed};
use crate::{
    domain::{AgentId, AtLimit, Cause, ChainLimits, Reason, Why},
    phrase::counted,
    rejection::Rejection,
};

/// What is known of that, beside what the message says itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    pub cause: Cause,
    /// Messages that its sender has sent because of the same delivery.
    pub followers: u32,
    /// Messages of its conversation.
    pub messages: u32,
}

impl Routed<'_> {
    /// Within the bounds of its tenant; else it is refused, or people are asked. What they have approved goes on, what is
    /// queued is judged anew, and of what they see anyway they are not asked twice.
    pub fn within(self, chain: &Chain) -> Result<Self, Rejection> {
        let limits = &self.decoded.tenant().limits.chain;
        let is_seen = matches!(self.route, Route::Parked(_)) && limits.at_limit == AtLimit::Deliberate;
        if self.purpose.approval.is_some() || is_seen || matches!(self.route, Route::Queued) {
            return Ok(self);
        }
        let Some((reason, why)) = chain.exceeds(limits, &self.decoded.message().sender) else {
            return Ok(self);
        };
        match limits.at_limit {
            AtLimit::Refuse => Err(Rejection::new(reason, why)),
            AtLimit::Deliberate => {
                let conversation = chain.cause.conversation.to_string();
                Ok(Self { route: Route::Parked(Why::Chain { why, conversation }), ..self })
            }
        }
    }
}

impl Chain {
    /// Which limit, and by what.
    fn exceeds(&self, limits: &ChainLimits, sender: &AgentId) -> Option<(Reason, String)> {
        let Self { cause: Cause { conversation, hops, .. }, followers, messages } = self;
        if *hops > limits.hops {
            let why = format!(
                "found a message that {} led to, expected at most {}: {}",
                counted(*hops, "message"),
                limits.hops,
                self.shown(sender)
            );
            return Some((Reason::LoopDetected, why));
        }
        let (found, most, what) = if *followers >= limits.fan_out {
            (followers, limits.fan_out, "the delivery that this message answers".to_owned())
        } else if *messages >= limits.conversation_messages {
            (messages, limits.conversation_messages, format!("conversation {conversation}"))
        } else {
            return None;
        };
        let found = counted(*found, "message");
        Some((Reason::BudgetExceeded, format!("found {found} of {what}, expected at most {most}")))
    }

    /// The ring, if it is one; else those whom the chain went through last.
    fn shown(&self, sender: &AgentId) -> String {
        let names =
            |agents: &[&AgentId]| agents.iter().map(|agent| agent.as_str()).collect::<Vec<_>>().join(" -> ");
        match self.cause.ring(sender) {
            Some(ring) => format!("the ring {}", names(&ring)),
            None => {
                let last = self.cause.chain.iter().map(|link| &link.sender).chain([sender]);
                format!("the chain {}", names(&last.collect::<Vec<_>>()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use proptest::prelude::*;

    use super::*;

    fn limits() -> ChainLimits {
        ChainLimits { hops: 8, fan_out: 4, conversation_messages: 100, ..ChainLimits::default() }
    }

    fn chain(agents: &[&str], followers: u32, messages: u32) -> Chain {
        let begun = Cause { conversation: "planner/c1".parse().unwrap(), hops: 0, chain: Vec::new() };
        let link =
            |cause: Cause, agent: &&str| cause.followed_by(&agent.parse().unwrap(), &"d".parse().unwrap());
        Chain { cause: agents.iter().fold(begun, link), followers, messages }
    }

    fn why(agents: &[&str], sender: &str) -> String {
        let (reason, why) = chain(agents, 0, 0).exceeds(&limits(), &sender.parse().unwrap()).unwrap();
        assert_eq!(reason, Reason::LoopDetected);
        why
    }

    #[test]
    fn a_loop_is_shown_as_its_ring_and_a_long_chain_as_what_it_is() {
        let expected = "found a message that 10 messages led to, expected at most 8: the ring worker -> planner -> worker";
        assert_eq!(why(&["worker", "planner"].repeat(5), "worker"), expected);
        let five = why(&["planner", "a", "b", "c", "d"].repeat(2), "planner");
        assert!(five.ends_with("the ring planner -> a -> b -> c -> d -> planner"), "{five}");
        let long = why(&["a", "b", "c", "d", "e", "f", "g", "h", "i"], "planner");
        assert!(long.ends_with("the chain a -> b -> c -> d -> e -> f -> g -> h -> i -> planner"), "{long}");
    }

    #[test]
    fn a_budget_says_of_what_it_is() {
        let sender = "planner".parse().unwrap();
        let of = |followers, messages| chain(&["worker"], followers, messages).exceeds(&limits(), &sender);
        let (reason, why) = of(4, 0).unwrap();
        assert_eq!(reason, Reason::BudgetExceeded);
        assert_eq!(why, "found 4 messages of the delivery that this message answers, expected at most 4");
        assert_eq!(
            of(3, 100).unwrap().1,
            "found 100 messages of conversation planner/c1, expected at most 100"
        );
    }

    proptest! {
        /// Nothing within all limits is stopped, and everything beyond one is.
        #[test]
        fn what_is_within_all_limits_goes_and_nothing_else(
            hops in 0..20_usize, followers in 0..10_u32, messages in 0..200_u32
        ) {
            let chain = chain(&vec!["a"; hops], followers, messages);
            let within = hops <= 8 && followers < 4 && messages < 100;
            prop_assert_eq!(chain.exceeds(&limits(), &"b".parse().unwrap()).is_none(), within);
        }
    }
}
