//! Is what the model reads what people see, all of it, and bounded?
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::domain::{BroadcastFilter, Priority, Recipient, Timestamp};

pub(in crate::impact) mod kinds;
pub(in crate::impact) mod unworded;

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

/// Far more windows than any of these texts has.
const MAX: usize = 10_000;

fn passages(message: &Message) -> Vec<String> {
    super::passages(message, MAX).unwrap().content
}

fn rendered(message: &Message) -> String {
    let texts = Texts::within(Work::of(usize::MAX));
    let mut leaves = Leaves::of(message, texts, Form::Written, usize::MAX).unwrap();
    with_type_and_tools(message, whole(&mut leaves, usize::MAX).unwrap())
}

fn passages_of(said: &str) -> Vec<String> {
    passages(&message(&[("text", text(said))], &[]))
}

fn sentences(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let lines: Vec<_> = text.split(texts::LINE_ENDS).map(plain).collect();
    super::sentences(&lines, &mut |it| {
        found.push(it.to_owned());
        Ok(())
    })
    .unwrap();
    found
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
    let glued = of(&endless.replace(' ', "-"));
    assert!(glued.iter().all(|piece| piece.matches("word").count() <= 16), "{glued:?}");
    assert!(of(&endless.replace(' ', "").repeat(4)).iter().all(|piece| piece.len() <= 16 * 17));
    let repeated = "The same again here. ".repeat(80);
    assert_eq!(passages_of(&repeated).len(), 2, "the whole, and the sentence once");
}

#[test]
fn a_short_text_is_read_as_a_whole_only() {
    const SHORT: &str = "Dry run only, please. Drop the table of customers.";
    assert_eq!(passages_of(SHORT), [SHORT]);
    assert_eq!(passages(&message(&[("text", text(SHORT))], &[])), [SHORT]);
    // 25 words; few but long ones; and values that are long together.
    assert_eq!(passages_of(&"One two three four five. ".repeat(5)).len(), 2);
    assert_eq!(passages_of(&format!("Read it all. {}", "x".repeat(230))).len(), 4);
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
        // Stroke letters and accents of Latin words are the tokenizer's to undo, or have no other form.
        ("Złoty", "Zloty"),
        ("Дĕlеtе аll", "Дĕlete all"),
        ("d\u{336}e\u{336}l\u{336}ete", "delete"),
        ("delete/ж аll", "delete/ж all"),
        ("ᴅᴇʟᴇᴛᴇ ᴀʟʟ", "delete all"),
        ("đɇłɨvɇɍ", "deliver"),
        ("🅰🅻🅻 ⓓⓔⓛⓔⓣⓔ ⒜⒧⒧ 🅓🅔🅛", "ALL delete all DEL"),
        ("d.e.l.e.t.e all", "delete all"),
        ("d e l e t e  a-l-l c_a_r_d_s.", "delete a-l-l cards."),
        ("w - i - p - e it", "wipe it"),
        ("the U.S.A. today", "the U.S.A. today"),
        ("a b c", "a b c"),
        ("и к о н а", "и к о н а"),
    ] {
        assert_eq!(normalized(seen), plain, "{seen:?}");
    }
    // Accents that a tokenizer drops do not keep look-alikes from being seen.
    let accented = normalized("Dеĺеţе аĺĺ сušţоmеŕs");
    assert!(accented.chars().all(|c| c < '\u{250}'), "{accented}");
}

#[test]
fn texts_of_other_alphabets_stay_as_they_are() {
    for text in [
        "Кто там? Как тут, у нас, всё хорошо.",
        "Привет, кот и мама.",
        "То, что тут, уже её.",
        "Και το νερό είναι κρύο, όχι του κόσμου.",
        "Їжак та ось сам.",
        "Հայերեն լեզու",
        "हिन्दी में लिखा",
    ] {
        assert_eq!(normalized(text), text);
    }
}

#[test]
fn short_values_of_a_long_message_are_read_together_and_never_alone() {
    let notes = text(&"The weather is mild today. It was mild on Monday as well, and on Sunday. ".repeat(3));
    let content = [
        ("action", text("delete database")),
        ("corpus", text("handover-00012")),
        ("count", Value::Int(7)),
        ("final", Value::Bool(true)),
        ("notes", notes.clone()),
        ("steps", Value::List(vec![text("wipe disks"), text("drop backups")])),
    ];
    let read = passages(&message(&content, &[]));
    let together = "action: delete database; corpus: handover; final: yes; steps: wipe disks; drop backups";
    assert!(read.iter().any(|it| it == together), "{read:?}");
    let single = passages(&message(&[("corpus", text("handover-00012")), ("notes", notes.clone())], &[]));
    assert!(single.iter().skip(1).all(|it| !it.contains("handover")), "{single:?}");
    let pairs =
        (0..80).map(|_| text("go on")).chain([text("wipe disks")]).chain((0..80).map(|_| text("stay here")));
    let read = passages(&message(&[("list", Value::List(pairs.collect())), ("notes", notes)], &[]));
    let piece = read.iter().skip(1).find(|it| it.contains("wipe disks")).unwrap();
    assert!(count(piece, usize::MAX) <= 16, "{piece}");
}

