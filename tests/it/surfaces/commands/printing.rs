//! Does every command end well where nobody reads what it prints, or the disk is full? Its own examples are run,
//! as a shell runs them, beside a bus with long names.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    path::Path,
    process::Stdio,
    time::Duration,
};

use agentbus::{
    client::Draft,
    domain::Encoding,
    tenants::{BusUser, Plan},
};
use async_nats::{HeaderMap, jetstream};
use futures_util::{StreamExt as _, stream};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::Command;

use super::{AGENTBUS, COLUMNS, commands, examples, fits};
use crate::{support::bus::Bus, surfaces::clients::text};

/// What has not ended by itself by then is asked to, as by Ctrl-C.
const ENDS_WITHIN: Duration = Duration::from_secs(3);
/// Lines that run at one time; most of them wait.
const AT_ONCE: usize = 8;
/// A development build stops its servers within this.
const STOPS_WITHIN: Duration = Duration::from_secs(60);
/// As long as a name can be.
const LONG: &str = "a-name-of-sixty-four-characters-which-nobody-would-choose-to-type";

struct Ended {
    code: Option<i32>,
    out: String,
    err: String,
}

/// A line of a shell, with the program of this build, and the data folder of the bus that runs in `folder`.
async fn shell(folder: &Path, line: &str, out: Stdio) -> Ended {
    let bin = Path::new(AGENTBUS).parent().unwrap();
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let mut command = Command::new("sh");
    command.args(["-c", line]).current_dir(folder).env("PATH", path).env("COLUMNS", COLUMNS.to_string());
    command.stdin(Stdio::null()).stdout(out).stderr(Stdio::piped()).process_group(0).kill_on_drop(true);
    let child = command.spawn().unwrap();
    let group = Pid::from_raw(child.id().unwrap().cast_signed()).unwrap();
    let ended = child.wait_with_output();
    tokio::pin!(ended);
    let ended = match tokio::time::timeout(ENDS_WITHIN, &mut ended).await {
        Ok(ended) => ended,
        Err(_) => {
            kill_process_group(group, Signal::INT).unwrap();
            tokio::time::timeout(STOPS_WITHIN, ended).await.unwrap_or_else(|_| panic!("{line} does not end"))
        }
    };
    let ended = ended.unwrap();
    Ended { code: ended.status.code(), out: text(&ended.stdout), err: text(&ended.stderr) }
}

/// The end of a pipe that nobody reads.
fn unread() -> Stdio {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    writer.into()
}

fn full() -> Stdio {
    File::options().write(true).open("/dev/full").unwrap().into()
}

async fn ends_well(folder: &Path, line: &str) {
    let read = shell(folder, line, Stdio::piped()).await;
    assert!(!read.err.contains("panicked"), "{line}: {}", read.err);
    let unread = shell(folder, line, unread()).await;
    for complaint in ["panicked", "Broken pipe"] {
        assert!(!unread.err.contains(complaint), "{line}, unread: {}", unread.err);
    }
    // What can be done once has nothing to print any more.
    let again = shell(folder, line, Stdio::piped()).await;
    let full = shell(folder, line, full()).await;
    assert!(!full.err.contains("panicked"), "{line}, on a full disk: {}", full.err);
    // What ended by a signal had its own time, and may have printed less.
    if !read.out.is_empty() && !again.out.is_empty() && full.code.is_some() {
        assert_eq!(full.code, Some(1), "{line}, on a full disk: {}", full.err);
        assert!(full.err.contains("No space left on device"), "{line}: {}", full.err);
    }
}

/// A bus as `agentbus up` leaves it in the folder it is started in, with something for every table.
async fn bus() -> (tempfile::TempDir, Bus) {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join(".agentbus");
    let long = &LONG[..64];
    let plan = format!(
        "{}\n[tenants.{long}.agents]\n{long} = {{ roles = [\"executive\"] }}\n\
         worker = {{ roles = [\"implementer\"] }}\njudge = {{ roles = [\"judicial\"] }}\n",
        Plan::EXAMPLE
    );
    let bus = Bus::with(1, |options| {
        options.dir = dir.clone();
        options.plan = Plan::parse(&plan).unwrap();
    })
    .await;
    fs::write(dir.join("tenants.toml"), &plan).unwrap();
    fs::write(folder.path().join("tenants.toml"), &plan).unwrap();
    let texts = "{\"text\": \"delete it\", \"high\": 1}\n{\"text\": \"hello\", \"high\": 0}\n";
    fs::write(folder.path().join("texts.jsonl"), texts).unwrap();

    bus.agent(long, "worker").await.register(&[]).await.unwrap();
    let node = jetstream::new(bus.stack.connect(BusUser::Node).await.unwrap());
    let mut headers = HeaderMap::new();
    for (name, value) in [("Agentbus-Reason", "no_capable_agent"), ("Agentbus-Detail", "nobody can sum")] {
        headers.insert(name, value);
    }
    for (tenant, sender, id) in [("acme", "planner", "m1"), (long, long, long)] {
        let draft = Draft { message_id: id.to_owned(), ..Draft::to_agent("worker", "hello") };
        let payload = draft.encode(Encoding::Json);
        let subject = format!("dead.{tenant}.{sender}.{id}");
        node.publish_with_headers(subject, headers.clone(), payload).await.unwrap().await.unwrap();
    }
    (folder, bus)
}

#[tokio::test(flavor = "multi_thread")]
async fn no_example_of_any_command_panics_where_nobody_reads_or_the_disk_is_full() {
    let (folder, bus) = bus().await;
    let lines = commands().into_iter().flat_map(|command| {
        let help = format!("{} --help", command.join(" "));
        std::iter::once(help).chain(examples(&command))
    });
    // Groups show examples of their members.
    let lines: BTreeSet<String> = lines.collect();
    // What changes the tenants is in the way of all others.
    let (alone, others): (Vec<_>, Vec<_>) = lines.iter().partition(|line| line.contains(" tenants "));
    stream::iter(others).for_each_concurrent(AT_ONCE, |line| ends_well(folder.path(), line)).await;
    stream::iter(alone).for_each(|line| ends_well(folder.path(), line)).await;
    bus.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_table_fits_eighty_columns_whatever_the_names_are() {
    let (folder, bus) = bus().await;
    let long = &LONG[..64];
    let run = async |line: &str| shell(folder.path(), line, Stdio::piped()).await.out;
    let send = format!("agentbus send --as {long}/{long} --to worker --type command --priority critical x");
    let parked = run(&send).await;
    let id = parked.split_whitespace().find(|word| word.len() == 24).unwrap_or_default().to_owned();
    for (line, holds) in [
        ("tenants list".to_owned(), "judicial"),
        (format!("deliberations list --as {long}/judge"), "votes"),
        (format!("deliberations show --as {long}/judge {id}"), "voters"),
        ("dead-letters list".to_owned(), "no_capable_agent"),
        (format!("dead-letters show {long}/{long}/{long}"), "no_capable_agent"),
        (format!("agents --as {long}/judge"), "worker"),
    ] {
        let shown = run(&format!("agentbus {line}")).await;
        assert!(!shown.is_empty() && shown.contains(holds), "{line}: {shown}");
        // A command to type is one line, however long its names are.
        let tables: Vec<&str> = shown.lines().filter(|line| !line.contains("agentbus ")).collect();
        fits(&line, &tables.join("\n"));
    }
    bus.stop().await;
}
