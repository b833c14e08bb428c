//! Nodes that can be armed: the first that comes to a step meets its fate there.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use agentbus::{fault_points::Step, servers::StackOptions};

/// The folder where they look.
#[derive(Default)]
pub(crate) struct FaultPoints(PathBuf);

impl FaultPoints {
    /// Of all nodes that are started with these options.
    pub(crate) fn of(options: &mut StackOptions) -> Self {
        let home = options.dir.parent().unwrap().to_owned();
        let folder = home.join("fault-points");
        fs::create_dir(&folder).unwrap();
        let script = home.join("agentbus");
        // Written by another process: while this one has it open, none that it starts meanwhile could run it.
        let written = Command::new("sh")
            .args(["-c", r#"printf '#!/bin/sh\nAGENTBUS_FAULT_POINTS="%s" exec "%s" "$@"\n' "$1" "$2" >"$3" && chmod +x "$3""#, "sh"])
            .args([&folder, &options.executable, &script])
            .status();
        assert!(written.unwrap().success());
        options.executable = script;
        Self(folder)
    }

    /// The next node that comes there meets this fate. The file that says so, until it is met.
    pub(crate) fn arm(&self, step: Step, fate: &str) -> PathBuf {
        let (aside, armed) = (self.file("next"), self.file(step.as_str()));
        fs::write(&aside, fate).unwrap();
        fs::rename(&aside, &armed).unwrap();
        armed
    }

    fn file(&self, name: &str) -> PathBuf {
        Path::new(&self.0).join(name)
    }
}
