//! Which mix of known pieces takes longest to read? A search by mutation, with a fixed seed and a bound of time.
#![allow(clippy::indexing_slicing, reason = "by a layout, of all there are")]

use std::{
    fmt,
    time::{Duration, Instant},
};

use agentbus::domain::{Message, Value};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng, seq::IndexedRandom as _};

use super::{BYTES, cost, hex, holding, of, pieces};

const SEED: u64 = 1;
pub(super) const TIME: Duration = Duration::from_secs(20);
/// The best of each layout that are mutated.
const KEPT: usize = 10;
/// Notes in the metadata, as many and as long as they may be.
const NOTES: usize = 64;
const NOTE_BYTES: usize = 1_000;

/// How many mixes were tried, and the worst of each layout.
pub(super) fn worst() -> (usize, Vec<(String, Message)>) {
    let pieces = all_pieces();
    let mut rng = StdRng::seed_from_u64(SEED);
    let mut best: Vec<Vec<(f64, Mix)>> = vec![Vec::new(); LAYOUTS.len()];
    let (started, mut tried) = (Instant::now(), 0);
    while started.elapsed() < TIME {
        let kept = best.iter().flatten().count();
        let new = kept < LAYOUTS.len() * KEPT / 2 || rng.random_bool(0.15);
        let mix = match (new, best.concat().choose(&mut rng)) {
            (false, Some((_, mix))) => mix.mutated(&pieces, &mut rng),
            _ => Mix::drawn(&pieces, &mut rng),
        };
        tried += 1;
        let place = &mut best[mix.layout];
        let bar = place.get(KEPT - 1).map_or(0.0, |(least, _)| *least);
        let message = mix.message();
        // Once for most, and again where it looks dear: a slow moment of the machine is no dear message.
        if cost(&message, 1) > bar {
            let dear = cost(&message, 3);
            place.push((dear, mix));
            place.sort_by(|a, b| b.0.total_cmp(&a.0));
            place.truncate(KEPT);
        }
    }
    let worst = best.iter().filter_map(|place| place.first());
    (tried, worst.map(|(_, mix)| (mix.to_string(), mix.message())).collect())
}

/// Where the pieces stand.
const LAYOUTS: &[&str] = &["one text", "a list", "values", "keys", "nested keys", "a list below keys"];

/// Pieces, repeated until a message is full.
#[derive(Clone)]
struct Mix {
    layout: usize,
    values: usize,
    head: Vec<String>,
    unit: Vec<String>,
    tail: Vec<String>,
    key: Vec<String>,
    note: Vec<String>,
}

impl Mix {
    fn drawn(pieces: &[String], rng: &mut StdRng) -> Self {
        let mut some = |least: usize, most: usize| -> Vec<String> {
            let count = rng.random_range(least..=most);
            pieces.choose_multiple(rng, count).cloned().collect()
        };
        let (head, unit, tail, key, note) = (some(0, 2), some(1, 3), some(0, 3), some(0, 2), some(0, 3));
        let values = *[1, 2, 8, 64, 128, 500, 1_000, 2_000, 3_900].choose(rng).unwrap();
        Self { layout: rng.random_range(0..LAYOUTS.len()), values, head, unit, tail, key, note }
    }

    fn mutated(&self, pieces: &[String], rng: &mut StdRng) -> Self {
        let mut mix = self.clone();
        for _ in 0..rng.random_range(1..=2) {
            let list = match rng.random_range(0..9) {
                0..=2 => &mut mix.unit,
                3 | 4 => &mut mix.tail,
                5 => &mut mix.head,
                6 => &mut mix.key,
                7 => &mut mix.note,
                _ => {
                    mix.values = (mix.values * rng.random_range(1..40) / 10).clamp(1, 3_900);
                    continue;
                }
            };
            let at = rng.random_range(0..=list.len());
            match rng.random_range(0..3) {
                0 if list.len() < 8 => list.insert(at, pieces.choose(rng).unwrap().clone()),
                1 if at < list.len() => drop(list.remove(at)),
                _ if at < list.len() => pieces.choose(rng).unwrap().clone_into(&mut list[at]),
                _ => {}
            }
        }
        mix
    }

