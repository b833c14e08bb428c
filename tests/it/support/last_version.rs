//! Where is the program of the version before this one?

use std::{env, fs, io::Write as _, path::PathBuf};

/// What `make last` has built, or `None` after saying plainly that the test is skipped. In CI it is skipped only
/// where git does not have that version.
pub(crate) fn program() -> Option<PathBuf> {
    let root = super::root();
    let home = root.join("target/last-version");
    let wanted = fs::read_to_string(root.join("tests/last-version")).unwrap();
    if fs::read_to_string(home.join("commit")).is_ok_and(|built| built == wanted) {
        return Some(home.join("agentbus"));
    }
    let reason = fs::read_to_string(home.join("skipped"));
    assert!(
        reason.is_ok() || env::var("CI").as_deref() != Ok("true"),
        "CI needs the last version: make last"
    );
    let reason = reason.unwrap_or_else(|_| "it is not built: make last".to_owned());
    // Not by a macro, whose words the test harness keeps to itself.
    let words = format!("SKIPPED: beside the last version: {}\n", reason.trim());
    std::io::stderr().write_all(words.as_bytes()).unwrap();
    None
}
