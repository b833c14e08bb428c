//! Is the README true? A newcomer's session, typed from it line by line in a fresh folder.
//!
//! A block of `sh` is run, each line of it by a shell of its own, and must end with 0, or with the `exit code`
//! that its comment says. What its fence says besides:
//!
//! - `stays=NAME`: runs on until `ends=NAME`, or until another one of that name.
//! - `needs=PROGRAM`: left out where that is not installed, but not in CI.
//! - `skip="…"`: not run, and why.
//!
//! A block of `text` after it is what it must print: these lines, in this order, with anything for `…`.

use std::{
    collections::BTreeMap,
    env,
    ffi::OsString,
    fs::{self, File},
    os::unix::{fs::symlink, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use agentbus::servers::{self, Tool};
use rustix::process::{Pid, Signal, kill_process_group};

use crate::{
    support::root,
    surfaces::clients::{AGENTBUS, needed, python, tsx},
};

/// No line needs longer, even on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);
const STEP: Duration = Duration::from_millis(50);
/// What the README says of ports, and what a test may take.
const UP: (&str, &str) = ("agentbus up", "agentbus up --port 0 --redis-port 0 --http-port 0");
const SERVER: &str = "nats://127.0.0.1:4222";

#[derive(Debug, Default)]
struct Block {
    /// After the language, as `stays=worker`.
    said: String,
    lines: Vec<String>,
    shown: Vec<String>,
}

impl Block {
    fn word(&self, name: &str) -> Option<&str> {
        self.said.split(' ').find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
    }

    fn skipped(&self) -> Option<&str> {
        self.said.strip_prefix("skip=\"")?.strip_suffix('"')
    }
}

/// All that somebody could type, in order.
fn blocks(text: &str) -> Vec<Block> {
    let (mut blocks, mut fence) = (Vec::<Block>::new(), None);
    for (number, line) in text.lines().enumerate() {
        match (fence, line.strip_prefix("```")) {
            (None, Some(info)) => {
                let (language, said) = info.split_once(' ').unwrap_or((info, ""));
                assert!(["sh", "text"].contains(&language), "line {}: what is {language:?}?", number + 1);
                if language == "sh" {
                    blocks.push(Block { said: said.to_owned(), ..Block::default() });
                }
                fence = Some(language);
            }
            (None, None) => {
                assert!(!line.starts_with("    "), "line {} is code without a fence: {line}", number + 1);
            }
            (Some(_), Some(_)) => fence = None,
            (Some("sh"), None) => blocks.last_mut().unwrap().lines.push(line.to_owned()),
            (Some(_), None) => blocks.last_mut().unwrap().shown.push(line.to_owned()),
        }
    }
    blocks
}

/// Whether these lines are in the text, in order.
fn shows(text: &str, expected: &[String]) -> Result<(), String> {
    let mut lines = text.lines();
    for wanted in expected.iter().filter(|line| line.trim() != "…") {
        if !lines.any(|line| fits(line.trim_end(), wanted.trim_end())) {
            return Err(format!("{wanted:?} is not there, or not in its place, in:\n{text}"));
        }
    }
    Ok(())
}

/// Whether the line is what was wanted, with anything for `…`.
fn fits(line: &str, wanted: &str) -> bool {
    let Some((start, rest)) = wanted.split_once('…') else { return line == wanted };
    let Some(mut line) = line.strip_prefix(start) else { return false };
    let mut parts: Vec<&str> = rest.split('…').collect();
    let end = parts.pop().unwrap_or_default();
    for part in parts {
        let Some((_, after)) = line.split_once(part) else { return false };
        line = after;
    }
    line.ends_with(end)
}

/// A shell's line that runs, and all that it starts. Ended with them when dropped.
struct Line {
    child: std::process::Child,
    output: PathBuf,
}

impl Line {
    fn output(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.output).unwrap()).into_owned()
    }

    /// Its exit code, when it ends by itself.
    fn end(&mut self) -> Option<i32> {
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            sleep(STEP);
        }
        panic!("still runs after {PATIENCE:?}:\n{}", self.output());
    }

    fn signal(&self, signal: Signal) {
        let _ = kill_process_group(Pid::from_child(&self.child), signal);
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        // Ctrl-C reaches all that the terminal's line has started.
        self.signal(Signal::INT);
        let until = Instant::now() + Duration::from_secs(15);
        while Instant::now() < until && matches!(self.child.try_wait(), Ok(None)) {
            sleep(STEP);
        }
        if matches!(self.child.try_wait(), Ok(None)) {
            self.signal(Signal::KILL);
            let _ = self.child.wait();
        }
    }
}

/// A newcomer's folder, and what runs in their terminals.
struct Desk {
    folder: tempfile::TempDir,
    path: OsString,
    running: BTreeMap<String, Line>,
    started: usize,
}

