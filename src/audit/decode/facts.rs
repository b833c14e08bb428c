//! How is what judging saw read back?

use std::{borrow::Cow, collections::BTreeSet, str::FromStr};

use crate::{
    audit::record::{Facts, Party, Remembered},
    domain::{AgentId, CapabilityId, ConstitutionHash, IdError, Verdict},
    wire::{
        fields::{boolean, count, id, list, map, once, required},
        reader::{Read, Reader, skip},
        verdict::owned,
    },
};

/// Without what stands elsewhere in the record.
pub(super) struct FactsRead {
    constitution: ConstitutionHash,
    policy_revision: Option<String>,
    sender: PartyRead,
    recipients: Vec<Party<'static>>,
    recipients_total: Option<u64>,
    remembered: Option<Remembered>,
}

#[derive(Default)]
struct PartyRead {
    id: Option<AgentId>,
    roles: Option<BTreeSet<String>>,
    capabilities: Option<BTreeSet<CapabilityId>>,
    registered: Option<bool>,
}

impl FactsRead {
    pub(super) fn of(self, sender: &AgentId, verdict: &Verdict) -> Read<Facts<'static>> {
        let Self { constitution, policy_revision, sender: party, recipients, recipients_total, remembered } =
            self;
        let revision = policy_revision.or_else(|| verdict.policy_revision.clone());
        let listed = u64::try_from(recipients.len()).unwrap_or(u64::MAX);
        Ok(Facts {
            constitution,
            policy_revision: Cow::Owned(required(revision, "policy_revision")?),
            sender: PartyRead { id: Some(sender.clone()), ..party }.party()?,
            recipients,
            recipients_total: recipients_total.unwrap_or(listed),
            remembered,
        })
    }
}

impl PartyRead {
    fn party(self) -> Read<Party<'static>> {
        Ok(Party {
            id: Cow::Owned(required(self.id, "id")?),
            roles: Cow::Owned(required(self.roles, "roles")?),
            capabilities: Cow::Owned(self.capabilities.unwrap_or_default()),
            registered: self.registered.unwrap_or(true),
        })
    }
}

pub(super) fn facts<'a, R: Reader<'a>>(r: &mut R, name: &'static str) -> Read<FactsRead> {
    let (mut constitution, mut revision, mut sender, mut recipients, mut total) =
        (None, None, None, None, None);
    let (mut cached, mut shared) = (None, None);
    let mut of = map(r, name)?;
    while let Some(key) = r.key(&mut of)? {
        match key.as_ref() {
            "constitution" => once(r, &mut of, &mut constitution, "constitution", |r, name| id(r, name))?,
            "policy_revision" => {
                once(r, &mut of, &mut revision, "policy_revision", |r, name| owned(r, name))?;
            }
            "sender" => once(r, &mut of, &mut sender, "sender", party)?,
            "recipients" => once(r, &mut of, &mut recipients, "recipients", |r, name| {
                each(r, name, |r| party(r, "recipients")?.party())
            })?,
            "recipients_total" => {
                once(r, &mut of, &mut total, "recipients_total", |r, name| count(r, name))?;
            }
            "cached" => once(r, &mut of, &mut cached, "cached", |r, name| count(r, name))?,
            "shared" => once(r, &mut of, &mut shared, "shared", |r, name| count(r, name))?,
            _ => skip(r)?,
        }
    }
    Ok(FactsRead {
        constitution: required(constitution, "constitution")?,
        policy_revision: revision,
        sender: required(sender, "sender")?,
        recipients: required(recipients, "recipients")?,
        recipients_total: total,
        remembered: cached.map(|cached| Remembered { cached, shared: shared.unwrap_or(0) }),
    })
}

fn party<'a, R: Reader<'a>>(r: &mut R, name: &'static str) -> Read<PartyRead> {
    let mut party = PartyRead::default();
    let mut of = map(r, name)?;
    while let Some(key) = r.key(&mut of)? {
        match key.as_ref() {
            "id" => once(r, &mut of, &mut party.id, "id", |r, name| id(r, name))?,
            "roles" => once(r, &mut of, &mut party.roles, "roles", |r, name| {
                Ok(each(r, name, |r| owned(r, "roles"))?.into_iter().collect())
            })?,
            "capabilities" => once(r, &mut of, &mut party.capabilities, "capabilities", |r, name| {
                Ok(ids(r, name)?.into_iter().collect())
            })?,
            "registered" => {
                once(r, &mut of, &mut party.registered, "registered", |r, name| boolean(r, name))?;
            }
            _ => skip(r)?,
        }
    }
    Ok(party)
}

pub(super) fn each<'a, R: Reader<'a>, T>(
    r: &mut R,
    name: &'static str,
    mut read: impl FnMut(&mut R) -> Read<T>,
) -> Read<Vec<T>> {
    let (mut items, mut open) = (Vec::new(), list(r, name)?);
    while r.more(&mut open)? {
        items.push(read(r)?);
    }
    Ok(items)
}

pub(super) fn ids<'a, R: Reader<'a>, T: FromStr<Err = IdError>>(
    r: &mut R,
    name: &'static str,
) -> Read<Vec<T>> {
    each(r, name, |r| id(r, name))
}
