//! Is a form written today as it was when its bytes were committed? Each file in `tests/golden/forms` is one form
//! that goes over a wire or is stored.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Holds what is written against the committed bytes, which are returned to be read.
///
/// JSON and lines of text are committed as they are, with one line feed at the end; all else in hex.
pub(crate) fn same(form: &str, written: &[u8]) -> Vec<u8> {
    let path = folder().join(form);
    let new = std::env::var_os("AGENTBUS_NEW_GOLDEN").is_some();
    if new && !path.exists() {
        let text =
            if is_text(form) { String::from_utf8_lossy(written).into_owned() } else { hex::encode(written) };
        fs::write(&path, format!("{text}\n")).unwrap();
    }
    let committed = read(form);
    let shown = |bytes: &[u8]| bytes.escape_ascii().to_string();
    assert_eq!(
        shown(written),
        shown(&committed),
        "{form} is written otherwise than nodes of other versions know it"
    );
    committed
}

/// The committed bytes, also of a form that is written no more.
pub(crate) fn read(form: &str) -> Vec<u8> {
    let path = folder().join(form);
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let text = text.strip_suffix('\n').unwrap();
    if is_text(form) { text.as_bytes().to_vec() } else { hex::decode(text).unwrap() }
}

fn is_text(form: &str) -> bool {
    form.ends_with(".json") || form.ends_with(".txt")
}

/// The same for the tests of the library and of the program, of which each is a package.
fn folder() -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.ancestors().map(|above| above.join("tests/golden/forms")).find(|it| it.exists()).unwrap()
}
