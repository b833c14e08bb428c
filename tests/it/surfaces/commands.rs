//! What is true of every command of `agentbus`? The list of them is clap's own, so that a new one is asked too.

use std::process::{Command as Process, Output};

use agentbus_cli::Arguments;
use clap::{Command, CommandFactory as _, Parser as _};

use crate::surfaces::clients::{AGENTBUS, text};

mod config;
mod policy;
mod printing;
mod thresholds;

const COLUMNS: usize = 80;

/// Every command as it is typed, groups and the program itself among them.
fn commands() -> Vec<Vec<String>> {
    fn walk(command: &Command, path: &[String], found: &mut Vec<Vec<String>>) {
        found.push(path.to_vec());
        for sub in command.get_subcommands() {
            walk(sub, &[path, &[sub.get_name().to_owned()]].concat(), found);
        }
    }
    let mut found = Vec::new();
    walk(&Arguments::command(), &["agentbus".to_owned()], &mut found);
    assert!(found.len() > 20, "{found:?}");
    found
}

/// What `--help` shows on a terminal of 80 columns.
fn help(command: &[String]) -> String {
    let output = Process::new(AGENTBUS)
        .args(&command[1..])
        .arg("--help")
        .env("COLUMNS", COLUMNS.to_string())
        .output()
        .unwrap();
    assert!(output.status.success(), "{command:?}: {output:?}");
    text(&output.stdout)
}

/// The lines under `Examples:`, without the blanks before them.
fn examples(command: &[String]) -> Vec<String> {
    let help = help(command);
    let after = help.split("\nExamples:\n").nth(1).unwrap_or_default();
    after.lines().take_while(|line| line.starts_with("  ")).map(|line| line.trim().to_owned()).collect()
}

/// The arguments of a line that a shell would read: of its last command, without redirections.
fn arguments(line: &str) -> Vec<String> {
    let last = line.rsplit(" | ").next().unwrap_or(line);
    let command = last.split(" > ").next().unwrap_or(last);
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, false);
    for c in command.chars() {
        match c {
            '\'' => quote = !quote,
            ' ' if !quote => words.extend(word.take()),
            _ => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

fn fits(what: &str, shown: &str) {
    for line in shown.lines() {
        let columns = line.chars().count();
        assert!(columns <= COLUMNS, "{what}: {columns} columns: {line}");
    }
}

#[test]
fn the_help_of_every_command_shows_two_examples_that_it_takes() {
    for command in commands() {
        let examples = examples(&command);
        assert!(examples.len() >= 2, "{command:?} --help shows {examples:?}, expected two examples");
        for line in examples {
            let words = arguments(&line);
            assert!(words.starts_with(&command), "{line} is no example of {command:?}");
            if let Err(error) = Arguments::try_parse_from(&words) {
                panic!("{command:?} does not take its example: {line}: {error}");
            }
        }
    }
}

#[test]
fn every_help_fits_eighty_columns() {
    for command in commands() {
        fits(&command.join(" "), &help(&command));
    }
}

fn agentbus(words: &[&str]) -> Output {
    Process::new(AGENTBUS).args(words).env("COLUMNS", COLUMNS.to_string()).output().unwrap()
}

#[test]
fn what_a_node_would_run_with_is_shown_in_eighty_columns() {
    fits("config show", &text(&agentbus(&["config", "show"]).stdout));
}

#[cfg(feature = "model")]
#[test]
fn what_the_model_is_is_shown_in_eighty_columns() {
    fits("model info", &text(&agentbus(&["model", "info"]).stdout));
}

#[test]
fn a_text_is_scored_as_it_is_and_a_mistyped_file_is_none() {
    let scored = agentbus(&["score", "--scorer", "keywords", "delete \"all\" the backups"]);
    assert!(scored.status.success(), "{scored:?}");
    let answer: serde_json::Value = serde_json::from_slice(&scored.stdout).unwrap();
    assert!(answer["score"].is_f64(), "{answer}");
    for words in [["score", "no-such.jsonl"].as_slice(), &["score", "--file", "no such"]] {
        let missing = agentbus(words);
        assert_eq!(missing.status.code(), Some(1), "{missing:?}");
        assert!(text(&missing.stderr).contains("No such file"), "{missing:?}");
    }
}
