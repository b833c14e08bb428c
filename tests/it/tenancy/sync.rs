//! Three servers, each with a copy of the accounts of its own, as on three machines. Does what one machine applies
//! reach all of them?

use std::{fs, path::PathBuf, process::ExitCode, time::Duration};

use agentbus::{
    domain::Verb,
    servers::Child,
    tenants::{BusUser, Plan, Seed, User, connect::options, names},
};
use async_nats::{Client, ConnectError};
use futures_util::StreamExt as _;
use tokio::{
    process::Command,
    time::{Instant, sleep, timeout},
};

use super::cli::tenants;
use crate::{support::cluster::Cluster, surfaces::clients::AGENTBUS};

/// For what follows by itself, on a busy machine.
const SOON: Duration = Duration::from_secs(60);

struct Machines {
    cluster: Cluster,
    keepers: Vec<Child>,
}

impl Machines {
    async fn start() -> Self {
        let cluster = Cluster::start_apart(Plan::example().unwrap()).await;
        let mut machines = Self { cluster, keepers: Vec::new() };
        for index in 0..3 {
            let keeper = machines.keeper(index).await;
            machines.keepers.push(keeper);
        }
        machines
    }

    /// With what `docs/cluster.md` says to bring to a server's machine.
    async fn keeper(&self, index: usize) -> Child {
        let dir = self.cluster.dir_of(index);
        let user = User::from(BusUser::Keeper);
        fs::create_dir_all(user.seed_path(&dir).parent().unwrap()).unwrap();
        fs::copy(user.seed_path(self.cluster.dir()), user.seed_path(&dir)).unwrap();
        let mut command = Command::new(AGENTBUS);
        command.args(["tenants", "sync", "--server", &self.cluster.url(index), "--dir"]).arg(&dir);
        let keeper = Child::spawn("keeper", command, &dir.join("keeper.log")).unwrap();
        self.until(&keeper, "keeps the accounts of server").await;
        keeper
    }

