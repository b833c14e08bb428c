//! What can be had by way of Redis, of files, and of signals?

use std::{os::unix::fs::PermissionsExt as _, path::Path, time::Duration};

use agentbus::tenants::{BusUser, User};
use anyhow::Context as _;

use super::{
    ATTACKED_FROM, NODES, cli,
    field::Field,
    redis::{Redis, Reply},
};

pub(crate) async fn play(field: &mut Field) -> anyhow::Result<()> {
    let port = field.stack().redis().context("there is a Redis")?.port();
    for command in
        ["GET a", "SET a b", "KEYS *", "FLUSHALL", "CONFIG GET *", "SCAN 0", "CLIENT LIST", "HELLO 3"]
    {
        let gained = async {
            let words: Vec<&[u8]> = command.split(' ').map(str::as_bytes).collect();
            let answer = Redis::open(port).await?.ask(&words).await?;
            let refused = matches!(&answer, Reply::Refused(why) if why.starts_with("NOAUTH"));
            Ok((!refused).then(|| format!("{answer:?}")))
        };
        let gained = gained.await;
        field.judge(format!("Redis without a password: {command}"), gained).await?;
    }
    files(field).await?;
    for node in 0..NODES {
        field.hang_up(node)?;
        tokio::time::sleep(Duration::from_millis(200)).await;
        field.judge(format!("SIGHUP to node {}", node + 1), Ok(None)).await?;
    }
    Ok(())
}

/// A secret that others can read is not used.
async fn files(field: &mut Field) -> anyhow::Result<()> {
    let key = field.stack().seed_path(&User::Agent(ATTACKED_FROM.parse()?, "sink".parse()?));
    let node = field.stack().seed_path(&User::Bus(BusUser::Node));
    let secret = field.dir().join("webhook.secret");
    std::fs::write(&secret, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n")?;
    set_mode(&secret, 0o600)?;
    let webhook = format!("webhook.secret_file={}", secret.display());
    let node = node.display().to_string();
    let (url, sink) = ("webhook.url=http://127.0.0.1:1", format!("{ATTACKED_FROM}/sink"));
    let send = ["send", "--as", &sink, "--to", "worker", "the weekly summary is ready"];
    let check = ["config", "check", "--nkey-file", &node, "--set", url, "--set", &webhook];
    for (what, path, args) in
        [("an agent's key", &key, &send[..]), ("a webhook's secret", &secret, &check[..])]
    {
        for mode in [0o644, 0o640, 0o604, 0o660, 0o666] {
            let (program, folder) = (field.agentbus.clone(), field.dir().to_owned());
            let gained = async {
                set_mode(path, mode)?;
                let ran = cli::agentbus(&program, &folder, args).await?;
                let refused = !ran.success && ran.err.contains("chmod 600");
                Ok((!refused).then(|| format!("it was used: {}{}", ran.out, ran.err)))
            };
            let gained = gained.await;
            set_mode(path, 0o600)?;
            field.judge(format!("{what} in a file of mode {mode:o}"), gained).await?;
        }
    }
    Ok(())
}

fn set_mode(path: &Path, mode: u32) -> std::io::Result<()> {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
}
