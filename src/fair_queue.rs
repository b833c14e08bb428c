//! Whose work is next, where several want more than there is? Start-time fair queueing: tenants share, and within a
//! tenant its senders.
//!
//! Each owner has an account of what was done for it, and who was given least is next. Who comes back begins where the
//! others are by now, so nobody saves up. What an item costs need not be known before it is taken: it is charged when
//! it is. Two that both have something waiting are never further apart than the largest item of each (Goyal, Vin and
//! Cheng, "Start-Time Fair Queueing", 1996). Knows nothing of time, threads and messages.

use std::{
    collections::{HashMap, VecDeque},
    hash::{BuildHasher as _, Hash, RandomState},
};

/// Accounts of owners that have nothing waiting, of one level; beyond, all of these begin anew.
const IDLE_MAX: usize = 1_024;

/// Whose an item is, as numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    pub tenant: u64,
    pub sender: u64,
}

/// Makes the numbers of owners; each makes others.
#[derive(Default)]
pub struct Owners(RandomState);

impl Owners {
    pub fn of(&self, tenant: &impl Hash, sender: &impl Hash) -> Owner {
        Owner { tenant: self.0.hash_one(tenant), sender: self.0.hash_one((tenant, sender)) }
    }
}

/// What waits, each sender's in order. Has no bound of its own: who pushes asks for [`FairQueue::len`] and
/// [`FairQueue::waiting`] before.
pub struct FairQueue<T> {
    tenants: Turns<Turns<VecDeque<T>>>,
}

impl<T> Default for FairQueue<T> {
    fn default() -> Self {
        Self { tenants: Turns::default() }
    }
}

impl<T> FairQueue<T> {
    pub fn len(&self) -> usize {
        self.tenants.waiting
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Items of its tenant, and of the sender alone.
    pub fn waiting(&self, owner: Owner) -> (usize, usize) {
        self.tenants.owners.get(&owner.tenant).map_or((0, 0), |tenant| {
            let sender = tenant.line.owners.get(&owner.sender);
            (tenant.waiting, sender.map_or(0, |sender| sender.waiting))
        })
    }

    pub fn push(&mut self, owner: Owner, item: T) {
        self.tenants.join(owner.tenant).join(owner.sender).push_back(item);
    }

    /// The first of who was given least.
    pub fn pop(&mut self) -> Option<T> {
        self.pop_of(|_| true)
    }

    /// The first of who was given least, of these tenants.
    pub fn pop_of(&mut self, tenant: impl Fn(u64) -> bool) -> Option<T> {
        self.tenants.next(tenant)?.next(|_| true)?.pop_front()
    }

    /// What has been done for an owner, in whatever unit costs are.
    pub fn charge(&mut self, owner: Owner, cost: u64) {
        self.tenants.charge(owner.tenant, cost).charge(owner.sender, cost);
    }

    /// Makes room for one item of `owner`: takes out the newest of who has most waiting, of all tenants, or else of
    /// its own tenant's senders. `None`: nobody has clearly more than itself.
    pub fn push_out(&mut self, owner: Owner) -> Option<T> {
        let (of_tenant, of_sender) = self.waiting(owner);
        let longest = self.tenants.longest().filter(|(_, most)| *most > of_tenant + 1);
        let tenant = longest.map_or(owner.tenant, |(tenant, _)| tenant);
        let senders = &self.tenants.owners.get(&tenant)?.line;
        let (sender, most) = senders.longest()?;
        if longest.is_none() && most <= of_sender + 1 {
            return None;
        }
        self.tenants.leave(tenant)?.leave(sender)?.pop_back()
    }

    /// Takes these out; their owners were given nothing for it.
    pub fn take_out(&mut self, mut which: impl FnMut(&T) -> bool) -> Vec<T> {
        let mut out = Vec::new();
        for tenant in self.tenants.owners.values_mut() {
            for sender in tenant.line.owners.values_mut().filter(|sender| sender.waiting > 0) {
                let (taken, kept) = sender.line.drain(..).partition::<Vec<T>, _>(&mut which);
                out.extend(taken);
                sender.line.extend(kept);
                sender.waiting = sender.line.len();
            }
            tenant.line.waiting = tenant.line.owners.values().map(|sender| sender.waiting).sum();
            tenant.waiting = tenant.line.waiting;
        }
        self.tenants.waiting = self.tenants.owners.values().map(|tenant| tenant.waiting).sum();
        out
    }
}

/// Owners that take turns, each with a line of what waits.
struct Turns<L> {
    owners: HashMap<u64, Account<L>>,
    /// In all lines.
    waiting: usize,
    /// What who was next last had been given: nobody who waits was given less.
    level: u64,
    /// Of turns and of those that joined. Of those that were given the same, who has waited longest is next.
    count: u64,
}

struct Account<L> {
    given: u64,
    /// Its last turn, or when it joined.
    since: u64,
    waiting: usize,
    line: L,
}

impl<L> Default for Turns<L> {
    fn default() -> Self {
        Self { owners: HashMap::new(), waiting: 0, level: 0, count: 0 }
    }
}

impl<L: Default> Turns<L> {
    /// The line for one more of this owner's.
    fn join(&mut self, key: u64) -> &mut L {
        self.count += 1;
        self.waiting += 1;
        let (level, since) = (self.level, self.count);
        let account = self.account(key);
        if account.waiting == 0 {
            (account.given, account.since) = (account.given.max(level), since);
        }
        account.waiting += 1;
        &mut account.line
    }

    /// The line of who is next of these, which is to lose its first.
    fn next(&mut self, who: impl Fn(u64) -> bool) -> Option<&mut L> {
        self.forget_idle();
        let waiting = self.owners.iter().filter(|(key, account)| account.waiting > 0 && who(**key));
        let (key, given) = waiting
            .min_by_key(|(_, account)| (account.given, account.since))
            .map(|(key, account)| (*key, account.given))?;
        self.level = given;
        self.count += 1;
        let since = self.count;
        self.account(key).since = since;
        self.leave(key)
    }

    /// The line of an owner that is to lose one.
    fn leave(&mut self, key: u64) -> Option<&mut L> {
        let account = self.owners.get_mut(&key)?;
        account.waiting = account.waiting.saturating_sub(1);
        self.waiting = self.waiting.saturating_sub(1);
        Some(&mut account.line)
    }

    fn charge(&mut self, key: u64, cost: u64) -> &mut L {
        let level = self.level;
        let account = self.account(key);
        account.given = account.given.max(level).saturating_add(cost);
        &mut account.line
    }

    fn account(&mut self, key: u64) -> &mut Account<L> {
        self.owners.entry(key).or_insert_with(|| Account {
            given: 0,
            since: 0,
            waiting: 0,
            line: L::default(),
        })
    }

    /// An account that is not ahead of the others says nothing.
    fn forget_idle(&mut self) {
        let level = self.level;
        self.owners.retain(|_, account| account.waiting > 0 || account.given > level);
        if self.owners.len() > IDLE_MAX {
            let idle = self.owners.values().filter(|account| account.waiting == 0).count();
            if idle > IDLE_MAX {
                self.owners.retain(|_, account| account.waiting > 0);
            }
        }
    }
}

impl<L> Turns<L> {
    /// Who has most waiting, and how many.
    fn longest(&self) -> Option<(u64, usize)> {
        let waiting = self.owners.iter().map(|(key, account)| (*key, account.waiting));
        waiting.max_by_key(|(_, waiting)| *waiting).filter(|(_, waiting)| *waiting > 0)
    }
}

#[cfg(test)]
mod tests;
