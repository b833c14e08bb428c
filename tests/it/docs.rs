//! Do the docs say what the code does? Tables that a program reads are compared with it.

use std::{collections::BTreeMap, fs, path::Path};

use agentbus::domain::{MessageType, Priority, Reason, Status};

fn doc(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap()
}

/// Rows of the table under a heading, cells trimmed of blanks and backticks.
fn rows(text: &str, heading: &str) -> Vec<Vec<String>> {
    let section =
        text.split(&format!("\n{heading}\n")).nth(1).unwrap_or_else(|| panic!("no heading {heading:?}"));
    let section = section.split("\n## ").next().unwrap();
    let table =
        section.lines().skip_while(|line| !line.starts_with('|')).take_while(|line| line.starts_with('|'));
    table
        .skip(2)
        .map(|line| {
            line.trim_matches('|').split('|').map(|cell| cell.trim().trim_matches('`').to_owned()).collect()
        })
        .collect()
}

#[test]
fn the_protocol_page_lists_every_reason_with_its_code_and_whether_a_retry_helps() {
    let text = doc("docs/protocol.md");
    let listed: BTreeMap<String, (String, String)> = rows(&text, "## Reasons")
        .into_iter()
        .map(|row| {
            assert!(
                row.len() == 4 && !row[3].is_empty(),
                "a reason has a code, a retry and a meaning: {row:?}"
            );
            (row[0].clone(), (row[1].clone(), row[2].clone()))
        })
        .collect();
    let known: BTreeMap<String, (String, String)> = Reason::ALL
        .iter()
        .map(|reason| {
            let retry = if reason.retryable() { "yes" } else { "no" };
            (reason.as_str().to_owned(), (reason.code().to_string(), retry.to_owned()))
        })
        .collect();
    assert_eq!(listed, known);
}

#[test]
fn the_protocol_page_lists_every_word_of_a_message_and_a_verdict() {
    let text = doc("docs/protocol.md");
    let types = MessageType::WORDS.iter().copied();
    let statuses = Status::ALL.iter().map(|status| status.as_str());
    for word in types.chain(Priority::WORDS.iter().copied()).chain(statuses) {
        assert!(text.contains(&format!("`{word}`")), "docs/protocol.md does not say {word}");
    }
}

#[test]
fn the_operations_page_grants_nodes_in_redis_what_they_need() {
    let text = doc("docs/operations.md");
    let line = text.lines().find_map(|line| line.trim().strip_prefix("user agentbus on >PASSWORD ")).unwrap();
    assert_eq!(line, agentbus::servers::redis::NODE_RIGHTS);
}

#[test]
fn the_links_of_the_readme_lead_somewhere() {
    for link in doc("README.md").split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
        assert!(Path::new(env!("CARGO_MANIFEST_DIR")).join(link).exists(), "README.md links to {link}");
    }
}
