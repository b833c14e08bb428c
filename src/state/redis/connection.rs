//! How is a connection to Redis made, kept and judged, and what do its errors mean?

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use fred::{
    clients::{Client, WithOptions},
    error::{Error, ErrorKind},
    interfaces::EventInterface as _,
    prelude::{ClientLike as _, LuaInterface as _},
    types::{
        RespVersion,
        config::{
            Config, ConnectionConfig, PerformanceConfig, ReconnectPolicy, TcpConfig, TlsConfig,
            UnresponsiveConfig,
        },
    },
};
use tokio::{
    sync::{Notify, broadcast::error::RecvError, watch},
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use super::{
    Health, RedisSettings, RedisUrlError,
    refusal::{Code, Refusals, Remedy},
};
use crate::{
    skew::Skew,
    state::StoreError,
    tls::{self, TlsConnector},
};

/// Commands that wait for a connection or its socket. More are refused.
const COMMANDS_MAX: usize = 4096;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// A connection with a question that is unanswered for so long is closed and made again.
const UNRESPONSIVE_AFTER: Duration = Duration::from_secs(1);
const UNRESPONSIVE_CHECK: Duration = Duration::from_millis(250);
const RECONNECT_DELAY_MIN_MS: u32 = 50;
const RECONNECT_DELAY_MAX_MS: u32 = 2_000;
const RECONNECT_JITTER_MS: u32 = 50;
/// Changes that the listener may be behind before it must start afresh.
const CHANGES_MAX: usize = 1024;

const PROBE_EVERY: Duration = Duration::from_secs(1);
const PROBE_EVERY_WHILE_DOWN: Duration = Duration::from_millis(100);
/// However many callers doubt, probes are so far apart.
const PROBE_PAUSE: Duration = Duration::from_millis(20);
/// A server that is not the right one is left at most so often.
const RECONNECT_EVERY: Duration = Duration::from_secs(1);
/// While it still answers what is only read.
const RECONNECT_RARELY: Duration = Duration::from_secs(10);
const QUIT_TIMEOUT: Duration = Duration::from_millis(250);
/// fred ends its task for good on errors it takes for fatal; it is started again after this time.
const RESTART_DELAY: Duration = Duration::from_secs(1);

/// Makes clients that are all set alike.
pub(super) struct Connector {
    config: Config,
    tls: Option<TlsConnector>,
    connection: ConnectionConfig,
    performance: PerformanceConfig,
    reconnect: ReconnectPolicy,
}

impl Connector {
    pub(super) fn new(settings: &RedisSettings) -> Result<Self, RedisUrlError> {
        let (url, secure) = scheme(&settings.url).ok_or(RedisUrlError::Malformed)?;
        let parsed = Config::from_url(&url).map_err(|_| RedisUrlError::Malformed)?;
        // A node starts without Redis and says so.
        let mut config = Config { fail_fast: false, version: RespVersion::RESP3, ..parsed };
        let tls = secure.then(|| tls::connector_by(&settings.files)).transpose()?;
        config.tls = tls.clone().map(TlsConfig::from);
        if let Some(login) = &settings.login {
            config.username = login.user.clone();
            config.password = Some(login.password.clone());
        }
        let connection = ConnectionConfig {
            connection_timeout: CONNECT_TIMEOUT,
            internal_command_timeout: CONNECT_TIMEOUT,
            max_command_attempts: 1,
            max_command_buffer_len: COMMANDS_MAX,
            unresponsive: UnresponsiveConfig {
                max_timeout: Some(UNRESPONSIVE_AFTER),
                interval: UNRESPONSIVE_CHECK,
            },
            tcp: TcpConfig { nodelay: Some(true), ..TcpConfig::default() },
            ..ConnectionConfig::default()
        };
        let performance = PerformanceConfig {
            default_command_timeout: settings.command_timeout,
            ..PerformanceConfig::default()
        };
        // Attempts without end: a client that gives up would need a restart of the node.
        let mut reconnect =
            ReconnectPolicy::new_exponential(0, RECONNECT_DELAY_MIN_MS, RECONNECT_DELAY_MAX_MS, 2);
        reconnect.set_jitter(RECONNECT_JITTER_MS);
        Ok(Self { config, tls, connection, performance, reconnect })
    }

    /// Whoever connects beside fred does it by this, if TLS was asked for.
    pub(super) fn tls(&self) -> Option<TlsConnector> {
        self.tls.clone()
    }

    pub(super) fn config(&self) -> &Config {
        &self.config
    }

    pub(super) fn command_client(&self) -> Client {
        self.client(self.performance.clone())
    }

    /// For a connection that is told of changes.
    pub(super) fn listening_client(&self) -> Client {
        self.client(PerformanceConfig { broadcast_channel_capacity: CHANGES_MAX, ..self.performance.clone() })
    }

    fn client(&self, performance: PerformanceConfig) -> Client {
        Client::new(
            self.config.clone(),
            Some(performance),
            Some(self.connection.clone()),
            Some(self.reconnect.clone()),
        )
    }
}

/// The URL as it is without TLS, and whether it asks for TLS: what fred would trust by itself are the system's root
/// certificates.
fn scheme(url: &str) -> Option<(String, bool)> {
    let (scheme, rest) = url.split_once("://")?;
    let (name, kind) = scheme
        .split_once(['-', '+'])
        .map_or((scheme, ""), |(name, _)| (name, scheme.get(name.len()..).unwrap_or_default()));
    let (name, secure) = match name {
        "redis" | "valkey" => (name, false),
        "rediss" => ("redis", true),
        "valkeys" => ("valkey", true),
        _ => return None,
    };
    Some((format!("{name}{kind}://{rest}"), secure))
}

/// Drives a client's connection until shutdown.
pub(super) async fn keep(client: Client, refusals: Arc<Refusals>, shutdown: CancellationToken) {
    loop {
        let mut errors = client.error_rx();
        // If this is dropped, so is the connection.
        let mut driver = AbortOnDropHandle::new(client.connect());
        loop {
            tokio::select! {
                // Reported while the client goes on trying. One that is missed comes again.
                error = errors.recv() => match error {
                    Ok((error, _)) => refusals.note(&error),
                    Err(RecvError::Lagged(_)) => {}
                    Err(RecvError::Closed) => errors = client.error_rx(),
                },
                ended = &mut driver => {
                    let cause = match ended {
                        Ok(Err(error)) => {
                            refusals.note(&error);
                            error.to_string()
                        }
                        Ok(Ok(())) => "ended".to_owned(),
                        Err(error) => error.to_string(),
                    };
                    tracing::warn!(%cause, "redis connection given up; starting it again");
                    break;
                }
                () = shutdown.cancelled() => {
                    // An orderly farewell where that is possible; the connection ends either way.
                    let _ = timeout(QUIT_TIMEOUT, client.quit()).await;
                    return;
                }
            }
        }
        tokio::select! {
            () = sleep(RESTART_DELAY) => {}
            () = shutdown.cancelled() => return,
        }
    }
}

/// What watches over the connections, and whom it tells.
pub(super) struct Watch {
    pub(super) clients: Vec<WithOptions<Client>>,
    pub(super) refusals: Arc<Refusals>,
    pub(super) report: watch::Sender<Health>,
    /// Somebody got no answer, or a refusal.
    pub(super) doubt: Arc<Notify>,
    /// Tells the other connections that they lead to the wrong server.
    pub(super) moved: Arc<Notify>,
    /// Hears what time it is at Redis.
    pub(super) skew: Skew,
}

impl Watch {
    /// Probes all connections, now and then and whenever someone doubts.
    pub(super) async fn run(&self, shutdown: CancellationToken) {
        let mut reconnected: Option<Instant> = None;
        loop {
            let found = tokio::select! {
                found = self.probe() => found,
                () = shutdown.cancelled() => break,
            };
            let code = found.as_ref().err().and_then(|cause| Code::of(cause.details()));
            let health = match &found {
                Ok(()) => Health::Up,
                Err(_) if code.is_some_and(Code::reads_go_on) => Health::Up,
                Err(_) => Health::Down,
            };
            self.note_health(health, found).await;
            let every = if health == Health::Up { RECONNECT_RARELY } else { RECONNECT_EVERY };
            if code.map(Code::remedy) == Some(Remedy::Reconnect)
                && reconnected.is_none_or(|at| at.elapsed() >= every)
            {
                reconnected = Some(Instant::now());
                self.moved.notify_waiters();
                self.reconnect().await;
            }
            let (wait, listen) = match health {
                Health::Up => (PROBE_EVERY, true),
                Health::Down => (PROBE_EVERY_WHILE_DOWN, false),
            };
            tokio::select! {
                () = sleep(wait) => {}
                () = self.doubt.notified(), if listen => sleep(PROBE_PAUSE).await,
                () = shutdown.cancelled() => break,
            }
        }
        self.report.send_replace(Health::Down);
    }

    async fn note_health(&self, health: Health, found: Result<(), Error>) {
        let changed = self.report.send_if_modified(|known| std::mem::replace(known, health) != health);
        match &found {
            Ok(()) => self.refusals.written(),
            Err(cause) => self.refusals.note(cause),
        }
        match (health, found) {
            (Health::Up, _) if changed => tracing::info!("redis answers"),
            (Health::Down, Err(cause)) if changed => tracing::warn!(%cause, "redis does not answer"),
            _ => {}
        }
        let in_doubt = (changed && health == Health::Up) || self.refusals.lacks_rights();
        if let Some(client) = self.clients.first().filter(|_| in_doubt) {
            check_rights(client, &self.refusals).await;
        }
    }

    /// The way work goes: a write, on each connection.
    async fn probe(&self) -> Result<(), Error> {
        for client in &self.clients {
            let asked = Instant::now();
            let (seconds, micros): (u64, u64) =
                client.eval(include_str!("probe.lua"), vec!["agentbus:probe"], Vec::<String>::new()).await?;
            let there = Duration::from_secs(seconds).saturating_add(Duration::from_micros(micros));
            self.skew.heard("redis", there, asked.elapsed());
        }
        Ok(())
    }

    /// Each connection is made anew, and its name looked up again.
    async fn reconnect(&self) {
        for client in &self.clients {
            // Whether that worked, the next probe sees.
            let _ = timeout(CONNECT_TIMEOUT, client.force_reconnection()).await;
        }
    }
}

/// Whether this node may do all that it has to. Found out before a message does.
async fn check_rights(client: &WithOptions<Client>, refusals: &Refusals) {
    let answer: Result<Vec<String>, Error> =
        client.eval(include_str!("check.lua"), vec!["agentbus:check"], Vec::<String>::new()).await;
    match answer {
        Ok(refused) if refused.is_empty() => refusals.allowed(),
        Ok(refused) => refusals.note_text(&format!("NOPERM {}", refused.join(", "))),
        Err(error) => refusals.note(&error),
    }
}

/// Never holds an address: of the server's own errors only the code word is kept.
pub(super) fn store_error(error: &Error, limit: Duration) -> StoreError {
    let details = error.details();
    let code = details.split(' ').next().unwrap_or_default();
    let is_code = !code.is_empty() && code.len() <= 32 && code.bytes().all(|b| b.is_ascii_uppercase());
    match error.kind() {
        ErrorKind::Timeout => StoreError::Timeout { limit },
        _ if Code::of(details) == Some(Code::Oom) => StoreError::Full,
        // It is there, and cannot serve at the moment.
        _ if Code::of(details).is_some() => StoreError::Disconnected,
        // From our own scripts, so the text is ours.
        _ if code == "UNEXPECTED" => {
            let found = details.strip_prefix("UNEXPECTED ").unwrap_or_default();
            StoreError::Unexpected { found: found.to_owned() }
        }
        _ if is_code => StoreError::Unexpected { found: format!("error {code}") },
        ErrorKind::IO
        | ErrorKind::Routing
        | ErrorKind::Canceled
        | ErrorKind::Cluster
        | ErrorKind::Sentinel
        | ErrorKind::Backpressure
        | ErrorKind::Config
        | ErrorKind::Url
        | ErrorKind::Auth => StoreError::Disconnected,
        ErrorKind::Protocol | ErrorKind::Parse | ErrorKind::NotFound => {
            StoreError::Unexpected { found: "an answer of another kind".to_owned() }
        }
        // fred's words for a client that is not connected are of kind `Unknown`.
        _ => StoreError::Disconnected,
    }
}
