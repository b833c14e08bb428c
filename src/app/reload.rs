//! What does a running node take over from its configuration, read again? (SIGHUP)
//!
//! All or nothing: with anything wrong, what was in force stays. What cannot be taken over is named, and
//! waits for a restart.

use std::sync::Arc;

use anyhow::{Context as _, anyhow};
use tokio::{signal::unix::Signal, sync::Mutex};
use tracing_subscriber::EnvFilter;

use super::{basis::Basis, load::folder};
use crate::{
    chaos::Experiment,
    config::{self, NodeConfig, keys},
    otlp::LogLines,
    policy::{Candidate, Rollout},
    telemetry::LogFilter,
    webhook::Webhook,
};

type Read = Arc<dyn Fn() -> anyhow::Result<NodeConfig> + Send + Sync>;

/// Hears when to read the configuration again, and knows how.
pub struct Reload {
    hangup: Signal,
    read: Read,
    filter: LogFilter,
    lines: Option<LogLines>,
}

/// What is in force of what can be taken over.
struct Running {
    config: NodeConfig,
    webhook: Option<Webhook>,
    rollout: Arc<Rollout>,
    filter: LogFilter,
    /// Absent: none may be made.
    experiment: Option<Experiment>,
}

/// What was read, found good and not in force yet.
struct Found {
    config: NodeConfig,
    webhook: Option<Webhook>,
    filter: EnvFilter,
}

impl Reload {
    /// `read` gives the configuration from the sources of the start, and may block.
    pub fn new(
        hangup: Signal,
        read: impl Fn() -> anyhow::Result<NodeConfig> + Send + Sync + 'static,
        filter: LogFilter,
    ) -> Self {
        Self { hangup, read: Arc::new(read), filter, lines: None }
    }

    /// What is logged is exported too, where these come from it.
    pub fn exporting(self, lines: Option<LogLines>) -> Self {
        Self { lines, ..self }
    }

    pub(super) fn take_lines(&mut self) -> Option<LogLines> {
        self.lines.take()
    }

    /// Takes over what can be, at each SIGHUP, one after the other, until the stop.
    pub(super) fn keep(
        self,
        basis: &Basis,
        webhook: Option<Webhook>,
        rollout: &Arc<Rollout>,
        experiment: Option<Experiment>,
    ) {
        let Self { hangup, read, filter, lines: _ } = self;
        let (config, rollout) = (basis.config.clone(), Arc::clone(rollout));
        let running = Running { config, webhook, rollout, filter, experiment };
        let running = Arc::new(Mutex::new((hangup, running)));
        basis.keep("reload", move || {
            let (running, read) = (Arc::clone(&running), Arc::clone(&read));
            async move {
                let (hangup, running) = &mut *running.lock().await;
                running.on_hangups(hangup, &read).await;
            }
        });
    }
}

fn look(read: &Read) -> anyhow::Result<Found> {
    let config = read()?;
    let filter = LogFilter::parse(&config.log.filter).map_err(|error| anyhow!(error))?;
    let webhook = config.webhook.as_ref().map(Webhook::open).transpose()?;
    Ok(Found { config, webhook, filter })
}

impl Running {
    async fn on_hangups(&mut self, hangup: &mut Signal, read: &Read) {
        while hangup.recv().await.is_some() {
            let read = Arc::clone(read);
            let found = tokio::task::spawn_blocking(move || look(&read)).await;
            let found = found.map_err(anyhow::Error::from).and_then(|found| found);
            match self.prepare(found).await.and_then(|(found, policy)| self.take_over(found, policy)) {
                Ok((taken, waiting)) => tracing::info!(
                    taken = taken.join(", "),
                    needs_restart = waiting.join(", "),
                    "SIGHUP: the configuration was read again"
                ),
                Err(error) => tracing::error!(
                    error = crate::phrase::causes(error.as_ref()),
                    "SIGHUP: the configuration is not taken over; what was in force stays"
                ),
            }
        }
    }

    /// The policy comes last: it is tried only with everything else right.
    async fn prepare(&self, found: anyhow::Result<Found>) -> anyhow::Result<(Found, Option<Candidate>)> {
        let found = found?;
        let from_folder = |config: &NodeConfig| config.policy.bundle.is_none();
        if !from_folder(&self.config) || !from_folder(&found.config) {
            // Bundles are followed by themselves.
            return Ok((found, None));
        }
        let policy = self.rollout.prepare(folder(&found.config.policy)).await.context("policy")?;
        Ok((found, Some(policy)))
    }

    /// Which changed keys are in force from now on, and which need a restart.
    fn take_over(
        &mut self,
        found: Found,
        policy: Option<Candidate>,
    ) -> anyhow::Result<(Vec<&'static str>, Vec<&'static str>)> {
        let before = self.config.clone();
        let mut after = before.clone();
        after.log.filter.clone_from(&found.config.log.filter);
        if policy.is_some() {
            let config::Policy { dir, shipped, .. } = &found.config.policy;
            after.policy.dir.clone_from(dir);
            after.policy.shipped = *shipped;
        }
        if let (Some(old), Some(new)) = (&mut after.webhook, &found.config.webhook) {
            // How often is asked elsewhere.
            let attempts = old.attempts;
            old.clone_from(new);
            old.attempts = attempts;
        }
        if self.experiment.is_some() && found.config.chaos.allowed {
            after.chaos.clone_from(&found.config.chaos);
        }
        let changed = |from, to| keys::changed(from, to).context("the configurations cannot be compared");
        let (taken, waiting) = (changed(&before, &after)?, changed(&after, &found.config)?);
        self.filter.set(found.filter);
        // Even without a changed key: what is in the file may be new.
        if let (Some(old), Some(new)) = (&self.webhook, &found.webhook) {
            old.become_as(new);
        }
        if let Some(policy) = policy {
            self.rollout.put_in_force(policy);
        }
        if let Some(experiment) = &self.experiment {
            experiment.begin(&after.chaos);
        }
        self.config = after;
        Ok((taken, waiting))
    }
}
