//! Does a content hold a large amount of money, however it is written?
//!
//! A reading that can be taken in two ways counts as the larger one: an amount only raises a score.
//! Linear in the content.

use std::{borrow::Cow, collections::BTreeMap};

use super::super::text::{key_words, normalized_within, words};
use crate::domain::Value;

/// An amount of money above this is large. No currency is known, so it is of any.
pub const LARGE_AMOUNT: f64 = 10_000.0;

/// Words of a key that say that the numbers below it are money. Sorted.
const MONEY: &[&str] = &[
    "amount",
    "amounts",
    "amt",
    "balance",
    "betrag",
    "budget",
    "cash",
    "chf",
    "cost",
    "costs",
    "deposit",
    "dollars",
    "eur",
    "euros",
    "fee",
    "fees",
    "funds",
    "gbp",
    "importe",
    "importo",
    "inr",
    "invoice",
    "jpy",
    "money",
    "montant",
    "monto",
    "pay",
    "payment",
    "payments",
    "preis",
    "price",
    "prices",
    "prix",
    "refund",
    "salary",
    "subtotal",
    "sum",
    "summe",
    "total",
    "transfer",
    "usd",
    "valor",
    "value",
    "withdrawal",
];

/// Whether a word is in a sorted list, in any case.
fn is_one_of(sorted: &[&str], word: &str) -> bool {
    let lower = || word.bytes().map(|b| b.to_ascii_lowercase());
    sorted.binary_search_by(|it| it.bytes().cmp(lower())).is_ok()
}

/// What stands beside an amount in a text. Sorted.
const CURRENCIES: &[&str] = &[
    "aud", "brl", "btc", "cad", "chf", "cny", "dkk", "dollar", "dollars", "eth", "eur", "euro", "euros",
    "gbp", "inr", "jpy", "krw", "mxn", "nok", "pln", "pounds", "rupees", "sek", "usd", "usdc", "usdt", "yen",
    "zar",
];

/// Whether a number under a key that names money is above [`LARGE_AMOUNT`], whatever its sign, or one
/// beside a currency in any text. Such a key covers all that is nested below it; a text that is a number
/// counts as one.
pub fn large_amount(content: &BTreeMap<String, Value>) -> bool {
    let mut look = Look { room: ROOM, looks: LOOKS };
    content.iter().any(|(key, value)| {
        let money = look.names_money(key);
        look.large(value, money)
    })
}

/// Weight of keys and texts beyond ASCII that are normalised. What finds no room is money, and large: nobody
/// writes so much of it by chance.
const ROOM: usize = 64 << 10;
/// Currencies in texts that are looked at. A text names its large amount early, or it has hundreds; of what has
/// more in all its texts, one is large.
const LOOKS: usize = 2_048;

struct Look {
    room: usize,
    looks: usize,
}

impl Look {
    fn large(&mut self, value: &Value, money: bool) -> bool {
        match value {
            Value::Null | Value::Bool(_) => false,
            Value::Int(it) => money && it.unsigned_abs() > LARGE_AMOUNT as u128,
            Value::Float(it) => money && it.abs() > LARGE_AMOUNT,
            Value::Text(it) => money && self.is_large(it) || self.in_text(it),
            Value::List(items) => items.iter().any(|item| self.large(item, money)),
            Value::Map(entries) => entries.iter().any(|(key, value)| {
                let money = money || self.names_money(key);
                self.large(value, money)
            }),
        }
    }

    fn names_money(&mut self, key: &str) -> bool {
        let Some(plain) = self.normalized(key) else { return true };
        key_words(&plain).any(|word| is_one_of(MONEY, word))
    }

    /// Whether a short text such as `25,000.00 EUR` or `two million` is one large number.
    fn is_large(&mut self, text: &str) -> bool {
        const LENGTH_MAX: usize = 64;
        // Digits of any alphabet may be four bytes.
        if text.len() > 4 * LENGTH_MAX {
            return false;
        }
        let latin = latin_digits(text);
        let Some(plain) = self.normalized(&latin) else { return true };
        let plain = plain.to_lowercase();
        plain.len() <= LENGTH_MAX && number_in(&plain).is_some_and(|it| it.abs() > LARGE_AMOUNT)
    }

