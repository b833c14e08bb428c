//! What can be had by way of Redis, of files, and of signals?

use std::{os::unix::fs::PermissionsExt as _, path::Path, process::Output, time::Duration};

use agentbus::{
    client::{Draft, Patience},
    domain::{Encoding, Status},
    tenants::User,
};
use anyhow::Context as _;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    process::Command,
    time::timeout,
};

use super::field::Field;

const ANSWER_MAX: Duration = Duration::from_secs(2);
/// Of one run of the program.
const RUN_MAX: Duration = Duration::from_secs(20);

pub(crate) async fn play(field: &mut Field) -> anyhow::Result<()> {
    let redis = field.stack().redis().context("there is a Redis")?;
    let (port, password) = (redis.port(), redis.operator_password().to_owned());
    for command in
        ["GET a", "SET a b", "KEYS *", "FLUSHALL", "CONFIG GET *", "SCAN 0", "CLIENT LIST", "HELLO 3"]
    {
        let gained = async {
            let said = redis_says(port, &[command]).await?;
            Ok((!said.starts_with("-NOAUTH")).then_some(said))
        };
        let gained = gained.await;
        field.judge(format!("Redis without a password: {command}"), gained).await?;
    }
    forged(field, port, &password).await?;
    files(field).await?;
    for node in 0..2 {
        field.hang_up(node)?;
        tokio::time::sleep(Duration::from_millis(200)).await;
        field.judge(format!("SIGHUP to node {}", node + 1), Ok(None)).await?;
    }
    Ok(())
}

/// Somebody who has the password of Redis writes verdicts and registrations.
async fn forged(field: &mut Field, port: u16, password: &str) -> anyhow::Result<()> {
    let login = format!("AUTH {password}");
    let mallory = field.client("globex", "mallory").await?;
    // Who listens, so that what is let through arrives.
    let _sink = field.client("globex", "sink").await?.inbox().await?;
    let told = r#"{"status":"delivered","reason":"delivered","code":200,"detail":"","node":"n"}"#;
    let zeros = "0".repeat(32);
    let garbage = "x".repeat(2_000);
    for (what, value) in [
        ("JSON that says delivered", told),
        ("a settled entry of zeros", &zeros),
        ("garbage", "garbage"),
        ("2,000 letters", &garbage),
    ] {
        let draft = Draft::to_agent("sink", "the weekly summary is ready");
        let key = format!("agentbus:{{globex}}:msg:mallory:{}", draft.message_id);
        let set = format!("SET {key} S{value} PX 20000");
        let gained = async {
            redis_says(port, &[&login, &set.replace(": ", ":")]).await?;
            let request =
                async_nats::Request::new().payload(draft.encode(Encoding::Json)).timeout(Some(ANSWER_MAX));
            let answer = mallory.nats().send_request("bus.mallory.send", request).await?;
            let verdict = agentbus::wire::decode_verdict(&answer.payload)?;
            Ok((verdict.status == Status::Delivered).then(|| "told delivered".to_owned()))
        };
        let gained = gained.await;
        field.judge(format!("a forged verdict: {what}"), gained).await?;
    }
    for (what, commands) in [
        ("a registration that is garbage", vec!["SET agentbus:{globex}:agent:ghost garbage PX 20000"]),
        ("a registration of another type", vec!["LPUSH agentbus:{globex}:agent:ghost x"]),
        (
            "members that are no ids",
            vec![
                "ZADD agentbus:{globex}:agents 99999999999999 \u{202e}",
                "ZADD agentbus:{globex}:agents NaN x",
            ],
        ),
        ("an index of another type", vec!["DEL agentbus:{globex}:cap:x", "SET agentbus:{globex}:cap:x y"]),
    ] {
        let gained = async {
            let commands: Vec<&str> = std::iter::once(login.as_str()).chain(commands).collect();
            redis_says(port, &commands).await?;
            let draft = Draft::to_agent("sink", "the weekly summary is ready");
            let verdict = mallory.send(draft.encode(Encoding::Json), Patience::default()).await?;
            Ok((verdict.status != Status::Delivered)
                .then(|| format!("{:?}: {}", verdict.reason, verdict.detail)))
        };
        let gained = gained.await;
        field.judge(format!("in Redis: {what}"), gained).await?;
    }
    Ok(())
}

/// The answer to the last command.
async fn redis_says(port: u16, commands: &[&str]) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    let mut said = String::new();
    for command in commands {
        let words: Vec<&str> = command.split(' ').collect();
        let mut request = format!("*{}\r\n", words.len());
        for word in words {
            request.push_str(&format!("${}\r\n{word}\r\n", word.len()));
        }
        stream.write_all(request.as_bytes()).await?;
        let mut buffer = vec![0; 4096];
        let count = timeout(ANSWER_MAX, stream.read(&mut buffer)).await.context("Redis says nothing")??;
        said = String::from_utf8_lossy(buffer.get(..count).unwrap_or_default()).into_owned();
    }
    Ok(said)
}

/// A key that others can read is not used.
async fn files(field: &mut Field) -> anyhow::Result<()> {
    let seed = field.stack().seed_path(&User::Agent("globex".parse()?, "sink".parse()?));
    for mode in [0o644, 0o640, 0o604, 0o660, 0o666] {
        let gained = async {
            set_mode(&seed, mode)?;
            let Output { status, stderr, .. } = send(field, "globex/sink").await?;
            let said = String::from_utf8_lossy(&stderr).into_owned();
            let refused = !status.success() && said.contains("chmod 600");
            Ok((!refused).then(|| format!("exit {status}: {said}")))
        };
        let gained = gained.await;
        set_mode(&seed, 0o600)?;
        field.judge(format!("a key file of mode {mode:o}"), gained).await?;
    }
    Ok(())
}

fn set_mode(path: &Path, mode: u32) -> std::io::Result<()> {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
}

async fn send(field: &Field, sender: &str) -> anyhow::Result<Output> {
    let mut command = Command::new(&field.agentbus);
    command.arg("send").args(["--as", sender, "--to", "worker", "--dir"]).arg(field.dir());
    command.arg("the weekly summary is ready").kill_on_drop(true);
    Ok(timeout(RUN_MAX, command.output()).await??)
}
