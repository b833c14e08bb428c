//! Long texts of the kinds that hardly have words: dumps, numbers, ids, codes.

use std::fmt::Write as _;

use rand::{Rng as _, rngs::StdRng, seq::IndexedRandom as _};

use super::kinds::{Kind, prose};

pub(in crate::impact) const UNWORDED: &[(&str, Kind)] = &[
    ("hexdump -C", canonical),
    ("xxd", xxd),
    ("hexdump", words),
    ("od -t x1", od),
    ("xxd -p", plain),
    ("hexdump -C of prose", canonical_of_prose),
    ("xxd of prose", xxd_of_prose),
    ("floats", floats),
    ("integers", integers),
    ("UUIDs", uuids),
    ("hashes of files", hashes),
    ("addresses", addresses),
    ("base32", base32),
    ("base85", base85),
    ("PEM", pem),
    ("minified code", minified),
    ("DNA", dna),
    ("bits", bits),
];

fn drawn<const N: usize>(rng: &mut StdRng) -> [u8; N] {
    rng.random()
}

fn of_digits(rng: &mut StdRng, digits: &[u8], count: usize) -> String {
    (0..count).map(|_| char::from(*digits.choose(rng).unwrap())).collect()
}

fn column(bytes: &[u8]) -> String {
    bytes.iter().map(|b| if matches!(b, b' '..=b'~') { char::from(*b) } else { '.' }).collect()
}

/// Bytes as `hexdump -C` shows them, from an offset on.
pub(in crate::impact) fn dumped(bytes: &[u8], offset: usize) -> String {
    let mut out = String::new();
    for (row, bytes) in bytes.chunks(16).enumerate() {
        write!(out, "{:08x} ", offset + 16 * row).unwrap();
        for (at, byte) in bytes.iter().enumerate() {
            write!(out, "{}{byte:02x}", if at == 8 { "  " } else { " " }).unwrap();
        }
        let gap = 3 * (16 - bytes.len()) + usize::from(bytes.len() <= 8) + 2;
        writeln!(out, "{}|{}|", " ".repeat(gap), column(bytes)).unwrap();
    }
    out
}

/// The same as `xxd` shows them.
pub(in crate::impact) fn xxd_of(bytes: &[u8], offset: usize) -> String {
    let mut out = String::new();
    for (row, bytes) in bytes.chunks(16).enumerate() {
        let pairs: Vec<String> = bytes.chunks(2).map(hex::encode).collect();
        writeln!(out, "{:08x}: {:39}  {}", offset + 16 * row, pairs.join(" "), column(bytes)).unwrap();
    }
    out
}

fn canonical(rng: &mut StdRng) -> String {
    dumped(&drawn::<1024>(rng), 0x400)
}

fn xxd(rng: &mut StdRng) -> String {
    xxd_of(&drawn::<1024>(rng), 0x400)
}

fn canonical_of_prose(rng: &mut StdRng) -> String {
    dumped(prose(rng).as_bytes(), 0x400)
}

fn xxd_of_prose(rng: &mut StdRng) -> String {
    xxd_of(prose(rng).as_bytes(), 0x400)
}

/// Rows of numbers of so many bytes, with offsets, each number with its last byte first or not.
pub(in crate::impact) fn numbers(bytes: &[u8], size: usize, turned: bool) -> String {
    let number = |it: &[u8]| match turned {
        true => hex::encode(it.iter().rev().copied().collect::<Vec<_>>()),
        false => hex::encode(it),
    };
    let row = |(at, row): (usize, &[u8])| {
        format!("{:07x} {}\n", 16 * at, row.chunks(size).map(number).collect::<Vec<_>>().join(" "))
    };
    bytes.chunks(16).enumerate().map(row).collect()
}

fn words(rng: &mut StdRng) -> String {
    numbers(&drawn::<1024>(rng), 2, false)
}

fn od(rng: &mut StdRng) -> String {
    numbers(&drawn::<1024>(rng), 1, false)
}

fn plain(rng: &mut StdRng) -> String {
    format!("{}\n", hex::encode(drawn::<30>(rng)))
}

fn floats(rng: &mut StdRng) -> String {
    let numbers: Vec<String> = (0..8).map(|_| format!("{:.6}", rng.random_range(-1e3..1e3))).collect();
    format!("{}\n", numbers.join(","))
}

fn integers(rng: &mut StdRng) -> String {
    let numbers: Vec<String> = (0..12).map(|_| rng.random_range(0..100_000u32).to_string()).collect();
    format!("[{}],\n", numbers.join(", "))
}

fn uuids(rng: &mut StdRng) -> String {
    let [a, b, c, d] = [(); 4].map(|()| hex::encode(drawn::<2>(rng)));
    format!("{}-{a}-4{}-a{}-{b}{c}{d}\n", hex::encode(drawn::<4>(rng)), &a[1..], &b[1..])
}

fn hashes(rng: &mut StdRng) -> String {
    const FOLDERS: &[&str] = &["src", "lib", "docs", "tests", "assets", "fonts", "images", "vendor"];
    const NAMES: &[&str] =
        &["index", "main", "button", "table", "header", "layout", "photo", "readme", "map"];
    const ENDS: &[&str] = &["rs", "js", "png", "md", "css", "woff2", "html"];
    let mut one = |of: &[&'static str]| *of.choose(rng).unwrap();
    let path = format!("{}/{}/{}.{}", one(FOLDERS), one(NAMES), one(NAMES), one(ENDS));
    format!("{}  {path}\n", hex::encode(drawn::<32>(rng)))
}

fn addresses(rng: &mut StdRng) -> String {
    let groups: Vec<String> = (0..6).map(|_| format!("{:x}", rng.random::<u16>())).collect();
    format!("2001:db8:{} {}.{}.0.1\n", groups.join(":"), rng.random::<u8>(), rng.random::<u8>())
}

fn base32(rng: &mut StdRng) -> String {
    of_digits(rng, b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", 76) + "\n"
}

fn base85(rng: &mut StdRng) -> String {
    let digits: Vec<u8> = (b'!'..=b'u').collect();
    of_digits(rng, &digits, 80) + "\n"
}

fn pem(rng: &mut StdRng) -> String {
    of_digits(rng, b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/", 64) + "\n"
}

fn minified(rng: &mut StdRng) -> String {
    let [a, b, c] = [(); 3].map(|()| of_digits(rng, b"abcdefghijklmnopqrstuvwxyz", 1));
    const CALLS: &[&str] = &["push", "map", "slice", "concat", "join", "call", "apply", "indexOf", "charAt"];
    let call = CALLS.choose(rng).unwrap();
    let n: u16 = rng.random();
    format!("function {a}({b},{c}){{return {b}.{call}({c}||{n})}}var {c}{n}=[{b}?{a}({c},{n}):null];")
}

fn dna(rng: &mut StdRng) -> String {
    of_digits(rng, b"ACGT", 60) + "\n"
}

fn bits(rng: &mut StdRng) -> String {
    of_digits(rng, b"01", 64) + "\n"
}
