//! Which records stand together in one message?
//!
//! Those of the decisions of one turn that leave a node in one write, for each tenant by itself: what one tenant's
//! auditors read, and what is deleted of it, is that tenant's alone.

use bytes::Bytes;

use super::{
    encode::{encode_batch, encode_part},
    place::{Entry, batch_subject},
    record::{Body, Record},
};
use crate::domain::{DecisionId, TenantId, Timestamp};

/// Messages under the name of one batch that are read: mostly it is one, and a turn has fewer decisions.
pub const BATCH_MESSAGES_MAX: usize = 1_024;

/// A record in the bytes that are stored: by itself, or among others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Written {
    Alone(Entry),
    Part(Part),
}

/// A record of a decision that stands in a batch, in MessagePack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    tenant: TenantId,
    node: String,
    at: Timestamp,
    decision: DecisionId,
    bytes: Bytes,
}

impl Record<'_> {
    /// As a part of the batch that the decision's id names.
    pub fn part(&self, decision: &DecisionId) -> Part {
        Part {
            tenant: self.tenant.clone().into_owned(),
            node: self.node.clone().into_owned(),
            at: self.at,
            decision: decision.clone(),
            bytes: encode_part(self).into(),
        }
    }
}

impl Written {
    /// Bytes of the record.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Alone(entry) => entry.payload().len(),
            Self::Part(part) => part.size(),
        }
    }
}

impl From<Entry> for Written {
    fn from(entry: Entry) -> Self {
        Self::Alone(entry)
    }
}

/// What is to be published of these: the parts of a batch in one entry.
pub fn together(written: impl IntoIterator<Item = Written>) -> Vec<Entry> {
    let (mut entries, mut parts) = (Vec::new(), Vec::new());
    for written in written {
        match written {
            Written::Alone(entry) => entries.push(entry),
            Written::Part(part) => parts.push((part, ())),
        }
    }
    entries.extend(batches(parts).into_iter().map(|(entry, _)| entry));
    entries
}

/// The parts of each batch in one entry, and with it what came with them.
pub fn batches<T>(parts: impl IntoIterator<Item = (Part, T)>) -> Vec<(Entry, Vec<T>)> {
    let mut batches = Vec::<(Vec<Part>, Vec<T>)>::new();
    for (part, with) in parts {
        let of =
            |(batch, _): &&mut (Vec<Part>, Vec<T>)| batch.first().is_some_and(|first| first.is_beside(&part));
        match batches.iter_mut().rev().find(of) {
            Some((batch, withs)) => {
                batch.push(part);
                withs.push(with);
            }
            None => batches.push((vec![part], vec![with])),
        }
    }
    batches.into_iter().filter_map(|(parts, with)| Some((batch(&parts)?, with))).collect()
}

impl Part {
    /// Whose it is.
    pub fn tenant(&self) -> &TenantId {
        &self.tenant
    }

    /// Bytes of the record.
    pub fn size(&self) -> usize {
        self.bytes.len()
    }

    fn is_beside(&self, other: &Part) -> bool {
        self.tenant == other.tenant
            && self.decision.batch() == other.decision.batch()
            && self.node == other.node
    }
}

fn batch(parts: &[Part]) -> Option<Entry> {
    let Part { tenant, node, at, decision, .. } = parts.first()?;
    let head = Record::new(*at, tenant, node, Body::Batch(Vec::new()));
    let records: Vec<&[u8]> = parts.iter().map(|part| &*part.bytes).collect();
    Some(Entry::new(batch_subject(Some(tenant), decision), encode_batch(&head, &records)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

    use std::borrow::Cow;

    use super::*;
    use crate::audit::{Change, Place, Registration, decode};

    fn record<'a>(tenant: &'a TenantId, agent: &'a crate::domain::AgentId) -> Record<'a> {
        let (capabilities, changes) = (Cow::default(), 1);
        let body = Registration { agent: Cow::Borrowed(agent), change: Change::Left, capabilities, changes };
        Record::new(Timestamp(7), tenant, "node-1", Body::Registration(body))
    }

    #[test]
    fn parts_of_one_batch_are_one_message_and_are_read_back_in_order() {
        let (acme, globex): (TenantId, TenantId) = ("acme".parse().unwrap(), "globex".parse().unwrap());
        let agents: Vec<_> = (0..40).map(|at| format!("agent-{at}").parse().unwrap()).collect();
        let (turn, next) = (DecisionId::new(9, 1, 0), DecisionId::new(9, 2, 0));
        let alone = record(&acme, &agents[0]).entry(Place::Registration(&agents[0]));
        let mut written: Vec<Written> =
            agents.iter().map(|agent| Written::Part(record(&acme, agent).part(&turn))).collect();
        written.insert(20, alone.clone().into());
        written.insert(7, Written::Part(record(&globex, &agents[1]).part(&turn)));
        written.insert(3, Written::Part(record(&acme, &agents[2]).part(&next)));
        let entries = together(written);
        let subjects: Vec<&str> = entries.iter().map(Entry::subject).collect();
        let batch = |tenant, turn| format!("record.{tenant}.~.0000000000000009-{turn}.batch");
        assert_eq!(subjects, [alone.subject(), &batch("acme", 1), &batch("acme", 2), &batch("globex", 1)]);
        let Body::Batch(records) = decode(entries[1].payload()).unwrap().body else { panic!("no batch") };
        let read: Vec<_> = records
            .iter()
            .map(|record| match &record.body {
                Body::Registration(it) => {
                    assert_eq!((record.tenant.as_str(), &*record.node, record.at.0), ("acme", "node-1", 7));
                    it.agent.to_string()
                }
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(read, agents.iter().map(ToString::to_string).collect::<Vec<_>>());
    }
}
