//! Does `agentbus policy check` find what its author cannot mean, and nothing in what ships?

use std::{fs, path::Path, process::Command};

use serde_json::Value;

use crate::{
    support::root,
    surfaces::clients::{AGENTBUS, text},
};

/// The exit code, and what is printed.
fn check(folder: &Path, more: &[&str]) -> (i32, String) {
    let output = Command::new(AGENTBUS).args(["policy", "check"]).arg(folder).args(more).output().unwrap();
    (output.status.code().unwrap(), text(&output.stdout) + &text(&output.stderr))
}

#[test]
fn what_ships_can_all_be_meant() {
    let entries = fs::read_dir(root().join("policies/library")).unwrap().map(|entry| entry.unwrap().path());
    let mut folders: Vec<_> = entries.filter(|path| path.is_dir()).collect();
    folders.push(root().join("policies/agentbus"));
    for folder in folders {
        let more: &[&str] = if folder.ends_with("agentbus") { &["--no-shipped"] } else { &[] };
        let (code, told) = check(&folder, more);
        assert_eq!(code, 0, "{}: {told}", folder.display());
    }
}

#[test]
fn what_cannot_be_meant_has_file_line_and_what_may_be() {
    let folder = tempfile::tempdir().unwrap();
    let own = "package agentbus.modules.own\n\ndefault allow := false\n\nallow if {\n\t\"controler\" in input.sender.roles\n\
               \ttime.now_ns() > 0\n}\n\nallow if \"treasurer\" in input.sender.roles\n";
    fs::write(folder.path().join("own.rego"), own).unwrap();
    let (code, told) = check(folder.path(), &[]);
    assert_eq!(code, 1, "{told}");
    assert!(told.contains("own.rego:6: there is no role \"controler\"; did you mean controller?"), "{told}");
    assert!(told.contains("own.rego:7: the answers of the whole policy are not cached"), "{told}");
    assert!(told.contains("1 module: 1 thing cannot be meant"), "{told}");

    let tenants = folder.path().join("tenants.toml");
    fs::write(&tenants, "[tenants.acme.agents]\nplanner = { roles = [\"executive\"] }\n").unwrap();
    let (code, told) = check(folder.path(), &["--json", "--tenants", tenants.to_str().unwrap()]);
    let lines: Vec<Value> = told.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let found: Vec<_> = lines.iter().map(|line| (line["line"].as_u64().unwrap(), &line["note"])).collect();
    assert_eq!(
        (code, found),
        (1, vec![(6, &Value::Bool(false)), (7, &Value::Bool(true)), (10, &Value::Bool(false))])
    );

    fs::write(folder.path().join("own.rego"), "package agentbus.modules.own\n\nallow if {\n").unwrap();
    let (code, told) = check(folder.path(), &[]);
    assert!(code == 1 && told.contains("own.rego:4:"), "{told}");
}
