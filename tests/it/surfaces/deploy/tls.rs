//! Does everything that a node speaks go by TLS, with certificates on both sides, and nothing without? And do renewed
//! certificates count while it runs?

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Output, Stdio},
    time::{Duration, Instant},
};

use agentbus::{
    client::{AgentClient, Draft},
    domain::{Encoding, Status},
    servers::{self, NatsOptions, NatsServer, Tool},
    tenants::{
        self, BusUser, Plan, Seed, ServerConf, StoreSettings, User, connect, provision, render_server_conf,
    },
    tls::{Files, Identity, Server},
};
use base64::Engine as _;
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    process::{Child, Command},
    time::{sleep, timeout},
};

use super::tool;
use crate::support::{bus, root, servers::port};

const A_WHILE: Duration = Duration::from_secs(60);
const PASSWORD: &str = "hunter2";

#[tokio::test(flavor = "multi_thread")]
async fn all_goes_by_tls_and_nothing_without_and_renewed_certificates_count() {
    if tool("openssl").is_none() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let certificates = folder.path().join("tls");
    make(&certificates, &["nats", "redis", "node", "agent"]);
    let (nats, server) = nats(&folder, &certificates).await;
    let (_redis, redis_port) = redis(&folder, &certificates);
    let http = port();
    let config = node_config(&folder, &certificates, &server.url, (redis_port, http));
    let mut node = agentbus(&["node", "--config", &config]);
    let _node = node.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    healthy(&config).await;

    let agent = async |name: &str| {
        let user = User::Agent("acme".parse().unwrap(), name.parse().unwrap());
        let seed = Seed::read(&user.seed_path(folder.path())).unwrap();
        AgentClient::connect(&server, &name.parse().unwrap(), seed.reveal()).await.unwrap()
    };
    let (planner, worker) = (agent("planner").await, agent("worker").await);
    worker.register(&[]).await.unwrap();
    let _inbox = worker.inbox().await.unwrap();
    let hello = async || {
        let message = Draft::to_agent("worker", "hello").encode(Encoding::Json);
        bus::send(&planner, message).await.status
    };
    assert_eq!(hello().await, Status::Delivered);
    let status = operator(&folder, &certificates, &server.url).await;
    assert!(status.status.success(), "{}", String::from_utf8_lossy(&status.stderr));

    // In the clear, nobody is let in.
    assert!(async_nats::connect(nats.url()).await.is_err());
    for at in [redis_port, http] {
        let said = in_the_clear(at).await;
        assert!(!said.contains("PONG") && !said.contains("HTTP"), "{said}");
    }
    // Nor who shows no certificate, or one of another authority.
    make(&folder.path().join("others"), &["agent"]);
    let trusting = Files { identity: None, ..files(&certificates, "agent") };
    let stranger =
        Files { identity: files(&folder.path().join("others"), "agent").identity, ..trusting.clone() };
    for files in [trusting, stranger] {
        let server = Server { files, ..server.clone() };
        assert!(connect(&server, folder.path(), BusUser::Operator).await.is_err());
    }

    make(&certificates, &["node"]);
    // By its new certificate alone: that is what it asks for.
    healthy(&config).await;
    assert_eq!(hello().await, Status::Delivered);
}

/// Certificates as a developer makes them.
fn make(folder: &Path, names: &[&str]) {
    let made = std::process::Command::new(root().join("deploy/tls")).arg(folder).args(names).output();
    let made = made.unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
}

fn file(folder: &Path, name: &str) -> String {
    folder.join(name).to_string_lossy().into_owned()
}

fn files(folder: &Path, name: &str) -> Files {
    let part = |suffix: &str| -> PathBuf { folder.join(format!("{name}{suffix}")) };
    let identity = Identity { certificate: part(".pem"), key: part(".key.pem") };
    Files { ca: Some(folder.join("ca.pem")), identity: Some(identity) }
}

