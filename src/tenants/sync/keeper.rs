//! What keeps the accounts of one server as the last `apply` made them? It runs beside the server.

use std::{convert::Infallible, path::Path, path::PathBuf, time::Duration};

use async_nats::Client;
use bytes::Bytes;
use futures_util::StreamExt as _;
use tokio::{
    sync::watch,
    time::{MissedTickBehavior, interval},
};

use super::{Said, SyncError, ask, edition};
use crate::tenants::{
    ConnectError, Seed, User,
    connect::{options, secured},
    names::{ACCOUNTS_HELD, ACCOUNTS_OFFERED, BusUser, accounts_conf},
    reload::reload_twice,
};
use crate::tls;
use edition::{About, Edition};

/// How often the others are asked whether they hold newer ones: a server that was away has missed the offer.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// What a keeper does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Beside this server it holds this revision.
    Keeps { server: String, revision: u64 },
    /// Was offered this revision, and has written it. Whoever offered it has the server reload.
    Written { revision: u64 },
    /// Had missed this revision; the server runs with it now.
    CaughtUp { revision: u64 },
    /// Could not; it tries again where that helps.
    Failed { cause: String },
}

/// One server's keeper.
pub struct Keeper<F> {
    client: Client,
    path: PathBuf,
    held: watch::Sender<Edition>,
    tell: F,
}

/// Logs in to this server alone: what it holds is that server's, whatever other servers the cluster has.
pub async fn connect(server: tls::Server, dir: &Path) -> Result<Client, ConnectError> {
    let tls::Server { url, files } = server;
    let user = User::from(BusUser::Keeper);
    let seed = Seed::read(&user.seed_path(dir))?;
    let options =
        secured(options(&user, &seed), &files)?.ignore_discovered_servers().retry_on_initial_connect();
    options.connect(&url).await.map_err(|error| ConnectError::Unreachable { url, cause: error.to_string() })
}

impl<F: Fn(Event)> Keeper<F> {
    /// Of the copy of the accounts in `dir`, which must be there: the server would not have started without.
    pub fn new(client: Client, dir: &Path, tell: F) -> Result<Self, SyncError> {
        let path = accounts_conf(dir);
        let held = watch::Sender::new(Edition::read(&path)?);
        Ok(Self { client, path, held, tell })
    }

    /// Until that cannot go on.
    pub async fn run(&self) -> Result<Infallible, SyncError> {
        tokio::select! {
            ended = self.say_what_is_held() => ended,
            ended = self.give() => ended,
            ended = self.take_offers() => ended,
            ended = self.catch_up() => ended,
        }
    }

    async fn say_what_is_held(&self) -> Result<Infallible, SyncError> {
        let mut asked = self.subscribe(ACCOUNTS_HELD).await?;
        // Until there is a connection.
        self.client.flush().await.map_err(unavailable)?;
        (self.tell)(Event::Keeps { server: self.server(), revision: self.about().revision });
        while let Some(request) = asked.next().await {
            let Some(reply) = request.reply else { continue };
            self.answer(reply, None).await?;
        }
        Err(ended())
    }

    async fn give(&self) -> Result<Infallible, SyncError> {
        let mut changes = self.held.subscribe();
        loop {
            let held = changes.borrow_and_update().clone();
            tokio::select! {
                fault = edition::give(&self.client, &held) => return Err(fault),
                changed = changes.changed() => changed.map_err(|_| ended())?,
            }
        }
    }

    async fn take_offers(&self) -> Result<Infallible, SyncError> {
        let mut offers = self.subscribe(ACCOUNTS_OFFERED).await?;
        while let Some(offer) = offers.next().await {
            let Some(reply) = offer.reply else { continue };
            let Ok(about) = serde_json::from_slice::<About>(&offer.payload) else { continue };
            let mut fault = None;
            if about != self.about() {
                fault = self.take(&about).await.err().map(|fault| fault.to_string());
                (self.tell)(match &fault {
                    None => Event::Written { revision: about.revision },
                    Some(cause) => Event::Failed { cause: cause.clone() },
                });
            }
            self.answer(reply, fault).await?;
        }
        Err(ended())
    }

    async fn catch_up(&self) -> Result<Infallible, SyncError> {
        let mut looks = interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // Written, and not yet in force in the server.
        let mut owed = None;
        loop {
            looks.tick().await;
            let said = ask(&self.client, ACCOUNTS_HELD, Bytes::new(), None).await?;
            let newest = said.into_iter().map(|said| said.held).max_by_key(|held| held.revision);
            let newest = newest.filter(|newest| newest.revision > self.about().revision);
            if newest.is_none() && owed.is_none() {
                continue;
            }
            let caught_up = async {
                if let Some(newest) = &newest {
                    self.take(newest).await?;
                    owed = Some(newest.revision);
                }
                let server = self.client.server_info().server_id;
                let reloaded = reload_twice(&self.client, &server).await;
                reloaded.map_err(|fault| SyncError::Unavailable { cause: fault.to_string() })
            };
            (self.tell)(match caught_up.await {
                Ok(()) => {
                    owed = None;
                    Event::CaughtUp { revision: self.about().revision }
                }
                Err(fault) => Event::Failed { cause: fault.to_string() },
            });
        }
    }

    /// Fetches and writes it. What an older offer brings after a newer one is left.
    async fn take(&self, about: &About) -> Result<(), SyncError> {
        self.is_no_older(about)?;
        let edition = Edition::fetch(&self.client, about).await?;
        // It may hold a newer one by now. From here on nothing waits.
        self.is_no_older(about)?;
        edition.write(&self.path)?;
        self.held.send_replace(edition);
        Ok(())
    }

    fn is_no_older(&self, about: &About) -> Result<(), SyncError> {
        let held = self.about().revision;
        if about.revision < held {
            return Err(SyncError::Cut {
                revision: about.revision,
                cause: format!("it holds revision {held}"),
            });
        }
        Ok(())
    }

    async fn answer(&self, reply: async_nats::Subject, fault: Option<String>) -> Result<(), SyncError> {
        let said = Said { server: self.server(), held: self.about(), fault };
        let said = serde_json::to_vec(&said).unwrap_or_default();
        self.client.publish(reply, said.into()).await.map_err(unavailable)
    }

    async fn subscribe(&self, subject: &'static str) -> Result<async_nats::Subscriber, SyncError> {
        self.client.subscribe(subject).await.map_err(unavailable)
    }

    fn server(&self) -> String {
        self.client.server_info().server_name
    }

    fn about(&self) -> About {
        self.held.borrow().about.clone()
    }
}

fn unavailable(error: impl std::error::Error) -> SyncError {
    SyncError::Unavailable { cause: error.to_string() }
}

fn ended() -> SyncError {
    SyncError::Unavailable { cause: "the connection has ended".to_owned() }
}
