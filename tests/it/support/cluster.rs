//! How does a test get three NATS servers that hold each stream three times? Real processes on
//! loopback, each with a folder of its own, ended by their own ids.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use agentbus::{
    servers::{NatsOptions, NatsServer, ports},
    tenants::{
        BusUser, Plan, Provisioned, Seed, ServerConf, StoreSettings, User, connect::options, names,
        provision, render_server_conf,
    },
};
use async_nats::Client;
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

const SERVERS: usize = 3;
/// A port that was free can be taken before its server binds it.
const TRIES: usize = 5;
/// For the first election of the cluster's leader: seconds at most, and longer on a busy machine.
const ELECTION: Duration = Duration::from_secs(60);

/// Three servers and the keys of the plan's users. Dropping it kills them.
pub(crate) struct Cluster {
    servers: Vec<NatsServer>,
    plan: Plan,
    folder: TempDir,
}

impl Cluster {
    /// Running, with a leader, and provisioned with three copies of each stream.
    pub(crate) async fn start(plan: Plan) -> Self {
        Self::with(plan, Accounts::Shared).await
    }

    /// The same, and each server has a copy of the accounts of its own, as on a machine of its own.
    pub(crate) async fn start_apart(plan: Plan) -> Self {
        Self::with(plan, Accounts::Apart).await
    }

    async fn with(plan: Plan, accounts: Accounts) -> Self {
        let folder = tempfile::tempdir().unwrap();
        plan.generate(folder.path()).unwrap();
        let servers = Self::servers(folder.path(), accounts).await;
        let cluster = Self { servers, plan, folder };
        cluster.provisioned().await;
        cluster
    }

    async fn servers(folder: &Path, accounts: Accounts) -> Vec<NatsServer> {
        for _ in 0..TRIES {
            let routes: Vec<u16> = (0..SERVERS).map(|_| ports::free().unwrap()).collect();
            let mut options = Vec::new();
            for (number, route) in (1..).zip(&routes) {
                options.push(configure(folder, number, *route, &routes, accounts));
            }
            let starts = options.into_iter().map(NatsServer::start);
            if let Ok(servers) = futures_util::future::try_join_all(starts).await {
                return servers;
            }
        }
        panic!("three servers on free ports did not start in {TRIES} tries");
    }

    /// Streams can be made once the cluster has a leader, and every server has met the others.
    async fn provisioned(&self) {
        let until = Instant::now() + ELECTION;
        let settings = StoreSettings { replicas: Some(SERVERS), ..StoreSettings::default() };
        loop {
            let client = self.connect(BusUser::Provisioner).await;
            let Err(error) = provision(&client, &self.plan, &settings).await else { return };
            assert!(Instant::now() < until, "the cluster does not become ready: {error}");
            sleep(Duration::from_millis(200)).await;
        }
    }

    /// As an operator who says nothing about the streams.
    pub(crate) async fn provision_again(&self) -> Provisioned {
        let client = self.connect(BusUser::Provisioner).await;
        provision(&client, &self.plan, &StoreSettings::default()).await.unwrap()
    }

    /// Of all servers, separated by commas: clients go on with another when theirs ends.
    pub(crate) fn urls(&self) -> String {
        self.servers.iter().map(NatsServer::url).collect::<Vec<_>>().join(",")
    }

    pub(crate) fn url(&self, index: usize) -> String {
        self.servers[index].url()
    }

    /// All of them are killed, and then started again on their ports and data.
    pub(crate) async fn restart(&mut self) {
        for server in &mut self.servers {
            server.child_mut().kill().await;
        }
        let starts = self.servers.iter_mut().map(NatsServer::restart);
        futures_util::future::try_join_all(starts).await.unwrap();
    }

    /// The folder of keys and accounts, as `agentbus` takes it with `--dir`.
    pub(crate) fn dir(&self) -> &Path {
        self.folder.path()
    }

    /// Where a server's own copy of the accounts is, as `agentbus` takes it with `--dir`.
    pub(crate) fn dir_of(&self, index: usize) -> PathBuf {
        self.dir().join(name(index + 1))
    }

    /// `0..3`; to kill (`child_mut().kill()`), pause or restart one.
    pub(crate) fn server_mut(&mut self, index: usize) -> &mut NatsServer {
        &mut self.servers[index]
    }

    /// Connected to any of the servers, and to another when that one ends.
    pub(crate) async fn connect(&self, user: impl Into<User>) -> Client {
        let user = user.into();
        let seed = Seed::read(&user.seed_path(self.dir())).unwrap();
        let urls = self.urls();
        let servers: Vec<async_nats::ServerAddr> = urls.split(',').map(|url| url.parse().unwrap()).collect();
        options(&user, &seed).connect(servers).await.unwrap()
    }
}

#[derive(Debug, Clone, Copy)]
enum Accounts {
    Shared,
    Apart,
}

fn name(number: usize) -> String {
    format!("nats-{number}")
}

/// The generated configuration of one server, and where its peers are.
fn configure(folder: &Path, number: usize, route: u16, routes: &[u16], accounts: Accounts) -> NatsOptions {
    let name = name(number);
    let folder_of_one = folder.join(&name);
    fs::create_dir_all(&folder_of_one).unwrap();
    let local = ServerConf::local(None, folder_of_one.join("jetstream"));
    let accounts = match accounts {
        Accounts::Shared => "../nats/accounts.conf",
        Accounts::Apart => {
            let own = names::accounts_conf(&folder_of_one);
            fs::create_dir_all(own.parent().unwrap()).unwrap();
            fs::copy(names::accounts_conf(folder), own).unwrap();
            "nats/accounts.conf"
        }
    };
    let conf = ServerConf { server_name: name.clone(), accounts: accounts.into(), ..local };
    let peers: String = routes.iter().map(|port| format!("    \"nats://127.0.0.1:{port}\"\n")).collect();
    let text = format!(
        "{}\n# It tells clients that it will stop, and lets them go of themselves.\n\
         lame_duck_grace_period: \"60s\"\ncluster {{\n  name: agentbus\n  listen: \"127.0.0.1:{route}\"\n  routes: [\n{peers}  ]\n}}\n",
        render_server_conf(&conf)
    );
    let config = folder_of_one.join("server.conf");
    fs::write(&config, text).unwrap();
    NatsOptions { name, config, folder: folder_of_one, port: 0 }
}
