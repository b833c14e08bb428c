//! What do the servers of one machine ask of each other? Random words, each in a file of its own that only
//! its owner can read.

use std::{
    fs::{self, OpenOptions},
    io::{ErrorKind, Write as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::Path,
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

use super::ServerError;

/// 256 bits: nobody guesses that, however fast Redis answers.
const BYTES: usize = 32;
const FILE_MAX: usize = 1024;

/// A new one.
pub(super) fn random() -> String {
    URL_SAFE_NO_PAD.encode(rand::random::<[u8; BYTES]>())
}

/// The secret in the file; a new one where there is none.
pub(super) fn keep(path: &Path) -> Result<String, ServerError> {
    let failed = |cause| ServerError::File { what: "secret", path: path.to_path_buf(), cause };
    match fs::read_to_string(path) {
        Ok(text) if (1..=FILE_MAX).contains(&text.trim().len()) => {
            fs::set_permissions(path, fs::Permissions::from_mode(0o600)).map_err(failed)?;
            return Ok(text.trim().to_owned());
        }
        Err(cause) if cause.kind() != ErrorKind::NotFound => return Err(failed(cause)),
        Ok(_) | Err(_) => {}
    }
    let secret = random();
    write(path, &format!("{secret}\n"))?;
    Ok(secret)
}

/// Whole or not at all, and never readable by others.
pub(super) fn write(path: &Path, text: &str) -> Result<(), ServerError> {
    let failed = |cause| ServerError::File { what: "secret", path: path.to_path_buf(), cause };
    let partial = path.with_extension("partial");
    match fs::remove_file(&partial) {
        Err(cause) if cause.kind() != ErrorKind::NotFound => return Err(failed(cause)),
        _ => {}
    }
    let mut file =
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(&partial).map_err(failed)?;
    file.write_all(text.as_bytes()).and_then(|()| fs::rename(&partial, path)).map_err(failed)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn a_secret_is_made_once_and_only_its_owner_can_read_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("node.password");
        let first = keep(&path).unwrap();
        assert_eq!(first.len(), 43);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert_eq!(keep(&path).unwrap(), first);
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert_ne!(keep(&dir.path().join("other")).unwrap(), first);
    }
}