/// A server with the accounts of the example, that wants to see certificates.
async fn nats(folder: &TempDir, certificates: &Path) -> (NatsServer, Server) {
    let (dir, plan) = (folder.path(), Plan::example().unwrap());
    plan.generate(dir).unwrap();
    let [cert, key, ca] = ["nats.pem", "nats.key.pem", "ca.pem"].map(|name| file(certificates, name));
    let tls = format!("tls {{ cert_file: {cert:?}, key_file: {key:?}, ca_file: {ca:?}, verify: true }}\n");
    let config = tenants::names::server_conf(dir);
    let text = render_server_conf(&ServerConf::local(None, dir.join("js")));
    fs::write(&config, text + &tls).unwrap();
    let options = NatsOptions { name: "nats".into(), config, folder: dir.into(), port: 0 };
    let nats = NatsServer::start(options).await.unwrap();
    let url = nats.url().replace("nats://127.0.0.1", "tls://localhost");
    let server = Server { url, files: files(certificates, "agent") };
    let provisioner = connect(&server, dir, BusUser::Provisioner).await.unwrap();
    provision(&provisioner, &plan, &StoreSettings::default()).await.unwrap();
    (nats, server)
}

fn redis(folder: &TempDir, certificates: &Path) -> (Child, u16) {
    let port = port();
    let mut command = Command::new(servers::find(Tool::RedisServer).unwrap());
    command.args(["--port", "0", "--tls-port", &port.to_string(), "--bind", "127.0.0.1", "--save", ""]);
    command.args(["--tls-auth-clients", "yes", "--requirepass", PASSWORD, "--dir"]).arg(folder.path());
    for (key, name) in [("cert", "redis.pem"), ("key", "redis.key.pem"), ("ca-cert", "ca.pem")] {
        command.arg(format!("--tls-{key}-file")).arg(file(certificates, name));
    }
    let started = command.stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true).spawn();
    (started.unwrap(), port)
}

fn node_config(folder: &TempDir, certificates: &Path, nats: &str, (redis, http): (u16, u16)) -> String {
    let secret = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path
    };
    let password = secret("redis.password", PASSWORD);
    let seal = secret("seal.key", &base64::engine::general_purpose::STANDARD.encode([7; 32]));
    let seed = User::Bus(BusUser::Node).seed_path(folder.path());
    let [ca, cert, key] = ["ca.pem", "node.pem", "node.key.pem"].map(|name| file(certificates, name));
    let shown = format!("certificate_file = {cert:?}\nkey_file = {key:?}\n");
    let text = format!(
        "impact.scorer = \"keywords\"\nregistry.ttl = \"10m\"\n\
         [nats]\nurl = {nats:?}\nnkey_file = {seed:?}\n[nats.tls]\nca_file = {ca:?}\n{shown}\
         [redis]\nurl = \"rediss://localhost:{redis}\"\npassword_file = {password:?}\nseal_key_file = {seal:?}\n\
         [redis.tls]\nca_file = {ca:?}\n{shown}\
         [http]\nlisten = \"127.0.0.1:{http}\"\n[http.tls]\nclient_ca_file = {ca:?}\n{shown}"
    );
    let path = folder.path().join("node.toml");
    fs::write(&path, text).unwrap();
    path.to_string_lossy().into_owned()
}

fn agentbus(words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_agentbus"));
    command.args(words).kill_on_drop(true);
    command
}

/// Waits until the node says that it is well, by the certificate that its files hold now.
async fn healthy(config: &str) {
    let began = Instant::now();
    loop {
        let asked = agentbus(&["health", "--config", config]).output().await.unwrap();
        let said = String::from_utf8_lossy(&asked.stdout) + String::from_utf8_lossy(&asked.stderr);
        // Degraded will not do: Redis has to take what the node writes.
        if asked.status.success() && said.starts_with("ready") {
            return;
        }
        assert!(began.elapsed() < A_WHILE, "the node does not say that it is well: {said}");
        sleep(Duration::from_millis(100)).await;
    }
}

/// As an operator who has a certificate looks at the nodes.
async fn operator(folder: &TempDir, certificates: &Path, server: &str) -> Output {
    let [ca, cert, key] = ["ca.pem", "agent.pem", "agent.key.pem"].map(|name| file(certificates, name));
    let mut status = agentbus(&["status", "--server", server, "--ca-file", &ca]);
    status.args(["--certificate-file", &cert, "--key-file", &key, "--dir"]).arg(folder.path());
    status.output().await.unwrap()
}

/// What a server says to who speaks no TLS.
async fn in_the_clear(port: u16) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    stream.write_all(b"PING\r\nGET /livez HTTP/1.0\r\n\r\n").await.unwrap();
    let mut said = Vec::new();
    let _ = timeout(A_WHILE, stream.read_to_end(&mut said)).await.unwrap();
    String::from_utf8_lossy(&said).into_owned()
}