    async fn until(&self, keeper: &Child, says: &str) {
        let started = Instant::now();
        while !keeper.tail().contains(says) {
            assert!(started.elapsed() < SOON, "no keeper says {says:?}: {}", keeper.tail());
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// As an operator does, on one machine: with these tenants and agents beside the example's.
    async fn apply(&self, more: &[(&str, &[&str])]) -> anyhow::Result<ExitCode> {
        let more = more.iter().map(|(tenant, agents)| {
            let agents = agents.iter().map(|agent| format!("{agent} = {{}}\n")).collect::<String>();
            format!("\n[tenants.{tenant}.agents]\n{agents}")
        });
        let file = self.cluster.dir().join("tenants.toml");
        fs::write(&file, Plan::EXAMPLE.to_owned() + &more.collect::<String>()).unwrap();
        tenants(&["apply", "--dir", self.cluster.dir().to_str().unwrap(), "--server", &self.cluster.urls()])
            .await
    }

    /// At this server and no other.
    async fn agent(&self, (tenant, agent): (&str, &str), index: usize) -> Result<Client, ConnectError> {
        let user = User::Agent(tenant.parse().unwrap(), agent.parse().unwrap());
        let seed = Seed::read(&user.seed_path(self.cluster.dir())).unwrap();
        options(&user, &seed).ignore_discovered_servers().connect(self.cluster.url(index)).await
    }

    fn accounts(&self, index: usize) -> PathBuf {
        names::accounts_conf(&self.cluster.dir_of(index))
    }
}

/// A node at the first server stands in for all; each agent's request comes there, and what is delivered comes back.
async fn messages_cross(machines: &Machines, tenant: &str, agent: &str) {
    let seed = Seed::read(&User::from(BusUser::Node).seed_path(machines.cluster.dir())).unwrap();
    let node = options(&BusUser::Node.into(), &seed).connect(machines.cluster.url(0)).await.unwrap();
    let requests = names::requests_of_all_tenants(Verb::Send);
    let mut requests = node.queue_subscribe(requests, names::NODES_QUEUE.to_owned()).await.unwrap();
    node.flush().await.unwrap();
    for index in 0..3 {
        let client = machines.agent((tenant, agent), index).await.unwrap();
        let mut inbox = client.subscribe(format!("agent.{agent}.inbox")).await.unwrap();
        let started = Instant::now();
        // What one server knows of another's subscriptions comes a moment later.
        loop {
            let asked = client.request(format!("bus.{agent}.send"), "hello".into());
            let answering = async {
                let request = requests.next().await.unwrap();
                assert_eq!(request.subject.as_str(), format!("tenant.{tenant}.bus.{agent}.send"));
                node.publish(request.reply.unwrap(), "verdict".into()).await.unwrap();
                node.publish(format!("tenant.{tenant}.agent.{agent}.inbox"), "delivery".into())
                    .await
                    .unwrap();
            };
            let (answer, _) = tokio::join!(asked, timeout(Duration::from_secs(1), answering));
            let came = timeout(Duration::from_secs(1), inbox.next()).await;
            if let (Ok(answer), Ok(Some(delivery))) = (&answer, &came) {
                assert_eq!((&answer.payload[..], &delivery.payload[..]), (&b"verdict"[..], &b"delivery"[..]));
                break;
            }
            assert!(started.elapsed() < SOON, "{tenant}/{agent} at server {index}: {answer:?}, {came:?}");
        }
        println!("{tenant}/{agent} is served at server {index} after {:?}", started.elapsed());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_machine_applies_reaches_every_server_also_one_that_was_away() {
    let mut machines = Machines::start().await;
    let before = fs::read_to_string(machines.accounts(2)).unwrap();
    assert_eq!(machines.apply(&[("initech", &["clerk"])]).await.unwrap(), ExitCode::SUCCESS);
    let applied = fs::read_to_string(names::accounts_conf(machines.cluster.dir())).unwrap();
    assert!(applied != before && applied.contains("# Revision 2\n"), "{applied}");
    for index in 0..3 {
        assert_eq!(fs::read_to_string(machines.accounts(index)).unwrap(), applied, "server {index}");
    }
    messages_cross(&machines, "initech", "clerk").await;

    // A server that is away when an agent comes knows of it soon after its return.
    let boss = ("initech", "boss");
    machines.cluster.server_mut(2).child_mut().kill().await;
    let started = Instant::now();
    // It may have led JetStream, which takes a moment to have another leader.
    while let Err(error) = machines.apply(&[("initech", &["clerk", "boss"])]).await {
        assert!(started.elapsed() < SOON, "{error}");
        sleep(Duration::from_millis(200)).await;
    }
    assert!(machines.agent(boss, 1).await.is_ok());
    machines.cluster.server_mut(2).restart().await.unwrap();
    assert!(machines.agent(boss, 2).await.is_err(), "it was started with what it had");
    machines.until(&machines.keepers[2], "wrote revision 3, which was missed").await;
    messages_cross(&machines, "initech", "boss").await;

    // Where nobody keeps a server's accounts, that is said before anybody relies on them.
    let (hooli, plan) = (("hooli", "clerk"), [("initech", &["clerk", "boss"][..]), ("hooli", &["clerk"])]);
    machines.keepers[1].kill().await;
    let told = machines.apply(&plan).await.unwrap_err().to_string();
    assert!(
        told.contains("on nats-2, expected these on every server") && told.contains("tenants sync"),
        "{told}"
    );
    assert!(machines.agent(hooli, 0).await.is_ok() && machines.agent(hooli, 1).await.is_err());
    let mut keeper = machines.keeper(1).await;
    machines.until(&keeper, "wrote revision 4, which was missed").await;
    assert!(machines.agent(hooli, 1).await.is_ok());
    assert_eq!(machines.apply(&plan).await.unwrap(), ExitCode::SUCCESS);
    // A signal is heard, as the first process of a container has to.
    assert!(keeper.stop(SOON).await.0.success());
}
