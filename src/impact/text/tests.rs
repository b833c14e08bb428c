//! Is what the model reads what people see, all of it, and bounded?
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::domain::{BroadcastFilter, Priority, Recipient, Timestamp};

fn message(content: &[(&str, Value)], tools: &[&str]) -> Message {
    Message {
        id: "m".parse().unwrap(),
        tenant: "acme".parse().unwrap(),
        sender: "a".parse().unwrap(),
        conversation_id: None,
        in_reply_to: None,
        message_type: MessageType::Command,
        to: Recipient::Broadcast(BroadcastFilter::default()),
        priority: Priority::Normal,
        constitution: "cdd01ef066bc6cf2".parse().unwrap(),
        content: content.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect(),
        tools: tools.iter().map(|&tool| tool.to_owned()).collect(),
        metadata: BTreeMap::new(),
        created_at: Timestamp(0),
        expires_at: None,
    }
}

fn text(text: &str) -> Value {
    Value::Text(text.to_owned())
}

#[test]
fn a_message_reads_as_its_text_and_whatever_else_says_something() {
    let map = |key: &str, value: Value| Value::Map([(key.to_owned(), value)].into());
    for (content, tools, expected) in [
        (vec![("text", text(" Sum  this\nup. "))], vec![], "Sum this up."),
        (vec![("task", text("Sum this up"))], vec!["read"], "Sum this up"),
        (vec![("text", text("Go on"))], vec!["db.delete", "read"], "Go on; tools: db delete"),
        (
            vec![("amount", Value::Int(50_000)), ("recipientIban", text("DE02"))],
            vec![],
            "amount: 50000; recipient Iban: DE02",
        ),
        (vec![("order", map("shipTo", text("Rome")))], vec![], "order ship To: Rome"),
        (vec![("delete_all", Value::Null)], vec![], "delete all"),
        (vec![("dry_run", Value::Bool(false))], vec![], "dry run: no"),
        (vec![("steps", Value::List(vec![text("a"), text("b")]))], vec![], "steps: a; steps: b"),
    ] {
        assert_eq!(rendered(&message(&content, &tools)), expected);
    }
    let mut governance = message(&[("text", text("Raise the quota."))], &[]);
    governance.message_type = MessageType::GovernanceRequest;
    assert_eq!(rendered(&governance), "Raise the quota. governance request");
}

#[test]
fn each_sentence_is_read_alone_once_whatever_ends_it() {
    let of = |text: &str| sentences(text);
    assert_eq!(of("Too short"), Vec::<String>::new());
    assert_eq!(of("One whole sentence only"), ["One whole sentence only"]);
    assert_eq!(
        of("Read the file. Then sum it up! Done"),
        ["Read the file.", "Then sum it up!", "Then sum it up! Done"]
    );
    assert_eq!(of("first line here\nsecond line here"), ["first line here", "second line here"]);
    assert_eq!(of("Wipe. It. Now. Thanks for it."), ["Wipe. It. Now.", "Thanks for it."]);
    assert_eq!(of("Wipe it. Thanks a lot."), ["Thanks a lot.", "Wipe it. Thanks a lot."]);
    let endless = vec!["word"; 100].join(" ");
    let pieces = of(&endless);
    assert!(pieces.iter().all(|piece| piece.split(' ').count() <= 16), "{pieces:?}");
    let repeated = "The same again here. ".repeat(500);
    assert_eq!(passages_of(&repeated).len(), 2, "the whole, and the sentence once");
}

#[test]
fn a_short_text_is_read_as_a_whole_only() {
    const SHORT: &str = "Dry run only, please. Drop the table of customers.";
    assert_eq!(passages_of(SHORT), [SHORT]);
    assert_eq!(passages(&message(&[("text", text(SHORT))], &[])), [SHORT]);
    // 25 words; few but long ones; and values that are long together.
    assert_eq!(passages_of(&"One two three four five. ".repeat(5)).len(), 2);
    assert_eq!(passages_of(&format!("Read it all. {}", "x".repeat(230))).len(), 3);
    let halves = [("a", text(&"word ".repeat(12))), ("b", text(&"Go on with it. ".repeat(4)))];
    assert!(passages(&message(&halves, &[])).contains(&"Go on with it.".to_owned()));
}

#[test]
fn a_run_of_characters_without_end_is_read_in_pieces() {
    let run = "deleteeverything".repeat(20);
    let read = normalized(&run);
    assert_eq!(read.replace(' ', ""), run);
    assert!(read.split(' ').all(|word| word.chars().count() <= 100), "{read}");
}

#[test]
fn what_eyes_do_not_tell_apart_is_the_same_to_the_model() {
    for (seen, plain) in [
        ("de\u{200b}le\u{ad}te\u{2060} all", "delete all"),
        ("ＤＥＬＥＴＥ　ａｌｌ", "DELETE all"),
        ("𝐝𝐞𝐥𝐞𝐭𝐞 all", "delete all"),
        ("dеlеtе аll", "delete all"),
        ("ﬁle", "file"),
        ("\u{feff}\u{202e}wipe\u{202c}", "wipe"),
        ("wi\u{e0041}pe", "wipe"),
        ("a\u{0}\u{b}\u{85}b", "a b"),
        ("Привет мир", "Привет мир"),
        ("naïve café", "naïve café"),
        ("東京", "東京"),
    ] {
        assert_eq!(normalized(seen), plain, "{seen:?}");
    }
}

proptest! {
    #[test]
    fn normalising_twice_changes_nothing(text in "\\PC{0,80}|[ -~а-яА-Яα-ω\u{200b}\u{300}-\u{310}]{0,60}") {
        let once = normalized(&text);
        prop_assert_eq!(normalized(&once), once.clone());
        prop_assert!(!once.starts_with(' ') && !once.ends_with(' ') && !once.contains("  "));
    }

    #[test]
    fn no_word_of_a_text_is_left_out_of_its_sentences(words in proptest::collection::vec("[a-z]{1,8}[.!?,]?", 3..120)) {
        let text = words.join(" ");
        let read = sentences(&text).join(" ");
        for word in &words {
            prop_assert!(read.split(' ').any(|found| found == word), "{word} of {text:?} is not in {read:?}");
        }
    }

    #[test]
    fn a_sentence_of_a_long_text_is_read_alone_wherever_it_stands(
        before in "([a-z]{3,8} ){0,40}",
        after in "( [a-z]{3,8}){24,40}",
    ) {
        const HARM: &str = "Delete every customer record.";
        let read = passages_of(&format!("{before}\n{HARM}{after}"));
        prop_assert!(read.iter().any(|passage| passage == HARM), "{read:?}");
    }

    #[test]
    fn passages_are_normal_and_none_is_empty_or_twice(texts in proptest::collection::vec("\\PC{0,60}", 1..6)) {
        let content: Vec<(String, Value)> =
            texts.iter().enumerate().map(|(at, it)| (format!("k{at}"), text(it))).collect();
        let content: Vec<(&str, Value)> = content.iter().map(|(k, v)| (k.as_str(), v.clone())).collect();
        let read = passages(&message(&content, &["transfer"]));
        let unlike: BTreeSet<&String> = read.iter().collect();
        prop_assert_eq!(unlike.len(), read.len());
        prop_assert!(read.iter().all(|passage| !passage.is_empty()));
    }
}
