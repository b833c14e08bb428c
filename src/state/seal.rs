//! Did a node write this? What a store gave back is believed by its seal, not because it was there.
//!
//! A seal is a MAC over the value, the key under which it stands and the moment after which it counts for
//! nothing. So a value cannot be made up, copied to another key, or kept. That a value was deleted no seal
//! can tell: against that stands the store's password.
//!
//! Both forms can be read by nodes that know of no seals: a verdict has one field more, `seal`, and so has a
//! registration. They skip what they do not know.

use std::{
    fmt,
    path::{Path, PathBuf},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, Mac as _};
use sha2::Sha256;

use super::clock::millis;
use crate::secret_file::{self, SecretFileError};

/// Bytes of the file.
const FILE_MAX: u64 = 4 * 1024;
/// Keys in it: the new one, the old one, and one more for good measure.
const KEYS_MAX: usize = 3;
/// Characters of a key. 32 random bytes are 44 as base64, 64 as hexadecimal.
const KEY_MIN: usize = 32;
const KEY_MAX: usize = 256;
/// Bytes of a MAC that are kept. Nobody can try more than a few, and 128 bits are beyond trying anyway.
const MAC_BYTES: usize = 16;
const UNTIL_BYTES: usize = 8;
/// Of the form of seals; also the first character of each.
const VERSION: u8 = b'1';
/// As text: the version, then until and MAC in base64.
const SEAL_BYTES: usize = 1 + (UNTIL_BYTES + MAC_BYTES) * 4 / 3;
/// How far the clocks of two nodes may differ before one takes a sealed value for too old.
pub const CLOCK_LEEWAY: Duration = Duration::from_secs(60);

/// What nodes seal with. Its bytes are in no `Debug`.
#[derive(Clone)]
pub struct SealKeys {
    /// Each with its key worked in already, which is half of the work. The first seals.
    keys: Vec<Hmac<Sha256>>,
}

/// Why a file holds no keys. Says nothing of what is in it.
#[derive(Debug, thiserror::Error)]
pub enum SealKeyError {
    #[error(transparent)]
    File(#[from] SecretFileError),
    #[error(
        "{}, {problem}; expected 1 to {KEYS_MAX} lines of {KEY_MIN} to {KEY_MAX} characters without blanks, \
         each as from `openssl rand -base64 32`",
        path.display()
    )]
    Malformed { path: PathBuf, problem: String },
}

impl SealKeys {
    /// Blocks.
    pub fn read(path: &Path) -> Result<Self, SealKeyError> {
        let text = secret_file::read(path, FILE_MAX)?;
        Self::parse(&text).map_err(|problem| SealKeyError::Malformed { path: path.to_owned(), problem })
    }

    /// One key a line; the first seals, all of them are known. Lines that begin with `#` are for people.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut keys = Vec::new();
        let lines = text.lines().map(str::trim).enumerate();
        for (index, line) in lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#')) {
            let number = index + 1;
            if !line.bytes().all(|byte| byte.is_ascii_graphic()) {
                return Err(format!("line {number} has a character that is not printable ASCII, or a blank"));
            }
            if !(KEY_MIN..=KEY_MAX).contains(&line.len()) {
                return Err(format!("line {number} has {}", crate::phrase::counted(line.len(), "character")));
            }
            let key = Hmac::new_from_slice(line.as_bytes()).map_err(|error| error.to_string())?;
            keys.push(key);
        }
        match keys.len() {
            0 => Err("found no key".to_owned()),
            1..=KEYS_MAX => Ok(Self { keys }),
            found => Err(format!("found {found} keys")),
        }
    }
}

impl fmt::Debug for SealKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SealKeys").field("keys", &self.keys.len()).finish_non_exhaustive()
    }
}

/// What a node believes of what it reads.
#[derive(Debug, Clone, Default)]
pub struct Trust {
    /// Absent: nothing is sealed and everything is believed. For one who accepts that.
    pub keys: Option<SealKeys>,
    /// For so long after it started, values without a seal are believed: those of nodes of a version that
    /// knew of none.
    pub unsealed_for: Duration,
}

/// Seals and judges.
#[derive(Debug)]
pub(super) struct Seals {
    keys: Option<SealKeys>,
    unsealed_until: Instant,
}

