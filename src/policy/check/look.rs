//! What is in one file that cannot be meant?

use super::{
    Finding,
    known::Known,
    paths::{Missing, Path},
    words::{alike, listed},
};
use crate::policy::{
    reads::scan,
    tokens::{Kind, Token},
};

/// One file.
pub(super) struct Look<'a> {
    file: &'a str,
    pub(super) tokens: &'a [Token<'a>],
    pub(super) known: &'a Known,
    found: Vec<Finding>,
}

impl<'a> Look<'a> {
    pub(super) fn new(file: &'a str, tokens: &'a [Token<'a>], known: &'a Known) -> Self {
        Self { file, tokens, known, found: Vec::new() }
    }

    pub(super) fn through(mut self, module: &str) -> Vec<Finding> {
        self.paths();
        self.literals();
        self.obligations();
        self.cache(module);
        self.found.sort_by_key(|finding| finding.line);
        self.found
    }

    pub(super) fn find(&mut self, line: usize, what: String, meant: Option<String>) {
        self.found.push(Finding { file: self.file.to_owned(), line, what, meant, note: false });
    }

    pub(super) fn note(&mut self, line: usize, what: String) {
        self.found.push(Finding { file: self.file.to_owned(), line, what, meant: None, note: true });
    }

    pub(super) fn token(&self, at: usize) -> Option<&'a Token<'a>> {
        self.tokens.get(at)
    }

    /// What is not there, and what no comparison with it can hold.
    fn paths(&mut self) {
        for (start, token) in self.tokens.iter().enumerate() {
            let Some(path) = Path::at(self.tokens, start) else { continue };
            match path.look() {
                Err(Missing { path, word, there_is }) => {
                    let what = format!("{path} is not there, expected {}", listed(&there_is));
                    self.find(token.line, what, alike(word, there_is.iter().copied()));
                }
                Ok(at) => self.compared(start, &path, at),
            }
        }
    }

    /// Comparisons of what stands there.
    fn literals(&mut self) {
        for (at, three) in self.tokens.windows(3).enumerate() {
            let [left, sign, right] = three else { continue };
            let alone = |at: Option<&Token<'_>>| {
                at.is_none_or(|token| {
                    !["+", "-", "*", "/", "%", "|", "&"].iter().any(|sign| token.is_sign(sign))
                })
            };
            let around = alone(at.checked_sub(1).and_then(|at| self.token(at))) && alone(self.token(at + 3));
            if left.is_literal() && right.is_literal() && sign.kind == Kind::Sign && around {
                let holds = match sign.text {
                    "==" => left.text == right.text && left.kind == right.kind,
                    "!=" => left.text != right.text || left.kind != right.kind,
                    _ => continue,
                };
                let never = if holds { "always" } else { "never" };
                self.find(
                    left.line,
                    format!("{:?} {} {:?} {never} holds", left.text, sign.text, right.text),
                    None,
                );
            }
        }
    }

    /// What makes equal questions have other answers.
    fn cache(&mut self, module: &str) {
        for (at, line) in module.lines().enumerate() {
            if !scan(line).repeatable {
                let what = "the answers of the whole policy are not cached because of this".to_owned();
                self.note(at + 1, what);
            }
        }
    }
}
