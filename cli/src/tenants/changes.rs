//! What would change, for a person to agree to or not.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    io::{self, IsTerminal as _},
    path::Path,
    process::ExitCode,
};

use agentbus::{
    phrase::counted,
    tenants::{AccessChanges, Plan, StoreChanges, connections_of},
};
use anyhow::bail;
use clap::Args;

use crate::{context::safe, deliberations::agreed, input, output::say};

/// The exit code of `--dry-run` when something would change.
const CHANGES: u8 = 5;
/// Characters of one line that are shown.
pub(super) const TEXT_MAX: usize = 400;

/// How a command that takes something away is agreed to.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct Consent {
    /// Take away what goes, without being asked
    #[arg(long)]
    pub(crate) yes: bool,
    /// Show what would change, and change nothing
    #[arg(long, conflicts_with = "yes")]
    dry_run: bool,
}

impl Consent {
    /// Shows the changes. With what to end if they are not to be made; an error when they were not agreed to.
    pub(super) fn asks(self, changes: &Changes) -> anyhow::Result<Option<ExitCode>> {
        say(&changes.shown())?;
        if self.dry_run {
            let empty = changes.is_empty();
            return Ok(Some(if empty { ExitCode::SUCCESS } else { ExitCode::from(CHANGES) }));
        }
        if changes.takes_away() {
            agree(self.yes)?;
        }
        Ok(None)
    }

    /// The same for what only takes away.
    pub(super) fn asks_to_remove(self, shown: &str) -> anyhow::Result<Option<ExitCode>> {
        say(shown)?;
        if self.dry_run {
            return Ok(Some(ExitCode::from(CHANGES)));
        }
        agree(self.yes).map(|()| None)
    }
}

/// Asks whether what is marked with a minus may go. An error when it may not.
pub(crate) fn agree(yes: bool) -> anyhow::Result<()> {
    if yes {
        return Ok(());
    }
    if !input::is_terminal() || !io::stderr().is_terminal() {
        bail!(
            "nothing was changed: what is marked with - would go, and here is no terminal to ask on; if it is \
             meant, say --yes"
        );
    }
    if !agreed("Take away what is marked with ", "-")? {
        bail!("nothing was changed");
    }
    Ok(())
}

/// What would be another way afterwards.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    access: AccessChanges,
    store: StoreChanges,
    /// Of each key that goes. `None`: not asked, or not answered.
    connections: Option<BTreeMap<String, usize>>,
}

impl Changes {
    pub(crate) fn of_keys(plan: &Plan, dir: &Path) -> anyhow::Result<Changes> {
        Ok(Changes { access: plan.access_changes(dir)?, ..Changes::default() })
    }

    pub(super) fn with_store(self, store: StoreChanges) -> Changes {
        Changes { store, ..self }
    }

    /// Counts whose connections would end. That the servers do not say is no reason not to go on.
    pub(super) async fn with_connections(self, admin: &async_nats::Client) -> Changes {
        let keys: BTreeSet<String> = self.access.keys_removed().cloned().collect();
        let connections = match keys.is_empty() {
            true => None,
            false => connections_of(admin, &keys).await.ok(),
        };
        Changes { connections, ..self }
    }

    fn is_empty(&self) -> bool {
        self.access.is_empty() && self.store.is_empty()
    }

    pub(crate) fn takes_away(&self) -> bool {
        self.access.takes_away() || self.store.takes_away()
    }

    /// One line for each change, and how many there are.
    pub(crate) fn shown(&self) -> String {
        let mut rows = self.tenants();
        rows.extend(self.users());
        rows.extend(self.streams());
        let mut page = rows.iter().fold(String::new(), |mut page, Row { sign, kind, text }| {
            // Writing to a string cannot fail.
            let _ = writeln!(page, "  {sign} {kind:<7} {}", safe(text, TEXT_MAX));
            page
        });
        let count = |sign| rows.iter().filter(|row| row.sign == sign).count();
        let _ = match rows.is_empty() {
            true => writeln!(page, "nothing to change"),
            false => {
                writeln!(page, "{} to add, {} to change, {} to take away", count('+'), count('~'), count('-'))
            }
        };
        if let Some(kept) = kept(&self.store.left) {
            let _ = writeln!(page, "{kept}");
        }
        if let Some(cause) = &self.store.unknown {
            let _ =
                writeln!(page, "the streams that are there could not be compared: {}", safe(cause, TEXT_MAX));
        }
        page
    }

    fn tenants(&self) -> Vec<Row> {
        let StoreChanges { tenants_added, tenants_changed, tenants_removed, .. } = &self.store;
        let added = tenants_added.iter().map(|id| row('+', "tenant", id.to_string()));
        let changed = tenants_changed.iter().flat_map(|(id, differences)| {
            differences.iter().map(move |difference| row('~', "tenant", format!("{id}: {difference}")))
        });
        let removed = tenants_removed.iter().map(|key| row('-', "tenant", key.clone()));
        added.chain(changed).chain(removed).collect()
    }

    fn users(&self) -> Vec<Row> {
        let AccessChanges { added, removed, changed, seeds_made, seeds_deleted } = &self.access;
        let mut rows: Vec<Row> = added.iter().map(|user| row('+', "user", user.clone())).collect();
        rows.extend(
            removed.iter().map(|(user, keys)| row('-', "user", format!("{user}{}", self.ends(keys)))),
        );
        for change in changed {
            let user = &change.user;
            rows.extend(change.added.iter().map(|key| row('+', "key", format!("{user} {key}"))));
            for key in &change.removed {
                let ends = self.ends(std::iter::once(key));
                rows.push(row('-', "key", format!("{user} {key}{ends}")));
            }
        }
        rows.extend(seeds_made.iter().map(|path| row('+', "seed", path.display().to_string())));
        rows.extend(seeds_deleted.iter().map(|path| row('-', "seed", path.display().to_string())));
        rows
    }

    /// How many connections end with these keys.
    fn ends<'a>(&self, keys: impl IntoIterator<Item = &'a String>) -> String {
        let Some(counts) = &self.connections else { return String::new() };
        match keys.into_iter().filter_map(|key| counts.get(key)).sum() {
            0 => String::new(),
            1 => ", 1 connection ends".to_owned(),
            count => format!(", {count} connections end"),
        }
    }

    fn streams(&self) -> Vec<Row> {
        let StoreChanges { created, changed, discarding, .. } = &self.store;
        let kind = |name: &str| if name.contains('/') { "inbox" } else { "stream" };
        let created = created.iter().map(|name| row('+', kind(name), name.clone()));
        let changed = changed.iter().map(|change| row('~', "stream", change.clone()));
        let discarding = discarding
            .iter()
            .map(|change| row('-', "stored", format!("{change}: what is beyond it is discarded")));
        created.chain(changed).chain(discarding).collect()
    }
}

struct Row {
    sign: char,
    kind: &'static str,
    text: String,
}

fn row(sign: char, kind: &'static str, text: String) -> Row {
    Row { sign, kind, text }
}

/// What tenants and agents that left the file have left, on one line.
fn kept(left: &[String]) -> Option<String> {
    let inboxes = left.iter().filter(|name| name.contains('/')).count();
    let streams = (left.len() > inboxes).then(|| counted(left.len() - inboxes, "stream"));
    let inboxes = (inboxes > 0).then(|| format!("inboxes of {}", counted(inboxes, "agent")));
    let parts: Vec<String> = streams.into_iter().chain(inboxes).collect();
    (!parts.is_empty())
        .then(|| format!("left over: {} (agentbus tenants purge removes them)", parts.join(", ")))
}