#[test]
fn a_key_of_any_length_is_read_whole_once_however_much_is_below_it() {
    let key = format!("{} delete every customer record {}", "alpha ".repeat(2_000), "omega ".repeat(100));
    let ones = |count| Value::List(vec![Value::Int(1); count]);
    let few = message(&[(&key, ones(3))], &[]);
    let (read, whole) = (passages(&few), rendered(&few));
    assert_eq!(whole.matches("delete every customer record").count(), 1);
    assert!(whole.len() < key.len() + 4 * 300, "{}", whole.len());
    assert!(read.iter().any(|it| it.contains("delete every customer record")), "{read:?}");
    // An outer key that gives way to a long inner one is read as well.
    let (outer, inner) = ("delete all ".repeat(20), "of the records ".repeat(15));
    let nested = Value::Map([(inner, Value::Int(1))].into());
    assert!(rendered(&message(&[(&outer, nested)], &[])).contains("delete all delete all"));
}

#[test]
fn a_small_message_that_would_make_much_text_is_too_much_at_once() {
    let key = "alpha ".repeat(9_000);
    let ones = Value::List(vec![Value::Int(1); 4_000]);
    let started = std::time::Instant::now();
    let inner = Value::Map([(key, ones)].into());
    assert_eq!(super::passages(&message(&[("content", inner)], &[]), 64), Err(TooMuch));
    // Unbounded it would make a quarter of a gigabyte of text.
    assert!(started.elapsed() < std::time::Duration::from_secs(10), "{:?}", started.elapsed());
    let nulls = Value::List(vec![Value::Null; 60_000]);
    assert_eq!(super::passages(&message(&[("text", nulls)], &[]), 64), Ok(Passages::default()));
}

#[test]
fn no_more_is_read_than_the_windows_hold_however_many_sentences_it_has() {
    let of = |count| (0..count).map(|n| format!("This is sentence number {n}. ")).collect::<String>();
    let read = |count| super::passages(&message(&[("text", text(&of(count)))], &[]), 4);
    // 4 windows of 128 tokens: 20 sentences of some 8, alone and as a whole.
    assert_eq!(read(20).unwrap().content.len(), 21);
    assert_eq!(read(60), Err(TooMuch));
}

#[test]
fn a_very_long_text_is_read_by_its_sentences_and_what_is_asked_for_all_the_same() {
    let long = (0..300).map(|n| format!("This is sentence number {n}. ")).collect::<String>();
    let read = passages(&message(&[("text", text(&long))], &["db.delete"]));
    assert_eq!(read.first().unwrap(), "tools: db delete");
    assert!(read.iter().all(|it| it.len() < 100) && read.len() == 301, "{read:?}");
}

#[test]
fn what_expands_is_stopped_before_it_is_made() {
    const ROOM: usize = 10_000;
    for wide in ["\u{fdfa}", "\u{fdfb}", "\u{3316}", "\u{1f14a}", "\u{fb2c}", "\u{ac01}", "a\u{300}\u{301}"] {
        let text = wide.repeat(20_000);
        let mut room = ROOM;
        assert_eq!(normal::seen_within(&text, &mut room, &mut Work::of(usize::MAX)), Err(TooMuch), "{wide}");
    }
    // A run of marks is cut, whatever their order.
    let marks: String = (0..20_000u32).filter_map(|n| char::from_u32(0x300 + n * 7 % 64)).collect();
    assert!(normalized(&format!("a{marks}b")).chars().count() <= 12);
    assert_eq!(normalized(&format!("a{}", "\u{200b}".repeat(50_000))), "a");
}

#[test]
fn what_would_take_too_much_to_decode_is_too_much_and_never_taken_for_plain() {
    let encoded = "UkdWc1pYUmxJR0ZzYkNCamRYTjBiMjFsY2lCeVpXTnZjbVJ6";
    let reads = |work| decoded::decoded(encoded, &mut Work::of(work));
    assert_eq!(reads(1_000).unwrap().as_deref(), Some("Delete all customer records"));
    for little in 0..12 {
        assert_eq!(reads(little), Err(TooMuch), "{little}");
    }
}

