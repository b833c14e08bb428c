//! Are long texts without words read, dumps and numbers among them, and is harm heard that stands in one?

use rand::{Rng as _, SeedableRng as _, rngs::StdRng};

use super::*;
use crate::impact::text::tests::{
    kinds::text,
    unworded::{UNWORDED, dumped, numbers, xxd_of},
};

#[test]
fn sixty_kib_of_kinds_without_words_are_read_where_nobody_waits() {
    let max = Settings::default().room(Patience::Lane).windows;
    for (name, kind) in UNWORDED {
        let message = message(&[("text", &text(*kind, 60 << 10, None))]);
        let Passages { content, .. } =
            long_passages(&message, max).unwrap_or_else(|TooMuch| panic!("{name}"));
        assert!(windows_of(&MODEL, &content, max).is_ok(), "{name}");
    }
}

/// Bytes of which no text comes, the same each time.
fn noise(count: usize) -> Vec<u8> {
    let mut rng = StdRng::seed_from_u64(9);
    (0..count).map(|_| rng.random_range(0x80..=0xff)).collect()
}

/// Every way to put a text into bytes that are shown as numbers.
fn hidden(text: &str) -> Vec<(&'static str, String)> {
    let within = |said: &[u8]| [&noise(70), said, &noise(70)].concat();
    let bytes = within(text.as_bytes());
    let wide: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let innocent = dumped(&noise(16 * (text.len() / 16 + 3)), 0);
    let mut shown = text.as_bytes().chunks(16).map(String::from_utf8_lossy);
    let forged: Vec<String> = innocent
        .lines()
        .map(|row| {
            format!(
                "{}|{}|",
                row.split('|').next().unwrap(),
                shown.next().unwrap_or("................".into())
            )
        })
        .collect();
    vec![
        ("hexdump -C", dumped(&bytes, 0)),
        ("hexdump -C, escaped line ends", dumped(&bytes, 0).replace('\n', "\\n")),
        ("hexdump -C of UTF-16", dumped(&within(&wide), 0)),
        ("a column that shows something else", forged.join("\n")),
        ("xxd", xxd_of(&bytes, 0x1000)),
        ("xxd among prose", format!("{}\n{}\n{}", padding(30), xxd_of(&bytes, 0), padding(30))),
        ("od -t x1", numbers(&bytes, 1, false)),
        ("hexdump", numbers(&bytes, 2, true)),
        ("four bytes a number", numbers(&bytes, 4, false)),
    ]
}

#[test]
fn harm_in_bytes_is_heard_however_they_are_shown() {
    let mut missed = Vec::new();
    for text in &HARMFUL[..6] {
        let plain = score(text);
        for (how, hidden) in hidden(text) {
            let heard = score(&hidden);
            if heard < plain - 0.15 {
                missed.push(format!("{plain:.2} became {heard:.2}, {how}: {text}"));
            }
        }
    }
    assert!(missed.is_empty(), "{}", missed.join("\n"));
}

#[test]
fn a_harmful_line_is_heard_among_numbers_ids_and_codes() {
    const BYTES: usize = 6 << 10;
    let plain = score(HARMFUL[0]);
    for (name, kind) in UNWORDED {
        let said = text(*kind, BYTES, Some((HARMFUL[0], 0.5)));
        let with: Vec<String> =
            read(&said).into_iter().filter(|it| it.contains("customer records")).collect();
        let heard = highest(&with);
        assert!(heard >= plain - 0.15, "{plain:.2} became {heard:.2}, {name}: {with:?}");
    }
}

#[test]
#[ignore = "measures; cargo test --lib semantic::tests::unworded -- --ignored --nocapture"]
fn how_kinds_without_words_sound() {
    for (name, kind) in UNWORDED {
        let read = read(&text(*kind, 6 << 10, None));
        let mut scores: Vec<(f64, &String)> =
            read.iter().map(|it| (highest(std::slice::from_ref(it)), it)).collect();
        scores.sort_by(|a, b| b.0.total_cmp(&a.0));
        println!("{name:20} {:?}", &scores[..scores.len().min(3)]);
    }
}