    fn normalized<'a>(&mut self, text: &'a str) -> Option<Cow<'a, str>> {
        if text.is_ascii() {
            Some(Cow::Borrowed(text))
        } else {
            normalized_within(text, &mut self.room).map(Cow::Owned)
        }
    }
}

/// The digits of other alphabets as ours: each alphabet has its ten in a row.
fn latin_digits(text: &str) -> Cow<'_, str> {
    /// Where each row begins: Arabic, Persian, N'Ko, Devanagari, Bengali, Gurmukhi, Gujarati, Oriya, Tamil, Telugu,
    /// Kannada, Malayalam, Thai, Lao, Tibetan, Myanmar, Khmer, Mongolian.
    const ZEROS: [u32; 18] = [
        0x660, 0x6f0, 0x7c0, 0x966, 0x9e6, 0xa66, 0xae6, 0xb66, 0xbe6, 0xc66, 0xce6, 0xd66, 0xe50, 0xed0,
        0xf20, 0x1040, 0x17e0, 0x1810,
    ];
    if text.is_ascii() {
        return Cow::Borrowed(text);
    }
    let digit = |c: char| {
        let code = u32::from(c);
        ZEROS
            .iter()
            .find(|zero| (**zero..**zero + 10).contains(&code))
            .and_then(|zero| char::from_digit(code - zero, 10))
    };
    Cow::Owned(
        text.chars()
            .map(|c| match c {
                '\u{66b}' => '.',
                '\u{66c}' => ',',
                c => digit(c).unwrap_or(c),
            })
            .collect(),
    )
}

/// The largest number that a lowercase text can be read as: its digits, or its words, and what multiplies them.
fn number_in(text: &str) -> Option<f64> {
    let digits = text.find(|c: char| c.is_ascii_digit());
    let Some(from) = digits else { return in_words(text) };
    let rest = text.get(from..)?;
    let body = |c: char| c.is_ascii_digit() || matches!(c, '.' | ',' | '_' | ' ' | '\'' | '’');
    let end = rest.find(|c| !body(c)).unwrap_or(rest.len());
    let (number, after) = rest.split_at_checked(end)?;
    let mut value = largest(number)?;
    let mut after = after;
    if let Some(power) = after.strip_prefix('e') {
        let power = power.strip_prefix('+').unwrap_or(power);
        let end = power.find(|c: char| !c.is_ascii_digit()).unwrap_or(power.len());
        if let Some(exponent) = power.get(..end).and_then(|it| it.parse::<i32>().ok()) {
            value *= 10f64.powi(exponent.min(300));
            after = power.get(end..)?;
        }
    }
    // `2 lakh crore` multiplies twice.
    Some(words(after).map_while(multiplier).fold(value, |value, by| value * by))
}

/// What separates thousands in one country is the decimal point of another: the larger reading counts,
/// unless what follows cannot be thousands.
fn largest(number: &str) -> Option<f64> {
    let number = number.trim_end_matches(|c: char| !c.is_ascii_digit());
    let last = number.rfind(['.', ',']);
    let decimals = last.filter(|at| {
        let (before, after) =
            (number.get(..*at).unwrap_or_default(), number.get(at + 1..).unwrap_or_default());
        let mark = number.get(*at..=*at).unwrap_or_default();
        // `1.234` may be either, and a mark that comes twice is no decimal one.
        after.len() != 3 && !before.contains(mark)
    });
    let digits = |text: &str| -> String { text.chars().filter(char::is_ascii_digit).collect() };
    match decimals {
        Some(at) => format!("{}.{}", digits(number.get(..at)?), digits(number.get(at..)?)).parse().ok(),
        None => digits(number).parse().ok(),
    }
}

