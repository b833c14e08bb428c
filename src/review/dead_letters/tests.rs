//! What an operator is promised, without a server.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use super::*;

/// Dead letters in this process.
#[derive(Default)]
struct Memory {
    letters: Mutex<Vec<Letter>>,
    lane: Mutex<Vec<Redriven>>,
    records: Mutex<Vec<audit::Entry>>,
    /// Records are not taken.
    unrecorded: AtomicBool,
    /// What the durable lane says to the next message.
    refuses: Mutex<Option<DeadLetterError>>,
}

#[async_trait]
impl DeadLetterStore for Memory {
    async fn tenants(&self) -> Result<Vec<TenantId>, DeadLetterError> {
        let mut all: Vec<_> =
            self.letters.lock().iter().map(|letter| letter.address.tenant().clone()).collect();
        all.sort();
        all.dedup();
        Ok(all)
    }

    async fn count(&self, tenant: &TenantId) -> Result<u64, DeadLetterError> {
        Ok(self.letters.lock().iter().filter(|letter| letter.address.tenant() == tenant).count() as u64)
    }

    async fn next(&self, tenant: &TenantId, from: u64) -> Result<Option<Letter>, DeadLetterError> {
        let letters = self.letters.lock();
        let of_tenant =
            letters.iter().filter(|letter| letter.address.tenant() == tenant && letter.place >= from);
        Ok(of_tenant.min_by_key(|letter| letter.place).cloned())
    }

    async fn find(&self, address: &Address) -> Result<Option<Letter>, DeadLetterError> {
        Ok(self.letters.lock().iter().rev().find(|letter| letter.address == *address).cloned())
    }

    async fn record(&self, entry: audit::Entry) -> Result<(), DeadLetterError> {
        if self.unrecorded.load(Ordering::Relaxed) {
            return Err(DeadLetterError::Unrecorded("no stream takes it".to_owned()));
        }
        self.records.lock().push(entry);
        Ok(())
    }

    async fn resubmit(&self, message: Redriven) -> Result<(), DeadLetterError> {
        match self.refuses.lock().take() {
            Some(error) => Err(error),
            None => {
                self.lane.lock().push(message);
                Ok(())
            }
        }
    }

    async fn delete(&self, tenant: &TenantId, place: u64) -> Result<(), DeadLetterError> {
        self.letters.lock().retain(|letter| letter.address.tenant() != tenant || letter.place != place);
        Ok(())
    }
}

fn letter(address: &str, place: u64, died_at: u64) -> Letter {
    let address: Address = address.parse().unwrap();
    let id = address.message().to_owned();
    let message = serde_json::json!({
        "message_id": id, "to": { "agent": "worker" }, "message_type": "command", "content": { "text": "go" },
        "constitutional_hash": "cdd01ef066bc6cf2", "created_at": 1_790_000_000_000_u64,
    });
    Letter {
        address,
        reason: "no_capable_agent".to_owned(),
        detail: "nobody can".to_owned(),
        attempts: 5,
        redriven: 1,
        died_at,
        traceparent: None,
        payload: message.to_string().into(),
        place,
    }
}

fn kept(letters: &[(&str, u64, u64)]) -> (Arc<Memory>, DeadLetters) {
    let memory = Arc::new(Memory::default());
    memory.letters.lock().extend(letters.iter().map(|(address, place, died)| letter(address, *place, *died)));
    let operator = Operator { user: "operator", login: Some("ada".to_owned()) };
    (Arc::clone(&memory), DeadLetters::new(memory, operator, || Timestamp(7)))
}

fn shown(letters: &[Letter]) -> Vec<String> {
    letters.iter().map(|letter| letter.address.to_string()).collect()
}

#[tokio::test]
async fn the_oldest_come_first_whosever_they_are() {
    let (_, letters) = kept(&[
        ("acme/planner/a1", 1, 10),
        ("acme/planner/a2", 2, 40),
        ("globex/scout/g1", 1, 20),
        ("globex/scout/g2", 7, 30),
    ]);
    let tenants = letters.tenants(None).await.unwrap();
    assert_eq!(letters.count(&tenants).await.unwrap(), 4);
    let oldest = letters.oldest(&tenants, 3).await.unwrap();
    assert_eq!(shown(&oldest), ["acme/planner/a1", "globex/scout/g1", "globex/scout/g2"]);
    let one = letters.tenants(Some(&"acme".parse().unwrap())).await.unwrap();
    assert_eq!(shown(&letters.oldest(&one, 10).await.unwrap()), ["acme/planner/a1", "acme/planner/a2"]);
}

