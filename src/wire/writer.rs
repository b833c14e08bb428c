//! How values are written, in either encoding.
//!
//! The MessagePack it writes is canonical as long as callers write a map's keys in bytewise order:
//! every integer and length has its shortest form, every float is a float 64.

use std::{collections::BTreeMap, io::Write as _};

use crate::domain::{Encoding, Value};

pub(crate) struct Writer {
    out: Vec<u8>,
    encoding: Encoding,
}

impl Writer {
    pub(crate) fn new(encoding: Encoding, capacity: usize) -> Writer {
        Writer { out: Vec::with_capacity(capacity), encoding }
    }

    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.out
    }

    /// Bytes written so far.
    pub(crate) fn len(&self) -> usize {
        self.out.len()
    }

    /// Opens a map of exactly `entries` keys; each is written by [`Writer::key`] and one value.
    pub(crate) fn map(&mut self, entries: usize) {
        match self.encoding {
            Encoding::MessagePack => self.header(entries, 0x80, 16, None, 0xde),
            Encoding::Json => self.open(b'{'),
        }
    }

    pub(crate) fn end_map(&mut self) {
        self.close(b'}');
    }

    /// Opens a list of exactly `items` values.
    pub(crate) fn list(&mut self, items: usize) {
        match self.encoding {
            Encoding::MessagePack => self.header(items, 0x90, 16, None, 0xdc),
            Encoding::Json => self.open(b'['),
        }
    }

    pub(crate) fn end_list(&mut self) {
        self.close(b']');
    }

    /// A key that this program knows: nothing in it is to be escaped.
    pub(crate) fn key(&mut self, key: &'static str) {
        match self.encoding {
            Encoding::MessagePack => self.text(key),
            Encoding::Json => {
                self.comma();
                self.out.push(b'"');
                self.out.extend_from_slice(key.as_bytes());
                self.out.extend_from_slice(b"\":");
            }
        }
    }

    /// A key that somebody else has chosen.
    pub(crate) fn any_key(&mut self, key: &str) {
        self.text(key);
        if self.encoding == Encoding::Json {
            self.out.push(b':');
        }
    }

    pub(crate) fn text(&mut self, text: &str) {
        match self.encoding {
            Encoding::MessagePack => {
                self.header(text.len(), 0xa0, 32, Some(0xd9), 0xda);
                self.out.extend_from_slice(text.as_bytes());
            }
            Encoding::Json => {
                self.comma();
                self.quoted(text);
            }
        }
    }

    pub(crate) fn int(&mut self, int: i128) {
        match self.encoding {
            Encoding::MessagePack => self.packed_int(int),
            Encoding::Json => {
                self.comma();
                self.out.extend_from_slice(itoa::Buffer::new().format(int).as_bytes());
            }
        }
    }

    pub(crate) fn float(&mut self, float: f64) {
        match self.encoding {
            Encoding::MessagePack => {
                self.out.push(0xcb);
                self.out.extend_from_slice(&float.to_be_bytes());
            }
            Encoding::Json => {
                self.comma();
                self.digits(float);
            }
        }
    }

    pub(crate) fn bool(&mut self, bool: bool) {
        match (self.encoding, bool) {
            (Encoding::MessagePack, false) => self.out.push(0xc2),
            (Encoding::MessagePack, true) => self.out.push(0xc3),
            (Encoding::Json, _) => {
                self.comma();
                self.out.extend_from_slice(if bool { b"true" } else { b"false" });
            }
        }
    }

    /// A value that is written already, in the same encoding.
    pub(crate) fn written(&mut self, value: &[u8]) {
        if self.encoding == Encoding::Json {
            self.comma();
        }
        self.out.extend_from_slice(value);
    }

    fn null(&mut self) {
        match self.encoding {
            Encoding::MessagePack => self.out.push(0xc0),
            Encoding::Json => {
                self.comma();
                self.out.extend_from_slice(b"null");
            }
        }
    }

    pub(crate) fn value(&mut self, value: &Value) {
        match value {
            Value::Null => self.null(),
            Value::Bool(it) => self.bool(*it),
            Value::Int(it) => self.int(*it),
            Value::Float(it) => self.float(*it),
            Value::Text(it) => self.text(it),
            Value::List(items) => {
                self.list(items.len());
                for item in items {
                    self.value(item);
                }
                self.end_list();
            }
            Value::Map(entries) => self.entries(entries),
        }
    }

    pub(crate) fn entries(&mut self, entries: &BTreeMap<String, Value>) {
        self.map(entries.len());
        for (key, value) in entries {
            self.any_key(key);
            self.value(value);
        }
        self.end_map();
    }

    /// A length in its shortest form: in the first byte if below `fix_end`, else in one (where the
    /// kind has that form), two or four bytes, whose markers follow each other from `two` on.
    fn header(&mut self, length: usize, fix: u8, fix_end: u8, one: Option<u8>, two: u8) {
        match (u8::try_from(length), one) {
            (Ok(short), _) if short < fix_end => self.out.push(fix | short),
            (Ok(short), Some(marker)) => self.out.extend_from_slice(&[marker, short]),
            _ => match u16::try_from(length) {
                Ok(length) => {
                    self.out.push(two);
                    self.out.extend_from_slice(&length.to_be_bytes());
                }
                Err(_) => {
                    self.out.push(two + 1);
                    // Nothing of 4 GiB passes the limits; a wrong header would be refused on reading.
                    let length = u32::try_from(length).unwrap_or(u32::MAX);
                    self.out.extend_from_slice(&length.to_be_bytes());
                }
            },
        }
    }

    fn packed_int(&mut self, int: i128) {
        if let Ok(it) = u8::try_from(int) {
            if it >= 0x80 {
                self.out.push(0xcc);
            }
            self.out.push(it);
        } else if let Ok(it) = i8::try_from(int) {
            if it < -32 {
                self.out.push(0xd0);
            }
            self.out.extend_from_slice(&it.to_be_bytes());
        } else if let Ok(it) = u16::try_from(int) {
            self.out.push(0xcd);
            self.out.extend_from_slice(&it.to_be_bytes());
        } else if let Ok(it) = i16::try_from(int) {
            self.out.push(0xd1);
            self.out.extend_from_slice(&it.to_be_bytes());
        } else if let Ok(it) = u32::try_from(int) {
            self.out.push(0xce);
            self.out.extend_from_slice(&it.to_be_bytes());
        } else if let Ok(it) = i32::try_from(int) {
            self.out.push(0xd2);
            self.out.extend_from_slice(&it.to_be_bytes());
        } else if let Ok(it) = u64::try_from(int) {
            self.out.push(0xcf);
            self.out.extend_from_slice(&it.to_be_bytes());
        } else {
            // Integers come from a decoder that holds them within i64::MIN..=u64::MAX.
            let it = i64::try_from(int).unwrap_or(if int < 0 { i64::MIN } else { i64::MAX });
            self.out.push(0xd3);
            self.out.extend_from_slice(&it.to_be_bytes());
        }
    }

    fn open(&mut self, bracket: u8) {
        self.comma();
        self.out.push(bracket);
    }

    fn close(&mut self, bracket: u8) {
        if self.encoding == Encoding::Json {
            self.out.push(bracket);
        }
    }

    /// JSON: what was written last says whether a comma belongs here; a text always ends in a quote.
    fn comma(&mut self) {
        if !matches!(self.out.last(), None | Some(b'{' | b'[' | b':')) {
            self.out.push(b',');
        }
    }

    /// The shortest digits that read back as the same float, never without `.` or `e`. By the standard library, as in
    /// every version so far: where two such texts lie equally near, faster writers choose the other one, and what is
    /// stored is compared by the digest of its bytes.
    fn digits(&mut self, float: f64) {
        let written = write!(self.out, "{float:?}");
        debug_assert!(written.is_ok(), "writing to memory cannot fail");
    }

    fn quoted(&mut self, text: &str) {
        self.out.push(b'"');
        let mut rest = text.as_bytes();
        let special = |byte: &u8| matches!(byte, b'"' | b'\\' | 0..0x20);
        // Most texts have none, which is seen many bytes at a time where nothing ends the search.
        let has_special = rest.iter().fold(false, |found, byte| found | special(byte));
        while has_special && let Some(plain) = rest.iter().position(special) {
            let (head, tail) = rest.split_at(plain);
            self.out.extend_from_slice(head);
            let Some((&byte, tail)) = tail.split_first() else { break };
            match byte {
                b'"' => self.out.extend_from_slice(b"\\\""),
                b'\\' => self.out.extend_from_slice(b"\\\\"),
                b'\n' => self.out.extend_from_slice(b"\\n"),
                b'\r' => self.out.extend_from_slice(b"\\r"),
                b'\t' => self.out.extend_from_slice(b"\\t"),
                control => {
                    let digit = |half: u8| if half < 10 { b'0' + half } else { b'a' + half - 10 };
                    self.out.extend_from_slice(b"\\u00");
                    self.out.extend_from_slice(&[digit(control >> 4), digit(control & 15)]);
                }
            }
            rest = tail;
        }
        self.out.extend_from_slice(rest);
        self.out.push(b'"');
    }
}