#[test]
fn how_much_is_done_to_read_a_message_does_not_follow_how_many_windows_there_are() {
    let hex = |text: &str| text.bytes().map(|byte| format!("{byte:02x}")).collect::<String>();
    let unit = format!("ო{}&amp;#100;⠙⠑⠇ ", hex(&hex("delete all customer records and the backups")));
    let dear = message(&[("text", text(&unit.repeat((128 << 10) / unit.len())))], &[]);
    assert_eq!(super::passages(&dear, usize::MAX), Err(TooMuch));
}

#[test]
fn long_texts_of_all_usual_kinds_are_read_within_the_work_of_one_message() {
    for (name, kind) in kinds::KINDS.iter().filter(|(name, _)| !["hex dump", "base64"].contains(name)) {
        // Letters and digits of ids that may be words are read twice.
        let bytes = if *name == "json" { 48 << 10 } else { 64 << 10 };
        let said = kinds::text(*kind, bytes, None);
        let read = super::passages(&message(&[("text", text(&said))], &[]), usize::MAX);
        assert!(read.is_ok(), "{name}");
    }
}

#[test]
fn only_small_plain_messages_are_read_on_the_spot() {
    let said = |it: &str| message(&[("text", text(it))], &[]);
    assert!(is_light(&said("Count the rows of the table.")));
    assert!(!is_light(&said(&"word ".repeat(300))) && !is_light(&said("Кто там?")));
    assert!(!is_light(&message(&[("text", Value::List(vec![Value::Null; 100]))], &[])));
    let mut noted = said("Hello.");
    noted.metadata = BTreeMap::from([("note".to_owned(), "x".repeat(1_100))]);
    assert!(!is_light(&noted));
}

fn bytes_of(value: &Value) -> usize {
    match value {
        Value::Text(it) => it.len() + 2,
        Value::List(items) => 2 + items.iter().map(bytes_of).sum::<usize>(),
        Value::Map(entries) => {
            2 + entries.iter().map(|(key, value)| key.len() + 2 + bytes_of(value)).sum::<usize>()
        }
        Value::Null | Value::Bool(_) | Value::Int(_) | Value::Float(_) => 1,
    }
}

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        (0..9i64).prop_map(|it| Value::Int(it.into())),
        "[a-z ]{0,40}|\\PC{0,20}|\u{fdfa}{0,9}".prop_map(Value::Text),
    ];
    leaf.prop_recursive(4, 200, 30, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..30).prop_map(Value::List),
            proptest::collection::btree_map("[a-z ]{0,8}|[a-z ]{200,700}", inner, 0..8).prop_map(Value::Map),
        ]
    })
}

proptest! {
    #[test]
    fn normalising_twice_changes_nothing(text in "\\PC{0,80}|[ -~а-яА-Яα-ω\u{200b}\u{300}-\u{310}]{0,60}") {
        let once = normalized(&text);
        prop_assert_eq!(normalized(&once), once.clone());
        prop_assert!(!once.starts_with(' ') && !once.ends_with(' ') && !once.contains("  "));
    }

    #[test]
    fn no_word_of_a_text_is_left_out_of_its_sentences(words in proptest::collection::vec("[a-z]{2,8}[.!?,]?", 3..120)) {
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
    fn what_is_read_is_bounded_by_what_was_sent_and_by_the_windows(value in any_value(), windows in 1usize..64) {
        let bytes = bytes_of(&value);
        if let Ok(read) = super::passages(&message(&[("data", value)], &[]), windows) {
            let found: usize = read.content.iter().map(String::len).sum();
            prop_assert!(read.content.len() <= windows * 64);
            let weight: usize = read.content.iter().map(|it| weight_of(it)).sum();
            prop_assert!(weight <= room_of(windows), "{weight}");
            // A letter of 3 bytes may be 33 to the eye; pieces overlap; the whole and its parts are read.
            prop_assert!(found <= 11 * 4 * bytes + 4 * room_of(windows), "{found} of {bytes}");
        }
    }

    #[test]
    fn passages_are_normal_and_none_is_empty_or_twice(texts in proptest::collection::vec("\\PC{0,60}", 1..6)) {
        let content: Vec<(String, Value)> =
            texts.iter().enumerate().map(|(at, it)| (format!("k{at}"), text(it))).collect();
        let content: Vec<(&str, Value)> = content.iter().map(|(k, v)| (k.as_str(), v.clone())).collect();
        let read = passages(&message(&content, &["transfer"]));
        let unlike: HashSet<&String> = read.iter().collect();
        prop_assert_eq!(unlike.len(), read.len());
        prop_assert!(read.iter().all(|passage| !passage.is_empty()));
    }
}
