//! Is there room for one more parked message of this sender? The tenant's places and bytes, as they were counted a
//! moment ago, and what this node has parked since.

use std::{collections::HashMap, time::Duration};

use futures_util::{StreamExt as _, stream};
use parking_lot::Mutex;

use super::{Deliberations, HEADERS_BYTES, READS_AT_ONCE, not_computed};
use crate::{
    cpu::Work,
    deliberation::LogError,
    domain::{AgentId, DeliberationId, Parked, Priority, TenantId},
    nats::subjects,
    shares::Room,
};

/// How long what a tenant's stream holds is taken as it was: one count a second, and what this node has parked
/// since. What other nodes have, it does not know of before.
pub(super) const COUNT_FOR: Duration = Duration::from_secs(1);
/// Of a stream's bytes, those up to which messages are parked. The rest is for votes, escalations, decisions
/// and conclusions of those that are.
const PARKED_PERCENT_MAX: u64 = 80;
/// Parked messages that are read for one count because it is not known whose they are: a node that has just started
/// where tens of thousands are parked knows them after some counts.
const READ_MAX: usize = 1_024;

/// What is known of a parked message for good.
#[derive(Debug, Clone)]
pub(super) struct Known {
    /// Its sequence in the stream.
    pub(super) place: u64,
    pub(super) sender: AgentId,
    pub(super) bytes: u64,
}

/// A tenant's places and bytes.
#[derive(Debug)]
pub(super) struct Counted {
    bytes_max: u64,
    /// Bytes up to which messages are parked.
    parked_max: u64,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    all: Room,
    /// By sender: an agent of the tenant.
    of: HashMap<AgentId, Room>,
}

impl Counted {
    fn new(bytes_max: u64, all: Room, of: HashMap<AgentId, Room>) -> Self {
        Self { bytes_max, parked_max: parked_max(bytes_max), taken: Mutex::new(Taken { all, of }) }
    }

    /// Counts one more of so many bytes, if there is room for it and its sender has not its share.
    fn take(
        &self,
        open_max: usize,
        (sender, priority): (&AgentId, Priority),
        bytes: u64,
    ) -> Result<(), LogError> {
        let mut taken = self.taken.lock();
        let Taken { all, of } = &mut *taken;
        if all.places >= open_max {
            return Err(LogError::TooManyParked { open_max });
        }
        if all.bytes.saturating_add(bytes) > self.parked_max {
            return Err(LogError::Full(format!(
                "the tenant's deliberations take {} of {} bytes, and what is above {} is for votes and \
                 decisions: it needs more deliberations_bytes",
                all.bytes, self.bytes_max, self.parked_max
            )));
        }
        let held = of.get(sender).copied().unwrap_or_default();
        let room = Room { places: open_max, bytes: self.parked_max };
        let left = match priority {
            Priority::Critical => room.left(*all),
            Priority::Low | Priority::Normal | Priority::High => room.ordinary().left(*all),
        };
        if held.is_share(left) {
            return Err(LogError::ShareParked { held: held.places, left: left.places });
        }
        let more = Room { places: 1, bytes };
        all.add(more);
        of.entry(sender.clone()).or_default().add(more);
        Ok(())
    }
}

fn parked_max(bytes_max: u64) -> u64 {
    bytes_max / 100 * PARKED_PERCENT_MAX
}

/// What a parked event takes in the stream, about.
pub(super) fn bytes_in_stream(payload: usize) -> u64 {
    u64::try_from(payload + HEADERS_BYTES).unwrap_or(u64::MAX)
}

impl Deliberations {
    /// Counts one more of so many bytes, if there is room. Those who ask at one time share one count, or its
    /// failure.
    pub(super) async fn room(
        &self,
        Parked { tenant, sender, .. }: &Parked,
        priority: Priority,
        payload: usize,
    ) -> Result<(), LogError> {
        let open_max = self.tenants.tenant(tenant).map_or(0, |tenant| tenant.deliberation.open_max);
        let cell = self.counted.get_with(tenant.clone(), Default::default);
        match cell.get_or_init(|| self.count(tenant, open_max)).await {
            Ok(counted) => counted.take(open_max, (sender, priority), bytes_in_stream(payload)),
            Err(error) => {
                self.counted.invalidate(tenant);
                Err(error.clone())
            }
        }
    }

