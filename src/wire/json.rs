//! How JSON is read: RFC 8259, one bounded pass over the bytes.
//!
//! Stricter than most readers where leniency would give one message two meanings: a key that occurs
//! twice (also when one is escaped), an integer that only fits as a float, a lone surrogate.

use std::borrow::Cow;

use super::{
    BYTE_ORDER_MARK, DecodeError, Limits,
    reader::{Budget, Open, Read, Reader, Token},
};

pub(crate) struct Json<'a> {
    /// All of the body, checked to be UTF-8 once.
    text: &'a str,
    at: usize,
    budget: Budget,
}

impl<'a> Json<'a> {
    pub(crate) fn new(bytes: &'a [u8], limits: &Limits) -> Read<Self> {
        match std::str::from_utf8(bytes) {
            // A byte order mark says nothing here.
            Ok(text) => Ok(Self {
                text,
                at: if text.starts_with(BYTE_ORDER_MARK) { BYTE_ORDER_MARK.len_utf8() } else { 0 },
                budget: Budget::new(limits),
            }),
            Err(error) => Err(DecodeError::BadUtf8 { at: error.valid_up_to() }),
        }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    /// The next byte that is not white space.
    fn look(&mut self) -> Option<u8> {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.peek() {
            self.at += 1;
        }
        self.peek()
    }

    fn unexpected(&self, expected: &'static str) -> DecodeError {
        match self.peek() {
            Some(found) => DecodeError::Syntax { at: self.at, expected, found },
            None => DecodeError::Truncated { at: self.at },
        }
    }

    fn expect(&mut self, byte: u8, expected: &'static str) -> Read<()> {
        if self.look() == Some(byte) {
            self.at += 1;
            Ok(())
        } else {
            Err(self.unexpected(expected))
        }
    }

    fn word(&mut self, word: &'static str, token: Token<'a>) -> Read<Token<'a>> {
        for expected in word.bytes() {
            if self.peek() != Some(expected) {
                return Err(self.unexpected(word));
            }
            self.at += 1;
        }
        Ok(token)
    }

    /// From `from` to here. Both stand on character boundaries by construction.
    fn since(&self, from: usize) -> &'a str {
        self.text.get(from..self.at).unwrap_or_default()
    }

    fn digits(&mut self) -> Read<()> {
        if !self.peek().is_some_and(|b| b.is_ascii_digit()) {
            return Err(self.unexpected("a digit"));
        }
        while self.peek().is_some_and(|b| b.is_ascii_digit()) {
            self.at += 1;
        }
        Ok(())
    }

    fn number(&mut self) -> Read<Token<'a>> {
        let from = self.at;
        let mut float = false;
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        match self.peek() {
            Some(b'0') => self.at += 1,
            Some(b'I' | b'N') => return Err(DecodeError::NotFinite { at: from }),
            _ => self.digits()?,
        }
        if self.peek() == Some(b'.') {
            float = true;
            self.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.peek() {
            float = true;
            self.at += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.at += 1;
            }
            self.digits()?;
        }
        let digits = self.since(from);
        if float {
            match decimal(digits) {
                Ok(float) if float.is_finite() => Ok(Token::Float(float, Some(digits))),
                Ok(_) | Err(_) => Err(DecodeError::NotFinite { at: from }),
            }
        } else {
            match digits.parse::<i128>() {
                Ok(int) if (i128::from(i64::MIN)..=i128::from(u64::MAX)).contains(&int) => {
                    Ok(Token::Int(int))
                }
                Ok(_) | Err(_) => Err(DecodeError::IntegerRange { at: from }),
            }
        }
    }

    /// The rest of a text whose opening quote has been read.
    fn string(&mut self) -> Read<Cow<'a, str>> {
        let mut from = self.at;
        let mut unescaped: Option<String> = None;
        loop {
            match self.peek() {
                Some(b'"') => {
                    let piece = self.since(from);
                    self.at += 1;
                    return Ok(match unescaped {
                        None => Cow::Borrowed(piece),
                        Some(mut text) => {
                            text.push_str(piece);
                            Cow::Owned(text)
                        }
                    });
                }
                Some(b'\\') => {
                    let piece = self.since(from);
                    self.at += 1;
                    let character = self.escape()?;
                    let text = unescaped.get_or_insert_default();
                    text.push_str(piece);
                    text.push(character);
                    from = self.at;
                }
                Some(0..0x20) | None => return Err(self.unexpected("text, with control characters escaped")),
                Some(_) => self.at += 1,
            }
        }
    }

    /// The rest of an escape whose backslash has been read.
    fn escape(&mut self) -> Read<char> {
        let character = match self.peek() {
            Some(b'"') => '"',
            Some(b'\\') => '\\',
            Some(b'/') => '/',
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => {
                self.at += 1;
                return self.unicode();
            }
            _ => return Err(self.unexpected("an escape")),
        };
        self.at += 1;
        Ok(character)
    }

    fn unicode(&mut self) -> Read<char> {
        let at = self.at;
        let first = self.hex()?;
        let code = if (0xd800..0xdc00).contains(&first) {
            for expected in *b"\\u" {
                if self.peek() != Some(expected) {
                    return Err(DecodeError::BadUtf8 { at });
                }
                self.at += 1;
            }
            let second = self.hex()?;
            if !(0xdc00..0xe000).contains(&second) {
                return Err(DecodeError::BadUtf8 { at });
            }
            0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00)
        } else {
            first
        };
        char::from_u32(code).ok_or(DecodeError::BadUtf8 { at })
    }

    fn hex(&mut self) -> Read<u32> {
        let mut code = 0;
        for _ in 0..4 {
            let digit = self.peek().and_then(|b| char::from(b).to_digit(16));
            code = code << 4 | digit.ok_or_else(|| self.unexpected("four hexadecimal digits"))?;
            self.at += 1;
        }
        Ok(code)
    }

    /// Whether another entry follows before `close`, with the comma that belongs between.
    fn another(&mut self, open: &mut Open, close: u8) -> Read<bool> {
        let first = open.left == 1;
        open.left = 0;
        let next = self.look();
        if next == Some(close) {
            self.at += 1;
            self.budget.close();
            return Ok(false);
        }
        match (first, next) {
            (true, _) => Ok(true),
            (false, Some(b',')) => {
                self.at += 1;
                Ok(true)
            }
            (false, _) => Err(self.unexpected("a comma or the end of the list or map")),
        }
    }
}

