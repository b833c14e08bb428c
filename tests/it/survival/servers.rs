//! Do the servers that everything else runs on come up, stay known, and go without a trace?

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{Ipv4Addr, TcpListener, TcpStream},
    os::unix::fs::PermissionsExt as _,
    path::Path,
    time::Duration,
};

use agentbus::{
    servers::{
        NatsOptions, NatsServer, Ports, RedisData, RedisServer, ServerError, Stack, StackError, StackOptions,
        folder::{FolderError, Running},
    },
    tenants::{BusUser, Plan, names},
};
use tokio::time::timeout;

use crate::support::servers::{nats, redis, redis_options};

const JETSTREAM: &str = "jetstream { store_dir: \"{folder}/js\" }";

fn alive(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

fn answers(port: u16) -> bool {
    TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok()
}

/// No node: what these tests promise holds without one.
fn options(dir: &Path) -> StackOptions {
    let plan = Plan::example().unwrap();
    StackOptions { nodes: 0, ..StackOptions::new(dir, plan, env!("CARGO_BIN_EXE_agentbus")) }
}

#[tokio::test]
async fn a_nats_server_that_is_ready_stores_a_message_at_once() {
    let (server, _folder) = nats(JETSTREAM).await;
    let client = async_nats::connect(server.url()).await.unwrap();
    let context = async_nats::jetstream::new(client);
    let config = async_nats::jetstream::stream::Config { name: "S".into(), ..Default::default() };
    context.create_stream(config).await.unwrap();
    context.publish("S", "hello".into()).await.unwrap().await.unwrap();
}

#[tokio::test]
async fn a_killed_nats_server_is_noticed_and_comes_back_on_its_port_with_its_data() {
    let (mut server, _folder) = nats(JETSTREAM).await;
    let (port, pid) = (server.port(), server.child().pid());
    let client = async_nats::connect(server.url()).await.unwrap();
    let context = async_nats::jetstream::new(client);
    let config = async_nats::jetstream::stream::Config { name: "S".into(), ..Default::default() };
    context.create_stream(config).await.unwrap();

    server.child_mut().kill().await;
    assert!(!alive(pid) && !answers(port));
    server.restart().await.unwrap();
    assert_eq!(server.port(), port);
    let client = async_nats::connect(server.url()).await.unwrap();
    async_nats::jetstream::new(client).get_stream("S").await.unwrap();
}

#[tokio::test]
async fn a_reload_is_waited_for_and_a_refused_one_is_told() {
    let (mut server, folder) = nats("max_payload: 4096").await;
    let path = folder.path().join("server.conf");
    fs::write(&path, "max_payload: 8192").unwrap();
    server.reload().await.unwrap();
    let client = async_nats::connect(server.url()).await.unwrap();
    assert_eq!(client.server_info().max_payload, 8192);
    fs::write(&path, "max_payload: nonsense").unwrap();
    let error = server.reload().await.unwrap_err();
    assert!(matches!(&error, ServerError::NotReady { last, .. } if last.contains("refused")), "{error}");
}

#[tokio::test]
async fn a_server_that_cannot_start_says_so_in_its_own_words() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("bad.conf");
    fs::write(&config, "no_such_setting: 1").unwrap();
    let options = NatsOptions { name: "nats".into(), config, folder: folder.path().into(), port: 0 };
    let error = NatsServer::start(options).await.unwrap_err();
    assert!(
        matches!(&error, ServerError::EndedEarly { tail, .. } if tail.contains("no_such_setting")),
        "{error}"
    );
}

#[tokio::test]
async fn redis_stopped_and_started_again_answers_on_the_same_port() {
    let (mut server, _folder) = redis().await;
    let (port, pid) = (server.port(), server.child().pid());
    server.stop().await;
    assert!(!alive(pid) && !answers(port));
    server.restart().await.unwrap();
    assert_eq!(server.port(), port);
    assert!(answers(port));
}

#[tokio::test]
async fn another_server_on_the_port_is_never_mistaken_for_our_redis() {
    let (first, _folder) = redis().await;
    let folder = tempfile::tempdir().unwrap();
    let options = redis_options(&folder, first.port(), RedisData::InMemory);
    let error = RedisServer::start(options).await.unwrap_err();
    assert!(matches!(&error, ServerError::EndedEarly { tail, .. } if tail.contains("in use")), "{error}");
}

#[tokio::test]
async fn a_redis_comes_back_with_what_it_has_on_disk_even_when_it_was_killed() {
    for (data, expected) in [(RedisData::OnDisk, "$5\r\nvalue\r\n"), (RedisData::InMemory, "$-1\r\n")] {
        let folder = tempfile::tempdir().unwrap();
        let mut server = RedisServer::start(redis_options(&folder, 0, data)).await.unwrap();
        assert_eq!(tell(&server, "SET key value"), "+OK\r\n");
        server.child_mut().kill().await;
        server.restart().await.unwrap();
        assert_eq!(tell(&server, "GET key"), expected, "{data:?}");
    }
}