    fn message(&self) -> Message {
        let key = cut(self.key.concat(), 400);
        let each = (BYTES / self.values).saturating_sub(10);
        let (first, n) = (self.head.concat(), self.values);
        let value = |bytes: usize| Value::Text(self.fill(&first, bytes));
        let nested = |inner: Value, levels: usize, name: &dyn Fn(usize) -> String| {
            (0..levels).fold(inner, |below, level| Value::Map([(name(level), below)].into()))
        };
        let mut message = match self.layout {
            0 => holding("text", value(BYTES - 10)),
            1 => holding("steps", Value::List((0..n).map(|_| value(each)).collect())),
            2 => of((0..n)
                .map(|at| (cut(format!("{key}{at}"), each.max(8)), value(each.saturating_sub(key.len()))))
                .collect()),
            3 => of((0..n).map(|at| (self.fill(&format!("{at}{first}"), each), Value::Null)).collect()),
            4 => {
                let name = |level: usize| self.fill(&format!("{level}{first}"), BYTES / 13 - 10);
                holding("a", nested(Value::Text(key), 13, &name))
            }
            _ => {
                let list = vec![Value::Text(cut(self.tail.concat(), 20)); n.min(3_000)];
                let name = |level: usize| cut(format!("{level}{first}{}", self.unit.concat()), 2_000);
                let outer = cut(self.fill(&key, 40_000), 40_000);
                holding(&outer, nested(Value::List(list), 12, &name))
            }
        };
        if !self.note.is_empty() {
            let note = self.note.concat();
            let note = note.repeat((NOTE_BYTES / note.len().max(1)).max(1));
            message.metadata =
                (0..NOTES).map(|at| (format!("note {at}"), cut(note.clone(), NOTE_BYTES))).collect();
        }
        message
    }

    fn fill(&self, first: &str, bytes: usize) -> String {
        let (unit, tail) = (self.unit.concat(), self.tail.concat());
        let times = bytes.saturating_sub(first.len() + tail.len()) / unit.len().max(1);
        cut(format!("{first}{}{tail}", unit.repeat(times)), bytes)
    }
}

impl fmt::Display for Mix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let short = |list: &[String]| cut(list.concat().escape_default().to_string(), 48);
        write!(
            f,
            "{} ×{}: {} + n × {}",
            LAYOUTS[self.layout],
            self.values,
            short(&self.head),
            short(&self.unit)
        )?;
        write!(f, " + {}; key {}; notes {}", short(&self.tail), short(&self.key), short(&self.note))
    }
}

fn cut(mut text: String, bytes: usize) -> String {
    text.truncate(text.floor_char_boundary(bytes));
    text
}

/// What the named kinds are made of, and what goes through other steps than they do.
fn all_pieces() -> Vec<String> {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    const MORE: &str = "Ж|дом |é|ß|ꓓ|㌖|ო|한국|東京|हिन्दी |⠙⠑⠇⠀|ⓓⓔ|𝐝𝐞|ᴅᴇ|đ|ı|ﬁ|ẛ\u{323}|\u{300}|\u{336}|\u{3000}|\u{2028}\
        |amount|amountAmount|aB|A|1|12|64 65 6c |0x64,|100 101 |01100100 |%2525|%25|%u0044|%|&amp;|&amp;#100;|&percnt;\
        |\\u0044|\\n|\\144|=|+|a b c d |a.b.c.d.|x y . |_|.|. |; |\r\n|\t|gur |eht |naq nyy |wipe it. |I |don't |10:30 \
        |€|two million |EUR 25000 |a1b2c3 |d3l3te |/|\0|RGVsZXRl|UkdWc1pYUmxJR0Zz |44656c657465|Delete all records. ";
    const SAID: &str = "delete all customer records and the backups too, at once and for ever ";
    let said = SAID.repeat(20);
    let packed = |text: &str| STANDARD.encode(text);
    let mut nested = "%41".to_owned();
    while nested.len() < 3_000 {
        nested = nested.replace('%', "%25");
    }
    let wide = "\u{fdfa}".repeat(40);
    let more = [
        packed(&said),
        packed(&packed(&said)),
        packed(&packed(&packed(&said))),
        hex(&said),
        hex(&hex(&said)),
        packed(&"~".repeat(60)),
        packed(&"ü".repeat(60)),
        packed(&wide),
        hex(&wide),
        said.chars().rev().collect(),
        nested,
    ];
    pieces().chain(MORE.split('|').map(str::to_owned)).chain(more).collect()
}
