//! Is a bundle read as OPA made it, and refused in one piece when it is broken, hostile or of a stranger?

use std::{fs, io::Write as _, path::Path, process::Command, sync::Arc};

use agentbus::{
    cpu::{Cpu, CpuSettings},
    domain::{Reason, Timestamp},
    policy::{
        Absent, Bundle, BundleError, Gate, LoadError, Offer, Origin, PolicySources, RegoEngine, Rollout,
        Verifier, build_bundle,
        bundle::{Algorithm, KeyError, SignatureError},
    },
};
use flate2::{Compression, read::GzDecoder, write::GzEncoder};
use tar::{Archive, Builder, EntryType, Header};

use super::rollout::question;
use crate::support::opa;

const OWN: &str = "package agentbus.modules.own\n\nallow if input.message.size <= data.limits.size\n";
const OWN_TEST: &str = "package own_test\n\ntest_it if data.agentbus.modules.own.allow with input as {\"message\": {\"size\": 1}}\n";
const DATA: &str = "{\"limits\": {\"size\": 1000, \"share\": 1.50, \"text\": \"<a> \u{2028} \\u00e9\"}}";
const SECRET: &str = "0123456789abcdef0123456789abcdef";

/// Keys made for these tests, which nobody uses for anything.
fn key(name: &str) -> std::path::PathBuf {
    crate::support::root().join("tests/it/governance/policy/keys").join(name)
}

/// A folder with a module, its test and data.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (file, text) in [("own.rego", OWN), ("own_test.rego", OWN_TEST), ("data.json", DATA)] {
        fs::write(folder.path().join(file), text).unwrap();
    }
    folder
}

/// What `opa build` makes of it.
fn built(program: &Path, folder: &Path, more: &[&str]) -> Vec<u8> {
    let output = folder.join("bundle.tar.gz");
    let mut command = Command::new(program);
    // From within, so that paths are those of a folder that a node reads.
    command.current_dir(folder).args(["build", "-b", ".", "--revision", "v1", "--ignore", "*.gz"]);
    let ended = command.arg("-o").arg(&output).args(more).output().unwrap();
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    fs::read(output).unwrap()
}

/// An archive of what the closure writes.
fn archive(write: impl FnOnce(&mut Builder<GzEncoder<Vec<u8>>>)) -> Vec<u8> {
    let mut builder = Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    write(&mut builder);
    builder.into_inner().unwrap().finish().unwrap()
}

/// Puts a file in under any name and of any kind.
fn put(builder: &mut Builder<GzEncoder<Vec<u8>>>, path: &[u8], kind: EntryType, bytes: &[u8]) {
    let mut header = Header::new_gnu();
    header.as_old_mut().name[..path.len()].copy_from_slice(path);
    header.set_entry_type(kind);
    header.set_size(bytes.len() as u64);
    header.set_mode(0o644);
    header.set_cksum();
    builder.append(&header, bytes).unwrap();
}

fn of(files: &[(&str, &[u8])]) -> Vec<u8> {
    archive(|builder| {
        files.iter().for_each(|(path, bytes)| put(builder, path.as_bytes(), EntryType::Regular, bytes));
    })
}

/// The same bundle, with its files as the closure leaves them.
fn changed(packed: &[u8], change: impl Fn(&mut Vec<(String, Vec<u8>)>)) -> Vec<u8> {
    let mut files = Vec::new();
    for entry in Archive::new(GzDecoder::new(packed)).entries().unwrap() {
        let mut entry = entry.unwrap();
        let (path, mut bytes) = (String::from_utf8(entry.path_bytes().into_owned()).unwrap(), Vec::new());
        std::io::Read::read_to_end(&mut entry, &mut bytes).unwrap();
        files.push((path, bytes));
    }
    change(&mut files);
    of(&files.iter().map(|(path, bytes)| (path.as_str(), bytes.as_slice())).collect::<Vec<_>>())
}

fn open(packed: &[u8]) -> Result<Bundle, BundleError> {
    Bundle::open(packed, true, None)
}

#[test]
fn what_opa_builds_is_the_policy_of_its_folder() {
    let Some(program) = opa::program() else { return };
    let folder = folder();
    let bundle = open(&built(&program, folder.path(), &[])).unwrap();
    assert_eq!((&*bundle.label.revision, bundle.label.built_at), ("v1", None));
    let (engine, tests) = RegoEngine::tested(&bundle.sources).unwrap();
    assert_eq!((engine.modules().last().unwrap(), tests), ("own", 1));
    let read = PolicySources::read(Some(folder.path()), true).unwrap();
    assert_eq!((&bundle.sources.modules, &bundle.sources.tests), (&read.modules, &read.tests));
}

