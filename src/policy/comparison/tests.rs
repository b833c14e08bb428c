#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;

fn allowed(obligations: Obligations) -> Answer {
    Ok(Decision::Allowed(obligations))
}

fn denied(reasons: &[&str]) -> Answer {
    Ok(Decision::Denied { reasons: reasons.iter().map(|&reason| reason.to_owned()).collect() })
}

fn compared<'a>(number: u64, sender: &'a str, before: &'a Answer, after: &'a Answer) -> Compared<'a> {
    let (tenant, recipient, message_type) = ("acme", "worker", "command");
    Compared { number, decision_id: "d", tenant, sender, recipient, message_type, before, after }
}

#[test]
fn each_change_is_told_with_the_rules_that_make_it() {
    let parked = Obligations { deliberate: true, ..Obligations::default() };
    let more = Obligations { min_approvals: Some(2), ..parked.clone() };
    let free = || allowed(Obligations::default());
    let failed = || Err("data.agentbus.modules.own.allow could not be evaluated: why".to_owned());
    for (before, after, change, rule) in [
        (free(), denied(&["own: no", "own: never"]), Some(Change::Denied), "own"),
        (denied(&["roles: no"]), free(), Some(Change::Allowed), "roles"),
        (free(), allowed(parked.clone()), Some(Change::Obliged), "obligation deliberate"),
        (allowed(parked), allowed(more), Some(Change::Obliged), "obligation min_approvals"),
        (free(), failed(), Some(Change::Fails), "data.agentbus.modules.own.allow"),
        (denied(&["roles: no"]), denied(&["roles: no", "own: no"]), Some(Change::Reasons), "own"),
        (denied(&["own: no"]), denied(&["own: never"]), Some(Change::Reasons), "own"),
        (failed(), free(), Some(Change::Allowed), ""),
        (free(), free(), None, ""),
        (failed(), failed(), None, ""),
        (denied(&["own: no"]), denied(&["own: no"]), None, ""),
    ] {
        assert_eq!(Change::of(&before, &after), change, "{before:?} {after:?}");
        let mut comparison = Comparison::new(1);
        comparison.add(&compared(0, "planner", &before, &after));
        let rules: Vec<&str> = comparison.rows(Group::Rule).into_iter().map(|(rule, _)| rule).collect();
        assert_eq!(rules.join(" "), rule, "{before:?} {after:?}");
        let other = matches!(change, None | Some(Change::Reasons));
        assert_eq!(comparison.all().changed(), u64::from(!other));
        assert_eq!(comparison.examples().count(), usize::from(change.is_some()));
    }
}

#[test]
fn what_several_have_counted_is_as_if_one_had() {
    let (free, no) = (allowed(Obligations::default()), denied(&["own: no"]));
    let all: Vec<_> = (0..30)
        .map(|number| {
            compared(
                number,
                if number % 3 == 0 { "a" } else { "b" },
                &free,
                if number % 2 == 0 { &no } else { &free },
            )
        })
        .collect();
    let counted = |some: &mut dyn Iterator<Item = &Compared<'_>>| {
        let mut comparison = Comparison::new(3);
        some.for_each(|compared| comparison.add(compared));
        comparison
    };
    let one = counted(&mut all.iter());
    let mut two = counted(&mut all.iter().skip(10));
    two.merge(counted(&mut all.iter().take(10)));
    assert_eq!((one.all(), one.all().changed(), one.all().share()), (two.all(), 15, 0.5));
    for &group in Group::ALL {
        assert_eq!(one.rows(group), two.rows(group));
    }
    assert_eq!(
        one.rows(Group::Sender).first().map(|(name, tally)| (*name, tally.changed())),
        Some(("acme/b", 10))
    );
    let numbers = |of: &Comparison| of.examples().map(|example| example.number).collect::<Vec<_>>();
    assert_eq!((numbers(&one), numbers(&two)), (vec![0, 2, 4], vec![0, 2, 4]));
    assert!(Tally::default().share() < 1e-9, "of nothing nothing changes");
}

#[test]
fn names_beyond_the_bound_are_counted_together() {
    let mut names = BTreeMap::new();
    (0..NAMES_MAX + 5).for_each(|n| tally_of(&mut names, &n.to_string()).add(None));
    assert_eq!((names.len(), names.get(OTHERS).map(|tally| tally.decisions)), (NAMES_MAX + 1, Some(5)));
    tally_of(&mut names, "7").add(None);
    assert_eq!(names.get("7").map(|tally| tally.decisions), Some(2));
}

#[test]
fn what_is_told_is_bounded_and_adds_up_to_the_same() {
    let (free, no) = (allowed(Obligations::default()), denied(&["own: no"]));
    let mut comparison = Comparison::new(3);
    for number in 0..2_000 {
        let sender = format!("agent-{number}-{}", "x".repeat(40));
        let after = if number % 10 == 0 { &no } else { &free };
        comparison.add(&compared(number, &sender, &free, after));
    }
    for bytes_max in [200_000, 20_000, 3_000, 10] {
        let summary = Summary::of(&comparison, bytes_max);
        let json = serde_json::to_vec(&summary).unwrap();
        assert!(json.len() <= bytes_max.max(1_000), "{} of {bytes_max}", json.len());
        let mut told = Comparison::new(2);
        told.merge_told(serde_json::from_slice(&json).unwrap());
        assert_eq!(told.all(), comparison.all());
        for &group in Group::ALL {
            let sum = |of: &Comparison| of.rows(group).iter().map(|(_, tally)| tally.decisions).sum::<u64>();
            assert_eq!(sum(&told), sum(&comparison), "{group:?} in {bytes_max}");
        }
        assert!(told.rows(Group::Sender).len() <= 257);
        let numbers: Vec<_> = told.examples().map(|example| example.number).collect();
        assert!(numbers.is_empty() && bytes_max < 3_000 || numbers == [0, 10], "{numbers:?} in {bytes_max}");
    }
}
