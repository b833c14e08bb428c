//! Obligations that are written out, and that nobody can honour.

use super::{look::Look, words::alike};
use crate::{
    domain::ConversationLabel,
    policy::{
        Obligations, Rate,
        tokens::{Kind, Token},
    },
};

/// What is between a key's colon and the next key.
struct Given<'a> {
    key: &'a Token<'a>,
    value: &'a Token<'a>,
    /// Where the value begins.
    at: usize,
}

impl<'a> Look<'a> {
    /// Each word of an object that is written out.
    pub(super) fn obligations(&mut self) {
        for (start, three) in self.tokens.windows(3).enumerate() {
            let [name, sign, brace] = three else { continue };
            if !(name.is_word("obligations") && sign.is_sign(":=") && brace.is_sign("{")) {
                continue;
            }
            for given in self.fields(start + 2) {
                let word = given.key;
                if Obligations::WORDS.contains(&word.text) {
                    self.obligation(&given);
                } else {
                    let what = format!("there is no obligation {:?}, so the module denies", word.text);
                    self.find(word.line, what, alike(word.text, Obligations::WORDS));
                }
            }
        }
    }

    /// The fields of the object that begins there, as far as their names are written out.
    fn fields(&self, start: usize) -> Vec<Given<'a>> {
        let (mut depth, mut fields) = (0, Vec::new());
        for at in start..self.tokens.len() {
            let Some(key) = self.token(at) else { break };
            depth += i32::from(["{", "["].iter().any(|sign| key.is_sign(sign)));
            depth -= i32::from(["}", "]"].iter().any(|sign| key.is_sign(sign)));
            if depth == 0 {
                break;
            }
            let colon = self.token(at + 1).is_some_and(|token| token.is_sign(":"));
            if let (1, Kind::Text, true, Some(value)) = (depth, key.kind, colon, self.token(at + 2)) {
                fields.push(Given { key, value, at: at + 2 });
            }
        }
        fields
    }

    fn obligation(&mut self, given: &Given<'a>) {
        let Given { key, value, at } = given;
        let flag = value.is_word("true") || value.is_word("false");
        let list = value.is_sign("[") || value.is_sign("{");
        let expected = match key.text {
            "deliberate" | "score" if !flag => "true or false",
            "min_approvals" if !counts(value, Obligations::APPROVALS_MAX) => "1 to 100",
            "lane" if value.text != "durable" => "\"durable\"",
            "redact" if !list => "a list of paths below content",
            "note" | "freeze" if value.kind != Kind::Text || !Obligations::is_note(value.text) => {
                "a text of 1 to 200 characters"
            }
            "label" if !list => "a list of labels",
            "label" => return self.labels(*at),
            "rate" if !value.is_sign("{") => "messages and seconds",
            "rate" => return self.rate(*at),
            _ => return,
        };
        self.unmeant(key.text, value, expected);
    }

    fn rate(&mut self, at: usize) {
        for Given { key, value, .. } in self.fields(at) {
            let (most, expected) = match key.text {
                "messages" => (Rate::MESSAGES_MAX, "1 to 1000000"),
                "seconds" => (Rate::SECONDS_MAX, "1 to 86400"),
                other => {
                    let what = format!("rate takes messages and seconds, not {other:?}: the module denies");
                    self.find(key.line, what, alike(other, ["messages", "seconds"]));
                    continue;
                }
            };
            if !counts(value, most) {
                self.unmeant(&format!("rate.{}", key.text), value, expected);
            }
        }
    }

    fn labels(&mut self, at: usize) {
        let within = self.tokens.get(at + 1..).unwrap_or_default();
        let until = within.iter().position(|token| token.is_sign("]") || token.is_sign("}")).unwrap_or(0);
        for label in within.get(..until).unwrap_or_default() {
            if label.kind == Kind::Text && label.text.parse::<ConversationLabel>().is_err() {
                self.unmeant("label", label, "1 to 32 of [a-z0-9_:-]");
            }
        }
    }

    fn unmeant(&mut self, word: &str, value: &Token<'_>, expected: &str) {
        let flag = value.is_word("true") || value.is_word("false");
        // What is not written out is known only when it is asked.
        if value.kind == Kind::Word && !flag {
            return;
        }
        let what = format!("{word}: found {}, expected {expected}, so the module denies", value.text);
        self.find(value.line, what, None);
    }
}

fn counts(value: &Token<'_>, most: u32) -> bool {
    value.text.parse().is_ok_and(|n: u32| (1..=most).contains(&n))
}