#[test]
fn what_we_build_opa_runs_and_we_read_again() {
    let folder = folder();
    let sources = PolicySources::read(Some(folder.path()), true).unwrap();
    let packed = build_bundle(&sources, "v2", Timestamp(1_700_000_000_000)).unwrap();
    assert_eq!(packed, build_bundle(&sources, "v2", Timestamp(1_700_000_000_000)).unwrap());
    let bundle = open(&packed).unwrap();
    assert_eq!(bundle.label.to_string(), "v2 of 2023-11-14T22:13:20Z");
    assert_eq!(bundle.sources.revision().len(), 16);
    assert_eq!(bundle.sources.modules, sources.modules);

    let Some(program) = opa::program() else { return };
    let path = folder.path().join("ours.tar.gz");
    fs::write(&path, packed).unwrap();
    let mut command = Command::new(program);
    command.args(["eval", "--format", "raw", "--bundle"]).arg(path);
    let ended = command.arg("data.own_test.test_it").output().unwrap();
    assert_eq!(String::from_utf8_lossy(&ended.stdout).trim(), "true", "{ended:?}");
}

#[test]
fn a_hostile_archive_is_refused_and_leaves_nothing() {
    let zeros = vec![0; 9 * 1024 * 1024];
    let file = |path: &[u8]| archive(|builder| put(builder, path, EntryType::Regular, b"{}"));
    let kind = |kind| archive(|builder| put(builder, b"x.rego", kind, b""));
    let good = of(&[("own.rego", OWN.as_bytes())]);
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("nothing", Vec::new(), "no tar.gz"),
        ("no gzip", b"hello".to_vec(), "no tar.gz"),
        ("cut short", good[..good.len() / 2].to_vec(), "no tar.gz"),
        ("upwards", file(b"../x.rego"), "leads out of it"),
        ("upwards within", file(b"a/../../x.rego"), "leads out of it"),
        ("upwards from the root", file(b"/../x.rego"), "leads out of it"),
        ("twice from the root", file(b"//x.rego"), "leads out of it"),
        ("an empty part", file(b"a//x.rego"), "leads out of it"),
        ("a dot", file(b"a/./x.rego"), "leads out of it"),
        ("another system's", file(b"a\\x.rego"), "leads out of it"),
        ("a line feed", file(b"a\n.rego"), "leads out of it"),
        ("no text", file(b"\xff.rego"), "leads out of it"),
        ("a symbolic link", kind(EntryType::Symlink), "a link or a device"),
        ("a hard link", kind(EntryType::Link), "a link or a device"),
        ("a pipe", kind(EntryType::Fifo), "a link or a device"),
        ("a device", kind(EntryType::Char), "a link or a device"),
        ("twice", of(&[("own.rego", b"package a"), ("./own.rego", b"package b")]), "twice"),
        ("a large file", of(&[("x.rego", &zeros)]), "has more than 8388608 bytes"),
        (
            "a bomb",
            archive(|builder| {
                for n in 0..5 {
                    put(
                        builder,
                        format!("{n}.txt").as_bytes(),
                        EntryType::Regular,
                        &zeros[..8 * 1024 * 1024],
                    );
                }
            }),
            "unpacks to more than",
        ),
        (
            "a crowd",
            archive(|builder| {
                (0..1_025).for_each(|n| put(builder, format!("{n}.txt").as_bytes(), EntryType::Regular, b""));
            }),
            "more than 1024 files",
        ),
    ];
    for (what, packed, expected) in cases {
        let error = open(&packed).unwrap_err().to_string();
        assert!(error.contains(expected), "{what}: {error}");
    }
}

