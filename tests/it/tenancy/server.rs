//! A nats-server of a test's own, and clients that remember what the server refused them.

use std::{
    env, fs,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use agentbus::tenants::{
    self, BusUser, Plan, Seed, ServerConf, StoreSettings, User, connect::options, provision,
    render_server_conf,
};
use async_nats::{Client, Event, Message, Subscriber};
use futures_util::StreamExt;
use tempfile::TempDir;
use tokio::time::timeout;

use crate::support::root;

/// For what should happen.
pub(super) const SOON: Duration = Duration::from_secs(60);
/// For what should not happen: round trips on loopback take well under a millisecond, and every
/// use comes after a flush through the server.
pub(super) const NEVER: Duration = Duration::from_millis(150);

/// Ends its own child only, by its handle.
pub(super) struct Server {
    child: Child,
    pub(super) dir: TempDir,
    pub(super) url: String,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn binary() -> PathBuf {
    if let Some(path) = env::var_os("AGENTBUS_NATS_SERVER") {
        return path.into();
    }
    let local = root().join(".servers/bin/nats-server");
    if local.exists() { local } else { "nats-server".into() }
}

impl Server {
    /// Runs the plan's generated configuration; nothing is provisioned yet.
    pub(super) async fn start(plan: &Plan) -> Server {
        let dir = tempfile::tempdir().unwrap();
        plan.generate(dir.path()).unwrap();
        let conf = tenants::names::server_conf(dir.path());
        fs::write(&conf, render_server_conf(&ServerConf::local(None, dir.path().join("js")))).unwrap();
        Self::run(dir).await
    }

    /// Ends the server without warning and starts it again on its port, with its data.
    pub(super) async fn restart(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        let port = self.url.rsplit(':').next().unwrap().parse().unwrap();
        let conf = ServerConf::local(Some(port), self.dir.path().join("js"));
        fs::write(tenants::names::server_conf(self.dir.path()), render_server_conf(&conf)).unwrap();
        let dir = std::mem::replace(&mut self.dir, tempfile::tempdir().unwrap());
        *self = Self::run(dir).await;
    }

    async fn run(dir: TempDir) -> Server {
        let log = fs::File::create(dir.path().join("nats.log")).unwrap();
        let ports = dir.path().join("ports");
        let _ = fs::remove_dir_all(&ports);
        fs::create_dir(&ports).unwrap();
        let child = Command::new(binary())
            .arg("-c")
            .arg(tenants::names::server_conf(dir.path()))
            .arg("--ports_file_dir")
            .arg(&ports)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .expect("nats-server: set AGENTBUS_NATS_SERVER or put it on the PATH");
        let mut server = Server { child, dir, url: String::new() };
        let until = Instant::now() + SOON;
        loop {
            let file = fs::read_dir(&ports).unwrap().next().and_then(|e| fs::read(e.unwrap().path()).ok());
            let found = file.and_then(|json| serde_json::from_slice::<serde_json::Value>(&json).ok());
            if let Some(url) = found.as_ref().and_then(|ports| ports["nats"][0].as_str()) {
                server.url = url.to_owned();
                return server;
            }
            let log = fs::read_to_string(server.dir.path().join("nats.log")).unwrap();
            assert!(Instant::now() < until, "no ports file; the server says:\n{log}");
            assert!(server.child.try_wait().unwrap().is_none(), "nats-server ended:\n{log}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub(super) async fn started_and_provisioned(plan: &Plan) -> Server {
        let server = Server::start(plan).await;
        let provisioner = server.bus(BusUser::Provisioner).await;
        provision(&provisioner.client, plan, &StoreSettings::default()).await.unwrap();
        server
    }

    pub(super) async fn bus(&self, user: BusUser) -> Login {
        self.login(User::Bus(user)).await
    }

    /// `user` is like `acme/planner`.
    pub(super) async fn agent(&self, user: &str) -> Login {
        let (tenant, agent) = user.split_once('/').unwrap();
        self.login(User::Agent(tenant.parse().unwrap(), agent.parse().unwrap())).await
    }

    async fn login(&self, user: User) -> Login {
        let seed = Seed::read(&user.seed_path(self.dir.path())).unwrap();
        let refused = Arc::new(Mutex::new(Vec::new()));
        let events = Arc::clone(&refused);
        let client = options(&user, &seed)
            .event_callback(move |event| {
                let events = Arc::clone(&events);
                async move {
                    match event {
                        Event::Connected => {}
                        event => events.lock().unwrap().push(event.to_string()),
                    }
                }
            })
            .connect(&self.url)
            .await
            .unwrap();
        let fence = match &user {
            User::Agent(_, agent) => format!("bus.{agent}.fence"),
            User::Bus(BusUser::Node) => "_INBOX.node.settle".to_owned(),
            User::Bus(BusUser::Provisioner | BusUser::Operator) => "$JS.API.INFO".to_owned(),
            User::Bus(BusUser::Admin) => "$SYS.REQ.SERVER.PING".to_owned(),
            User::Bus(BusUser::Keeper) => "agentbus.accounts.held".to_owned(),
            User::Bus(BusUser::Kicker) => "$SYS.REQ.SERVER.NONE.KICK".to_owned(),
        };
        Login { client, fence, refused }
    }
}

/// A connected client.
pub(super) struct Login {
    pub(super) client: Client,
    /// A subject that this user may ask.
    fence: String,
    /// Everything that happened to the connection: violations, disconnects.
    refused: Arc<Mutex<Vec<String>>>,
}

impl Login {
    /// Everything sent so far was processed by the server and its complaints have come back: they
    /// are written before the answer to a later request.
    pub(super) async fn settle(&self) {
        let answer = timeout(SOON, self.client.request(self.fence.clone(), "".into())).await.unwrap();
        if let Err(error) = answer {
            assert_eq!(error.kind(), async_nats::RequestErrorKind::NoResponders, "{error}");
        }
        // The client hands its events to the callback in another task.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }

    /// Waits until something that happened to the connection has all these words, in any case.
    pub(super) async fn told(&self, words: &[&str]) -> bool {
        let comes = async {
            while !self.events().iter().any(|event| {
                let event = event.to_lowercase();
                words.iter().all(|word| event.contains(&word.to_lowercase()))
            }) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(SOON, comes).await.is_ok()
    }

    pub(super) fn events(&self) -> Vec<String> {
        self.refused.lock().unwrap().clone()
    }

    pub(super) async fn subscribe(&self, subject: &str) -> Subscriber {
        let subscriber = self.client.subscribe(subject.to_owned()).await.unwrap();
        self.client.flush().await.unwrap();
        subscriber
    }

    pub(super) async fn queue(&self, subject: &str, queue: &str) -> Subscriber {
        let subscriber = self.client.queue_subscribe(subject.to_owned(), queue.to_owned()).await.unwrap();
        self.client.flush().await.unwrap();
        subscriber
    }

    pub(super) async fn publish(&self, subject: &str, reply: Option<&str>, payload: &str) {
        let payload = payload.to_owned().into();
        match reply {
            None => self.client.publish(subject.to_owned(), payload).await.unwrap(),
            Some(reply) => {
                self.client.publish_with_reply(subject.to_owned(), reply.to_owned(), payload).await.unwrap()
            }
        }
        self.client.flush().await.unwrap();
    }
}

pub(super) async fn expect(subscriber: &mut Subscriber) -> Message {
    timeout(SOON, subscriber.next()).await.expect("a message in time").expect("an open subscription")
}

pub(super) async fn nothing(subscriber: &mut Subscriber) -> Option<Message> {
    timeout(NEVER, subscriber.next()).await.ok().flatten()
}
