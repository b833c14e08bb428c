//! What does reading a message for the score cost at most (P15)? The worst known message of each kind, and the worst
//! mix of them that a search finds, at the largest size; by the clock of the thread, so that other work on the machine
//! counts little.
#![allow(clippy::unwrap_used, reason = "what is read are constants")]

use std::{
    collections::{BTreeMap, BTreeSet},
    hint::black_box,
    time::Duration,
};

use agentbus::{
    domain::{BroadcastFilter, Message, MessageType, Priority, Recipient, Timestamp, Value},
    impact::{Keywords, signals::large_amount, text::passages},
};

use crate::{
    cpu,
    spread::Spread,
    tables::table,
    targets::{Is, Target},
};

mod search;

const BYTES: usize = 128 * 1_024;
const VALUES: usize = 4_000;
const ROUNDS: usize = 9;
/// As a node has them by default.
const WINDOWS: usize = 24;

pub(crate) fn run() -> (String, Vec<Target>) {
    let mut kinds: Vec<Row> =
        kinds().into_iter().map(|(name, message)| Row::of(name.to_owned(), &message)).collect();
    kinds.sort_by(|a, b| b.whole().total_cmp(&a.whole()));
    let (tried, mixes) = search::worst();
    let found: Vec<Row> = mixes.iter().map(|(name, message)| Row::of(name.clone(), message)).collect();
    let text = format!(
        "Microseconds of a thread to read {BYTES} bytes, the least of {ROUNDS} times: for the model (text and amounts), \
         and by keywords.\n\n{}\n\nThe worst of {tried} mixes in each layout, found by mutation within {} s:\n\n{}",
        rows(&kinds),
        search::TIME.as_secs(),
        found
            .iter()
            .map(|row| format!("- {:.0} µs: {}", row.whole(), row.name))
            .collect::<Vec<_>>()
            .join("\n")
    );
    let worst = |rows: &[Row]| rows.iter().map(|row| row.whole() / 1e3).fold(0.0, f64::max);
    let target = |found, how: &str| Target::new("P15", Spread::of([found]), (Is::AtMost, 5.0), "ms", how);
    let known = target(worst(&kinds), "reading 128 KiB for the score, the worst known kind");
    let mixed = target(worst(&found), "reading 128 KiB for the score, the worst mix that a search finds");
    (text, known.into_iter().chain(mixed).collect())
}

/// What one message costs, in microseconds.
struct Row {
    name: String,
    read: f64,
    amounts: f64,
    keywords: f64,
    outcome: String,
}

impl Row {
    fn of(name: String, message: &Message) -> Self {
        Self {
            name,
            read: least(|| passages(message, WINDOWS)),
            amounts: least(|| large_amount(&message.content)),
            keywords: least(|| Keywords::of(message)),
            outcome: outcome(message),
        }
    }

    fn whole(&self) -> f64 {
        self.read + self.amounts
    }
}

fn rows(of: &[Row]) -> String {
    let mut table = table(&["kind", "model", "text", "amounts", "keywords", "read as"]);
    for row in of {
        let times = [row.whole(), row.read, row.amounts, row.keywords].map(|us| format!("{us:.0}"));
        table.add_row([vec![row.name.clone()], times.to_vec(), vec![row.outcome.clone()]].concat());
    }
    table.to_string()
}

/// What reading a message for the model takes, in µs: the least of some rounds.
fn cost(message: &Message, rounds: usize) -> f64 {
    least_of(rounds, || (passages(message, WINDOWS), large_amount(&message.content)))
}

fn outcome(message: &Message) -> String {
    match passages(message, WINDOWS) {
        Ok(read) => format!("{} passages", read.content.len() + read.around.len()),
        // Too much is an answer as well.
        Err(_) => "too long".to_owned(),
    }
}

fn least<T>(run: impl Fn() -> T) -> f64 {
    least_of(ROUNDS, run)
}

