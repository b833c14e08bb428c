//! What does Rego in a node answer otherwise than an OPA server? `make policy-conformance` found it, and holds the list to
//! what it finds.

use super::tokens::{calls, tokens};

/// Builtins that OPA alone has. A node would find out when a rule calls one; so it refuses the policy.
const ABSENT: &[&str] = &[
    "array.flatten",
    "cast_array",
    "cast_boolean",
    "cast_null",
    "cast_object",
    "cast_set",
    "cast_string",
    "http.send",
    "json.match_schema",
    "json.patch",
    "json.verify_schema",
    "net.cidr_contains_matches",
    "net.cidr_intersects",
    "net.cidr_merge",
    "net.cidr_overlap",
    "net.lookup_ip_addr",
    "opa.runtime",
    "re_match",
    "regex.globs_match",
    "set_diff",
    "strings.render_template",
    "strings.split_n",
];

/// Of these packages a node has none.
const ABSENT_PACKAGES: &[&str] = &["crypto", "graphql", "io", "providers", "rego", "uri", "uuid", "yaml"];

/// The first that a module calls, and on which line.
pub(super) fn absent(module: &str) -> Option<(String, usize)> {
    let absent = |name: &str| {
        let package = name.split_once('.').map(|(package, _)| package);
        ABSENT.contains(&name) || package.is_some_and(|package| ABSENT_PACKAGES.contains(&package))
    };
    calls(&tokens(module)).find(|(name, _)| absent(name))
}

/// What a module calls that differs, on which lines, and how.
pub(super) fn found(module: &str) -> Vec<(usize, String)> {
    let differs = |(name, line): (String, usize)| {
        let (_, how) = BUILTINS.iter().find(|(builtin, _)| *builtin == name)?;
        Some((line, format!("OPA may answer {name} otherwise: {how}")))
    };
    calls(&tokens(module)).filter_map(differs).collect()
}

/// Builtins, and what about them differs: what a node does first, then OPA.
pub const BUILTINS: &[(&str, &str)] = &[
    ("array.slice", "of a place that is no integer a node makes nothing, OPA an error"),
    ("base64.is_valid", "of what is no text a node makes an error, OPA false"),
    ("bits.and", "of numbers beyond 64 bits a node makes nothing"),
    ("bits.negate", "of numbers beyond 64 bits a node makes nothing"),
    ("bits.or", "of numbers beyond 64 bits a node makes nothing"),
    ("bits.xor", "of numbers beyond 64 bits a node makes nothing"),
    ("count", "a character beyond U+FFFF counts as two in a node"),
    ("format_int", "of numbers beyond 64 bits a node makes an empty text"),
    ("glob.match", "a delimiter that is in the pattern's own text matches in OPA alone"),
    ("glob.quote_meta", "a node leaves brackets as they are"),
    ("graph.reachable_paths", "of neighbours that are no list a node makes an error"),
    ("indexof", "an empty text to look for is at 0 in a node, an error in OPA"),
    ("indexof_n", "an empty text to look for is everywhere in a node, an error in OPA"),
    ("json.filter", "a path below a value that has no parts removes it in a node"),
    ("json.is_valid", "of what is no text a node makes an error, OPA false"),
    ("json.marshal", "OPA escapes <, >, & and U+2028, and writes numbers beyond 64 bits in full"),
    ("json.remove", "a path below a value that has no parts removes it in a node"),
    ("lower", "letters that become two, as İ"),
    ("net.cidr_is_valid", "of what is no text a node makes an error, OPA false"),
    ("object.subset", "of two kinds a node makes false, OPA an error"),
    ("product", "what is too large for a float is an error in a node"),
    (
        "regex.find_all_string_submatch_n",
        "a number that is no integer is all of them in a node, an error in OPA",
    ),
    ("regex.find_n", "a number that is no integer is all of them in a node, an error in OPA"),
    (
        "regex.is_valid",
        "the two know different patterns: OPA has \\Q…\\E, a node \\u0041 and more than 1,000 repetitions",
    ),
    (
        "regex.match",
        "\\w, \\d, \\s and \\b know letters of all scripts in a node, of ASCII in OPA; see regex.is_valid",
    ),
    ("regex.split", "by an empty pattern a node makes an empty text at both ends"),
    ("regex.template_match", "a node fails on some short texts"),
    ("replace", "OPA takes letters beyond ASCII apart where nothing is replaced by something"),
    ("semver.compare", "a version that begins with v is an error in a node"),
    (
        "semver.is_valid",
        "a version that begins with v is none in a node; of what is no text a node makes an error",
    ),
    (
        "sprintf",
        "a node knows %s, %v, %d, %f and the like without widths on the right or signs; too many or too few values are an error there",
    ),
    ("strings.count", "a node counts matches that overlap, and fails on an empty text"),
    ("strings.replace_n", "a node replaces what it has just written too"),
    ("substring", "of a place that is no integer a node makes an empty text, OPA an error"),
    (
        "time.add_date",
        "the 31st and a month is the last of the next month in a node, the first days of the one after in OPA",
    ),
    ("time.format", "a node writes a zone as +01:00 where OPA writes CET"),
    ("time.parse_duration_ns", "days are an error in a node"),
    ("to_number", "blanks around the number are passed over in a node, an error in OPA"),
    ("units.parse", "kb is nothing and n a billionth in a node, both errors in OPA"),
    ("upper", "letters that become two, as ß"),
    ("urlquery.decode", "an escape that is none is left as it is in a node, an error in OPA"),
    ("urlquery.decode_object", "an escape that is none is left as it is in a node, an error in OPA"),
    ("urlquery.encode", "a node escapes ~ and not *, OPA * and not ~"),
];
