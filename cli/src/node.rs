//! `agentbus node`: one node in the foreground, until SIGINT or SIGTERM. SIGHUP: read the configuration again.

use std::{path::PathBuf, process::ExitCode, time::Duration};

use agentbus::{
    app::{self, Reload},
    config::{NodeConfig, keys},
    otlp::LogLayer,
    shutdown::Shutdown,
    telemetry::{self, LogExport},
};
use anyhow::{Context as _, anyhow};
use clap::Args;
use tokio::{
    runtime::Handle,
    signal::unix::{Signal, SignalKind, signal},
};

use super::server::old_name;

/// Flags win over the environment (`AGENTBUS__NATS__URL` and so on), which wins over the file.
#[derive(Debug, Args)]
#[command(after_help = format!("{}\n\n{EXAMPLES}", keys::help()))]
pub struct NodeArgs {
    #[command(flatten)]
    pub settings: Settings,
}

const EXAMPLES: &str = "\
Examples:\n  \
agentbus node --config node.toml\n  \
agentbus node --config node.toml --name node-2 --set limits.in_flight=2048";

/// Where a node's configuration comes from.
#[derive(Debug, Args)]
pub struct Settings {
    /// TOML file with the node's configuration
    #[arg(long, short, value_name = "FILE", env = "AGENTBUS_CONFIG")]
    config: Option<PathBuf>,
    /// Name of this node in verdicts, records and logs (node.name)
    #[arg(long)]
    name: Option<String>,
    /// NATS servers, separated by commas (nats.url)
    #[arg(long, value_name = "URL")]
    server: Option<String>,
    /// The old name of --server
    #[arg(long, value_name = "URL", hide = true, conflicts_with = "server")]
    nats: Option<String>,
    /// File with the NKey seed of the BUS user `node` (nats.nkey_file)
    #[arg(long, value_name = "FILE")]
    nkey_file: Option<String>,
    /// Redis; without it the node keeps its state in memory (redis.url)
    #[arg(long, value_name = "URL")]
    redis: Option<String>,
    /// Address for /livez, /readyz, /metrics and /thresholds (http.listen)
    #[arg(long, value_name = "ADDRESS")]
    http: Option<String>,
    /// Folder of Rego modules added to the shipped ones (policy.dir)
    #[arg(long, value_name = "DIR")]
    policy_dir: Option<String>,
    /// Folder of another impact model and its head, or of a guard, instead of the built-in one (impact.model_dir)
    #[arg(long, value_name = "DIR")]
    model_dir: Option<String>,
    /// Any other key, such as limits.in_flight=2048; can be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_value)]
    set: Vec<(String, String)>,
}

impl Settings {
    /// Reads all of it, anew each time. Blocks.
    pub fn load(&self) -> anyhow::Result<NodeConfig> {
        if self.nats.is_some() {
            old_name("--nats", "--server");
        }
        let named = [
            ("node.name", &self.name),
            ("nats.url", &self.server),
            ("nats.url", &self.nats),
            ("nats.nkey_file", &self.nkey_file),
            ("redis.url", &self.redis),
            ("http.listen", &self.http),
            ("policy.dir", &self.policy_dir),
            ("impact.model_dir", &self.model_dir),
        ];
        let mut flags: Vec<(String, String)> =
            named.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value.clone()?))).collect();
        flags.extend(self.set.iter().cloned());
        let source = self.config.as_deref().map_or("the environment and flags".to_owned(), |file| {
            format!("{}, the environment and flags", file.display())
        });
        NodeConfig::load(self.config.as_deref(), &flags)
            .with_context(|| format!("configuration from {source}"))
    }
}

pub(super) fn key_value(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or_else(|| format!("found {text:?}, expected key=value"))?;
    Ok((key.to_owned(), value.to_owned()))
}

/// A node that has taken no request yet has so long to leave by itself.
const LEAVES_WITHIN: Duration = Duration::from_secs(1);

pub async fn run(args: NodeArgs) -> anyhow::Result<ExitCode> {
    // Before all else: until then a signal would end the process.
    let hangup = signal(SignalKind::hangup())?;
    let shutdown = Shutdown::default();
    shutdown.on_signals()?;
    let stop = shutdown.clone();
    // On a thread of its own, for a start reads files, and storage may not answer: signals are heard meanwhile.
    let running = move || Handle::current().block_on(start(args.settings, hangup, stop));
    tokio::select! {
        ended = tokio::task::spawn_blocking(running) => ended??,
        () = told_before_it_served(&shutdown) => {}
    }
    Ok(ExitCode::SUCCESS)
}

async fn start(settings: Settings, hangup: Signal, shutdown: Shutdown) -> anyhow::Result<()> {
    let config = settings.load()?;
    let exported = config.otlp.as_ref().filter(|otlp| otlp.logs).map(|_| LogLayer::new());
    let (layer, lines) = exported.unzip();
    let layer = layer.map(|layer| Box::new(layer) as LogExport);
    let filter = telemetry::init_logs(&config.log, layer).map_err(|error| anyhow!(error))?;
    let reload = Reload::new(hangup, move || settings.load(), filter).exporting(lines);
    app::run(config, reload, shutdown).await
}

/// Whatever it waits for: there is nothing that it would have to finish.
async fn told_before_it_served(shutdown: &Shutdown) {
    shutdown.requested().await;
    tokio::time::sleep(LEAVES_WITHIN).await;
    if shutdown.has_work() {
        std::future::pending().await
    }
}