/// What a seal is of, beside the value: a registration is no verdict, and a verdict of one message none of
/// another.
#[derive(Debug, Clone, Copy)]
pub(super) struct Subject<'a> {
    kind: u8,
    key: &'a str,
    /// Of the message that a verdict is about.
    digest: &'a [u8],
}

impl<'a> Subject<'a> {
    pub(super) fn verdict(key: &'a str, digest: &'a [u8]) -> Self {
        Self { kind: b'V', key, digest }
    }

    pub(super) fn registration(key: &'a str) -> Self {
        Self { kind: b'R', key, digest: &[] }
    }

    /// Of the policy. The question's digest is in the key.
    pub(super) fn answer(key: &'a str) -> Self {
        Self { kind: b'A', key, digest: &[] }
    }
}

/// What became of a value with a seal, or without.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Judged {
    /// A node wrote it; it counts until then, in ms since 1970.
    Good {
        until: u64,
    },
    /// Without a seal, and that is good enough.
    Unsealed,
    Forged,
}

impl Seals {
    pub(super) fn new(trust: Trust) -> Self {
        let Trust { keys, unsealed_for } = trust;
        Self { keys, unsealed_until: Instant::now() + unsealed_for }
    }

    /// Why values without a seal are believed at present, for people.
    pub(super) fn leniency(&self) -> Option<String> {
        if self.keys.is_none() {
            return Some(
                "what is in redis is believed unseen: redis.seal_key_file is not set (redis.allow_no_seal)"
                    .to_owned(),
            );
        }
        let left = self.unsealed_until.saturating_duration_since(Instant::now()).as_secs();
        (left > 0).then(|| format!("for {left} s more, values without a seal are believed, too"))
    }

    pub(super) fn seals(&self) -> bool {
        self.keys.is_some()
    }

    /// `None`: this node seals nothing.
    fn seal(&self, of: Subject<'_>, value: &[&[u8]], life: Duration) -> Option<[u8; SEAL_BYTES]> {
        let key = self.keys.as_ref()?.keys.first()?;
        let until = wall_clock().saturating_add(millis(life)).saturating_add(millis(CLOCK_LEEWAY));
        let mut inner = [0; UNTIL_BYTES + MAC_BYTES];
        let (front, back) = inner.split_at_mut(UNTIL_BYTES);
        front.copy_from_slice(&until.to_be_bytes());
        let mac = mac(key, of, value, until).finalize().into_bytes();
        back.iter_mut().zip(mac).for_each(|(to, from)| *to = from);
        let mut seal = [VERSION; SEAL_BYTES];
        let text = seal.get_mut(1..).unwrap_or_default();
        URL_SAFE_NO_PAD.encode_slice(inner, text).ok()?;
        Some(seal)
    }

    fn judge(&self, of: Subject<'_>, value: &[&[u8]], seal: Option<&[u8]>) -> Judged {
        let Some(SealKeys { keys }) = &self.keys else { return Judged::Unsealed };
        let Some(seal) = seal else {
            return if Instant::now() < self.unsealed_until { Judged::Unsealed } else { Judged::Forged };
        };
        let Some((until, given)) = parts(seal) else { return Judged::Forged };
        let known = keys.iter().any(|key| mac(key, of, value, until).verify_truncated_left(&given).is_ok());
        if known && wall_clock() <= until { Judged::Good { until } } else { Judged::Forged }
    }
}

fn parts(seal: &[u8]) -> Option<(u64, [u8; MAC_BYTES])> {
    let text = seal.strip_prefix(&[VERSION])?;
    let mut inner = [0; UNTIL_BYTES + MAC_BYTES];
    // One byte too many or too few is a seal of another form.
    (URL_SAFE_NO_PAD.decode_slice(text, &mut inner).ok()? == inner.len()).then_some(())?;
    let (until, mac) = inner.split_first_chunk::<UNTIL_BYTES>()?;
    Some((u64::from_be_bytes(*until), mac.try_into().ok()?))
}

/// Every part has a length of its own or one that is said, so that no two sealed things read the same.
fn mac(key: &Hmac<Sha256>, of: Subject<'_>, value: &[&[u8]], until: u64) -> Hmac<Sha256> {
    let Subject { kind, key: name, digest } = of;
    let mut mac = key.clone();
    mac.update(&[VERSION, kind]);
    mac.update(&(name.len() as u64).to_be_bytes());
    mac.update(name.as_bytes());
    mac.update(&until.to_be_bytes());
    mac.update(digest);
    value.iter().for_each(|part| mac.update(part));
    mac
}

