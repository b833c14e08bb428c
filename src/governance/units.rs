//! Are a message's times in milliseconds, or in what many clocks give instead?

use crate::{
    domain::{Message, Reason, Timestamp},
    rejection::Rejection,
};

/// Other units, and how many of each a millisecond has, as a fraction.
const UNITS: [(&str, u128, u128); 3] =
    [("seconds", 1, 1_000), ("microseconds", 1_000, 1), ("nanoseconds", 1_000_000, 1)];

/// Refuses a time that is a likely one only in another unit: in milliseconds it lies decades away.
pub(super) fn check(message: &Message, now: Timestamp) -> Result<(), Rejection> {
    if let Some(unit) = unit(message.created_at, now) {
        let reason = if message.created_at > now { Reason::ClockSkew } else { Reason::Malformed };
        return Err(refused(reason, "created_at", message.created_at, unit, now));
    }
    let Some(expires_at) = message.expires_at else { return Ok(()) };
    match unit(expires_at, now) {
        Some(unit) => {
            let reason = if expires_at <= now { Reason::Expired } else { Reason::Malformed };
            Err(refused(reason, "expires_at", expires_at, unit, now))
        }
        None => Ok(()),
    }
}

fn refused(reason: Reason, field: &str, found: Timestamp, unit: &str, now: Timestamp) -> Rejection {
    let detail = format!(
        "found {field} {}, which looks like {unit}; expected milliseconds since 1970, and it is {}",
        found.0, now.0
    );
    Rejection::new(reason, detail)
}

/// The unit in which this is a time between half and twice of now's distance from 1970.
fn unit(time: Timestamp, now: Timestamp) -> Option<&'static str> {
    let likely = |(_, times, of): &&(&str, u128, u128)| {
        let now = u128::from(now.0) * times / of;
        (now / 2..=now * 2).contains(&u128::from(time.0)) && now > 0
    };
    UNITS.iter().find(likely).map(|(unit, ..)| *unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_795_000_000_000);

    #[test]
    fn a_time_in_another_unit_is_known_for_what_it_is() {
        for (time, found) in [
            (NOW.0, None),
            (NOW.0 / 1_000, Some("seconds")),
            (NOW.0 / 1_000 + 86_400 * 365 * 10, Some("seconds")),
            (NOW.0 * 1_000, Some("microseconds")),
            (NOW.0 * 1_000_000, Some("nanoseconds")),
            // Tests and replays may be early, and a message may never expire.
            (1, None),
            (0, None),
            (253_402_300_799_000, None),
            (u64::MAX, None),
        ] {
            assert_eq!(unit(Timestamp(time), NOW), found, "{time}");
        }
        assert_eq!(unit(Timestamp(0), Timestamp(0)), None);
    }
}