fn least_of<T>(rounds: usize, run: impl Fn() -> T) -> f64 {
    let round = || {
        let start = cpu::of_this_thread();
        black_box(run());
        micros(cpu::of_this_thread().saturating_sub(start))
    };
    (0..rounds).map(|_| round()).fold(f64::MAX, f64::min)
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

fn kinds() -> Vec<(&'static str, Message)> {
    let mut all: Vec<(&str, Message)> = TEXTS
        .iter()
        .map(|&(name, unit)| (name, holding("text", Value::Text(unit.repeat(BYTES / unit.len())))))
        .collect();
    let marks: String =
        (0..BYTES as u32 / 2).filter_map(|n| char::from_u32(0x300 + n * 7_919 % 0x4e)).collect();
    all.push(("marks on one letter", holding("text", Value::Text(format!("a{marks}")))));
    let mut nested = "%41".to_owned();
    while nested.len() < BYTES / 40 {
        nested = nested.replace('%', "%25");
    }
    all.push(("percents nested", holding("text", Value::Text(nested.repeat(BYTES / nested.len())))));
    let list = |item: &dyn Fn(usize) -> Value| holding("steps", Value::List((0..VALUES).map(item).collect()));
    let wide = "\u{fdfa}".repeat(BYTES / VALUES / 3);
    all.push(("list of letters", list(&|_| Value::Text("d".to_owned()))));
    all.push(("list of letters' codes", list(&|_| Value::Int(100))));
    all.push(("list of U+FDFA", list(&|_| Value::Text(wide.clone()))));
    all.push((
        "long key over a list",
        holding(&"alpha ".repeat(BYTES / 8), Value::List(vec![Value::Int(1); VALUES])),
    ));
    all.push((
        "many keys",
        of((0..VALUES).map(|n| (format!("key{n} {}", "x y ".repeat(6)), Value::Null)).collect()),
    ));
    all.push(("keys of U+FDFA", of((0..VALUES).map(|n| (format!("{n}{wide}"), Value::Null)).collect())));
    let label = |level: usize| format!("level {level} {}", "alpha beta ".repeat(BYTES / 13 / 12));
    let deep = (0..13).fold(Value::Null, |below, level| Value::Map([(label(level), below)].into()));
    all.push(("deep labels", holding("a", deep)));
    // The letter beyond ASCII takes a text off the short way that plain ones have.
    let pair = |n: usize| (format!("bｄｄｄｄd3l3teß{n}"), Value::Text("bｄｄｄd3l3teß".to_owned()));
    all.push(("short values", of((0..2_600).map(pair).collect())));
    let pair = |n: usize| (format!("{}Ж{n}", "a".repeat(20)), Value::Text("a".repeat(30) + "Ж"));
    all.push(("short values of look-alikes", of((0..2_000).map(pair).collect())));
    let text = "é🇩🇩🇩🇩🇩🇩🇩🇩🇩🇩amountamountamountamountamountдом ".repeat(10) + "two million &#64018;";
    all.push(("long values of letters", holding("steps", Value::List(vec![Value::Text(text); 128]))));
    let text = hex("delete all customer records and the backups too, at once and for ever ");
    let mut odd = holding("text", Value::Text(format!("%26%23\u{10dd}{}", text.repeat(BYTES / text.len()))));
    let note = "Please read the minutes of the last meeting and say what was agreed. ".repeat(14);
    odd.metadata = (0..64).map(|n| (format!("note {n}"), note.clone())).collect();
    all.push(("hexadecimal, a sign and notes", odd));
    let text = format!("\u{202e}\u{2066}ab/{}", "$1 ".repeat(338));
    all.push(("currencies everywhere", holding("steps", Value::List(vec![Value::Text(text); 128]))));
    let text = "x y . ".repeat(BYTES / 6 - 2) + "ꓓ&amp;";
    all.push(("letters apart and a sign", holding("text", Value::Text(text))));
    let mut packed = holding("text", Value::Text("RGVsZXRl".repeat(BYTES / 16) + "㌖Ꭰ"));
    packed.metadata = (0..64).map(|n| (format!("note {n}"), "RGVsZXRl".repeat(120) + "㌖Ꭰ")).collect();
    all.push(("base64 here and there", packed));
    let label = |level: usize| format!("{}{level} &#x44;\u{316}", "amount".repeat(BYTES / 13 / 6));
    let deep = (0..13).fold(Value::Null, |below, level| Value::Map([(label(level), below)].into()));
    all.push(("deep labels of one word", holding("a", deep)));
    let mut noted = holding("text", Value::Text("hi".to_owned()));
    noted.metadata = (0..64).map(|n| (format!("note_{n}"), "\u{fdfa} ".repeat(256))).collect();
    all.push(("metadata of U+FDFA", noted));
    all
}

fn hex(text: &str) -> String {
    text.bytes().map(|byte| format!("{byte:02x}")).collect()
}

/// What the texts are made of.
fn pieces() -> impl Iterator<Item = String> {
    TEXTS.iter().map(|(_, unit)| (*unit).to_owned())
}

const TEXTS: &[(&str, &str)] = &[
    ("plain text", "Please read the minutes of the last meeting and say what was agreed. "),
    ("U+FDFA", "\u{fdfa}"),
    ("U+FDFB", "\u{fdfb}"),
    ("squared words, U+3300", "\u{3300}\u{3316}"),
    ("squared letters, U+1F14x", "\u{1f14a}\u{1f170}"),
    ("a mark on each letter", "a\u{316}\u{301}"),
    ("hangul jamo", "\u{1112}\u{1161}\u{11ab}"),
    ("zero-widths", "\u{200b}"),
    ("bidi", "\u{202e}\u{2066}ab"),
    ("full-width", "ｄｅｌｅｔｅ　"),
    ("flags", "\u{1f1e9}\u{1f1ea}"),
    ("look-alikes", "реасеz "),
    ("no space", "deleteeverything"),
    ("spelled out", "d e l e t e  "),
    ("far between", "a........"),
    ("lines of a letter", "a\n"),
    ("entities", "&#x44;"),
    ("entities of U+FDFA", "&#64018;"),
    ("percents", "%44"),
    ("ampersands", "&"),
    ("backslashes", "\\"),
    ("base64 in base64", "UkdWc1pYUmxJR0ZzYkNCamRYTjBiMjFsY2lCeVpXTnZjbVJ6"),
    ("base64 words", "UkdWc1pYUmxJR0Zz "),
    ("hexadecimal", "44656c657465"),
    ("digits in words", "d3l3te "),
    ("currencies", "$1 "),
];

fn holding(key: &str, value: Value) -> Message {
    of([(key.to_owned(), value)].into())
}

fn of(content: BTreeMap<String, Value>) -> Message {
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
        content,
        tools: BTreeSet::new(),
        metadata: BTreeMap::new(),
        created_at: Timestamp(0),
        expires_at: None,
    }
}
