//! Has a stage of a message become dearer than the repository says? Asks the program that cargo has built.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test that cannot go on should stop with its reason"
)]

use std::{
    path::Path,
    process::{Command, Stdio},
};

/// Whoever means it writes the file anew, and the change says why: `target/debug/loadtest instructions --write`.
#[test]
fn no_stage_of_a_message_takes_more_instructions_than_are_recorded() {
    let has_valgrind = Command::new("valgrind").arg("--version").output().is_ok_and(|it| it.status.success());
    let ci = std::env::var("CI").is_ok_and(|ci| ci == "true");
    // The counts are those of x86-64.
    if !cfg!(target_arch = "x86_64") || (!has_valgrind && !ci) {
        println!("SKIPPED: valgrind on x86-64 counts instructions (Debian: valgrind)");
        return;
    }
    let recorded = Path::new(env!("CARGO_MANIFEST_DIR")).join("instructions.toml");
    let output = Command::new(env!("CARGO_BIN_EXE_loadtest"))
        .args(["instructions", "--recorded"])
        .arg(recorded)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    println!("{told}");
    assert!(output.status.success(), "{told}\n{}", String::from_utf8_lossy(&output.stderr));
}
