//! How much of a tenant's room may one sender take? As much as it leaves to others.
//!
//! A sender may take while it holds less than is left (dynamic thresholds; Choudhury and Hahne, 1998). So one alone
//! gets half, two a third each, and however many fill it, who holds nothing finds room. Of places and of bytes.

/// One part of a room in so many is kept for what matters more.
const KEPT: u8 = 10;

/// Places and bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Room {
    pub places: usize,
    pub bytes: u64,
}

impl Room {
    /// Without what is kept of it for what matters more.
    pub fn ordinary(self) -> Room {
        let Room { places, bytes } = self;
        Room { places: places - places / usize::from(KEPT), bytes: bytes - bytes / u64::from(KEPT) }
    }

    /// What is left of it where so much is taken.
    pub fn left(self, taken: Room) -> Room {
        Room {
            places: self.places.saturating_sub(taken.places),
            bytes: self.bytes.saturating_sub(taken.bytes),
        }
    }

    /// Whether this is so much that its holder leaves the rest to others.
    pub fn is_share(self, left: Room) -> bool {
        self.places >= left.places || self.bytes >= left.bytes
    }

    pub fn add(&mut self, more: Room) {
        self.places = self.places.saturating_add(more.places);
        self.bytes = self.bytes.saturating_add(more.bytes);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::indexing_slicing, reason = "tests")]

    use proptest::prelude::*;

    use super::*;

    /// Senders that take in this order whenever they may; what each holds, and what is left of it to whom has nothing.
    fn given(room: Room, order: &[(usize, u64)]) -> (Vec<Room>, Room) {
        let (mut held, mut taken) = (vec![Room::default(); 10], Room::default());
        for (sender, bytes) in order {
            let (left, more) = (room.left(taken), Room { places: 1, bytes: *bytes });
            if !held[*sender].is_share(left) && left.bytes >= *bytes {
                held[*sender].add(more);
                taken.add(more);
            }
        }
        (held, room.left(taken))
    }

    proptest! {
        #[test]
        fn nobody_holds_more_than_it_has_left_to_others_but_for_the_last_that_it_took(
            order in prop::collection::vec((0..10_usize, 1..1_000_u64), 0..80),
            places in 1..50_usize,
        ) {
            let room = Room { places, bytes: 20_000 };
            // As others fill what is left, it shrinks; so it is held against what was left to each in turn.
            for end in 0..order.len() {
                let (before, _) = given(room, &order[..end]);
                let (after, left) = given(room, &order[..=end]);
                let sender = order[end].0;
                if after[sender] != before[sender] {
                    prop_assert!(after[sender].places <= left.places + 2);
                    prop_assert!(after[sender].bytes <= left.bytes + 2 * 1_000);
                }
            }
        }
    }

    #[test]
    fn one_alone_gets_half_and_nine_that_take_all_they_can_leave_a_place_to_the_tenth() {
        let room = Room { places: 1_000, bytes: u64::MAX }.ordinary();
        let of = |senders: usize| (0..10_000).map(|number| (number % senders, 0)).collect::<Vec<_>>();
        let (held, left) = given(room, &of(1));
        assert_eq!((held[0].places, left.places), (450, 450));
        let (held, left) = given(room, &of(9));
        assert_eq!((held[8].places, left.places), (90, 90));
        assert!(!held[9].is_share(left));
    }

    #[test]
    fn a_tenth_is_kept_and_of_a_small_room_nothing() {
        let room = Room { places: 100, bytes: 1_009 };
        assert_eq!(room.ordinary(), Room { places: 90, bytes: 909 });
        assert_eq!(Room { places: 9, bytes: 9 }.ordinary(), Room { places: 9, bytes: 9 });
        assert!(Room::default().is_share(room.ordinary().left(Room { places: 90, bytes: 0 })));
        assert!(!Room::default().is_share(room.left(Room { places: 90, bytes: 0 })));
    }
}
