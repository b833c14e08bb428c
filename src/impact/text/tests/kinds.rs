//! Long texts of the kinds that agents send, made of templates, the same ones each time.

use std::fmt::Write as _;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng, seq::IndexedRandom as _};

pub(in crate::impact) const KINDS: &[(&str, Kind)] = &[
    ("prose", prose),
    ("code", code),
    ("log", log),
    ("stack trace", trace),
    ("table", table),
    ("json", json),
    ("hex dump", hex),
    ("base64", base64),
];

pub(in crate::impact) type Kind = fn(&mut StdRng) -> String;

/// So many bytes of a kind, in whole lines, with `line` at a place from 0 to 1, or without one.
pub(in crate::impact) fn text(kind: Kind, bytes: usize, line: Option<(&str, f64)>) -> String {
    let mut rng = StdRng::seed_from_u64(7);
    let (mut out, mut line) = (String::new(), line);
    loop {
        if let Some((said, at)) = line
            && out.len() as f64 >= at * (bytes - said.len() - 1) as f64
        {
            out.push_str(said);
            out.push('\n');
            line = None;
        }
        let next = kind(&mut rng);
        let left = line.map_or(0, |(said, _)| said.len() + 1);
        if out.len() + next.len() + left > bytes {
            match line.take() {
                Some((said, _)) => out.push_str(said),
                None => return out,
            }
            return out;
        }
        out.push_str(&next);
    }
}

fn one<'a>(rng: &mut StdRng, of: &[&'a str]) -> &'a str {
    of.choose(rng).unwrap()
}

const WHO: &[&str] = &[
    "The team",
    "Our supplier",
    "The museum",
    "A neighbour",
    "The library",
    "The author",
    "Her sister",
    "The ferry",
    "The orchard",
    "An old friend",
    "The village",
    "The choir",
    "The bakery",
    "Their teacher",
    "The baker",
];
const DOES: &[&str] = &[
    "visited",
    "described",
    "painted",
    "measured",
    "remembered",
    "watched",
    "compared",
    "counted",
    "sketched",
    "praised",
    "photographed",
    "noticed",
    "admired",
    "mentioned",
    "repaired",
];
const WHAT: &[&str] = &[
    "the stone bridge",
    "a row of poplars",
    "the winter harbour",
    "three small boats",
    "the yellow house",
    "the garden wall",
    "a long letter",
    "the evening light",
    "the market hall",
    "an apple tree",
    "the church tower",
    "a quiet lane",
    "the railway station",
    "the northern hills",
    "a wooden table",
];
const WHEN: &[&str] = &[
    "in early spring",
    "after the long rain",
    "before breakfast",
    "on the last day of June",
    "during the holidays",
    "when the snow had melted",
    "without any hurry",
    "for the second time",
    "in the company of two cousins",
    "while the bells were ringing",
    "as the guide book suggests",
    "to the surprise of everybody",
];

pub(in crate::impact) fn prose(rng: &mut StdRng) -> String {
    let mut out = String::new();
    for _ in 0..5 {
        let (who, does, what, when) = (one(rng, WHO), one(rng, DOES), one(rng, WHAT), one(rng, WHEN));
        let (other, saw) = (one(rng, WHAT), one(rng, DOES));
        write!(out, "{who} {does} {what} {when}, and later {saw} {other}. ").unwrap();
    }
    out.push('\n');
    out
}

const NOUNS: &[&str] = &[
    "order", "user", "cart", "invoice", "route", "token", "event", "session", "report", "price", "batch",
    "stock", "ticket", "label", "shelf", "parcel", "carrier", "column", "window", "page",
];
const VERBS: &[&str] = &[
    "parse", "load", "merge", "count", "render", "format", "sort", "filter", "group", "join", "map", "find",
];
const FIELDS: &[&str] = &[
    "name", "size", "status", "total", "rank", "weight", "city", "color", "height", "length", "kind", "title",
];

pub(in crate::impact) fn code(rng: &mut StdRng) -> String {
    let (verb, noun, other) = (one(rng, VERBS), one(rng, NOUNS), one(rng, NOUNS));
    let (field, key) = (one(rng, FIELDS), one(rng, FIELDS));
    let n: u8 = rng.random();
    match rng.random_range(0..3) {
        0 => format!(
            "def {verb}_{noun}_{other}({noun}s, {key}={n}):\n    \"\"\"Return the {other} of each {noun} by {field}.\"\"\"\n    \
             result = []\n    for {noun} in {noun}s:\n        if {noun}.{field} > {key}:\n            \
             result.append({verb}_{other}({noun}.{key}, {field}={n}))\n    return sorted(result, key=lambda it: it.{field})\n\n"
        ),
        1 => format!(
            "    pub fn {verb}_{noun}(&self, {other}: &[{other}::Row]) -> Result<Vec<u{n}>, Error> {{\n        \
             let {field} = {other}.iter().filter(|row| row.{key} < {n}).map(|row| row.{field});\n        \
             self.{noun}s.{verb}({field}.collect())\n    }}\n\n"
        ),
        _ => format!(
            "  const {noun}{n} = await {verb}({noun}s, {{ {field}: '{key}', limit: {n} }});\n  \
             expect({noun}{n}.{field}).toEqual({other}.{key});\n  // the {field} of a {noun} is that of its {other}\n"
        ),
    }
}

