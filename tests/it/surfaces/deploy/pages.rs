//! Do the pages for those who run nodes lead where they say?

use std::{collections::BTreeSet, fs};

use crate::support::root;

const PAGES: [&str; 3] = ["cluster.md", "deploy.md", "runbooks.md"];

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
