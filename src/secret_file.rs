//! May this file hold a secret? Only if nobody but us, and root, can read it and change it.
//!
//! As `ssh` refuses a key that others can read: who finds out on the day of the break-in finds out too
//! late. Every file with a secret is read here, so that there is one rule.

use std::{
    fs::{File, Metadata},
    io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use crate::text_file;

/// Reading, writing and running, for the group and for others.
const GROUP_AND_OTHERS: u32 = 0o077;
/// The same, but for reading by the group.
const BEYOND_GROUP_READ: u32 = 0o037;
/// Of a mode, what `chmod` sets.
const PERMISSIONS: u32 = 0o7777;
const ROOT: u32 = 0;

/// Why a file with a secret is not used. Never holds what is in it.
#[derive(Debug, thiserror::Error)]
pub enum SecretFileError {
    #[error("cannot read {}: {cause}", path.display())]
    Read { path: PathBuf, cause: io::Error },
    #[error("{} is no regular file; a secret is expected in one", path.display())]
    NotAFile { path: PathBuf },
    #[error("{} has more than {max} bytes", path.display())]
    TooLarge { path: PathBuf, max: u64 },
    #[error(
        "{} has mode {mode:04o}, so {}; a file with a secret is expected to have mode 0600 or less: \
         chmod 600 {}",
        path.display(), who_else(*mode), quoted(path)
    )]
    Mode { path: PathBuf, mode: u32 },
    #[error(
        "{} belongs to the user with number {owner}; a file with a secret is expected to belong to {}: \
         chown {us} {}",
        path.display(), expected_owner(*us), quoted(path)
    )]
    Owner { path: PathBuf, owner: u32, us: u32 },
}

/// The text of a file that only we, and root, can read, of at most `max` bytes. Blocks.
pub fn read(path: &Path, max: u64) -> Result<String, SecretFileError> {
    let failed = |cause| SecretFileError::Read { path: path.to_owned(), cause };
    // Before it is opened: a pipe that nobody writes to would hold us for ever.
    if !path.metadata().map_err(failed)?.is_file() {
        return Err(SecretFileError::NotAFile { path: path.to_owned() });
    }
    let file = File::open(path).map_err(failed)?;
    // Of the open file: what a name leads to can change between two looks.
    allow(path, &file.metadata().map_err(failed)?)?;
    let text = text_file::read_from(file, max).map_err(failed)?;
    if text.len() as u64 > max {
        return Err(SecretFileError::TooLarge { path: path.to_owned(), max });
    }
    Ok(text)
}

/// Whether a file, read by others, may hold a secret. Blocks.
pub(crate) fn check(path: &Path) -> Result<(), SecretFileError> {
    let failed = |cause| SecretFileError::Read { path: path.to_owned(), cause };
    allow(path, &path.metadata().map_err(failed)?)
}

fn allow(path: &Path, found: &Metadata) -> Result<(), SecretFileError> {
    judge(path, found.uid(), found.mode() & PERMISSIONS, rustix::process::geteuid().as_raw())
}

/// PostgreSQL's rule for its private key. A file of root's that we read, and are not root, is given to us
/// by its group: containers get their mounted secrets so.
fn judge(path: &Path, owner: u32, mode: u32, us: u32) -> Result<(), SecretFileError> {
    if owner != ROOT && owner != us {
        return Err(SecretFileError::Owner { path: path.to_owned(), owner, us });
    }
    let given_by_root = owner == ROOT && us != ROOT;
    let forbidden = if given_by_root { BEYOND_GROUP_READ } else { GROUP_AND_OTHERS };
    if mode & forbidden != 0 {
        return Err(SecretFileError::Mode { path: path.to_owned(), mode });
    }
    Ok(())
}

fn who_else(mode: u32) -> &'static str {
    match (mode & 0o070 != 0, mode & 0o007 != 0) {
        (_, true) => "every user of this machine can get at it",
        _ => "its group can get at it",
    }
}

fn expected_owner(us: u32) -> String {
    if us == ROOT { "root".to_owned() } else { format!("the user that runs this ({us}), or to root") }
}