fn time(rng: &mut StdRng) -> String {
    let [h, m, s]: [u8; 3] = [rng.random_range(0..24), rng.random_range(0..60), rng.random_range(0..60)];
    format!("2026-03-{:02}T{h:02}:{m:02}:{s:02}.{:03}Z", rng.random_range(1..29), rng.random_range(0..1000))
}

pub(in crate::impact) fn log(rng: &mut StdRng) -> String {
    let (time, a, b): (_, u32, u16) = (time(rng), rng.random(), rng.random());
    let (noun, verb, field) = (one(rng, NOUNS), one(rng, VERBS), one(rng, FIELDS));
    match rng.random_range(0..5) {
        0 => format!(
            "{time} INFO  [http-{}] GET /api/{noun}s/{b}?{field}={a} 200 {} ms trace={a:08x}{b:08x}\n",
            b % 16,
            b % 900
        ),
        1 => format!(
            "{time} DEBUG [{noun}-worker] {verb} of {noun} {b} took {} ms, {} rows\n",
            b % 500,
            a % 5000
        ),
        2 => format!(
            "{time} WARN  [pool] waited {} ms for a connection to {noun}-db ({} of 32 in use)\n",
            b % 3000,
            b % 32
        ),
        3 => format!(
            "{time} INFO  [{noun}] request_id={a:08x}-{:04x}-4{:03x}-{b:04x}-{a:012x} user={b} {field}={} ok\n",
            b,
            b % 4096,
            a % 100
        ),
        _ => format!(
            "{time} ERROR [{verb}er] cannot read {noun}.{field}: timeout after {} ms, attempt {} of 5\n",
            b % 9000,
            b % 5
        ),
    }
}

pub(in crate::impact) fn trace(rng: &mut StdRng) -> String {
    let exception = one(rng, &["IllegalState", "NullPointer", "Timeout", "ClassCast", "IO", "NumberFormat"]);
    let (noun, field) = (one(rng, NOUNS), one(rng, FIELDS));
    let mut out = format!(
        "Caused by: java.util.{exception}Exception: {noun} has no {field} (id {})\n",
        rng.random::<u16>()
    );
    for _ in 0..12 {
        let (a, b, verb) = (one(rng, NOUNS), one(rng, FIELDS), one(rng, VERBS));
        let capital = |word: &str| word[..1].to_uppercase() + &word[1..];
        let package = one(
            rng,
            &[
                "org.springframework.web",
                "com.example.shop",
                "io.netty.channel",
                "java.base/java.util.concurrent",
            ],
        );
        writeln!(
            out,
            "\tat {package}.{a}.{}{}Service.{verb}{}({}{}Service.java:{})",
            capital(a),
            capital(b),
            capital(b),
            capital(a),
            capital(b),
            rng.random_range(10..900)
        )
        .unwrap();
    }
    out
}

const NAMES: &[&str] = &[
    "Anna Berg",
    "Luis Prado",
    "Mei Chen",
    "Tom Hale",
    "Ines Rocha",
    "Jan Novak",
    "Aisha Khan",
    "Olga Ivanova",
    "Paul Meyer",
    "Sara Lind",
    "Nora Walsh",
    "Omar Haddad",
    "Yuki Tanaka",
    "Eva Horn",
    "Ben Adler",
    "Lea Roth",
];
const CITIES: &[&str] = &[
    "Lisbon", "Ghent", "Turin", "Malmo", "Brno", "Leeds", "Porto", "Graz", "Cork", "Nantes", "Bergen",
    "Utrecht",
];

pub(in crate::impact) fn table(rng: &mut StdRng) -> String {
    let (id, units): (u32, u16) = (rng.random(), rng.random());
    format!(
        "{id},{},{},2026-0{}-1{},{},{}.{:02},{}\n",
        one(rng, NAMES),
        one(rng, CITIES),
        id % 9 + 1,
        id % 10,
        units % 40,
        units % 900,
        id % 100,
        one(rng, &["open", "shipped", "returned", "in stock", "on order"])
    )
}

pub(in crate::impact) fn json(rng: &mut StdRng) -> String {
    let (id, units): (u32, u16) = (rng.random(), rng.random());
    format!(
        "  {{\"id\": \"{id:08x}\", \"{}\": \"{}\", \"city\": \"{}\", \"{}\": {}, \"tags\": [\"{}\", \"{}\"], \"ok\": true}},\n",
        one(rng, FIELDS),
        one(rng, NAMES),
        one(rng, CITIES),
        one(rng, FIELDS),
        units,
        one(rng, NOUNS),
        one(rng, NOUNS)
    )
}

pub(in crate::impact) fn hex(rng: &mut StdRng) -> String {
    let bytes: [u8; 16] = rng.random();
    let pairs: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let shown: String =
        bytes.iter().map(|b| if b.is_ascii_graphic() { char::from(*b) } else { '.' }).collect();
    format!("{:08x}  {}  |{shown}|\n", rng.random::<u32>(), pairs.join(" "))
}

/// Of bytes that are no text, without line ends.
pub(in crate::impact) fn base64(rng: &mut StdRng) -> String {
    let bytes: Vec<u8> = (0..96).map(|_| rng.random()).collect();
    STANDARD.encode(bytes)
}
