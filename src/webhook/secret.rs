//! What are calls signed with? One secret, or several while it is being changed.

use std::{fmt, path::Path, path::PathBuf};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use hmac::{Hmac, Mac as _};
use sha2::Sha256;

use crate::secret_file::{self, SecretFileError};

/// Bytes of the file.
const FILE_MAX: u64 = 4 * 1024;
/// Secrets in it: the new one, the old one, and one more for good measure.
const SECRETS_MAX: usize = 3;
/// Bytes of a secret, as Standard Webhooks has it.
const BYTES_MIN: usize = 24;
const BYTES_MAX: usize = 64;

/// Signs calls. Its bytes are in no `Debug`.
pub struct Secret {
    keys: Vec<Vec<u8>>,
}

/// Why a file holds no secret. Says nothing of what is in it.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    #[error(transparent)]
    File(#[from] SecretFileError),
    #[error("{}, {problem}; expected whsec_ and 24 to 64 bytes as base64", path.display())]
    Malformed { path: PathBuf, problem: String },
}

impl Secret {
    pub fn read(path: &Path) -> Result<Self, SecretError> {
        let text = secret_file::read(path, FILE_MAX)?;
        Self::parse(&text).map_err(|problem| SecretError::Malformed { path: path.to_owned(), problem })
    }

    fn parse(text: &str) -> Result<Self, String> {
        let mut keys = Vec::new();
        let lines = text.lines().map(str::trim).enumerate();
        for (index, line) in lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#')) {
            let number = index + 1;
            let encoded = line.strip_prefix("whsec_").ok_or_else(|| format!("line {number} lacks whsec_"))?;
            let key = STANDARD.decode(encoded).map_err(|_| format!("line {number} is not base64"))?;
            if !(BYTES_MIN..=BYTES_MAX).contains(&key.len()) {
                return Err(format!("line {number} holds {}", crate::phrase::counted(key.len(), "byte")));
            }
            keys.push(key);
        }
        match keys.len() {
            0 => Err("found no secret".to_owned()),
            1..=SECRETS_MAX => Ok(Self { keys }),
            found => Err(format!("found {found} secrets, at most {SECRETS_MAX}")),
        }
    }

    /// The header `webhook-signature`: a signature by each secret, with blanks between.
    pub(super) fn sign(&self, id: &str, seconds: u64, body: &[u8]) -> String {
        let sign = |key: &Vec<u8>| {
            #[allow(clippy::expect_used, reason = "HMAC takes a key of any length")]
            let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("a key of any length");
            mac.update(format!("{id}.{seconds}.").as_bytes());
            mac.update(body);
            format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
        };
        self.keys.iter().map(sign).collect::<Vec<_>>().join(" ")
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secret").field("keys", &self.keys.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    /// The example of the reference implementations of Standard Webhooks.
    #[test]
    fn a_call_is_signed_as_the_standard_has_it() {
        let secret = Secret::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n").unwrap();
        let signature =
            secret.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, br#"{"test": 2432232314}"#);
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn while_a_secret_is_changed_both_sign() {
        let [old, new] = [[7_u8; 24], [8; 24]].map(|key| format!("whsec_{}", STANDARD.encode(key)));
        let sign = |text: &str| Secret::parse(text).unwrap().sign("id", 1, b"{}");
        assert_eq!(sign(&format!("# new\n{new}\n\n{old}\n")), format!("{} {}", sign(&new), sign(&old)));
    }

    #[test]
    fn what_is_wrong_with_a_secret_is_told_without_it() {
        let long = format!("whsec_{}", STANDARD.encode([7; 65]));
        for (text, expected) in [
            ("", "found no secret"),
            ("hunter2hunter2hunter2hunter2hunter2", "line 1 lacks whsec_"),
            ("whsec_hunter2 hunter2", "line 1 is not base64"),
            ("\nwhsec_aHVudGVyMg==", "line 2 holds 7 bytes"),
            (long.as_str(), "line 1 holds 65 bytes"),
        ] {
            let problem = Secret::parse(text).unwrap_err();
            assert_eq!(problem, expected);
        }
        let secret = Secret::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        assert_eq!(format!("{secret:?}"), "Secret { keys: 1, .. }");
    }
}