#[tokio::test]
async fn a_redis_lets_nobody_in_without_a_password_that_nobody_else_can_read() {
    let (server, folder) = redis().await;
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, server.port())).unwrap();
    stream.write_all(b"GET key\r\nQUIT\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("-NOAUTH"), "{answer}");
    let arguments = fs::read(format!("/proc/{}/cmdline", server.child().pid())).unwrap();
    let arguments = String::from_utf8_lossy(&arguments).into_owned();
    for name in ["node.password", "operator.password", "redis.conf"] {
        let path = folder.path().join(name);
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{name}");
        let text = fs::read_to_string(&path).unwrap();
        if name != "redis.conf" {
            assert!(!arguments.contains(text.trim()), "{arguments}");
            assert!(!fs::read_to_string(folder.path().join("redis.conf")).unwrap().contains(text.trim()));
        }
    }
}

/// One command in Redis's inline form, and its answer.
fn tell(server: &RedisServer, command: &str) -> String {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, server.port())).unwrap();
    let password = server.operator_password();
    stream.write_all(format!("AUTH {password}\r\n{command}\r\nQUIT\r\n").as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.strip_prefix("+OK\r\n").unwrap().strip_suffix("+OK\r\n").unwrap().to_owned()
}

#[tokio::test]
async fn dropped_servers_leave_no_process() {
    let (nats, _one) = nats(JETSTREAM).await;
    let (redis, _two) = redis().await;
    let pids = [nats.child().pid(), redis.child().pid()];
    let ports = [nats.port(), redis.port()];
    drop((nats, redis));
    assert!(!pids.into_iter().any(alive) && !ports.into_iter().any(answers));
}

#[tokio::test]
async fn a_stack_has_accounts_streams_and_a_page_for_other_tools_and_leaves_nothing_running() {
    let dir = tempfile::tempdir().unwrap();
    let mut stack = Stack::start(options(dir.path())).await.unwrap();
    let running = Running::read(dir.path()).unwrap();
    assert_eq!((running.nats_url, running.redis_url), (stack.nats_url(), stack.redis_url()));
    stack.connect(BusUser::Operator).await.unwrap();
    let tenants = async_nats::jetstream::new(stack.connect(BusUser::Provisioner).await.unwrap());
    assert_eq!(
        tenants.get_key_value(names::TENANTS_BUCKET).await.unwrap().status().await.unwrap().values(),
        2
    );

    let pids = [stack.nats().child().pid(), stack.redis_mut().unwrap().child().pid()];
    let names: Vec<_> = stack.stop().await.into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["redis", "nats"]);
    assert!(!pids.into_iter().any(alive));
    assert_eq!(Running::read(dir.path()), None);
}

#[tokio::test]
async fn a_stack_keeps_its_keys_and_its_data_over_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let stack = Stack::start(options(dir.path())).await.unwrap();
    let seed = fs::read(dir.path().join("keys/acme/planner.nk")).unwrap();
    stack.stop().await;
    let stack = Stack::start(options(dir.path())).await.unwrap();
    assert_eq!(fs::read(dir.path().join("keys/acme/planner.nk")).unwrap(), seed);
    stack.stop().await;
}

#[tokio::test]
async fn a_second_stack_in_the_same_folder_is_refused_and_the_first_runs_on() {
    let dir = tempfile::tempdir().unwrap();
    let first = Stack::start(options(dir.path())).await.unwrap();
    let error = Stack::start(options(dir.path())).await.unwrap_err();
    assert!(matches!(error, StackError::Folder(FolderError::InUse { .. })), "{error}");
    first.connect(BusUser::Operator).await.unwrap();
}

#[tokio::test]
async fn a_taken_port_is_named_with_its_holder_and_the_flag_that_helps() {
    let dir = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let ports = Ports { nats: taken.local_addr().unwrap().port(), ..Ports::FREE };
    let error = Stack::start(StackOptions { ports, ..options(dir.path()) }).await.unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, StackError::PortTaken { flag: "--port", .. }), "{text}");
    assert!(text.contains(&format!("pid {}", std::process::id())), "{text}");
}

#[tokio::test]
async fn several_nodes_without_redis_are_refused_before_anything_starts() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("data");
    let error = Stack::start(StackOptions { nodes: 2, redis: false, ..options(&path) }).await.unwrap_err();
    assert!(matches!(error, StackError::NodesNeedRedis { nodes: 2 }), "{error}");
    assert!(!path.exists());
}

#[tokio::test]
async fn the_death_of_any_child_is_told_with_its_name_and_last_lines() {
    let dir = tempfile::tempdir().unwrap();
    let mut stack = Stack::start(options(dir.path())).await.unwrap();
    assert!(timeout(Duration::from_millis(200), stack.death()).await.is_err());
    stack.redis_mut().unwrap().child_mut().kill().await;
    let death = timeout(Duration::from_secs(60), stack.death()).await.unwrap();
    assert_eq!((death.name.as_str(), death.exit.to_string().as_str()), ("redis", "killed by SIGKILL"));
    assert!(death.tail.contains("Ready to accept connections"), "{death}");
}
