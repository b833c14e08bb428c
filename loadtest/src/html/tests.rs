//! Is the page one that any browser reads, that needs nothing else, and that no name can break out of?

use html5gum::{Token, Tokenizer};

use super::*;
use crate::{
    measure::report::{Outcome, Whole},
    run::{
        profile::Side,
        sheet::{Sample, Second, figures},
        tally::Tally,
        usage::Each,
    },
    spread::Spread,
    targets::{Is, Target},
};

const EVIL: &str = "</title><script>alert('1')</script><img src=x onerror=\"a()\">&amp;";
const VOID: [&[u8]; 2] = [b"meta", b"br"];

/// Two rounds of all sides, with hostile text wherever a text can stand.
fn report() -> Report {
    let profile = crate::run::shelf::parse(
        "about = \"A \u{201c}test\u{201d} <b>\"\nsides = [\"direct\", \"baseline\", \"bus\"]\n[[group]]\nname = \"acme\"\n\
         [[group.mix]]\nbytes = [512]\n[[load]]\nrate = 100\n",
    );
    let samples: Vec<Sample> =
        [(1, Side::Direct), (1, Side::Baseline), (1, Side::Bus), (2, Side::Baseline), (2, Side::Bus)]
            .into_iter()
            .map(|(round, side)| sample(round, side))
            .collect();
    Report {
        format: Report::format(),
        command: EVIL.to_owned(),
        name: EVIL.to_owned(),
        machine: EVIL.to_owned(),
        versions: vec![EVIL.to_owned()],
        settings: [(EVIL.to_owned(), EVIL.to_owned())].into(),
        profile: profile.unwrap(),
        trips: Vec::new(),
        figures: figures(&samples),
        samples,
    }
}

fn sample(round: u32, side: Side) -> Sample {
    let mut tally = Tally { answered: 5000, ..Tally::default() };
    (1..=5000).for_each(|n| tally.latency.record(std::time::Duration::from_micros(100 + n)));
    tally.failed(EVIL, 3);
    let each = Each { node: 0.5, nats: 0.25, redis: 0.125, client: 0.1 };
    let second = |at: u32| Second {
        at_s: f64::from(at),
        counted: at > 1,
        rate: 1000.0 + f64::from(at * round),
        failed: 0,
        p50_us: 300.0,
        p99_us: 900.0,
        cores: each,
        memory_mib: each.map(|part| part * 100.0),
    };
    Sample {
        round,
        side,
        load: EVIL.to_owned(),
        steady: true,
        warm_up_s: 1.0,
        elapsed_s: 4.0,
        rate: 1000.0,
        tally,
        entries: [("send to agent".to_owned(), Tally::default())].into(),
        beside: Default::default(),
        processor_us: each,
        memory_mib: each,
        stages: [("policy".to_owned(), 2.0), ("deliver".to_owned(), 30.0)].into(),
        miscounted: 0,
        seconds: (1..=5).map(second).collect(),
    }
}

/// Of one profile, and of all figures together.
fn pages() -> [String; 2] {
    let target = Target::new("P1", Spread::of([0.5]), (Is::AtLeast, 0.65), "×", EVIL).unwrap();
    let outcome = Outcome {
        title: EVIL.to_owned(),
        text: EVIL.to_owned(),
        targets: vec![target],
        report: Some(report()),
    };
    let whole = Whole::new(vec![outcome]);
    [page::page(&report()), page::whole(&whole)].map(|page| page.unwrap().into_string())
}

#[test]
fn every_tag_is_closed_and_no_text_becomes_one() {
    pages().iter().for_each(|page| is_closed(page));
}

fn is_closed(page: &str) {
    let mut open: Vec<Vec<u8>> = Vec::new();
    let mut seen = std::collections::BTreeSet::new();
    for token in Tokenizer::new(page) {
        match token.unwrap() {
            Token::StartTag(tag) => {
                let name = tag.name.0.clone();
                seen.insert(String::from_utf8(name.clone()).unwrap());
                if !tag.self_closing && !VOID.contains(&name.as_slice()) {
                    open.push(name);
                }
            }
            Token::EndTag(tag) => assert_eq!(open.pop().as_ref(), Some(&tag.name.0)),
            Token::Error(error) => panic!("{error:?}"),
            Token::String(_) | Token::Comment(_) | Token::Doctype(_) => {}
        }
    }
    assert!(open.is_empty(), "{open:?}");
    for tag in ["script", "img", "link", "iframe", "b"] {
        assert!(!seen.contains(tag), "a {tag} in {seen:?}");
    }
    assert!(seen.contains("svg") && seen.contains("polyline") && seen.contains("circle"), "{seen:?}");
}

#[test]
fn the_page_needs_nothing_from_elsewhere() {
    for page in pages() {
        for word in ["http:", "https:", "url(", "@import", " src=\"", " href=\""] {
            assert!(!page.contains(word), "{word}");
        }
        assert!(page.contains("prefers-color-scheme: dark"));
    }
}

/// A colour that the style sheet does not know would be black on black.
#[test]
fn the_style_sheet_knows_every_colour_that_is_drawn() {
    let page = page::page(&report()).unwrap().into_string();
    let style = include_str!("style.css");
    let (_, drawn) = page.split_once("</style>").unwrap();
    let mut found = 0;
    for (at, _) in drawn.match_indices("=\"#") {
        let code = &drawn[at + 2..at + 9];
        for attribute in ["fill", "stroke"] {
            assert!(style.contains(&format!("svg [{attribute}=\"{code}\"]")), "{attribute} {code}");
        }
        found += 1;
    }
    assert!(found > 50, "{found}");
}

#[test]
fn a_report_is_the_same_after_it_was_written_and_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("report.json");
    let report = report();
    report.write(&path).unwrap();
    let read = Report::read(&path).unwrap();
    assert_eq!(serde_json::to_value(&read).unwrap(), serde_json::to_value(&report).unwrap());
    std::fs::write(&path, "{\"format\": \"another\", \"samples\": []}").unwrap();
    let error = Report::read(&path).unwrap_err().to_string();
    assert!(error.contains("found format \"another\", expected"), "{error}");
}

#[test]
fn a_report_with_one_answer_and_no_seconds_has_a_page_too() {
    let mut report = report();
    for sample in &mut report.samples {
        sample.seconds.clear();
        sample.stages.clear();
        sample.tally = Tally::default();
    }
    report.samples.truncate(1);
    report.figures = figures(&report.samples);
    page::page(&report).unwrap();
}
