//! Do the Rego tests that ship pass in a real OPA?

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::support::{
    opa::{policies, program},
    root,
};

#[test]
fn the_rego_tests_that_ship_pass() {
    let Some(program) = program() else { return };
    for arguments in [&["check", "--strict"][..], &["test"], &["fmt", "--fail", "--list"]] {
        let output = Command::new(&program).args(arguments).arg(policies()).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "opa {arguments:?}: {text}");
        if arguments == ["test"] {
            assert!(text.contains("PASS"), "{text}");
        }
    }
}

/// What `opa check -s` says of files, by the schema that ships.
fn by_schema(program: &Path, paths: &[PathBuf]) -> (bool, String) {
    let mut command = Command::new(program);
    command.args(["check", "--strict", "--schema"]).arg(root().join("schemas/input.json"));
    let output = command.args(paths).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    (output.status.success(), text.into_owned())
}

#[test]
fn by_the_schema_of_input_opa_takes_what_ships_and_finds_paths_that_are_not_there() {
    let Some(program) = program() else { return };
    let (good, told) = by_schema(&program, &[policies(), root().join("policies/library")]);
    assert!(good, "{told}");
    let folder = tempfile::tempdir().unwrap();
    let own = folder.path().join("own.rego");
    for (path, there) in [
        ("input.message.content.a.b", true),
        ("input.tenant.labels.region", true),
        ("input.approval.approvals[_].roles[_]", true),
        ("input.mesage.type", false),
        ("input.message.tool", false),
        ("input.message.to.agents", false),
        ("input.approval.approvals[_].role", false),
    ] {
        fs::write(&own, format!("package agentbus.modules.own\n\nallow if {path} == \"a\"\n")).unwrap();
        let (good, told) = by_schema(&program, std::slice::from_ref(&own));
        assert!(good == there && (there || told.contains("undefined ref")), "{path}: {told}");
    }
}
