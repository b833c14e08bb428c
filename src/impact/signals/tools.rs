//! How much does a tool ask for, by the words in its name? Words only raise: what is not understood counts as much
//! as the strongest.

use super::{super::text::key_words, PERMISSION_NONE, permission_of};

/// Of a tool whose name says nothing, and of one with a word that could be anything.
const UNKNOWN: f64 = 0.9;

/// Of one tool.
pub(super) fn asked(tool: &str) -> f64 {
    let known = |word: &str| permission_of(word) > PERMISSION_NONE;
    let mut strongest = PERMISSION_NONE;
    let mut understood = true;
    for word in key_words(tool) {
        let word = word.to_ascii_lowercase();
        strongest = strongest.max(permission_of(&word));
        understood &= known(&word) || THINGS.contains(&word.as_str());
    }
    if understood && strongest > PERMISSION_NONE { strongest } else { strongest.max(UNKNOWN) }
}

/// Words that say what something is done to, or where, and so change nothing. The same as in
/// `policies/agentbus/tools.rego`.
#[rustfmt::skip]
const THINGS: &[&str] = &[
    "account", "accounts", "all", "api", "balance", "by", "calendar", "contact", "contacts",
    "customer", "customers", "database", "date", "db", "details", "directories", "directory",
    "document", "documents", "email", "emails", "entries", "entry", "event", "events", "file",
    "files", "filesystem", "flight", "flights", "folder", "folders", "for", "from", "fs", "github",
    "hotel", "hotels", "http", "id", "ids", "in", "inbox", "info", "issue", "issues", "item",
    "items", "mail", "mcp", "memory", "message", "messages", "name", "names", "note", "notes", "of",
    "order", "orders", "page", "pages", "path", "product", "products", "record", "records",
    "report", "reports", "row", "rows", "server", "slack", "sql", "status", "table", "tables",
    "the", "ticket", "tickets", "time", "to", "tool", "tools", "user", "users", "weather", "web",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_decide_where_they_can_and_what_is_unknown_counts_as_the_strongest() {
        for (tool, expected) in [
            ("read_file", 0.2),
            ("getWeather", 0.2),
            ("mcp__fs__read_file", 0.2),
            ("send_email", 0.5),
            ("send.message2", 0.5),
            ("mcp__fs__write_file", 0.9),
            ("deleteRow", 0.9),
            ("DELETE", 0.9),
            ("book_flight", 0.9),
            ("read_and_wire_money", 0.9),
            ("send_and_obliterate", 0.9),
            ("weather", 0.9),
            ("reader", 0.9),
            ("123", 0.9),
        ] {
            assert_eq!(asked(tool), expected, "{tool}");
        }
    }

    #[test]
    fn the_policy_and_the_score_know_the_same_things() {
        let policy = include_str!("../../../policies/agentbus/tools.rego");
        let (_, rest) = policy.split_once("things := {").unwrap_or_default();
        let listed = rest.split_once('}').unwrap_or_default().0;
        let words: Vec<&str> = listed.split('"').skip(1).step_by(2).collect();
        assert_eq!(words, THINGS);
    }
}
