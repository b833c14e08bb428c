//! Where does a long line end?

use unicode_width::UnicodeWidthChar as _;

/// Room that a line has at least: for the widest character, and something to see.
const ROOM_MIN: usize = 8;

/// Lines of at most so many columns, broken at a blank where there is one, which is then left out. At
/// least one line. The text must be marked, so that each character has the width that it says.
pub(super) fn wrapped(text: &str, first: usize, rest: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = String::new();
    // Columns of the line, and of what follows its last blank.
    let (mut columns, mut since) = (0, 0);
    for c in text.chars() {
        let width = c.width().unwrap_or(0);
        let room = if lines.is_empty() { first } else { rest }.max(ROOM_MIN);
        if columns + width > room {
            let word = match line.rfind(' ') {
                _ if c == ' ' => String::new(),
                Some(blank) if blank > 0 && since + width <= rest.max(ROOM_MIN) => {
                    let word = line.split_off(blank);
                    word.trim_start().to_owned()
                }
                _ => String::new(),
            };
            columns = if word.is_empty() { 0 } else { since };
            lines.push(std::mem::replace(&mut line, word));
            if c == ' ' {
                since = 0;
                continue;
            }
        }
        line.push(c);
        columns += width;
        since = if c == ' ' { 0 } else { since + width };
    }
    if !line.is_empty() || lines.is_empty() {
        lines.push(line);
    }
    lines
}

/// Columns that a terminal needs at most.
#[cfg(test)]
pub(super) fn width(text: &str) -> usize {
    text.chars().map(|c| c.width().unwrap_or(0)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_break_at_blanks_and_else_where_they_must() {
        assert_eq!(wrapped("", 10, 10), [""]);
        assert_eq!(wrapped("to be or not to be", 10, 8), ["to be or", "not to", "be"]);
        assert_eq!(wrapped("0123456789abcdefgh", 10, 8), ["0123456789", "abcdefgh"]);
        assert_eq!(wrapped("ab 0123456789abcdefgh", 10, 8), ["ab", "01234567", "89abcdef", "gh"]);
        // Each of these takes two columns.
        assert_eq!(wrapped("漢字漢字漢字", 8, 8), ["漢字漢字", "漢字"]);
        assert_eq!(wrapped("ab 0123456789", 12, 8), ["ab 012345678", "9"]);
        assert_eq!(wrapped("0123456 7", 7, 8), ["0123456", "7"]);
    }
}