/// As a shell takes it.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+,:@%=".contains(c);
    // What begins with a dash is taken for an option.
    let text = if text.starts_with('-') { format!("./{text}") } else { text };
    if !text.is_empty() && text.chars().all(plain) {
        return text;
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::{
        fs::{self, Permissions},
        os::unix::fs::{PermissionsExt as _, symlink},
    };

    use super::*;

    #[test]
    fn a_secret_that_an_editor_has_saved_is_read_over_its_mark() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        fs::write(&path, b"\xef\xbb\xbfhunter2\r\n").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        assert_eq!(read(&path, 100).unwrap(), "hunter2\r\n");
        fs::write(&path, b"\xff\xfeh\0").unwrap();
        assert!(read(&path, 100).unwrap_err().to_string().contains("UTF-16"));
    }

    #[test]
    fn a_file_that_group_or_others_can_get_at_is_refused_with_what_to_type() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a secret");
        fs::write(&path, "hunter2").unwrap();
        for mode in (0..=0o777).filter(|mode| mode & 0o400 != 0) {
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            let found = read(&path, 100);
            assert_eq!(found.is_ok(), mode & 0o077 == 0, "{mode:04o}: {found:?}");
            assert_eq!(check(&path).is_ok(), found.is_ok(), "{mode:04o}");
            let Err(error) = found else { continue };
            let error = error.to_string();
            assert!(error.contains(&format!("mode {mode:04o}")), "{error}");
            assert!(error.contains("expected to have mode 0600 or less"), "{error}");
            assert!(error.ends_with(&format!("chmod 600 '{}'", path.display())), "{error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn a_link_is_judged_by_what_it_leads_to() {
        let dir = tempfile::tempdir().unwrap();
        let (path, link) = (dir.path().join("secret"), dir.path().join("link"));
        fs::write(&path, "hunter2").unwrap();
        symlink(&path, &link).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(read(&link, 100), Err(SecretFileError::Mode { mode: 0o644, .. })));
        fs::set_permissions(&path, Permissions::from_mode(0o400)).unwrap();
        assert_eq!(read(&link, 100).unwrap(), "hunter2");
    }

    #[test]
    fn only_we_and_root_may_own_it_and_only_root_may_give_it_to_a_group() {
        let (ours, roots, strangers) = (1000, ROOT, 1001);
        let judged = |owner, mode, us| judge(Path::new("f"), owner, mode, us).is_ok();
        for (owner, mode, us, good) in [
            (ours, 0o600, ours, true),
            (ours, 0o400, ours, true),
            (ours, 0o640, ours, false),
            (ours, 0o604, ours, false),
            (roots, 0o440, ours, true),
            (roots, 0o640, ours, true),
            (roots, 0o660, ours, false),
            (roots, 0o444, ours, false),
            (roots, 0o600, ROOT, true),
            (roots, 0o440, ROOT, false),
            (strangers, 0o600, ours, false),
            (strangers, 0o640, ours, false),
            (ours, 0o600, ROOT, false),
        ] {
            assert_eq!(judged(owner, mode, us), good, "{owner} {mode:04o} {us}");
        }
        let error = judge(Path::new("-f"), 7, 0o600, 1000).unwrap_err().to_string();
        assert_eq!(
            error,
            "-f belongs to the user with number 7; a file with a secret is expected to belong to the user \
             that runs this (1000), or to root: chown 1000 ./-f"
        );
    }

    #[test]
    fn a_file_that_is_too_large_or_missing_is_told_so() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        assert!(matches!(read(&path, 3), Err(SecretFileError::Read { .. })));
        fs::write(&path, "1234").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        assert!(matches!(read(&path, 3), Err(SecretFileError::TooLarge { max: 3, .. })));
        assert_eq!(read(&path, 4).unwrap(), "1234");
    }

    #[test]
    fn what_is_no_file_is_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let pipe = dir.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        for path in [pipe.as_path(), dir.path()] {
            let found = read(path, 100);
            assert!(matches!(found, Err(SecretFileError::NotAFile { .. })), "{found:?}");
        }
    }

    #[test]
    fn what_is_to_be_typed_can_be_typed() {
        for (path, typed) in [
            ("/etc/agentbus/node.nk", "/etc/agentbus/node.nk"),
            ("a b", "'a b'"),
            ("it's", r"'it'\''s'"),
            ("$(rm)", "'$(rm)'"),
            ("-R", "./-R"),
        ] {
            assert_eq!(quoted(Path::new(path)), typed);
        }
    }
}
