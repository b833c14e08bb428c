//! Is there what a path of `input` names? `schemas/input.json` says what there is, here and to `opa check -s`.

use std::sync::LazyLock;

use serde_json::Value as Json;

use crate::policy::tokens::{Kind, Token};

/// Empty only if it could not be read, which a test would find.
static SCHEMA: LazyLock<Json> =
    LazyLock::new(|| serde_json::from_str(include_str!("../../../schemas/input.json")).unwrap_or_default());

/// `input.a.b[_].c`, and where it stands among the tokens.
#[derive(Debug)]
pub(super) struct Path<'a> {
    /// `None`: something that is known only when it is asked.
    parts: Vec<Option<&'a str>>,
    /// After its last token.
    pub(super) end: usize,
}

/// What is at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum At {
    Text,
    Number,
    Flag,
    Texts,
    /// Whatever a sender or an operator puts there, or what has parts.
    Other,
}

/// A path that is not there.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Missing<'a> {
    /// Up to the word that is not there.
    pub(super) path: String,
    pub(super) word: &'a str,
    pub(super) there_is: Vec<&'static str>,
}

impl<'a> Path<'a> {
    /// The path that begins with this token.
    pub(super) fn at(tokens: &[Token<'a>], start: usize) -> Option<Self> {
        let before = start.checked_sub(1).and_then(|before| tokens.get(before));
        let named = before.is_some_and(|before| before.is_sign(".") || before.is_word("as"));
        if named || !tokens.get(start)?.is_word("input") {
            return None;
        }
        let (mut parts, mut end) = (Vec::new(), start + 1);
        loop {
            match tokens.get(end..).unwrap_or_default() {
                [dot, name, ..] if dot.is_sign(".") && name.kind == Kind::Word => {
                    parts.push(Some(name.text));
                    end += 2;
                }
                [open, key, close, ..] if open.is_sign("[") && close.is_sign("]") => {
                    parts.push((key.kind == Kind::Text).then_some(key.text));
                    end += 3;
                }
                _ => return Some(Self { parts, end }),
            }
        }
    }

    /// With dots, and without what is known only when it is asked.
    pub(super) fn dotted(&self) -> String {
        self.parts.iter().flatten().copied().collect::<Vec<_>>().join(".")
    }

    pub(super) fn look(&self) -> Result<At, Missing<'a>> {
        let (mut node, mut path) = (&*SCHEMA, "input".to_owned());
        for part in &self.parts {
            let (properties, items) = (node.get("properties").and_then(Json::as_object), node.get("items"));
            node = match (part, properties, items) {
                (Some(word), Some(properties), _) => {
                    path = format!("{path}.{word}");
                    match properties.get(*word) {
                        Some(below) => below,
                        None => {
                            let there_is = properties.keys().map(String::as_str).collect();
                            return Err(Missing { path, word, there_is });
                        }
                    }
                }
                (_, _, Some(items)) => items,
                // Not known before it is asked.
                _ => return Ok(At::Other),
            };
        }
        let kind = |node: &Json| node.get("type").and_then(Json::as_str).unwrap_or_default().to_owned();
        Ok(match (kind(node).as_str(), node.get("items").map(kind).as_deref()) {
            ("string", _) => At::Text,
            ("integer", _) => At::Number,
            ("boolean", _) => At::Flag,
            ("array", Some("string")) => At::Texts,
            _ => At::Other,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::policy::{reads::Fields, tokens::tokens};

    fn look(path: &str) -> Result<At, Missing<'_>> {
        Path::at(&tokens(path), 0).unwrap().look()
    }

    #[test]
    fn what_a_policy_can_read_is_in_the_schema() {
        for path in Fields::ALL.paths() {
            assert!(look(&format!("input.{path}")).is_ok(), "{path}");
        }
        let top = SCHEMA.get("properties").and_then(Json::as_object).unwrap();
        let below = top.iter().flat_map(|(name, part)| {
            let parts = part.get("properties").and_then(Json::as_object).unwrap();
            parts.keys().map(move |part| format!("{name}.{part}"))
        });
        let below: Vec<String> = below.filter(|path| !path.starts_with("approval.")).collect();
        let leaves: Vec<&str> = Fields::ALL.paths().filter(|path| *path != "approval").collect();
        assert_eq!(below, leaves);
    }

    #[test]
    fn what_is_not_there_is_told_from_what_a_sender_may_put_there() {
        for (path, at) in [
            ("input.message.type", At::Text),
            ("input[\"message\"].size", At::Number),
            ("input.message.tools", At::Texts),
            ("input.message.tools[_]", At::Text),
            ("input.approval.approvals[_].roles", At::Texts),
            ("input.approval.approvals[i].roles[_]", At::Text),
            ("input.sender.registered", At::Flag),
            ("input.message.content.a[0].b", At::Other),
            ("input.tenant.labels[name]", At::Other),
            ("input.message.to", At::Other),
            ("input[part].id", At::Other),
            ("input", At::Other),
        ] {
            assert_eq!(look(path), Ok(at), "{path}");
        }
        let missing = look("input.mesage.tools").unwrap_err();
        assert_eq!((missing.path.as_str(), missing.word), ("input.mesage", "mesage"));
        assert!(look("input.approval.approvals[_].role").is_err());
        assert!(look("input.recipient.registered").is_err(), "it is no part of what is seen of a recipient");
        assert!(Path::at(&tokens("x.input.y"), 2).is_none());
    }
}
