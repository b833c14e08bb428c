//! Do the pages for those who run nodes lead where they say, and does what they show work?

use std::{collections::BTreeSet, fs, process::Command};

use super::run;
use crate::{support::root, surfaces::clients::AGENTBUS};

const PAGES: [&str; 2] = ["deploy.md", "runbooks.md"];

fn page(name: &str) -> String {
    fs::read_to_string(root().join("docs").join(name)).unwrap()
}

/// What stands after `#` in links to the headings of a page.
fn anchors(text: &str) -> BTreeSet<String> {
    let headings = text.lines().filter_map(|line| line.strip_prefix('#'));
    let anchor = |heading: &str| -> String {
        let kept = heading.trim_start_matches('#').trim().to_lowercase();
        let kept = kept.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
        kept.map(|c| if c == ' ' { '-' } else { c }).collect()
    };
    headings.map(anchor).collect()
}

#[test]
fn every_link_leads_to_a_page_and_to_a_heading_of_it() {
    for name in PAGES {
        for link in page(name).split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let file = if file.is_empty() { name } else { file };
            assert!(root().join("docs").join(file).exists(), "{name} links to {link}");
            assert!(anchor.is_empty() || anchors(&page(file)).contains(anchor), "{name} links to {link}");
        }
    }
}

#[test]
fn the_policy_that_freezes_a_tenant_is_one_that_nodes_take() {
    let text = page("runbooks.md");
    let rego = text.split("```rego\n").nth(1).unwrap().split("```").next().unwrap();
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("freeze.rego"), rego).unwrap();
    let denies = "package agentbus.modules.freeze\n\n\
                  test_frozen if not allow with input as {\"tenant\": {\"id\": \"acme\"}}\n\n\
                  test_others if allow with input as {\"tenant\": {\"id\": \"globex\"}}\n";
    fs::write(folder.path().join("freeze_test.rego"), denies).unwrap();
    let (good, told) = run(Command::new(AGENTBUS).args(["policy", "test"]).arg(folder.path()));
    assert!(good && told.contains("2 tests passed"), "{told}");
}
