//! Which files are in a tar.gz that somebody made? All within bounds, each once, and none with a way out of it.

use std::{
    collections::BTreeMap,
    io::{self, Read},
};

use flate2::read::GzDecoder;
use tar::{Archive, Entry, EntryType};

use super::BundleError;

/// Of the archive as it comes.
pub const PACKED_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Of all that is in it, with the archive's own headers.
const UNPACKED_BYTES_MAX: u64 = 32 * 1024 * 1024;
/// Of one file.
const FILE_BYTES_MAX: u64 = 8 * 1024 * 1024;
/// Files and folders.
const ENTRIES_MAX: usize = 1_024;
const PATH_BYTES_MAX: usize = 256;

/// The files by their paths, without the slash that OPA puts before them.
pub(super) type Files = BTreeMap<String, Vec<u8>>;

pub(super) fn unpack(packed: &[u8]) -> Result<Files, BundleError> {
    if packed.len() > PACKED_BYTES_MAX {
        return Err(BundleError::TooLarge { what: "the bundle".to_owned(), limit: PACKED_BYTES_MAX as u64 });
    }
    let unpacked = Bounded { inner: GzDecoder::new(packed), left: UNPACKED_BYTES_MAX };
    let mut archive = Archive::new(unpacked);
    let mut files = Files::new();
    for (number, entry) in archive.entries().map_err(unreadable)?.enumerate() {
        if number >= ENTRIES_MAX {
            return Err(BundleError::TooManyFiles { limit: ENTRIES_MAX });
        }
        add(&mut files, entry.map_err(unreadable)?)?;
    }
    Ok(files)
}

fn add(files: &mut Files, mut entry: Entry<'_, impl Read>) -> Result<(), BundleError> {
    let kind = entry.header().entry_type();
    let path = path(&entry.path_bytes())?;
    match kind {
        EntryType::Directory => return Ok(()),
        EntryType::Regular | EntryType::Continuous => {}
        _ => return Err(BundleError::NoFile { path }),
    }
    let too_large = || BundleError::TooLarge { what: path.clone(), limit: FILE_BYTES_MAX };
    if entry.size() > FILE_BYTES_MAX {
        return Err(too_large());
    }
    let mut bytes = Vec::new();
    entry.read_to_end(&mut bytes).map_err(unreadable)?;
    match files.insert(path.clone(), bytes) {
        None => Ok(()),
        Some(_) => Err(BundleError::Twice { path }),
    }
}

/// Without `/` or `./` before it. A path that could lead elsewhere, or be read in two ways, is refused.
fn path(bytes: &[u8]) -> Result<String, BundleError> {
    let refused = || BundleError::Path { path: bytes.escape_ascii().to_string().chars().take(200).collect() };
    let text = std::str::from_utf8(bytes).map_err(|_| refused())?;
    let text = text.trim_end_matches('/');
    let text = text.strip_prefix("./").or_else(|| text.strip_prefix('/')).unwrap_or(text);
    let sound = |part: &str| !part.is_empty() && part != "." && part != "..";
    let plain = text.len() <= PATH_BYTES_MAX && !text.contains('\\') && !text.contains(char::is_control);
    match plain && (text.is_empty() || text == "." || text.split('/').all(sound)) {
        true => Ok(text.to_owned()),
        false => Err(refused()),
    }
}

fn unreadable(cause: io::Error) -> BundleError {
    BundleError::Archive { cause: cause.to_string() }
}

/// Ends with an error where more comes than there may be: a small archive can unpack to any size.
struct Bounded<R> {
    inner: R,
    left: u64,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.left = self
            .left
            .checked_sub(read as u64)
            .ok_or_else(|| io::Error::other(format!("it unpacks to more than {UNPACKED_BYTES_MAX} bytes")))?;
        Ok(read)
    }
}
