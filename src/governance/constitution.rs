//! Does the message name a constitution that is in force?

use std::time::Duration;

use super::rules::Rules;
use crate::{
    domain::{Message, Reason},
    rejection::Rejection,
};

/// For another node's state to come here as well.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

pub(super) fn check(message: &Message, rules: &Rules<'_>) -> Result<(), Rejection> {
    let Rules { constitutions, elsewhere, now, .. } = *rules;
    let mut in_force = constitutions.iter().filter(|constitution| constitution.in_force(now));
    if in_force.clone().any(|constitution| constitution.hash == message.constitution) {
        return Ok(());
    }
    if elsewhere.contains(&message.constitution) {
        let detail = format!(
            "found constitutional_hash {}, which another node knows and this one does not, or not any more",
            message.constitution
        );
        return Err(Rejection::new(Reason::ConstitutionPending, detail).after(AGAIN_AFTER));
    }
    let expected = match in_force.next() {
        None => "and none is in force".to_owned(),
        Some(first) => {
            in_force.fold(format!("expected {}", first.hash), |text, c| text + " or " + &c.hash.to_string())
        }
    };
    Err(Rejection::new(
        Reason::ConstitutionalHashMismatch,
        format!("found constitutional_hash {}, {expected}", message.constitution),
    ))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::collections::BTreeSet;

    use super::*;
    use crate::{
        domain::{Constitution, ConstitutionHash, Timestamp},
        wire,
    };

    fn judged(hash: ConstitutionHash, constitutions: &[Constitution], at: u64) -> Result<(), Rejection> {
        let elsewhere = &BTreeSet::from(["eeeeeeeeeeeeeeee".parse().unwrap()]);
        let (clock_skew, now) = (Duration::ZERO, Timestamp(at));
        check(&naming(hash), &Rules { constitutions, elsewhere, clock_skew, clock_is_off: false, now })
    }

    fn naming(hash: ConstitutionHash) -> Message {
        let body = serde_json::json!({
            "message_id": "m1", "message_type": "event", "to": { "agent": "worker" },
            "constitutional_hash": hash.to_string(), "content": { "text": "hi" }, "created_at": 1,
        });
        let (tenant, sender) = ("acme".parse().unwrap(), "planner".parse().unwrap());
        let stamp = wire::Stamp { tenant: &tenant, sender: &sender };
        let decoded = wire::decode(body.to_string().as_bytes(), stamp, &wire::Limits::default()).unwrap();
        decoded.message.as_ref().clone()
    }

    #[test]
    fn an_amendment_rolls_out_without_a_gap() {
        let (old, new) = ("cdd01ef066bc6cf2".parse().unwrap(), "0123456789abcdef".parse().unwrap());
        let in_force = [
            Constitution { hash: old, from: None, until: Some(Timestamp(200)) },
            Constitution { hash: new, from: Some(Timestamp(100)), until: None },
        ];
        let accepted = |hash, at| judged(hash, &in_force, at).is_ok();
        assert_eq!([50, 100, 199, 200].map(|at| accepted(old, at)), [true, true, true, false]);
        assert_eq!([50, 100, 199, 200].map(|at| accepted(new, at)), [false, true, true, true]);
        let both = judged("ffffffffffffffff".parse().unwrap(), &in_force, 150).unwrap_err();
        assert!(both.detail.contains("cdd01ef066bc6cf2 or 0123456789abcdef"), "{both}");
        assert!(judged(old, &[], 1).is_err(), "none in force: nothing passes");
        let elsewhere = judged("eeeeeeeeeeeeeeee".parse().unwrap(), &in_force, 150).unwrap_err();
        assert_eq!((both.reason.retryable(), elsewhere.reason), (false, Reason::ConstitutionPending));
    }
}
