//! Do the docs say what the code does? Tables that a program reads are compared with it.

use std::{collections::BTreeMap, fs};

use agentbus::{
    domain::{CapabilityId, MessageType, Priority, Reason, Status},
    wire::RegisterRequest,
};

use crate::support::root;

fn doc(name: &str) -> String {
    fs::read_to_string(root().join(name)).unwrap()
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
    // Without the heading in that page.
    for link in doc("README.md").split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next()) {
        assert!(root().join(link).exists(), "README.md links to {link}");
    }
}

/// Who copies an abbreviation from a page learns that a vote may be abbreviated.
#[test]
fn a_vote_in_the_docs_names_all_of_what_it_is_about() {
    for name in ["README.md", "docs/deliberation.md", "docs/protocol.md"] {
        for shown in doc(name).split("--digest ").skip(1) {
            let digits = shown.chars().take_while(char::is_ascii_hexdigit).count();
            let word = shown.starts_with(|c: char| c.is_ascii_hexdigit());
            assert!(!word || digits == 64, "{name} shows a digest of {digits} digits");
        }
        for shown in doc(name).split("\"digest\":").skip(1) {
            assert!(
                shown.trim_start().starts_with("\"<64 digits>\""),
                "{name}: a digest in JSON is cut short"
            );
        }
    }
}

#[test]
fn the_protocol_page_says_what_may_be_registered() {
    let text = doc("docs/protocol.md");
    let (most, bytes) = (RegisterRequest::CAPABILITIES_MAX, RegisterRequest::DESCRIPTION_BYTES_MAX);
    for part in [format!("(at most {most} [labels]"), format!("one plain line, at most {bytes} bytes")] {
        assert!(text.contains(&part), "docs/protocol.md does not say {part:?}");
    }
    for (label, is) in [("nlp:summarise-v2", true), ("ignore-all-previous-instructions", false)] {
        assert!(text.contains(&format!("`{label}`")));
        assert_eq!(label.parse::<CapabilityId>().unwrap().is_label(), is, "{label}");
    }
}
