//! Which parts of a question a policy can read, found in its text, and whether equal questions have
//! equal answers.
//!
//! The cache leaves out of its key what no module can read, or else no two messages would share an
//! answer. The scan must therefore never find less than what is read: where it is not sure, the
//! answer is "everything". It knows the lexical form of Rego, and deliberately no more.

/// A set of leaves of `input`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Fields(u32);

/// Path below `input` of every leaf, in the order of their bits.
const LEAVES: [&str; 20] = [
    "message.type",
    "message.priority",
    "message.to",
    "message.tools",
    "message.content",
    "message.metadata",
    "message.size",
    "sender.id",
    "sender.roles",
    "sender.capabilities",
    "sender.registered",
    "recipient.id",
    "recipient.roles",
    "recipient.capabilities",
    "tenant.id",
    "tenant.labels",
    "constitution.hash",
    "approval",
    "conversation.id",
    "conversation.labels",
];

impl Fields {
    pub const TYPE: Fields = Fields(1);
    pub const PRIORITY: Fields = Fields(1 << 1);
    pub const TO: Fields = Fields(1 << 2);
    pub const TOOLS: Fields = Fields(1 << 3);
    pub const CONTENT: Fields = Fields(1 << 4);
    pub const METADATA: Fields = Fields(1 << 5);
    pub const SIZE: Fields = Fields(1 << 6);
    pub const SENDER_ID: Fields = Fields(1 << 7);
    pub const SENDER_ROLES: Fields = Fields(1 << 8);
    pub const SENDER_CAPABILITIES: Fields = Fields(1 << 9);
    pub const SENDER_REGISTERED: Fields = Fields(1 << 10);
    pub const RECIPIENT_ID: Fields = Fields(1 << 11);
    pub const RECIPIENT_ROLES: Fields = Fields(1 << 12);
    pub const RECIPIENT_CAPABILITIES: Fields = Fields(1 << 13);
    pub const TENANT_ID: Fields = Fields(1 << 14);
    pub const TENANT_LABELS: Fields = Fields(1 << 15);
    pub const CONSTITUTION: Fields = Fields(1 << 16);
    /// Not part of a cache key: an answer about an approval is never cached.
    pub const APPROVAL: Fields = Fields(1 << 17);
    pub const CONVERSATION_ID: Fields = Fields(1 << 18);
    pub const CONVERSATION_LABELS: Fields = Fields(1 << 19);
    pub const ALL: Fields = Fields((1 << 20) - 1);
    pub const NONE: Fields = Fields(0);

    pub fn contains(self, other: Fields) -> bool {
        self.0 & other.0 == other.0
    }

    #[must_use]
    pub fn with(self, other: Fields) -> Fields {
        Fields(self.0 | other.0)
    }

    #[must_use]
    pub fn without(self, other: Fields) -> Fields {
        Fields(self.0 & !other.0)
    }

    /// Whether some leaf is in both.
    pub fn overlaps(self, other: Fields) -> bool {
        self.0 & other.0 != 0
    }

    /// Every leaf at, below or above `path`; none when `input` has nothing there, ever.
    pub(super) fn under(path: &str) -> Fields {
        let mut found = Fields::NONE;
        for (bit, leaf) in LEAVES.iter().enumerate() {
            if path.is_empty() || begins(leaf, path) || begins(path, leaf) {
                found.0 |= 1 << bit;
            }
        }
        found
    }

    /// The paths, for people.
    pub fn paths(self) -> impl Iterator<Item = &'static str> {
        LEAVES.iter().enumerate().filter(move |(bit, _)| self.0 & (1 << bit) != 0).map(|(_, leaf)| *leaf)
    }
}

/// Whether the dotted `path` begins with all the words of `head`.
fn begins(path: &str, head: &str) -> bool {
    path.strip_prefix(head).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// What a policy's text says of its reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reads {
    pub fields: Fields,
    /// No module uses time or chance, or asks not to be cached.
    pub repeatable: bool,
}

impl Reads {
    pub const NOTHING: Reads = Reads { fields: Fields::NONE, repeatable: true };

    /// For policies that cannot be looked into: everything is read.
    pub const EVERYTHING: Reads = Reads { fields: Fields::ALL, repeatable: true };

    /// The fields that make up a cache key; `None` when answers must not be cached.
    pub fn cacheable(self) -> Option<Fields> {
        self.repeatable.then_some(self.fields)
    }

    #[must_use]
    pub fn and(self, other: Reads) -> Reads {
        Reads { fields: self.fields.with(other.fields), repeatable: self.repeatable && other.repeatable }
    }
}

/// The comment that switches caching off, in a `# METADATA` block under `custom:` or on its own.
const NO_CACHE: &str = "agentbus.cache: false";