#[test]
fn a_bundle_that_is_no_whole_policy_of_ours_is_refused_by_its_file() {
    let own = OWN.as_bytes();
    for (files, expected) in [
        (&[(".manifest", &b"{"[..]), ("own.rego", own)][..], ".manifest: EOF"),
        (&[(".manifest", b"{\"rego_version\": 0}"), ("own.rego", own)], "expected 1"),
        (&[(".manifest", b"{\"revision\": \"a\\nb\"}")], ".manifest: revision"),
        (&[(".manifest", b"{\"roots\": [\"lib\"]}"), ("own.rego", own)], "own.rego is outside of its roots"),
        (
            &[(".manifest", b"{\"roots\": [\"a/b\"]}"), ("data.json", b"{\"a\": {\"c\": 1}}")],
            "data.json is outside",
        ),
        (&[("policy.wasm", b"")], "policy.wasm"),
        (&[("plan.json", b"{}")], "plan.json"),
        (&[("patch.json", b"{}")], "a delta bundle"),
        (&[("a/data.yaml", b"a: 1")], "a/data.yaml"),
        (&[("data.json", b"[1]")], "data.json: "),
        (&[("a/data.json", b"{\"b\": 1}"), ("data.json", b"{\"a\": 1}")], "said by another file too"),
        (&[("own.rego", b"package \xff")], "own.rego: it is not UTF-8"),
        (&[("own.rego", b"package a\n\nx := := 1")], "own.rego:"),
    ] {
        let error = open(&of(files)).unwrap_err().to_string();
        assert!(error.contains(expected), "{expected}: {error}");
    }
    let nested = open(&of(&[("a/b/data.json", b"{\"c\": 1}"), ("a/data.json", b"{\"d\": 2}")])).unwrap();
    assert_eq!(nested.sources.data.as_deref(), Some("{\"a\":{\"b\":{\"c\":1},\"d\":2}}"));
}