fn wall_clock() -> u64 {
    millis(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
}

/// How long before its end a value should be sealed anew.
pub(super) fn is_old(until: u64, life: Duration) -> bool {
    until.saturating_sub(wall_clock()) < millis(life) / 2
}

/// In MessagePack, a field `seal` of this many characters.
const FIELD: &[u8] = b"\xa4seal\xd9\x21";
/// The first byte of a MessagePack map of no, and of 15 fields.
const MAP_EMPTY: u8 = 0x80;
const MAP_FULL: u8 = 0x8f;

/// Bytes that a verdict grows by.
pub(super) const VERDICT_GROWS: usize = FIELD.len() + SEAL_BYTES;

/// A verdict with its seal as one field more of its map, so that a node that knows of no seals reads it.
/// What is no map gets the same bytes at its end. `None`: a map that has no room for a field.
pub(super) fn seal_verdict(
    seals: &Seals,
    of: Subject<'_>,
    verdict: &[u8],
    life: Duration,
) -> Option<Vec<u8>> {
    let Some(seal) = seals.seal(of, &[verdict], life) else { return Some(verdict.to_vec()) };
    let mut sealed = Vec::with_capacity(verdict.len() + VERDICT_GROWS);
    sealed.extend_from_slice(verdict);
    match sealed.first_mut() {
        Some(&mut MAP_FULL) => return None,
        Some(first) if (MAP_EMPTY..MAP_FULL).contains(first) => *first += 1,
        Some(_) | None => {}
    }
    sealed.extend_from_slice(FIELD);
    sealed.extend_from_slice(&seal);
    Some(sealed)
}

/// The verdict without its seal, and whether it is to be believed.
pub(super) fn open_verdict(seals: &Seals, of: Subject<'_>, stored: &[u8]) -> (Vec<u8>, Judged) {
    let split = stored
        .split_last_chunk::<SEAL_BYTES>()
        .and_then(|(front, seal)| Some((front.strip_suffix(FIELD)?, seal.as_slice())));
    let Some((front, seal)) = split else {
        return (stored.to_vec(), seals.judge(of, &[stored], None));
    };
    let mut verdict = front.to_vec();
    if let Some(first) = verdict.first_mut().filter(|first| (MAP_EMPTY + 1..=MAP_FULL).contains(*first)) {
        *first -= 1;
    }
    let judged = seals.judge(of, &[&verdict], Some(seal));
    (verdict, judged)
}

/// In JSON, before and after the seal at the end of an object.
const JSON_BEFORE: &[u8] = b",\"seal\":\"";
const JSON_AFTER: &[u8] = b"\"}";

/// Bytes that an object grows by.
pub(super) const JSON_GROWS: usize = JSON_BEFORE.len() + SEAL_BYTES + 1;

/// A JSON object that is not empty, with its seal as the last field.
pub(super) fn seal_json(seals: &Seals, of: Subject<'_>, json: Vec<u8>, life: Duration) -> Vec<u8> {
    let Some(seal) = seals.seal(of, &[&json], life) else { return json };
    let mut sealed = json;
    sealed.pop();
    sealed.extend_from_slice(JSON_BEFORE);
    sealed.extend_from_slice(&seal);
    sealed.extend_from_slice(JSON_AFTER);
    sealed
}

/// The object without its seal, and whether it is to be believed.
pub(super) fn open_json(seals: &Seals, of: Subject<'_>, stored: &[u8]) -> (Vec<u8>, Judged) {
    let split = stored
        .strip_suffix(JSON_AFTER)
        .and_then(|rest| rest.split_last_chunk::<SEAL_BYTES>())
        .and_then(|(front, seal)| Some((front.strip_suffix(JSON_BEFORE)?, seal.as_slice())));
    let Some((front, seal)) = split else {
        return (stored.to_vec(), seals.judge(of, &[stored], None));
    };
    let json = [front, b"}"].concat();
    let judged = seals.judge(of, &[&json], Some(seal));
    (json, judged)
}

#[cfg(test)]
mod tests;