impl Desk {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (python, typescript) =
            (folder.path().join("examples/python"), folder.path().join("examples/typescript"));
        for (name, to) in [("python", &python), ("typescript", &typescript)] {
            fs::create_dir_all(to).unwrap();
            for entry in fs::read_dir(root().join("examples").join(name)).unwrap() {
                let entry = entry.unwrap();
                if entry.file_type().unwrap().is_file() {
                    fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
                }
            }
        }
        let modules = root().join("examples/typescript/node_modules");
        if modules.exists() {
            symlink(modules, typescript.join("node_modules")).unwrap();
        }
        let programs = Path::new(AGENTBUS).parent().unwrap().to_owned();
        let found = env::var_os("PATH").unwrap_or_default();
        let local = [programs, root().join(".servers/bin"), root().join(".servers/venv/bin")];
        let path = env::join_paths(local.into_iter().chain(env::split_paths(&found))).unwrap();
        Self { folder, path, running: BTreeMap::new(), started: 0 }
    }

    /// Where the bus listens, once it does.
    fn server(&self) -> String {
        let up = fs::read(self.folder.path().join(".agentbus/up.json")).unwrap_or_default();
        let up: serde_json::Value = serde_json::from_slice(&up).unwrap_or_default();
        up["nats_url"].as_str().unwrap_or(SERVER).to_owned()
    }

    fn start(&mut self, typed: &str) -> Line {
        let typed = if typed == UP.0 { UP.1.to_owned() } else { typed.replace(SERVER, &self.server()) };
        let output = self.folder.path().join(format!("output-{}", self.started));
        self.started += 1;
        let file = File::create(&output).unwrap();
        let mut command = Command::new("bash");
        command.args(["-c", &typed]).current_dir(self.folder.path()).process_group(0);
        command.env("PATH", &self.path).env("HOME", self.folder.path()).env("NATS_URL", self.server());
        command.stdin(Stdio::null()).stdout(file.try_clone().unwrap()).stderr(file);
        Line { child: command.spawn().unwrap(), output }
    }

    fn play(&mut self, block: &Block) {
        for name in [block.word("ends"), block.word("stays")].into_iter().flatten() {
            drop(self.running.remove(name));
        }
        let Some(name) = block.word("stays") else { return self.run(block) };
        let [typed] = block.lines.as_slice() else { panic!("one line stays: {block:?}") };
        let mut line = self.start(typed);
        let until = Instant::now() + PATIENCE;
        // Ready when it shows what it should, or anything.
        loop {
            let output = line.output();
            let seen = shows(&output, &block.shown);
            if seen.is_ok() && !output.is_empty() {
                break;
            }
            assert!(line.child.try_wait().unwrap().is_none(), "{typed} ended: {output}");
            assert!(Instant::now() < until, "{typed}: {seen:?}");
            sleep(STEP);
        }
        self.running.insert(name.to_owned(), line);
    }

    fn run(&mut self, block: &Block) {
        let mut printed = String::new();
        for typed in &block.lines {
            let code = typed.split_once("exit code ").map_or("0", |(_, code)| code.trim());
            let mut line = self.start(typed);
            let ended = line.end();
            let output = line.output();
            assert_eq!(ended.map(|code| code.to_string()).as_deref(), Some(code), "{typed}\n{output}");
            printed += &output;
        }
        if let Err(missing) = shows(&printed, &block.shown) {
            panic!("{:?}: {missing}", block.lines);
        }
    }
}

/// What is needed beside agentbus and its servers.
fn there(program: &str) -> bool {
    match program {
        "nats" => needed("the nats tool", servers::find(Tool::Nats).ok()).is_some(),
        "python" => python().is_some(),
        "typescript" => tsx().is_some(),
        _ => panic!("the README needs {program:?}, which this test does not know"),
    }
}

#[test]
fn a_newcomer_types_the_readme_line_by_line_and_sees_what_it_shows() {
    let text = fs::read_to_string(root().join("README.md")).unwrap();
    let blocks = blocks(&text);
    assert!(blocks.len() > 20, "{}", blocks.len());
    let mut desk = Desk::new();
    for block in &blocks {
        if let Some(reason) = block.skipped() {
            assert!(reason.len() > 10, "why is this not run? {block:?}");
            println!("not run, {reason}: {}", block.lines.join("; "));
        } else if block.word("needs").is_none_or(there) {
            desk.play(block);
        }
    }
    // The bus last.
    desk.running.retain(|name, _| name == "up");
}

#[test]
fn what_is_shown_is_compared() {
    let expected = ["a …", "…", "b … d"].map(str::to_owned);
    shows("a 1\nx\nb c d\n", &expected).unwrap();
    for other in ["b c d\na 1\n", "a 1\nb c\n", "", "a 1"] {
        shows(other, &expected).unwrap_err();
    }
}
