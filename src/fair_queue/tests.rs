//! Does each get its share, whoever comes and goes, and is what is remembered bounded?
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use proptest::prelude::*;

use super::*;

const OWNERS: usize = 4;
const COST_MAX: u64 = 1_000;

fn tenant(number: u64) -> Owner {
    Owner { tenant: number, sender: number }
}

fn colleague(number: u64) -> Owner {
    Owner { tenant: 1, sender: number }
}

/// Pushes and pops; holds against the promise what each was given while it and another both waited.
fn shares(steps: &[(u64, u64, bool)], owner: fn(u64) -> Owner) -> Result<(), TestCaseError> {
    let mut queue = FairQueue::default();
    // Given to the one since both that and the other have waited.
    let mut since = [[0_u64; OWNERS]; OWNERS];
    for (number, cost, pop) in steps {
        if !pop {
            queue.push(owner(*number), (*number, *cost));
            continue;
        }
        let waits = |queue: &FairQueue<_>| {
            std::array::from_fn::<_, OWNERS, _>(|it| queue.waiting(owner(it as u64)).1 > 0)
        };
        let before = waits(&queue);
        let Some((number, cost)) = queue.pop() else { continue };
        queue.charge(owner(number), cost);
        let (mine, after) = (number as usize, waits(&queue));
        for other in (0..OWNERS).filter(|other| *other != mine && before[*other]) {
            since[mine][other] += cost;
            let apart = since[mine][other].abs_diff(since[other][mine]);
            prop_assert!(apart <= 2 * COST_MAX, "{apart} apart: {since:?}");
        }
        for ended in (0..OWNERS).filter(|it| !after[*it]) {
            since[ended] = [0; OWNERS];
            since.iter_mut().for_each(|given| given[ended] = 0);
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn who_waits_is_given_as_much_as_any_other_who_does_but_for_one_item_of_each(
        steps in prop::collection::vec((0..OWNERS as u64, 1..=COST_MAX, any::<bool>()), 0..400)
    ) {
        shares(&steps, tenant)?;
        shares(&steps, colleague)?;
    }
}

#[test]
fn who_asks_for_little_goes_ahead_of_what_another_has_piled_up() {
    let mut queue = FairQueue::default();
    for item in 0..200 {
        queue.push(tenant(1), item);
    }
    for _ in 0..10 {
        queue.pop().unwrap();
        queue.charge(tenant(1), 100);
    }
    queue.push(tenant(2), 1_000);
    assert_eq!((queue.pop(), queue.pop()), (Some(1_000), Some(10)));
}

#[test]
fn who_was_away_has_saved_nothing_up() {
    let mut queue = FairQueue::default();
    for item in 0..100 {
        queue.push(tenant(1), item);
        assert!(queue.pop().is_some());
        queue.charge(tenant(1), 1_000);
    }
    for _ in 0..10 {
        queue.push(tenant(1), 1);
        queue.push(tenant(2), 2);
    }
    let mut order = Vec::new();
    while let Some(item) = queue.pop() {
        queue.charge(tenant(item), 1_000);
        order.push(item);
    }
    let first = order.iter().take(6).filter(|item| **item == 2).count();
    assert!((3..=4).contains(&first), "{order:?}");
}

#[test]
fn a_place_is_taken_from_who_has_most_and_never_from_who_has_as_much() {
    let mut queue = FairQueue::default();
    for (owner, items) in [(colleague(1), 4), (colleague(2), 2), (tenant(3), 2)] {
        (0..items).for_each(|item| queue.push(owner, (owner.sender, item)));
    }
    assert_eq!(
        queue.push_out(tenant(9)),
        Some((1, 3)),
        "the newest of the largest sender of the largest tenant"
    );
    assert_eq!(queue.push_out(tenant(3)), Some((1, 2)));
    assert_eq!((queue.waiting(colleague(1)), queue.len()), ((4, 2), 6));
    assert_eq!(queue.push_out(colleague(1)), None, "it has as much as its colleague");
    assert!(queue.push_out(colleague(7)).is_some_and(|(_, item)| item == 1), "the newest of one of both");
    assert_eq!(queue.push_out(tenant(3)), None, "3 and 2 are as good as equal");
}

#[test]
fn what_is_taken_out_counts_no_more() {
    let mut queue = FairQueue::default();
    (0..10).for_each(|item| queue.push(tenant(item % 2), item));
    let mut out = queue.take_out(|item| *item != 4);
    out.sort_unstable();
    assert_eq!(out, [0, 1, 2, 3, 5, 6, 7, 8, 9]);
    assert_eq!((queue.len(), queue.waiting(tenant(0)), queue.waiting(tenant(1))), (1, (1, 1), (0, 0)));
    assert_eq!((queue.pop(), queue.pop()), (Some(4), None));
}

#[test]
fn accounts_of_those_that_are_gone_are_bounded() {
    let mut queue = FairQueue::default();
    for number in 0..5 * IDLE_MAX as u64 {
        queue.push(tenant(number), ());
        queue.pop().unwrap();
        // So that each is ahead of all that come after it.
        queue.charge(tenant(number), u64::MAX / 2);
        assert!(queue.tenants.owners.len() <= IDLE_MAX + 2);
    }
    for number in 0..5 * IDLE_MAX as u64 {
        queue.push(colleague(number), ());
        queue.pop().unwrap();
        queue.charge(colleague(number), 1);
        assert!(queue.tenants.owners.values().all(|tenant| tenant.line.owners.len() <= IDLE_MAX + 2));
    }
}