/// Finds what one module can read.
pub fn scan(module: &str) -> Reads {
    let mut reads = Reads::NOTHING;
    let mut rest = module;
    let mut after_dot = false;
    while let Some(c) = rest.chars().next() {
        let mut step = c.len_utf8();
        match c {
            '#' => {
                let line = rest.split('\n').next().unwrap_or(rest);
                reads.repeatable &= line.trim_start_matches('#').trim() != NO_CACHE;
                step = line.len();
            }
            '"' => step = quoted(rest),
            '`' => step = rest.get(1..).and_then(|inner| inner.find('`')).map_or(rest.len(), |end| end + 2),
            // A template string may hold expressions; this scan does not look into them.
            '$' => reads.fields = Fields::ALL,
            _ if is_word(c) => {
                let word = word(rest);
                step = word.len();
                let tail = rest.get(step..).unwrap_or_default();
                if word == "input" {
                    let path = path(tail);
                    reads.fields = reads.fields.with(Fields::under(path.trim_start_matches('.')));
                    step += path.len();
                } else if !after_dot {
                    reads.repeatable &= repeatable(word, tail);
                }
            }
            _ => {}
        }
        after_dot = c == '.';
        rest = rest.get(step..).unwrap_or_default();
    }
    reads
}

/// Bytes of the string that begins with `"`, both quotes included.
pub(super) fn quoted(text: &str) -> usize {
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            b'\\' if !escaped => escaped = true,
            b'"' if !escaped => return at + 1,
            _ => escaped = false,
        }
    }
    text.len()
}

pub(super) fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

pub(super) fn word(text: &str) -> &str {
    text.find(|c| !is_word(c)).and_then(|end| text.get(..end)).unwrap_or(text)
}

/// The `.a.b` that directly follows; anything else ends it, and what it names is read whole.
fn path(text: &str) -> &str {
    let mut end = 0;
    while let Some(next) = text.get(end..).and_then(|rest| rest.strip_prefix('.')) {
        let step = word(next).len();
        if step == 0 {
            break;
        }
        end += 1 + step;
    }
    text.get(..end).unwrap_or_default()
}

/// Whether a word outside of a path leaves the answer a function of the input.
fn repeatable(word: &str, tail: &str) -> bool {
    let member = tail.strip_prefix('.').map(self::word);
    match word {
        // Parsing and formatting times is fine; `time["now_ns"]` is not seen through.
        "time" => member.is_some_and(|name| name != "now_ns"),
        "net" => member.is_some_and(|name| name != "lookup_ip_addr"),
        "rand" | "uuid" | "opa" | "http" | "io" => false,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(module: &str) -> Vec<&'static str> {
        scan(module).fields.paths().collect()
    }

    #[test]
    fn a_static_path_reads_its_leaf_only() {
        assert_eq!(fields("allow if input.message.type == \"query\""), ["message.type"]);
        assert_eq!(fields("x := input.tenant.labels.tools_denied"), ["tenant.labels"]);
        assert_eq!(
            fields("x := input.sender.roles[_]\ny := input.message.content.a.b"),
            ["message.content", "sender.roles"]
        );
        assert_eq!(fields("x := input.nothing.there"), Vec::<&str>::new());
    }

    #[test]
    fn whatever_is_not_a_static_path_reads_all_below() {
        for all in [
            "x := input",
            "x := input[\"message\"]",
            "x := walk(input)",
            "x := input [k]",
            "x := input. message",
            "import input as m",
            "x := data.lib.f with input as {}",
            "x := $\"{input.message.type}\"",
            "x := $`{y}`",
            "import data.foo as input\nx := 1",
        ] {
            assert_eq!(scan(all).fields, Fields::ALL, "{all}");
        }
        assert_eq!(
            fields("import input.recipient as r"),
            ["recipient.id", "recipient.roles", "recipient.capabilities"]
        );
        assert_eq!(fields("x := input.recipient[\"id\"]").len(), 3);
    }

    #[test]
    fn comments_and_strings_read_nothing() {
        assert_eq!(scan("# input\nx := \"input \\\" input\"\ny := `input\n\"input`\n"), Reads::NOTHING);
        assert_eq!(fields("x := \"a\" # \"\ny := input.sender.id"), ["sender.id"]);
        assert_eq!(fields("x := \"\\\\\" == input.sender.id"), ["sender.id"], "an escaped backslash ends");
        assert_eq!(scan("x := inputs; y := my_input"), Reads::NOTHING);
    }

    #[test]
    fn time_and_chance_and_the_annotation_switch_the_cache_off() {
        for uncached in [
            "x := time.now_ns()",
            "x := time[\"now_ns\"]()",
            "x := rand.intn(\"a\", 3)",
            "x := uuid.rfc4122(\"\")",
            "x := http.send({})",
            "x := opa.runtime()",
            "# METADATA\n# custom:\n#   agentbus.cache: false\nallow := true",
        ] {
            assert!(scan(uncached).cacheable().is_none(), "{uncached}");
        }
        for cached in ["x := time.parse_rfc3339_ns(\"\")", "x := input.message.content.time", "x := runtime"]
        {
            assert!(scan(cached).cacheable().is_some(), "{cached}");
        }
    }
}