#[tokio::test]
async fn what_is_redriven_is_on_the_lane_with_its_content_and_no_dead_letter_any_more() {
    let (memory, letters) = kept(&[("acme/planner/m1", 3, 10)]);
    let address: Address = "acme/planner/m1".parse().unwrap();
    let letter = letters.read(&address).await.unwrap();
    letters.redrive(&letter).await.unwrap();
    let lane = memory.lane.lock().clone();
    let [redriven] = lane.as_slice() else { panic!("{lane:?}") };
    assert_eq!((redriven.key.message.as_str(), redriven.times), ("m1", 2));
    assert_eq!(redriven.payload, letter.payload);
    assert_eq!(letters.read(&address).await.unwrap_err(), DeadLetterError::Unknown(address));
}

#[tokio::test]
async fn what_the_lane_does_not_take_or_no_node_could_read_stays_a_dead_letter() {
    let (memory, letters) = kept(&[("acme/planner/m1", 1, 10), ("acme/~/~", 2, 20)]);
    let no_room = DeadLetterError::NotTaken("no room".to_owned());
    *memory.refuses.lock() = Some(no_room.clone());
    let readable = letters.read(&"acme/planner/m1".parse().unwrap()).await.unwrap();
    assert_eq!(letters.redrive(&readable).await, Err(no_room));
    let nobodys = letters.read(&"acme/~/~".parse().unwrap()).await.unwrap();
    assert_eq!(letters.redrive(&nobodys).await, Err(DeadLetterError::Unreadable));
    assert!(nobodys.message().is_none() && nobodys.beginning().starts_with('{'));
    // Another's letter under this name is not theirs.
    let mut stolen = letter("acme/planner/m2", 3, 30);
    stolen.payload = readable.payload.clone();
    assert_eq!(letters.redrive(&stolen).await, Err(DeadLetterError::Unreadable));
    assert_eq!(letters.count(&["acme".parse().unwrap()]).await.unwrap(), 2);
    assert!(memory.lane.lock().is_empty());
}

#[tokio::test]
async fn all_of_one_tenant_are_deleted_and_none_of_another() {
    let (_, letters) = kept(&[("acme/planner/m1", 1, 10), ("globex/scout/m1", 1, 10), ("acme/~/~", 2, 20)]);
    assert_eq!(letters.discard_all(&"acme".parse().unwrap()).await.unwrap(), 2);
    assert_eq!(letters.tenants(None).await.unwrap(), ["globex".parse().unwrap()]);
}

#[tokio::test]
async fn each_act_has_a_record_of_who_did_it_and_nothing_is_done_without_one() {
    let (memory, letters) =
        kept(&[("acme/planner/m1", 1, 10), ("acme/planner/m2", 2, 20), ("acme/~/~", 3, 30)]);
    memory.unrecorded.store(true, Ordering::Relaxed);
    let [first, second, nobodys] = &*letters.oldest(&["acme".parse().unwrap()], 3).await.unwrap() else {
        panic!("three")
    };
    assert!(matches!(letters.redrive(first).await, Err(DeadLetterError::Unrecorded(_))));
    assert!(matches!(letters.discard(second).await, Err(DeadLetterError::Unrecorded(_))));
    assert!(letters.discard_all(&"acme".parse().unwrap()).await.is_err());
    assert_eq!((memory.letters.lock().len(), memory.lane.lock().len()), (3, 0));

    memory.unrecorded.store(false, Ordering::Relaxed);
    letters.redrive(first).await.unwrap();
    letters.discard(second).await.unwrap();
    letters.discard(nobodys).await.unwrap();
    let records = memory.records.lock();
    let told: Vec<_> = records
        .iter()
        .map(|entry| match audit::decode(entry.payload()).unwrap().body {
            Body::DeadLetter(it) => {
                assert_eq!(
                    (&*it.by, it.login.as_deref(), &*it.reason),
                    ("operator", Some("ada"), "no_capable_agent")
                );
                (entry.subject(), it.act, it.digest.is_some())
            }
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(
        told,
        [
            ("record.acme.planner.m1.dead_letter", Act::Resubmit, true),
            ("record.acme.planner.m2.dead_letter", Act::Discard, true),
            ("record.acme.~.~.dead_letter", Act::Discard, false),
        ]
    );
}
