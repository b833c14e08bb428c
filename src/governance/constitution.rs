//! Does the message name a constitution that is in force?

use crate::{
    domain::{Constitution, Message, Reason, Timestamp},
    rejection::Rejection,
};

pub(super) fn check(
    message: &Message,
    constitutions: &[Constitution],
    now: Timestamp,
) -> Result<(), Rejection> {
    let mut in_force = constitutions.iter().filter(|constitution| constitution.in_force(now));
    if in_force.clone().any(|constitution| constitution.hash == message.constitution) {
        return Ok(());
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

/// Their hashes, with commas between.
pub fn in_force(constitutions: &[Constitution], now: Timestamp) -> String {
    let in_force = constitutions.iter().filter(|constitution| constitution.in_force(now));
    in_force.map(|constitution| constitution.hash.to_string()).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::{domain::ConstitutionHash, wire};

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
        let accepted = |hash, at| check(&naming(hash), &in_force, Timestamp(at)).is_ok();
        assert_eq!([50, 100, 199, 200].map(|at| accepted(old, at)), [true, true, true, false]);
        assert_eq!([50, 100, 199, 200].map(|at| accepted(new, at)), [false, true, true, true]);
        let both =
            check(&naming("ffffffffffffffff".parse().unwrap()), &in_force, Timestamp(150)).unwrap_err();
        assert!(both.detail.contains("cdd01ef066bc6cf2 or 0123456789abcdef"), "{both}");
        assert!(check(&naming(old), &[], Timestamp(1)).is_err(), "none in force: nothing passes");
    }
}
