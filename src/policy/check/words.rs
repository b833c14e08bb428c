//! Which word may be meant by another?

/// Letters that may be wrong.
const WRONG_MAX: usize = 2;
/// Of a longer word nothing is guessed, which bounds the work.
const CHARS_MAX: usize = 64;

/// The most alike of these words, if one is.
pub(super) fn alike<'a>(word: &str, of: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let word = word.to_lowercase();
    let wrong = |other: &str| distance(&word, &other.to_lowercase());
    let near = of.into_iter().map(|other| (wrong(other), other));
    let near = near.filter(|(wrong, other)| *wrong <= WRONG_MAX && *wrong * 2 < other.chars().count());
    near.min().map(|(_, other)| other.to_owned())
}

/// Letters to add, take away or change (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    if a.chars().count().max(b.chars().count()) > CHARS_MAX {
        return usize::MAX;
    }
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (i, x) in a.chars().enumerate() {
        let (mut diagonal, mut left) = (i, i + 1);
        for (above, y) in row.iter_mut().skip(1).zip(b.chars()) {
            let changed = diagonal + usize::from(x != y);
            (diagonal, left) = (*above, changed.min(left + 1).min(*above + 1));
            *above = left;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or_default()
}

/// `a, b or c`.
pub(super) fn listed(words: &[&str]) -> String {
    let mut words = words.to_vec();
    words.sort_unstable();
    match words.as_slice() {
        [] => "nothing".to_owned(),
        [one] => (*one).to_owned(),
        [first @ .., last] => format!("{} or {last}", first.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_that_differ_are_counted() {
        for (a, b, expected) in
            [("", "", 0), ("a", "", 1), ("", "ab", 2), ("kitten", "sitting", 3), ("ä", "a", 1)]
        {
            assert_eq!(distance(a, b), expected, "{a} {b}");
            assert_eq!(distance(b, a), expected, "{b} {a}");
        }
    }

    #[test]
    fn a_word_is_guessed_only_from_one_that_is_much_like_it() {
        let words = ["id", "roles", "registered"];
        assert_eq!(alike("role", words).as_deref(), Some("roles"));
        assert_eq!(alike("Roles", words).as_deref(), Some("roles"));
        assert_eq!(alike("x", words), None);
        assert_eq!(alike("capability", words), None);
        assert_eq!(alike(&"r".repeat(10_000), words), None);
    }
}
