#![allow(clippy::unwrap_used, reason = "tests")]

use proptest::prelude::*;
use serde_json::json;

use super::*;

/// What hides, what looks blank, what turns the line, what stands for other letters, and the rest.
fn texts() -> impl Strategy<Value = String> {
    let nasty = "\u{1b}\r\n\t\u{7f}\u{85}\u{9b}\u{a0}\u{ad}\u{301}\u{336}\u{34f}\u{61c}\u{115f}\u{1160}\u{1680}\
                 \u{180e}\u{2000}\u{200a}\u{200b}\u{200d}\u{202e}\u{2028}\u{205f}\u{2066}\u{2800}\u{3000}\u{3164}\
                 \u{fe0f}\u{feff}\u{ffa0}\u{fff9}\u{e000}\u{e0041}\u{1d159}│─оеαxyz漢字👍🇩\"\\[]";
    let nasty: Vec<char> = nasty.chars().collect();
    let c = prop_oneof![
        3 => prop::sample::select(nasty),
        2 => Just(' '),
        2 => proptest::char::range('!', '~'),
        1 => any::<char>(),
    ];
    let some = prop::collection::vec(c, 0..120).prop_map(|chars| chars.into_iter().collect::<String>());
    (some, 0_usize..300, any::<bool>()).prop_map(|(text, blanks, first)| {
        let blanks = " ".repeat(blanks);
        if first { format!("{blanks}{text}") } else { format!("{text}{blanks}end") }
    })
}

fn hidden(c: char) -> bool {
    let blank = matches!(c, '\u{2800}' | '\u{3164}' | '\u{ffa0}' | '\u{115f}' | '\u{1160}' | '\u{180e}');
    let directs = matches!(c, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fe00}'..='\u{fe0f}' | '\u{e0000}'..='\u{e0fff}');
    c.is_control() || (c.is_whitespace() && c != ' ') || blank || directs || matches!(c, '│' | '─')
}

proptest! {
    #[test]
    fn whatever_the_text_a_page_hides_nothing_begins_each_line_itself_and_fits(
        text in texts(), width in 30_usize..120
    ) {
        let mut page = Page::of_width(width, Paint::never());
        page.field("why", &text);
        page.text(&text);
        page.value(&json!({ text.clone(): [text.clone(), { "n": text.clone() }] }));
        page.content(&json!({ "text": text }), usize::MAX);
        page.content(&json!({ "other": text }), usize::MAX);
        let told = page.into_text();
        for line in told.split('\n') {
            prop_assert!(!line.chars().any(hidden), "{line:?}");
            prop_assert!(super::wrap::width(line) <= width, "{} columns in {line:?}", super::wrap::width(line));
            prop_assert!(line.is_empty() || line.starts_with("  "), "{line:?} begins at the margin");
            prop_assert!(!line.trim_start().contains("     ") || line.starts_with("  why"), "{line:?}");
        }
        prop_assert!(!safe(&text, usize::MAX).chars().any(hidden));
        prop_assert!(!safe(&text, usize::MAX).contains("    "));
    }

    #[test]
    fn json_for_programs_shows_what_it_holds_and_is_the_same_value(text in texts()) {
        let value = json!({ text.clone(): [text.clone(), 1, null], "t": text });
        let line = json(&value.to_string());
        prop_assert!(!line.chars().any(hidden), "{line:?}");
        prop_assert!(!line.contains("    "), "{line:?}");
        prop_assert_eq!(serde_json::from_str::<Value>(&line).unwrap(), value);
    }

    #[test]
    fn a_quoted_text_ends_where_its_quote_does(text in texts()) {
        let told = quoted(&text, usize::MAX);
        let inner = told.strip_prefix('"').and_then(|told| told.strip_suffix('"')).unwrap();
        prop_assert!(!inner.replace("\\\\", "").replace("\\\"", "").contains('"'), "{told:?}");
    }
}

#[test]
fn text_of_a_stranger_cannot_steer_the_terminal() {
    assert_eq!(safe("a\u{1b}[2Jb\r\n\u{202e}c", 80), "a\\u{1b}[2Jb\\u{d}\\u{a}\\u{202e}c");
    assert_eq!(safe("abcdef", 3), "abc…");
    // Tags spell whole sentences that nobody sees.
    for hidden in [
        '\u{7f}',
        '\u{85}',
        '\u{9b}',
        '\u{a0}',
        '\u{ad}',
        '\u{61c}',
        '\u{115f}',
        '\u{1160}',
        '\u{1680}',
        '\u{180e}',
        '\u{2000}',
        '\u{2003}',
        '\u{200a}',
        '\u{200b}',
        '\u{2028}',
        '\u{2029}',
        '\u{202f}',
        '\u{205f}',
        '\u{2066}',
        '\u{2800}',
        '\u{3000}',
        '\u{3164}',
        '\u{e000}',
        '\u{fe0f}',
        '\u{feff}',
        '\u{ffa0}',
        '\u{fff9}',
        '\u{1d159}',
        '\u{e0041}',
        '\u{e0100}',
        '\u{2502}',
        '\u{336}',
    ] {
        assert_eq!(safe(&format!("a{hidden}b"), 80), format!("a{}b", hidden.escape_unicode()));
    }
    for plain in [
        "ä漢",
        "a\u{308}",
        "न\u{92e}\u{938}\u{94d}\u{924}\u{947}",
        "Привет, мир!",
        "καλημέρα",
        "שלום",
        "👍 ok",
        "łódź",
        "東京Tower",
    ] {
        assert_eq!(safe(plain, 80), plain);
    }
    // A heap of accents covers the lines around it.
    assert_eq!(safe(&format!("a{}", "\u{301}".repeat(5)), 80), "a\u{301}\u{301}\u{301}\\u{301}\\u{301}");
}

#[test]
fn blanks_are_counted() {
    assert_eq!(safe(&format!("a   b{}c", " ".repeat(300)), 400), "a   b[300 blanks]c");
    assert_eq!(json(&json!(format!("a{}", " ".repeat(4))).to_string()), "\"a\\u0020\\u0020\\u0020\\u0020\"");
}

#[test]
fn a_letter_that_is_drawn_as_another_is_named() {
    for (text, told) in [
        ("r\u{43e}tate", "r\\u{43e}tate"),
        ("please \u{440}\u{430}\u{443} him", "please \\u{440}\\u{430}\\u{443} him"),
        ("p\u{430}yp\u{3b1}l", "p\\u{430}yp\\u{3b1}l"),
        ("\u{251}dmin", "\\u{251}dmin"),
        // Whole sentences of another language are what they are.
        ("Река глубокая, и сок тоже", "Река глубокая, и сок тоже"),
    ] {
        assert_eq!(safe(text, 80), told);
    }
    let mut page = Page::of_width(80, Paint::never());
    page.value(&json!({ "text": "Привет,\nмир, это я\ttoo, r\u{43e}tate" }));
    let told = page.into_text();
    assert!(told.contains("Привет,\\nмир, это я\\ttoo, r\\u043etate"), "{told}");
}

#[test]
fn a_forged_row_stays_in_the_line_it_is_in() {
    let forged = "xxxxxxxx ".repeat(9) + "  from       judge → worker";
    let mut page = Page::of_width(78, Paint::never());
    page.field("why", &forged);
    let told = page.into_text();
    let lines: Vec<&str> = told.lines().collect();
    assert!(
        lines.len() > 1 && lines.iter().skip(1).all(|line| line.starts_with("             ↳ ")),
        "{told}"
    );
}
