//! How is a text read that somebody wrote in an editor? Over a byte order mark; UTF-16 is told by its name.

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
};

const UTF_8_MARK: [u8; 3] = [0xef, 0xbb, 0xbf];

/// The text of a file, of which at most `max` bytes and one more are read, so that a caller sees that there is
/// more. Blocks.
pub fn read(path: &Path, max: u64) -> io::Result<String> {
    read_from(File::open(path)?, max)
}

/// The same of what is open already.
pub fn read_from(input: impl Read, max: u64) -> io::Result<String> {
    let mut text = String::new();
    // The mark is none of the text's bytes.
    over_mark(input)?.take(max.saturating_add(1)).read_to_string(&mut text)?;
    Ok(text)
}

/// What follows the mark, or all if there is none.
pub fn over_mark<R: Read>(mut input: R) -> io::Result<impl Read + use<R>> {
    let mut head = Vec::with_capacity(UTF_8_MARK.len());
    input.by_ref().take(UTF_8_MARK.len() as u64).read_to_end(&mut head)?;
    if head.starts_with(&[0xff, 0xfe]) || head.starts_with(&[0xfe, 0xff]) {
        let what = "it begins with the byte order mark of UTF-16; expected UTF-8";
        return Err(io::Error::new(io::ErrorKind::InvalidData, what));
    }
    if head == UTF_8_MARK {
        head.clear();
    }
    Ok(io::Cursor::new(head).chain(input))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::read_from;

    #[test]
    fn a_byte_order_mark_is_read_over_and_utf_16_is_named() {
        for (bytes, text) in [
            (&b"\xef\xbb\xbfpackage a\r\n"[..], "package a\r\n"),
            (b"package a", "package a"),
            (b"ab", "ab"),
            (b"", ""),
            (b"\xef\xbb\xbf", ""),
            // Only at the beginning, and once.
            (b"\xef\xbb\xbf\xef\xbb\xbfa", "\u{feff}a"),
        ] {
            assert_eq!(read_from(bytes, 100).unwrap(), text);
        }
        for bytes in [b"\xff\xfea\0", b"\xfe\xff\0a"] {
            assert!(read_from(&bytes[..], 100).unwrap_err().to_string().contains("UTF-16"));
        }
        assert!(read_from(&b"\xef\xbb"[..], 100).is_err(), "half a mark is no text");
        assert_eq!(read_from(&b"12345678"[..], 4).unwrap().len(), 5, "a caller sees that there is more");
    }
}