fn multiplier(word: &str) -> Option<f64> {
    Some(match word {
        "k" | "thousand" | "thousands" | "grand" | "tsd" | "tausend" | "mil" | "mille" => 1e3,
        "lakh" | "lakhs" | "lac" => 1e5,
        "m" | "mm" | "mn" | "mio" | "million" | "millions" | "millionen" | "millones" | "milioni" => 1e6,
        "crore" | "crores" => 1e7,
        "b" | "bn" | "mrd" | "billion" | "billions" | "milliarden" => 1e9,
        "t" | "tn" | "trillion" => 1e12,
        _ => return None,
    })
}

/// `two million`, `twenty five thousand`: small numbers add up, and what is larger multiplies them.
fn in_words(text: &str) -> Option<f64> {
    let (mut sum, mut open, mut any) = (0.0, 0.0, false);
    for word in words(text) {
        if let Some(small) = small(word) {
            (open, any) = (open + small, true);
        } else if word == "hundred" {
            (open, any) = (if open == 0.0 { 100.0 } else { open * 100.0 }, true);
        } else if word.len() > 2
            && let Some(by) = multiplier(word)
        {
            sum += if open == 0.0 { by } else { open * by };
            (open, any) = (0.0, true);
        }
    }
    any.then_some(sum + open)
}

fn small(word: &str) -> Option<f64> {
    const UNITS: &[&str] = &[
        "zero",
        "one",
        "two",
        "three",
        "four",
        "five",
        "six",
        "seven",
        "eight",
        "nine",
        "ten",
        "eleven",
        "twelve",
        "thirteen",
        "fourteen",
        "fifteen",
        "sixteen",
        "seventeen",
        "eighteen",
        "nineteen",
    ];
    const TENS: &[&str] = &["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"];
    let at = |list: &[&str]| list.iter().position(|it| *it == word);
    at(UNITS).map(|at| at as f64).or_else(|| at(TENS).map(|at| (at as f64 + 2.0) * 10.0))
}

impl Look {
    /// Whether a number beside a currency's sign or code is large, in a text of any length.
    fn in_text(&mut self, text: &str) -> bool {
        /// As far as an amount reaches from its currency.
        const REACH: usize = 24;
        // Most texts name no number at all; one beyond ASCII may be in any alphabet.
        if !text.bytes().any(|byte| byte.is_ascii_digit() || !byte.is_ascii()) {
            return false;
        }
        let sign = |c: char| matches!(c, '$' | '€' | '£' | '¥' | '₹' | '₽' | '₩' | '₿' | '￥' | '＄' | '￡');
        let signs = text.char_indices().filter(|(_, c)| sign(*c)).map(|(at, c)| (at, at + c.len_utf8()));
        let codes = codes(text);
        signs.chain(codes).any(|(from, to)| {
            let Some(left) = self.looks.checked_sub(1) else { return true };
            self.looks = left;
            let start = text.floor_char_boundary(from.saturating_sub(REACH));
            let end = text.ceil_char_boundary(to + REACH);
            let after = text.get(to..end).unwrap_or_default();
            let before = text.get(start..from).unwrap_or_default();
            // The number right beside it, on either side.
            let leads = after.trim_start().starts_with(char::is_numeric);
            leads && self.is_large(after) || self.is_large(last_number(before))
        })
    }
}

/// The number that a text ends with, with what multiplies it; nothing if other words follow it.
fn last_number(text: &str) -> &str {
    let number =
        |c: char| c.is_numeric() || matches!(c, '.' | ',' | '_' | ' ' | '\'' | '’' | '\u{a0}' | '\u{202f}');
    let Some((end, last)) = text.char_indices().rev().find(|(_, c)| c.is_numeric()) else { return "" };
    let after = text.get(end + last.len_utf8()..).unwrap_or_default().to_lowercase();
    if words(&after).any(|word| multiplier(word).is_none()) {
        return "";
    }
    let head = text.get(..end).unwrap_or_default();
    let from = head.char_indices().rev().find(|(_, c)| !number(*c)).map_or(0, |(at, c)| at + c.len_utf8());
    text.get(from..).unwrap_or_default()
}