#[test]
fn a_signed_bundle_is_trusted_as_long_as_it_is_as_its_maker_left_it() {
    let Some(program) = opa::program() else { return };
    let folder = folder();
    let secret = folder.path().join("secret");
    let mut file = fs::File::create(&secret).unwrap();
    file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    file.write_all(SECRET.as_bytes()).unwrap();
    let (rsa, ec) = (key("rsa.pem"), key("ec.pem"));
    let read = |path: &Path, algorithm| Verifier::read(path, algorithm, None).unwrap();
    let (by_rsa, by_ec) =
        (read(&key("rsa.pub.pem"), Algorithm::RS256), read(&key("ec.pub.pem"), Algorithm::ES256));
    let by_secret = read(&secret, Algorithm::HS256);
    let ignore = ["--ignore", "secret"];
    for (signing, word, verifier, other) in [
        (rsa.to_str().unwrap(), "RS256", &by_rsa, &by_ec),
        (ec.to_str().unwrap(), "ES256", &by_ec, &by_secret),
        (SECRET, "HS256", &by_secret, &by_rsa),
    ] {
        let more = [&ignore[..], &["--signing-key", signing, "--signing-alg", word]].concat();
        let signed = built(&program, folder.path(), &more);
        let trusted = |packed: &[u8], by: &Verifier| match Bundle::open(packed, true, Some(by)) {
            Ok(bundle) => Ok(bundle.label.revision.to_string()),
            Err(BundleError::Signature(why)) => Err(why),
            Err(why) => panic!("{why}"),
        };
        assert_eq!(trusted(&signed, verifier), Ok("v1".to_owned()), "{word}");
        assert!(matches!(trusted(&signed, other), Err(SignatureError::Algorithm { .. })), "{word}");
        let edited = |name: &str, text: &str| {
            changed(&signed, |files| {
                let file = files.iter_mut().find(|(path, _)| path.trim_start_matches('/') == name).unwrap();
                file.1 = text.as_bytes().to_vec();
            })
        };
        for (name, text) in [
            ("own.rego", "package agentbus.modules.own\n\nallow := true\n"),
            ("data.json", "{\"limits\": {\"size\": 1001}}"),
            (".manifest", "{\"revision\": \"v9\", \"roots\": [\"\"], \"rego_version\": 1}"),
        ] {
            assert_eq!(trusted(&edited(name, text), verifier), Err(SignatureError::Changed(name.to_owned())));
        }
        let added = changed(&signed, |files| files.push(("more.rego".to_owned(), b"package more".to_vec())));
        assert_eq!(trusted(&added, verifier), Err(SignatureError::Unsigned("more.rego".to_owned())));
        let less = changed(&signed, |files| files.retain(|(path, _)| !path.ends_with("own_test.rego")));
        assert_eq!(trusted(&less, verifier), Err(SignatureError::Missing("own_test.rego".to_owned())));
        let bare = changed(&signed, |files| files.retain(|(path, _)| !path.ends_with(".signatures.json")));
        assert_eq!(trusted(&bare, verifier), Err(SignatureError::Absent));
        // Of the same kind, by another key: the token of one bundle with the payload of another.
        let token = |payload: &str| format!("{{\"signatures\": [\"{payload}\"]}}");
        for (forged, none) in [
            // {"alg":"none"}
            (token("eyJhbGciOiJub25lIn0.eyJmaWxlcyI6W119."), "none"),
            (token("a.b"), "no"),
            (token(""), "no"),
            ("{\"signatures\": []}".to_owned(), "no"),
            ("[]".to_owned(), "no"),
        ] {
            let found = trusted(&edited(".signatures.json", &forged), verifier);
            let refused = match none {
                "none" => matches!(found, Err(SignatureError::Algorithm { .. })),
                _ => matches!(found, Err(SignatureError::Malformed(_))),
            };
            assert!(refused, "{forged}: {found:?}");
        }
        let scoped = Verifier::read(&key("rsa.pub.pem"), Algorithm::RS256, Some("write".to_owned())).unwrap();
        if word == "RS256" {
            assert!(matches!(trusted(&signed, &scoped), Err(SignatureError::Scope { .. })));
        }
    }
    // The same header and files, signed by nobody whom we know.
    let more =
        [&ignore[..], &["--signing-key", "another secret of 32 bytes or more", "--signing-alg", "HS256"]]
            .concat();
    let stranger = built(&program, folder.path(), &more);
    let found = Bundle::open(&stranger, true, Some(&by_secret)).unwrap_err();
    assert_eq!(found, BundleError::Signature(SignatureError::Forged));
    // A key of another kind, and a secret that others can read.
    let wrong = Verifier::read(&key("ec.pub.pem"), Algorithm::RS256, None);
    assert!(matches!(wrong, Err(KeyError::PublicKey { .. })));
    fs::set_permissions(&secret, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    assert!(matches!(Verifier::read(&secret, Algorithm::HS256, None), Err(KeyError::Secret(_))));
}

/// Packed at this second after the epoch.
fn offer(revision: &str, module: &str, second: u64) -> Offer {
    let sources = super::with_modules(&[("own.rego", module)]);
    let packed = build_bundle(&sources, revision, Timestamp(second * 1_000)).unwrap();
    Offer { packed: packed.into(), force: None }
}

#[tokio::test]
async fn bundles_follow_each_other_and_an_older_one_only_when_it_is_meant() {
    let cpu = Arc::new(Cpu::start(CpuSettings { threads: 2, queue: 64 }, Arc::new(())).unwrap());
    let gate = Arc::new(Gate::new(Arc::new(Absent::default())));
    let origin = Origin::Bundles { shipped: true, verifier: None, label: None };
    let rollout = Rollout::new(Arc::clone(&gate), cpu, origin, || Timestamp(7));
    let asked = question();
    let decided = async || gate.decide(&asked.ask()).await.map_err(|rejection| rejection.reason);
    assert_eq!(decided().await.unwrap_err(), Reason::PolicyUnavailable, "there is no policy yet");
    assert!(matches!(rollout.reload().await, Err(LoadError::NoFolder)));

    let (allows, denies) =
        ("package agentbus.modules.own\nallow := true\n", "package agentbus.modules.own\nallow := false\n");
    assert!(rollout.offer(offer("v1", allows, 10)).await.unwrap().changed);
    decided().await.unwrap();
    rollout.offer(offer("v2", denies, 20)).await.unwrap();
    assert_eq!(decided().await.unwrap_err(), Reason::PolicyDenied);
    assert_eq!(rollout.standing().bundle.unwrap().revision, "v2".into());

    let meant = |name: &str, force: &str, second| Offer {
        force: Some(force.to_owned()),
        ..offer(name, allows, second)
    };
    for refused in [offer("v1", allows, 10), meant("v1", "v0", 10)] {
        assert!(matches!(rollout.offer(refused).await, Err(LoadError::Older { .. })));
        let why = rollout.standing().refused.unwrap().why;
        assert!(why.starts_with("v1 of 1970-01-01T00:00:10Z is older than v2 of"), "{why}");
        assert_eq!(decided().await.unwrap_err(), Reason::PolicyDenied);
    }
    rollout.offer(meant("v1", "v1", 10)).await.unwrap();
    decided().await.unwrap();
    assert_eq!(rollout.standing().refused, None);
    // The same rules under a new name: nothing changes but the name.
    assert!(!rollout.offer(offer("v3", allows, 30)).await.unwrap().changed);
    assert_eq!(rollout.standing().bundle.unwrap().revision, "v3".into());
}
