//! Are long texts read, as long as they may be, and is harm heard wherever it stands in them?

use rand::{Rng as _, SeedableRng as _, rngs::StdRng};

use super::*;
use crate::impact::text::tests::kinds::{KINDS, Kind, text};

/// Bytes of a kind that are read, as the page has them.
fn told(kind: &str) -> usize {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/impact.md");
    let page = std::fs::read_to_string(page).unwrap();
    let row = page.lines().find_map(|line| line.strip_prefix(&format!("| {kind} | "))).expect(kind);
    row.split(' ').next().unwrap().replace(',', "").parse().unwrap()
}

fn max() -> usize {
    Settings::default().windows_max
}

fn read_of(kind: Kind, bytes: usize, line: Option<(&str, f64)>, max: usize) -> Result<Vec<String>, TooMuch> {
    passages(&message(&[("text", &text(kind, bytes, line))]), max)
}

/// What a node gives the model of a text.
fn tokens(kind: Kind, bytes: usize) -> Option<usize> {
    let read = read_of(kind, bytes, None, max()).ok()?;
    let windows = windows_of(&MODEL, &read, max()).ok()?;
    Some(windows.iter().map(Vec::len).sum())
}

#[test]
fn harm_in_a_long_text_of_every_kind_is_read_as_if_it_were_alone() {
    const ROOM: usize = 1_024;
    let mut rng = StdRng::seed_from_u64(11);
    let worded = KINDS.iter().filter(|(name, _)| !["hex dump", "base64"].contains(name));
    for ((name, kind), harm) in worded.zip(HARMFUL) {
        for _ in 0..4 {
            let most = if *name == "json" { 44 << 10 } else { 60 << 10 };
            let (bytes, at) = (rng.random_range(6 << 10..most), rng.random());
            let read = read_of(*kind, bytes, Some((harm, at)), ROOM).unwrap();
            // The highest counts, so that nothing beside it takes anything away.
            assert!(read.iter().any(|it| it == harm), "{bytes} bytes of {name}, at {at}: {harm}");
        }
    }
}

#[test]
fn a_line_that_comes_again_with_other_numbers_is_read_once_and_one_with_another_word_again() {
    let lines: String = (0..1_000)
        .map(|n| {
            format!(
                "2026-03-01T10:{:02}:{:02}Z worker {n} took {} ms, trace {n:016x}\n",
                n / 60,
                n % 60,
                n * 7
            )
        })
        .collect();
    assert!(lines.len() > 60 << 10);
    let read = |text: &str| passages(&message(&[("text", text)]), max()).unwrap();
    assert!(read(&lines).len() < 4, "{:?}", read(&lines));
    let hidden = format!("{lines}2026-03-01T10:00:00Z worker 7 deletes 12 ms, trace 00000000000000ff\n");
    assert!(read(&hidden).iter().any(|it| it.contains("deletes")));
}

#[test]
fn so_many_bytes_of_each_kind_are_read_as_the_page_says() {
    for (name, kind) in KINDS {
        let told = told(name);
        // Whatever is shorter as well.
        for bytes in (1..=8).map(|part| told * part / 8) {
            assert!(tokens(*kind, bytes).is_some(), "{bytes} bytes of {name}");
        }
    }
}

#[test]
#[ignore = "measures; cargo test --lib semantic::tests::long -- --ignored --nocapture"]
fn how_many_bytes_of_each_kind_are_read() {
    for (name, kind) in KINDS {
        let sizes = (1..=128).map(|step| step * 512);
        let most = sizes.take_while(|bytes| tokens(*kind, *bytes).is_some()).last().unwrap_or(0);
        println!("{name:12} {most:6} bytes, {:?} tokens", tokens(*kind, most));
    }
}

#[test]
#[ignore = "measures; needs AGENTBUS_LABELLED, a file of labelled JSONL"]
fn what_is_heard_of_a_long_text_without_reading_it_as_a_whole() {
    const BYTES: usize = 4_000;
    let path = std::env::var("AGENTBUS_LABELLED").expect("AGENTBUS_LABELLED names a file of labelled JSONL");
    let lines = std::fs::read_to_string(path).unwrap();
    let lines = lines.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let mut pads = HARMLESS.iter().cycle();
    let (mut texts, mut high, mut heard, mut with_whole) = (0, 0, 0, 0);
    for line in lines {
        let (said, level) = (line["text"].as_str().unwrap(), line["level"].as_u64().unwrap());
        let mut around = || -> String {
            let mut out = String::new();
            while out.len() + said.len() / 2 < BYTES / 2 {
                out.push_str(pads.next().unwrap());
                out.push(' ');
            }
            out
        };
        let long = format!("{}{said} {}", around(), around());
        let sentences = highest(&read(&long));
        let whole = highest(&[normalized(&long)]);
        texts += 1;
        high += usize::from(level >= 2);
        let above = |score: f64| usize::from((score >= 0.8) == (level >= 2));
        heard += above(sentences);
        with_whole += above(sentences.max(whole));
        if (sentences >= 0.8) != (sentences.max(whole) >= 0.8) {
            println!("level {level}: {sentences:.2}, as a whole {whole:.2}: {said}");
        }
    }
    println!(
        "{texts} texts, {high} of level 2 or 3; right by sentences {heard}, with the whole {with_whole}"
    );
}

#[test]
fn sixty_kib_of_every_kind_are_read_where_nobody_waits_and_harm_in_them_is_read_as_if_it_were_alone() {
    const BYTES: usize = 60 << 10;
    let max = Settings::default().room(Patience::Lane).windows;
    let read = |kind: Kind, line| {
        let Passages { content, .. } = long_passages(&message(&[("text", &text(kind, BYTES, line))]), max)?;
        Ok::<_, TooMuch>(content)
    };
    for ((name, kind), at) in KINDS.iter().zip([0.0, 0.999, 0.5, 0.25].into_iter().cycle()) {
        assert!(tokens(*kind, BYTES).is_none(), "{name}: a send is read as far");
        let found = read(*kind, None).unwrap_or_else(|TooMuch| panic!("{name}: too much"));
        assert!(windows_of(&MODEL, &found, max).is_ok(), "{name}");
        // Base64 has no lines that one could stand between.
        let with = read(*kind, Some((HARMFUL[0], at))).unwrap();
        assert!(*name == "base64" || with.iter().any(|it| it == HARMFUL[0]), "{name}");
    }
}
