//! What do the pieces of a text say that was taken apart: a list of its words or letters, keys with
//! nothing below them, numbers that are letters' codes?
//!
//! Each is read together once more, beside what it is read as anyway.

use super::{
    TooMuch,
    brief::is_brief,
    decoded::decoded,
    fields::{Kind, Leaf, Leaves},
    work::Work,
};

/// Fewer values of a list, or keys, are read well enough where they stand.
const PIECES_MIN: usize = 3;
/// A list of more bytes is data; its values are read side by side as all short ones.
const LIST_BYTES_MAX: usize = 1_024;

/// What the pieces say together, in their order.
pub(super) fn joined(leaves: &mut Leaves<'_>) -> Result<Vec<String>, TooMuch> {
    let mut found = Vec::new();
    let work = &mut leaves.texts.work;
    for run in leaves.found.chunk_by(|a, b| a.kind == b.kind && alike(&a.label, &b.label)) {
        let bytes: usize = run.iter().map(|leaf| leaf.value().len() + 1).sum();
        if run.len() < PIECES_MIN || bytes > LIST_BYTES_MAX {
            continue;
        }
        match run.first().map(|leaf| leaf.kind) {
            Some(Kind::Number) => found.extend(decoded(&together(run, " "), work)?),
            Some(Kind::Text) if run.iter().all(|leaf| is_brief(leaf.value())) => {
                words(run, &mut found, work)?;
            }
            _ => {}
        }
    }
    found.extend(keys(leaves));
    Ok(found)
}

/// Whether two labels are one: numbers put what is below them in order, and say nothing.
fn alike(one: &str, other: &str) -> bool {
    one == other || said(one).eq(said(other))
}

fn said(label: &str) -> impl Iterator<Item = &str> {
    label.split(' ').filter(|word| !word.bytes().all(|b| b.is_ascii_digit()))
}

/// The values of a list as words of one text; or, if most are hardly more than letters, as its letters.
fn words(run: &[Leaf<'_>], found: &mut Vec<String>, work: &mut Work) -> Result<(), TooMuch> {
    const SYLLABLE: usize = 3;
    let letters: usize = run.iter().map(|leaf| leaf.value().trim().chars().count()).sum();
    if letters <= SYLLABLE * run.len() {
        found.push(together(run, ""));
    }
    let spaced = together(run, " ");
    found.extend(decoded(&spaced, work)?);
    found.push(spaced);
    Ok(())
}

fn together(run: &[Leaf<'_>], by: &str) -> String {
    run.iter().map(Leaf::value).collect::<Vec<_>>().join(by)
}

/// The words of all keys, if what is below them says less than they do.
fn keys(leaves: &Leaves<'_>) -> Option<String> {
    let speaks = |leaf: &&Leaf<'_>| leaf.kind == Kind::Text && leaf.value().chars().nth(2).is_some();
    if leaves.keys.len() < PIECES_MIN || leaves.found.iter().filter(speaks).count() * 2 > leaves.keys.len() {
        return None;
    }
    let words: Vec<&str> = leaves.keys.iter().flat_map(|key| said(key)).collect();
    (words.len() >= PIECES_MIN).then(|| words.join(" "))
}
