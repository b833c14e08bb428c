//! Of which words does a Rego file consist, and on which lines? Its lexical form, and no more.

use super::reads::{is_word, quoted, word};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Word,
    /// A string, without its quotes and with its escapes.
    Text,
    Number,
    Sign,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Token<'a> {
    pub(super) kind: Kind,
    pub(super) text: &'a str,
    pub(super) line: usize,
}

impl Token<'_> {
    pub(super) fn is_sign(&self, sign: &str) -> bool {
        self.kind == Kind::Sign && self.text == sign
    }

    pub(super) fn is_word(&self, word: &str) -> bool {
        self.kind == Kind::Word && self.text == word
    }

    pub(super) fn is_literal(&self) -> bool {
        matches!(self.kind, Kind::Text | Kind::Number)
    }
}

/// All but comments.
pub(super) fn tokens(module: &str) -> Vec<Token<'_>> {
    let (mut found, mut rest, mut line) = (Vec::new(), module, 1);
    while let Some(c) = rest.chars().next() {
        let (kind, length) = match c {
            '#' => (None, rest.find('\n').unwrap_or(rest.len())),
            '"' => (Some(Kind::Text), quoted(rest)),
            '`' => {
                let end = rest.get(1..).and_then(|inner| inner.find('`'));
                (Some(Kind::Text), end.map_or(rest.len(), |end| end + 2))
            }
            '0'..='9' => {
                let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '.');
                (Some(Kind::Number), end.unwrap_or(rest.len()))
            }
            _ if is_word(c) => (Some(Kind::Word), word(rest).len()),
            _ if c.is_whitespace() => (None, c.len_utf8()),
            _ => {
                let two = rest.get(..2).is_some_and(|two| [":=", "==", "!=", "<=", ">="].contains(&two));
                (Some(Kind::Sign), if two { 2 } else { c.len_utf8() })
            }
        };
        let (taken, left) = rest.split_at_checked(length).unwrap_or((rest, ""));
        if let Some(kind) = kind {
            let text = match kind {
                Kind::Text => taken.trim_matches(|c| c == '"' || c == '`'),
                Kind::Word | Kind::Number | Kind::Sign => taken,
            };
            found.push(Token { kind, text, line });
        }
        line += taken.matches('\n').count();
        rest = left;
    }
    found
}

/// What is called, such as `regex.match`, and on which lines; not what an import brings in.
pub(super) fn calls<'a>(tokens: &'a [Token<'a>]) -> impl Iterator<Item = (String, usize)> + 'a {
    let imported = imported(tokens);
    tokens.iter().enumerate().filter_map(move |(at, first)| {
        let before = at.checked_sub(1).and_then(|at| tokens.get(at));
        if first.kind != Kind::Word || before.is_some_and(|before| before.is_sign(".")) {
            return None;
        }
        let mut name = first.text.to_owned();
        let mut rest = tokens.get(at + 1..)?;
        while let [dot, word, ..] = rest
            && dot.is_sign(".")
            && word.kind == Kind::Word
        {
            name = format!("{name}.{}", word.text);
            rest = rest.get(2..)?;
        }
        let called = rest.first().is_some_and(|next| next.is_sign("(")) && !imported.contains(&first.text);
        called.then_some((name, first.line))
    })
}

/// The names that imports bring in.
fn imported<'a>(tokens: &[Token<'a>]) -> Vec<&'a str> {
    let imports = tokens.iter().filter(|token| token.is_word("import"));
    let last = |import: &Token<'_>| tokens.iter().rfind(|token| token.line == import.line);
    imports.filter_map(|import| last(import).map(|last| last.text)).collect()
}

/// The strings in what a rule is defined as: `{…}` after `name :=`.
pub(super) fn texts_of<'a>(tokens: &[Token<'a>], rule: &str) -> Vec<&'a str> {
    let starts = |three: &[Token<'_>]| matches!(three, [name, sign, brace] if name.is_word(rule) && sign.is_sign(":=") && brace.is_sign("{"));
    let Some(start) = tokens.windows(3).position(starts) else { return Vec::new() };
    let mut depth = 0;
    let inner = tokens.iter().skip(start + 2).take_while(|token| {
        depth += i32::from(token.is_sign("{")) - i32::from(token.is_sign("}"));
        depth > 0
    });
    inner.filter(|token| token.kind == Kind::Text).map(|token| token.text).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_texts_numbers_and_signs_have_their_lines() {
        let module = "package a # \"no\n\nx := `a\nb` if input.y[_] != \"é\\\"\"\n\ty >= 1.5e3\n";
        let found: Vec<_> = tokens(module).iter().map(|token| (token.text, token.line)).collect();
        let expected = [
            ("package", 1),
            ("a", 1),
            ("x", 3),
            (":=", 3),
            ("a\nb", 3),
            ("if", 4),
            ("input", 4),
            (".", 4),
            ("y", 4),
            ("[", 4),
            ("_", 4),
            ("]", 4),
            ("!=", 4),
            ("é\\", 4),
            ("y", 5),
            (">=", 5),
            ("1.5e3", 5),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn whatever_is_written_is_read_to_its_end() {
        for odd in ["\"", "`", "\"\\", "1.", "é", ":", "\u{0}", "`\"", "#"] {
            let _ = tokens(odd);
        }
    }

    #[test]
    fn what_is_called_is_found_but_for_what_is_imported() {
        let module = "import data.lib.crypto\nimport data.lib as io\n\nx if regex.match(\n\"a\", count(y.z))\n\
                      y := crypto.md5(x.f(1))\nz := io.f(1)\n";
        let found = tokens(module);
        let expected = [("regex.match".to_owned(), 4), ("count".to_owned(), 5), ("x.f".to_owned(), 6)];
        assert_eq!(calls(&found).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn the_strings_of_a_rule_are_found() {
        let found = tokens("a := {\"x\": {\"y\", \"z\"}}\nb := {\"c\"}\n");
        assert_eq!(texts_of(&found, "a"), ["x", "y", "z"]);
        assert_eq!(texts_of(&found, "c"), Vec::<&str>::new());
    }
}