/// Where currencies stand as words.
fn codes(text: &str) -> impl Iterator<Item = (usize, usize)> {
    let mut at = 0;
    text.split(|c: char| !c.is_ascii_alphabetic()).filter_map(move |word| {
        let from = at;
        // Whatever separated it is at least a byte, and is found again where the next word begins.
        at += word.len();
        let place = (from, from + word.len());
        at += text.get(at..).and_then(|rest| rest.chars().next()).map_or(0, char::len_utf8);
        ((3..=7).contains(&word.len()) && is_one_of(CURRENCIES, word)).then_some(place)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn under(key: &str, text: &str) -> bool {
        large_amount(&BTreeMap::from([(key.to_owned(), Value::Text(text.to_owned()))]))
    }

    #[test]
    fn the_lists_of_words_are_sorted_as_their_search_expects() {
        for list in [MONEY, CURRENCIES] {
            assert!(list.is_sorted());
            assert!(list.iter().all(|word| is_one_of(list, &word.to_uppercase())));
        }
    }

    #[test]
    fn an_amount_is_the_same_however_the_world_writes_it() {
        for large in [
            "25.000,00 EUR",
            "25,000.00",
            "25.000",
            "25k",
            "1.2m",
            "1 000 000",
            "1'000'000",
            "25,00,000",
            "２５０００",
            "٢٥٠٠٠",
            "२५०००",
            "25 thousand",
            "two million",
            "twenty five thousand",
            "2.5e4",
            "2.5E+4",
            "$25,000",
            "EUR 25000",
            "-25000",
            "USD 25 million",
            "3 lakh",
            "1.5 Mio. EUR",
            "one hundred thousand",
            "10.000,01",
            "25 000",
            "25_000",
        ] {
            assert!(under("amount", large), "{large}");
        }
        for small in [
            "10.00",
            "9,999.99",
            "9.999,99 EUR",
            "10k",
            "ten thousand",
            "1.5k",
            "about twenty",
            "2.5e3",
            "12.34",
            "0,5",
        ] {
            assert!(!under("amount", small), "{small}");
        }
    }

    #[test]
    fn the_key_of_an_amount_is_known_in_other_languages_and_letters() {
        for key in [
            "betrag",
            "amt",
            "sum",
            "importe",
            "montant",
            "\u{430}mount",
            "ａｍｏｕｎｔ",
            "order_Amt",
            "am\u{200b}ount",
        ] {
            let nested = Value::Map([(key.to_owned(), Value::Int(50_000))].into());
            assert!(large_amount(&BTreeMap::from([("order".to_owned(), nested)])), "{key}");
        }
        assert!(!under("summary", "50000") && !under("amtrak", "50000"));
    }

    #[test]
    fn keys_that_expand_are_looked_at_within_a_bound_and_what_is_beyond_counts_as_money() {
        let wide = |n: usize, below: i128| (format!("{n}{}", "\u{fdfa}".repeat(20)), Value::Int(below));
        assert!(!large_amount(&(0..20).map(|n| wide(n, 50_000)).collect()));
        assert!(large_amount(&(0..4_000).map(|n| wide(n, 50_000)).collect()));
        assert!(!large_amount(&(0..4_000).map(|n| wide(n, 5)).collect()));
    }

    #[test]
    fn small_amounts_before_a_large_one_do_not_hide_it_however_many_they_are() {
        for times in [300, LOOKS - 1, LOOKS + 1] {
            assert!(under("text", &format!("{}and $25,000", "$1 ".repeat(times))), "{times}");
        }
        assert!(!under("text", &"$1 ".repeat(LOOKS)));
    }

    #[test]
    fn an_amount_in_a_text_is_seen_beside_its_currency_and_no_other_number_is() {
        for large in [
            "Please send $25,000 to the account.",
            "Please send 25.000 € to them",
            "pay EUR 25k today",
            "wire 1.2 million dollars now",
            "It is 40,000 USD in all",
        ] {
            assert!(under("text", large), "{large}");
        }
        for small in [
            "It costs $25 and ships 40,000 times.",
            "In 2026 we paid 15 EUR for 20000 rows",
            "Room 25000 is free",
            "5 euros, order 778812",
        ] {
            assert!(!under("text", small), "{small}");
        }
    }
}
