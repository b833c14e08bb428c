//! Events in a file, one a line, beside those that the bus keeps. It is as long as it may be, and the one before it is
//! kept beside it.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

/// Of one file; with the one before it there are two.
const FILE_BYTES_MAX: u64 = 256 * 1024 * 1024;

pub(super) struct EventFile {
    path: PathBuf,
    /// `None` after an error: it is opened anew.
    file: Option<File>,
    bytes: u64,
    bytes_max: u64,
}

impl EventFile {
    /// Goes on at its end.
    pub(super) fn open(path: PathBuf) -> io::Result<Self> {
        Self::with(path, FILE_BYTES_MAX)
    }

    fn with(path: PathBuf, bytes_max: u64) -> io::Result<Self> {
        let mut opened = Self { path, file: None, bytes: 0, bytes_max };
        opened.reopen()?;
        Ok(opened)
    }

    /// Whether it could be opened. Whoever asks may be somebody else than who writes it, so none is made.
    pub(super) fn check(path: &Path) -> io::Result<()> {
        let opened = match OpenOptions::new().append(true).open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
                fs::read_dir(folder.unwrap_or(Path::new("."))).map(drop)
            }
            opened => opened.map(drop),
        };
        opened.map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn append(&mut self, event: &[u8]) -> io::Result<()> {
        let written = self.write(event);
        if written.is_err() {
            // Whatever it was, the next is written to what is there by then.
            (self.file, self.bytes) = (None, 0);
        }
        written
    }

    fn write(&mut self, event: &[u8]) -> io::Result<()> {
        let line = [event, b"\n"].concat();
        if self.bytes + line.len() as u64 > self.bytes_max && self.bytes > 0 {
            self.file = None;
            fs::rename(&self.path, self.before())?;
        }
        let file = match &mut self.file {
            Some(file) => file,
            None => self.reopen()?,
        };
        file.write_all(&line)?;
        self.bytes += line.len() as u64;
        Ok(())
    }

    /// What it was until it was full.
    fn before(&self) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(".1");
        name.into()
    }

    /// For its owner alone: it has what agents said.
    fn reopen(&mut self) -> io::Result<&mut File> {
        let file = OpenOptions::new().create(true).append(true).mode(0o600).open(&self.path)?;
        self.bytes = file.metadata()?.len();
        Ok(self.file.insert(file))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_file_that_is_full_gives_way_and_the_one_before_it_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("decisions.jsonl");
        let read = |name: &str| fs::read_to_string(dir.path().join(name)).unwrap();
        let mut file = EventFile::with(path.clone(), 10).unwrap();
        for event in ["1234", "5678", "9abc"] {
            file.append(event.as_bytes()).unwrap();
        }
        assert_eq!(
            (read("decisions.jsonl.1"), read("decisions.jsonl")),
            ("1234\n5678\n".into(), "9abc\n".into())
        );
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);

        // Another node's life goes on where this one ended.
        let mut file = EventFile::with(path, 10).unwrap();
        file.append(b"defg").unwrap();
        assert_eq!(read("decisions.jsonl"), "9abc\ndefg\n");
        // What is longer than a file may be is in one by itself.
        file.append(b"0123456789").unwrap();
        assert_eq!(
            (read("decisions.jsonl"), read("decisions.jsonl.1")),
            ("0123456789\n".into(), "9abc\ndefg\n".into())
        );
    }

    #[test]
    fn a_file_that_cannot_be_written_is_named_and_tried_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sub/decisions.jsonl");
        let error = EventFile::check(&path).unwrap_err().to_string();
        assert!(error.contains("sub/decisions.jsonl: No such file"), "{error}");
        assert!(EventFile::open(path.clone()).is_err());
        fs::create_dir(dir.path().join("sub")).unwrap();
        EventFile::check(&path).unwrap();
        assert!(!path.exists(), "a look makes none");
        let mut file = EventFile::with(path.clone(), 4).unwrap();
        file.append(b"1").unwrap();
        fs::remove_dir_all(dir.path().join("sub")).unwrap();
        assert!(file.append(b"234").is_err(), "its folder is gone");
        fs::create_dir(dir.path().join("sub")).unwrap();
        file.append(b"567").unwrap();
        assert_eq!(fs::read_to_string(path).unwrap(), "567\n");
    }
}
