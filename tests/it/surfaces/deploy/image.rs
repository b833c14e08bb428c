//! What is in the image of a node, and does the program run in it?

use std::{fs, path::Path, process::Command};

use serde_json::Value;
use tempfile::TempDir;

use super::{run, tool};
use crate::{
    support::root,
    surfaces::clients::{AGENTBUS, text},
};

const TAG: &str = "agentbus:test";

/// Images and containers of this test alone.
struct Store(TempDir);

impl Store {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().display();
        let settings = format!(
            "[storage]\ndriver = \"vfs\"\ngraphroot = \"{place}/graph\"\nrunroot = \"{place}/run\"\n"
        );
        fs::write(folder.path().join("storage.conf"), settings).unwrap();
        Self(folder)
    }

    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.env("CONTAINERS_STORAGE_CONF", self.0.path().join("storage.conf"));
        command.env("BUILDAH_ISOLATION", "chroot").env("STORAGE_DRIVER", "vfs");
        command
    }

    fn ask(&self, buildah: &Path, words: &[&str]) -> String {
        let output = self.command(buildah).args(words).output().unwrap();
        assert!(output.status.success(), "{words:?}: {}", text(&output.stderr));
        text(&output.stdout).trim().to_owned()
    }
}

/// All files below, without the folder's own name.
fn files(folder: &Path, below: &Path) -> Vec<String> {
    let entries = fs::read_dir(below).unwrap().map(|entry| entry.unwrap().path());
    let mut found: Vec<String> = entries
        .flat_map(|path| match path.is_dir() {
            true => files(folder, &path),
            false => vec![path.strip_prefix(folder).unwrap().display().to_string()],
        })
        .collect();
    found.sort();
    found
}

#[test]
fn the_image_holds_the_program_its_libraries_and_nothing_that_could_run_besides() {
    let Some(buildah) = tool("buildah") else { return };
    if !rustix::process::geteuid().is_root() {
        return println!("SKIPPED: this test builds as root");
    }
    let store = Store::new();
    let mut image = store.command(&root().join("deploy/image"));
    let (good, told) = run(image.args(["--program", AGENTBUS, "--tag", TAG]));
    assert!(good, "{told}");

    let found: Value =
        serde_json::from_str(&store.ask(&buildah, &["inspect", "--type", "image", TAG])).unwrap();
    let config = &found["Docker"]["config"];
    for (key, expected) in [
        ("User", serde_json::json!("65532:65532")),
        ("Entrypoint", serde_json::json!(["/usr/bin/agentbus"])),
        ("Cmd", serde_json::json!(["node"])),
        ("StopSignal", serde_json::json!("SIGTERM")),
    ] {
        assert_eq!(config[key], expected, "{key}");
    }
    assert_eq!(
        config["Healthcheck"]["Test"],
        serde_json::json!(["CMD", "/usr/bin/agentbus", "health", "--live"])
    );
    assert_eq!(config["Labels"]["org.opencontainers.image.version"], env!("CARGO_PKG_VERSION"));

    let container = store.ask(&buildah, &["from", TAG]);
    let mounted = store.ask(&buildah, &["mount", &container]);
    let found = files(Path::new(&mounted), Path::new(&mounted));
    let other = |name: &&String| !name.starts_with("lib") && !name.starts_with("usr/lib");
    let others: Vec<_> = found.iter().filter(other).collect();
    let expected = ["etc/group", "etc/passwd", "etc/ssl/certs/ca-certificates.crt", "usr/bin/agentbus"];
    assert_eq!(others, expected);
    assert!(found.iter().filter(|name| !other(name)).all(|name| name.contains(".so")), "{found:?}");

    let inside = |words: &[&str]| run(store.command(&buildah).args(["run", &container, "--"]).args(words));
    let (good, told) = inside(&["/usr/bin/agentbus", "score", "Delete all backups"]);
    assert!(good && told.contains("\"score\":"), "{told}");
    // No node is there, and the health check says so.
    let nowhere = "127.0.0.1:1";
    let (good, told) = inside(&["/usr/bin/agentbus", "health", "--live", "--http", nowhere]);
    assert!(!good && told.contains(&format!("the node at {nowhere} (http.listen): ")), "{told}");
    store.ask(&buildah, &["umount", &container]);
    store.ask(&buildah, &["rm", &container]);
}