/// A key and its text.
pub(crate) fn text_field(w: &mut Writer, key: &'static str, text: &str) {
    w.key(key);
    w.text(text);
}

/// A key and its number.
pub(crate) fn int_field(w: &mut Writer, key: &'static str, int: u64) {
    w.key(key);
    w.int(int.into());
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn written(write: impl FnOnce(&mut Writer)) -> String {
        let mut writer = Writer::new(Encoding::Json, 16);
        write(&mut writer);
        String::from_utf8(writer.into_bytes()).unwrap()
    }

    /// The first two lie in the middle between their shortest digits, which are written upwards.
    #[test]
    fn numbers_are_written_as_ever_at_the_edges() {
        assert_eq!(written(|writer| writer.float(-1_084_046_260_954_646.0 - 0.25)), "-1084046260954646.3");
        assert_eq!(written(|writer| writer.float(0.5 + 2.0_f64.powi(-17))), "0.5000076293945313");
        let edges = [0.0, 1e-4, 1e16, 1.0, 0.1, 5e-324, f64::MIN_POSITIVE, f64::MAX, 9_007_199_254_740_993.0];
        for edge in edges.iter().flat_map(|&edge: &f64| [edge, edge.next_up(), edge.next_down()]) {
            for float in [edge, -edge].into_iter().filter(|float| float.is_finite()) {
                assert_eq!(written(|writer| writer.float(float)), format!("{float:?}"));
            }
        }
        for int in [0, -1, 9, 10, i128::from(u64::MAX), i128::from(i64::MIN)] {
            assert_eq!(written(|writer| writer.int(int)), int.to_string());
        }
    }

    proptest::proptest! {
        #[test]
        fn any_float_is_written_as_ever(bits: u64) {
            let float = f64::from_bits(bits);
            if float.is_finite() {
                proptest::prop_assert_eq!(written(|writer| writer.float(float)), format!("{float:?}"));
            }
        }

        #[test]
        fn any_part_of_one_is_written_as_ever(part in 0.0..1.0_f64) {
            proptest::prop_assert_eq!(written(|writer| writer.float(part)), format!("{part:?}"));
        }
    }

    /// The bytes are those of every version so far: what is stored is compared by its digest.
    #[test]
    fn control_characters_are_written_in_four_lowercase_hexadecimal_digits_or_as_their_letter() {
        for control in 0..0x20_u8 {
            let text = written(|writer| writer.text(&format!("a{}b", char::from(control))));
            let escape = match control {
                b'\n' => "\\n".to_owned(),
                b'\r' => "\\r".to_owned(),
                b'\t' => "\\t".to_owned(),
                _ => format!("\\u{control:04x}"),
            };
            assert_eq!(text, format!("\"a{escape}b\""));
        }
    }
}
