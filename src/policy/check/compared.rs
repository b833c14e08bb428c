//! Can a part of `input` be what it is compared with?

use std::collections::BTreeSet;

use super::{
    known::Known,
    look::Look,
    paths::{At, Path},
    words::alike,
};
use crate::{
    domain::{MessageType, Priority, RuleKind},
    policy::tokens::{Kind, Token},
};

impl Look<'_> {
    /// Finds comparisons with literals on either side of a path.
    pub(super) fn compared(&mut self, start: usize, path: &Path<'_>, at: At) {
        let tokens = self.tokens;
        let is = |token: Option<&Token<'_>>, sign: &str| token.is_some_and(|token| token.is_sign(sign));
        let equal = |token| is(token, "==") || is(token, "!=");
        let before = |back: usize| start.checked_sub(back).and_then(|at| tokens.get(at));
        let (next, after) = (tokens.get(path.end), tokens.get(path.end + 1));
        if equal(next)
            && let Some(literal) = after.filter(|token| token.is_literal())
        {
            self.equals(path, at, literal);
        }
        if equal(before(1))
            && let Some(literal) = before(2).filter(|token| token.is_literal())
        {
            self.equals(path, at, literal);
        }
        if before(1).is_some_and(|token| token.is_word("in"))
            && let Some(literal) = before(2).filter(|token| token.is_literal())
        {
            match at {
                At::Texts => self.named(path, literal),
                At::Text | At::Number | At::Flag => {
                    let what =
                        format!("`in` looks into lists, and {} is none: it never holds", path.dotted());
                    self.find(literal.line, what, Some("==".to_owned()));
                }
                At::Other => {}
            }
        }
        let not = before(1).filter(|token| token.is_word("not"));
        if let (At::Other, Some(not), true) = (at, not, next.is_some_and(|token| token.is_word("in"))) {
            let path = path.dotted();
            let what = format!(
                "without an input.{path} this holds in a node and not in OPA; name it, and negate that"
            );
            self.note(not.line, what);
        }
        if next.is_some_and(|token| token.is_word("in")) && (is(after, "{") || is(after, "[")) {
            let listed = tokens.iter().skip(path.end + 2);
            let listed = listed.take_while(|token| token.is_literal() || token.is_sign(","));
            for literal in listed.filter(|token| token.is_literal()) {
                self.equals(path, at, literal);
            }
        }
    }

    fn equals(&mut self, path: &Path<'_>, at: At, literal: &Token<'_>) {
        let fits = match at {
            At::Text => literal.kind == Kind::Text,
            At::Number => literal.kind == Kind::Number,
            At::Flag | At::Texts => false,
            At::Other => return,
        };
        if fits {
            return self.named(path, literal);
        }
        let is = match at {
            At::Number => "a number",
            At::Flag => "true or false",
            At::Texts => "a list",
            At::Text | At::Other => "a text",
        };
        let meant = (at == At::Texts).then(|| format!("{:?} in input.{}", literal.text, path.dotted()));
        self.find(
            literal.line,
            format!("input.{} is {is}, which {:?} never is", path.dotted(), literal.text),
            meant,
        );
    }

    /// A word for something that there is, or is not.
    fn named(&mut self, path: &Path<'_>, literal: &Token<'_>) {
        let Known { roles, tools, people } = self.known;
        let of = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<BTreeSet<_>>();
        // Whether there are no others.
        let (what, words, all) = match path.dotted().as_str() {
            "message.type" => ("type of message", of(MessageType::WORDS), true),
            "message.priority" => ("priority", of(Priority::WORDS), true),
            "approval.rule" => ("rule", of(&RuleKind::ALL.map(RuleKind::as_str)), true),
            "message.tools" => ("tool", tools.clone(), false),
            "sender.roles" | "recipient.roles" | "approval.approvals.roles" => {
                ("role", roles.clone(), people.is_some())
            }
            "sender.id" | "recipient.id" | "approval.approvals.id" | "message.to.agent" => match people {
                Some(people) => ("agent", people.agents.clone(), true),
                None => return,
            },
            "tenant.id" => match people {
                Some(people) => ("tenant", people.tenants.clone(), true),
                None => return,
            },
            _ => return,
        };
        let meant = alike(literal.text, words.iter().map(String::as_str));
        if !words.contains(literal.text) && (all || meant.is_some()) {
            self.find(literal.line, format!("there is no {what} {:?}", literal.text), meant);
        }
    }
}
