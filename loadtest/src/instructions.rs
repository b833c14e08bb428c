//! How many instructions does each stage of a message take, and has one become dearer?
//!
//! Seconds differ from one run to the next; instructions hardly do, and not with what else the machine has to do. This
//! program runs itself by valgrind's callgrind, which writes one profile for each stage, and the counts are held
//! against those in a file of the repository. Who means to make a stage dearer writes that file anew, so that a change
//! shows it.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context as _, bail, ensure};
use serde::{Deserialize, Serialize};

use crate::{hot, options::InstructionsOptions, tables::table};

/// Percent more than recorded that are a fault.
const RISE_MAX: u64 = 5;
/// Times that a stage is done before it is counted, for what is remembered to be there.
const WARM_UP: u32 = 8;
const COUNTED: u32 = 64;
const COUNTED_NAME: &str = "loadtest::instructions::counted";
/// Of a file of counts.
const FILE_MAX: u64 = 64 * 1024;

/// What a file says. Counts of another build, compiler or valgrind are others.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Counts {
    /// Whether it was a development build, as tests make it.
    build: String,
    /// For each stage, once.
    instructions: BTreeMap<String, u64>,
}

/// `loadtest work`: what callgrind watches.
pub(crate) fn work() -> anyhow::Result<()> {
    hot::stages(|_, work| {
        (0..WARM_UP).for_each(|_| work());
        counted(work);
    })
}

/// Callgrind knows it by its name, [`COUNTED_NAME`].
#[inline(never)]
fn counted(work: &mut dyn FnMut()) {
    (0..COUNTED).for_each(|_| work());
}

/// `loadtest instructions`.
pub(crate) fn run(options: &InstructionsOptions) -> anyhow::Result<()> {
    let found = count().context("valgrind")?;
    if options.write {
        let text = toml::to_string(&found)?;
        fs::write(&options.recorded, text).with_context(|| options.recorded.display().to_string())?;
        println!("{}", shown(&found, &found));
        return Ok(());
    }
    let recorded = read(&options.recorded)?;
    ensure!(
        recorded.build == found.build,
        "{}: found counts of a build that is {:?}, expected {:?}, as this one is",
        options.recorded.display(),
        recorded.build,
        found.build
    );
    println!("{}", shown(&recorded, &found));
    judge(&recorded, &found)
}

fn read(path: &Path) -> anyhow::Result<Counts> {
    let at = || path.display().to_string();
    let bytes = fs::metadata(path).with_context(at)?.len();
    ensure!(bytes <= FILE_MAX, "{}: found {bytes} bytes, expected at most {FILE_MAX}", path.display());
    toml::from_str(&fs::read_to_string(path).with_context(at)?).with_context(at)
}

/// Runs this program by callgrind, and reads what it wrote: two files for each stage, in order.
fn count() -> anyhow::Result<Counts> {
    let folder = tempfile::Builder::new().prefix("agentbus-loadtest-").tempdir()?;
    let output = Command::new("valgrind")
        .arg("--tool=callgrind")
        .args([format!("--dump-before={COUNTED_NAME}"), format!("--dump-after={COUNTED_NAME}")])
        .arg(format!("--callgrind-out-file={}", folder.path().join("stage").display()))
        .arg(std::env::current_exe()?)
        .arg("work")
        .stdin(Stdio::null())
        .output()
        .context("it cannot be run; deploy/install-servers --clients installs it")?;
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success(), "it has failed ({}):\n{told}", output.status);
    let mut names = Vec::new();
    hot::stages(|stage, _| names.push(stage.name))?;
    let mut instructions = BTreeMap::new();
    for (at, name) in names.iter().enumerate() {
        // The one before is of what came before the stage.
        let file = folder.path().join(format!("stage.{}", 2 * (at + 1)));
        let text = fs::read_to_string(&file).with_context(|| format!("no profile of {name}:\n{told}"))?;
        let total = total(&text).with_context(|| format!("no total in the profile of {name}"))?;
        instructions.insert((*name).to_owned(), total / u64::from(COUNTED));
    }
    let build = if cfg!(debug_assertions) { "development" } else { "optimised" };
    Ok(Counts { build: build.to_owned(), instructions })
}

/// Of a profile as callgrind writes it.
fn total(profile: &str) -> Option<u64> {
    let line = profile.lines().find_map(|line| line.strip_prefix("totals: "))?;
    line.split_whitespace().next()?.parse().ok()
}

fn shown(recorded: &Counts, found: &Counts) -> String {
    let mut table = table(&["stage", "recorded", "found", "more %"]);
    for (name, now) in &found.instructions {
        let before = recorded.instructions.get(name);
        table.add_row([
            name.clone(),
            before.map_or("–".to_owned(), u64::to_string),
            now.to_string(),
            before.map_or("–".to_owned(), |&before| format!("{:+.1}", more(before, *now))),
        ]);
    }
    format!("Instructions of each stage for one message of {} B.\n\n{table}", hot::BYTES)
}

fn more(before: u64, now: u64) -> f64 {
    (now as f64 / before.max(1) as f64 - 1.0) * 100.0
}

/// Fails on a stage that takes more, and on one that nobody has recorded.
fn judge(recorded: &Counts, found: &Counts) -> anyhow::Result<()> {
    let mut faults = Vec::new();
    for (name, &now) in &found.instructions {
        match recorded.instructions.get(name) {
            None => faults.push(format!("{name}: found {now}, and nothing is recorded")),
            Some(&before) if now * 100 > before * (100 + RISE_MAX) => {
                faults.push(format!("{name}: found {now}, expected at most {RISE_MAX} % more than {before}"));
            }
            Some(_) => {}
        }
    }
    let gone = recorded.instructions.keys().filter(|name| !found.instructions.contains_key(*name));
    faults.extend(gone.map(|name| format!("{name}: recorded, and no stage any more")));
    match faults.is_empty() {
        true => Ok(()),
        false => bail!(
            "{}\nWhere that is meant, `target/debug/loadtest instructions --write` records it, and the change says why",
            faults.join("\n")
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(of: &[(&str, u64)]) -> Counts {
        let instructions = of.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect();
        Counts { build: "development".to_owned(), instructions }
    }

    #[test]
    fn a_stage_that_takes_more_or_is_not_recorded_fails_and_one_that_takes_less_does_not() {
        let recorded = counts(&[("decode", 1000), ("record", 2000)]);
        for (found, words) in [
            (vec![("decode", 1050), ("record", 2100)], None),
            (vec![("decode", 500), ("record", 2000)], None),
            (
                vec![("decode", 1051), ("record", 2000)],
                Some("decode: found 1051, expected at most 5 % more than 1000"),
            ),
            (vec![("decode", 1000)], Some("record: recorded, and no stage any more")),
            (
                vec![("decode", 1000), ("record", 1), ("new", 3)],
                Some("new: found 3, and nothing is recorded"),
            ),
        ] {
            let told = judge(&recorded, &counts(&found)).err().map(|error| error.to_string());
            match words {
                None => assert_eq!(told, None),
                Some(words) => assert!(told.unwrap().contains(words), "{found:?}"),
            }
        }
    }

    #[test]
    fn a_total_is_read_from_what_callgrind_writes() {
        assert_eq!(total("version: 1\nevents: Ir\nfn=(1)\n1 2\n\ntotals: 123456\n"), Some(123_456));
        assert_eq!(total("version: 1\n"), None);
    }
}