    /// Whose they are is asked only where they would be more than one sender's share.
    async fn count(&self, tenant: &TenantId, open_max: usize) -> Result<Counted, LogError> {
        let (parked, filled) = self.ids(tenant, "parked").await?;
        let (decided, _) = self.ids(tenant, "decided").await?;
        let open = parked.keys().filter(|id| !decided.contains_key(*id)).count();
        let taken = Room { places: open, bytes: filled.bytes };
        let room = Room { places: open_max, bytes: parked_max(filled.bytes_max) };
        let of = match taken.is_share(room.ordinary().left(taken)) {
            true => self.held(tenant, parked, decided).await?,
            false => HashMap::new(),
        };
        Ok(Counted::new(filled.bytes_max, taken, of))
    }

    /// What each sender holds: places of those that are open, bytes of all.
    async fn held(
        &self,
        tenant: &TenantId,
        parked: HashMap<DeliberationId, u64>,
        decided: HashMap<DeliberationId, u64>,
    ) -> Result<HashMap<AgentId, Room>, LogError> {
        let (known, of) = (self.known.clone(), tenant.clone());
        let add = move || {
            let (mut held, mut unknown) = (HashMap::<AgentId, Room>::new(), Vec::new());
            for id in parked.into_keys() {
                let places = usize::from(!decided.contains_key(&id));
                match known.get(&(of.clone(), id.clone())) {
                    Some(Known { sender, bytes, .. }) => {
                        held.entry(sender).or_default().add(Room { places, bytes });
                    }
                    None => unknown.push((id, places)),
                }
            }
            (held, unknown)
        };
        let (mut held, mut unknown) =
            self.cpu.run(tenant, Work::Deliberation, add).await.map_err(not_computed)?;
        unknown.truncate(READ_MAX);
        let mut reads = stream::iter(unknown)
            .map(|(id, places)| async move { Ok((self.known(tenant, &id).await?, places)) })
            .buffer_unordered(READS_AT_ONCE);
        while let Some(read) = reads.next().await {
            match read {
                Ok((Some(Known { sender, bytes, .. }), places)) => {
                    held.entry(sender).or_default().add(Room { places, bytes });
                }
                // It was removed by its age a moment ago, or whoever shows it says what is wrong with it.
                Ok((None, _)) | Err(LogError::Unreadable(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(held)
    }

    /// What is known of one that is parked; it is read if it must be.
    pub(super) async fn known(
        &self,
        tenant: &TenantId,
        id: &DeliberationId,
    ) -> Result<Option<Known>, LogError> {
        let key = (tenant.clone(), id.clone());
        if let Some(known) = self.known.get(&key) {
            return Ok(Some(known));
        }
        let found = self.next(tenant, subjects::parked(tenant, id), 1).await?;
        Ok(found.and_then(|found| found.known()).inspect(|known| self.known.insert(key, known.clone())))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn a_place_is_taken_until_all_are_or_the_bytes_or_the_senders_share() {
        let sender = |number: usize| format!("s{number}").parse::<AgentId>().unwrap();
        let counted = Counted::new(1_000, Room { places: 97, bytes: 500 }, HashMap::new());
        let park = |number, bytes| counted.take(100, (&sender(number), Priority::Critical), bytes);
        assert!(matches!(park(1, 301), Err(LogError::Full(why)) if why.contains("500 of 1000")));
        assert_eq!(park(1, 10), Ok(()));
        assert_eq!(park(2, 0), Ok(()));
        assert_eq!(park(2, 0), Err(LogError::ShareParked { held: 1, left: 1 }));
        let normal = counted.take(100, (&sender(3), Priority::Normal), 0);
        assert_eq!(
            normal,
            Err(LogError::ShareParked { held: 0, left: 0 }),
            "the rest is for what is critical"
        );
        assert_eq!(park(3, 0), Ok(()));
        assert_eq!(park(4, 0), Err(LogError::TooManyParked { open_max: 100 }));
    }
}