/// The integer that a JSON number with a point or an exponent says exactly, if it is one of at most 17 digits.
pub(crate) fn whole(number: &str) -> Option<i128> {
    const DIGITS: usize = 17;
    let (mantissa, exponent) = number.split_once(['e', 'E']).unwrap_or((number, "0"));
    let (integer, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let unsigned = integer.trim_start_matches('-');
    let written = [unsigned, fraction].concat();
    let digits = written.trim_start_matches('0').trim_end_matches('0');
    if digits.is_empty() {
        return Some(0);
    }
    let zeros = written.len() - written.trim_end_matches('0').len();
    let behind = i64::try_from(fraction.len()).ok()? - i64::try_from(zeros).ok()?;
    let power = usize::try_from(exponent.parse::<i64>().ok()?.checked_sub(behind)?).ok()?;
    if digits.len().checked_add(power)? > DIGITS {
        return None;
    }
    let found: i128 = format!("{digits}{}", "0".repeat(power)).parse().ok()?;
    Some(if unsigned.len() < integer.len() { -found } else { found })
}

/// Significant digits of a float that count; the shortest form of any float has 17.
const DIGITS_MAX: usize = 19;

/// The float that a JSON number with a point or an exponent stands for.
///
/// Beyond 19 digits a number may be so close to the middle of two floats that the standard library computes
/// it at length, 40 µs for each of thousands in a body. Those digits are not read: such a number becomes one
/// of the two floats beside it.
fn decimal(number: &str) -> Result<f64, std::num::ParseFloatError> {
    if number.len() <= DIGITS_MAX {
        return number.parse();
    }
    let (mantissa, exponent) = number.split_once(['e', 'E']).unwrap_or((number, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let sign = if whole.starts_with('-') { "-" } else { "" };
    let whole = whole.trim_start_matches('-');
    // As if the point stood behind all of the digits.
    let digits = || whole.bytes().chain(fraction.bytes());
    let zeros = digits().take_while(|digit| *digit == b'0').count();
    let all = whole.len() + fraction.len() - zeros;
    if all <= DIGITS_MAX {
        return number.parse();
    }
    let read: String = digits().skip(zeros).take(DIGITS_MAX).map(char::from).collect();
    // No number of digits in a body makes up for an exponent that no i64 holds.
    let exponent = exponent.parse().unwrap_or(if exponent.starts_with('-') { i64::MIN } else { i64::MAX });
    let left_out = i64::try_from(all - DIGITS_MAX).unwrap_or(i64::MAX);
    let behind = i64::try_from(fraction.len()).unwrap_or(i64::MAX);
    format!("{sign}{read}e{}", exponent.saturating_add(left_out).saturating_sub(behind)).parse()
}

impl<'a> Reader<'a> for Json<'a> {
    fn token(&mut self) -> Read<Token<'a>> {
        self.budget.value()?;
        match self.look() {
            Some(b'"') => {
                self.at += 1;
                self.string().map(Token::Text)
            }
            Some(b'{') => {
                self.at += 1;
                self.budget.open(0)?;
                Ok(Token::Map(Open::new(1)))
            }
            Some(b'[') => {
                self.at += 1;
                self.budget.open(0)?;
                Ok(Token::List(Open::new(1)))
            }
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b't') => self.word("true", Token::Bool(true)),
            Some(b'f') => self.word("false", Token::Bool(false)),
            Some(b'n') => self.word("null", Token::Null),
            // Not JSON, but what some writers put out for numbers that JSON cannot say.
            Some(b'N' | b'I') => Err(DecodeError::NotFinite { at: self.at }),
            _ => Err(self.unexpected("a value")),
        }
    }

    fn more(&mut self, list: &mut Open) -> Read<bool> {
        self.another(list, b']')
    }

    fn key(&mut self, map: &mut Open) -> Read<Option<Cow<'a, str>>> {
        if !self.another(map, b'}')? {
            return Ok(None);
        }
        self.expect(b'"', "a key in quotes")?;
        let key = self.string()?;
        self.expect(b':', "a colon")?;
        Ok(Some(key))
    }

    fn null(&mut self) -> Read<bool> {
        match self.look() {
            Some(b'n') => self.token().map(|_| true),
            _ => Ok(false),
        }
    }

    fn taken_for_msgpack(&self) -> Option<u8> {
        None
    }

    fn finish(&mut self) -> Read<()> {
        match self.look() {
            None => Ok(()),
            Some(_) => Err(DecodeError::TrailingBytes { bytes: self.text.len() - self.at }),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use proptest::prelude::*;

    use super::{decimal, whole};

    #[test]
    fn digits_beyond_the_nineteenth_do_not_count() {
        for (long, same) in [
            // The middle between the two smallest normal floats, and a little more: either is near enough.
            ("2.2250738585072011360574097967091319759348e-308", "2.225073858507201136e-308"),
            ("9007199254740993.0000000000000000000000001", "9007199254740993.000"),
            ("-0.00000000000000000000000000012345678901234567890", "-1.2345678901234567890e-28"),
            ("123456789012345678901234567890e0", "1234567890123456789e11"),
            ("0.000000000000000000000000000000000000000", "0"),
            ("-0.0000000000000000000000", "-0.0"),
            ("1000000000000000000000000000000.0", "1e30"),
            ("1.00000000000000000000000e99999999999999999999", "inf"),
            ("1.00000000000000000000000e-99999999999999999999", "0"),
            ("0.00000000000000000000000e99999999999999999999", "0"),
            ("17976931348623157000000000000000000000000000.0e400", "inf"),
        ] {
            let (long, same): (f64, f64) = (decimal(long).unwrap(), same.parse().unwrap());
            assert_eq!(long.to_bits(), same.to_bits(), "{long:?} {same:?}");
        }
    }

    #[test]
    fn a_whole_number_is_told_from_one_that_is_only_near_to_it() {
        for (written, found) in [
            ("1764361251000.0", Some(1_764_361_251_000)),
            ("1.764361251e12", Some(1_764_361_251_000)),
            ("1764361251000000e-3", Some(1_764_361_251_000)),
            ("0.1764361251E+13", Some(1_764_361_251_000)),
            ("-3.0", Some(-3)),
            ("-0.0", Some(0)),
            ("0e999999999999999999999999", Some(0)),
            ("9007199254740992.0", Some(9_007_199_254_740_992)),
            ("9007199254740993.0", Some(9_007_199_254_740_993)),
            ("1764361251000.00000000000000000001", None),
            ("1e-1", None),
            ("1e400", None),
            ("1e99999999999999999999", None),
        ] {
            assert_eq!(whole(written), found, "{written}");
        }
    }

    proptest! {
        #[test]
        fn a_float_that_is_written_with_all_of_its_digits_is_read_back(
            float in any::<f64>().prop_filter("finite", |float| float.is_finite()), places in 1_usize..60
        ) {
            let same = |text: &str| assert_eq!(decimal(text).unwrap(), text.parse::<f64>().unwrap(), "{text}");
            same(&format!("{float:e}"));
            same(&format!("{float:?}"));
            // Of what is cut it may be the neighbour, so all of it.
            same(&format!("{float:.800e}"));
            let cut = decimal(&format!("{float:.places$e}")).unwrap();
            let exact: f64 = format!("{float:.places$e}").parse().unwrap();
            let apart = cut.to_bits().abs_diff(exact.to_bits());
            prop_assert!(apart <= 1, "{cut:?} {exact:?}");
        }
    }
}
