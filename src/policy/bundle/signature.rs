//! Was a bundle made by whom the operator trusts? `.signatures.json` as OPA writes it: a JWT that lists each file with
//! its SHA-256.

use std::{collections::BTreeMap, path::Path};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use hmac::{Hmac, Mac as _};
use ring::signature::{ECDSA_P256_SHA256_FIXED, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use spki::{ObjectIdentifier, SubjectPublicKeyInfoOwned, der::DecodePem as _};

use super::{archive::Files, canonical::canonical};
use crate::{
    domain::id::shown,
    secret_file::{self, SecretFileError},
    text_file,
};

pub(super) const SIGNATURES: &str = ".signatures.json";
/// Of a public key in PEM; a secret has less.
const KEY_BYTES_MAX: u64 = 16 * 1024;
/// Of a secret that is shared.
const SECRET_BYTES_MIN: usize = 32;

/// How bundles must be signed, by whom. The algorithm is the operator's choice, never the bundle's.
#[derive(Clone)]
pub struct Verifier {
    key: Key,
    /// What the signature must be for, if it says so.
    scope: Option<String>,
}

#[derive(Clone)]
enum Key {
    /// PKCS #1.
    Rs256(Vec<u8>),
    /// An uncompressed point of P-256.
    Es256(Vec<u8>),
    Hs256(Vec<u8>),
}

/// How a bundle is signed (RFC 7518).
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Algorithm {
    RS256,
    ES256,
    HS256,
}

/// Why there is no key to verify by.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    #[error("cannot be read: {0}")]
    Unreadable(std::io::Error),
    #[error(transparent)]
    Secret(#[from] SecretFileError),
    #[error("expected a public key of {algorithm:?} in PEM (`BEGIN PUBLIC KEY`): {cause}")]
    PublicKey { algorithm: Algorithm, cause: String },
    #[error("holds a secret of {found} bytes, expected {SECRET_BYTES_MIN} or more")]
    ShortSecret { found: usize },
}

/// Why a bundle is not trusted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    #[error("it is not signed, and a signature is required (policy.bundle.key_file)")]
    Absent,
    #[error("{SIGNATURES} is not as OPA writes it: {0}")]
    Malformed(String),
    #[error("it is signed by {found}, expected {expected:?}")]
    Algorithm { found: String, expected: Algorithm },
    #[error("its signature is not by the configured key")]
    Forged,
    #[error("it is signed for the scope {found:?}, expected {expected:?}")]
    Scope { found: String, expected: String },
    #[error("{0} is in the bundle and not in its signature")]
    Unsigned(String),
    #[error("{0} is in the signature and not in the bundle")]
    Missing(String),
    #[error("{0} is not as it was when it was signed")]
    Changed(String),
}

#[derive(Deserialize)]
struct Signatures {
    signatures: Vec<String>,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
}

#[derive(Deserialize)]
struct Payload {
    files: Vec<SignedFile>,
    #[serde(default)]
    scope: Option<String>,
}

#[derive(Deserialize)]
struct SignedFile {
    name: String,
    hash: String,
    algorithm: String,
}

impl Verifier {
    /// Reads the key. A secret is refused when others could read its file. Blocks.
    pub fn read(path: &Path, algorithm: Algorithm, scope: Option<String>) -> Result<Self, KeyError> {
        let key = match algorithm {
            Algorithm::HS256 => {
                let secret = secret_file::read(path, KEY_BYTES_MAX)?.trim_end().as_bytes().to_vec();
                if secret.len() < SECRET_BYTES_MIN {
                    return Err(KeyError::ShortSecret { found: secret.len() });
                }
                Key::Hs256(secret)
            }
            Algorithm::RS256 | Algorithm::ES256 => {
                let pem = text_file::read(path, KEY_BYTES_MAX).map_err(KeyError::Unreadable)?;
                public_key(&pem, algorithm).map_err(|cause| KeyError::PublicKey { algorithm, cause })?
            }
        };
        Ok(Self { key, scope })
    }

    /// Whether the key's owner has signed these files, all of them and no others.
    pub(super) fn verify(&self, files: &Files) -> Result<(), SignatureError> {
        let text = files.get(SIGNATURES).ok_or(SignatureError::Absent)?;
        let signatures: Signatures = parsed(text)?;
        let [token] = &*signatures.signatures else {
            let found = signatures.signatures.len();
            return Err(SignatureError::Malformed(format!("{found} signatures, expected one")));
        };
        let payload = self.signed(token)?;
        if let Some(expected) = &self.scope {
            let found = payload.scope.unwrap_or_default();
            if found != *expected {
                return Err(SignatureError::Scope { found, expected: expected.clone() });
            }
        }
        let mut signed = BTreeMap::new();
        for file in payload.files {
            signed.insert(file.name.trim_start_matches('/').to_owned(), file);
        }
        for (name, bytes) in files.iter().filter(|(name, _)| *name != SIGNATURES) {
            let file = signed.remove(name).ok_or_else(|| SignatureError::Unsigned(name.clone()))?;
            if file.algorithm != "SHA-256" {
                let wrong = format!("{name} has a hash by {}, expected SHA-256", file.algorithm);
                return Err(SignatureError::Malformed(wrong));
            }
            if digest(name, bytes).is_none_or(|digest| digest != file.hash) {
                return Err(SignatureError::Changed(name.clone()));
            }
        }
        match signed.into_keys().next() {
            Some(name) => Err(SignatureError::Missing(name)),
            None => Ok(()),
        }
    }

    /// What the token says, if it is by our key.
    fn signed(&self, token: &str) -> Result<Payload, SignatureError> {
        let malformed = |what: &str| SignatureError::Malformed(what.to_owned());
        let (signed, mac) = token.rsplit_once('.').ok_or_else(|| malformed("no JWT"))?;
        let (header, payload) = signed.split_once('.').ok_or_else(|| malformed("no JWT"))?;
        let decoded = |part: &str| BASE64_URL_SAFE_NO_PAD.decode(part).map_err(|_| malformed("no base64url"));
        let header: Header = parsed(&decoded(header)?)?;
        let expected = self.key.algorithm();
        if header.alg != format!("{expected:?}") {
            return Err(SignatureError::Algorithm { found: shown(&header.alg), expected });
        }
        match self.key.has_signed(signed.as_bytes(), &decoded(mac)?) {
            true => parsed(&decoded(payload)?),
            false => Err(SignatureError::Forged),
        }
    }
}

impl Key {
    fn algorithm(&self) -> Algorithm {
        match self {
            Key::Rs256(_) => Algorithm::RS256,
            Key::Es256(_) => Algorithm::ES256,
            Key::Hs256(_) => Algorithm::HS256,
        }
    }

    fn has_signed(&self, signed: &[u8], signature: &[u8]) -> bool {
        match self {
            Key::Rs256(key) => {
                let key = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, key);
                key.verify(signed, signature).is_ok()
            }
            Key::Es256(key) => {
                let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, key);
                key.verify(signed, signature).is_ok()
            }
            Key::Hs256(secret) => Hmac::<Sha256>::new_from_slice(secret)
                .is_ok_and(|mac| mac.chain_update(signed).verify_slice(signature).is_ok()),
        }
    }
}

/// Of a JSON file over its value, of any other over its bytes.
fn digest(name: &str, bytes: &[u8]) -> Option<String> {
    let base = name.rsplit('/').next().unwrap_or(name);
    Some(hex::encode(match base {
        ".manifest" | "data.json" => Sha256::digest(canonical(bytes)?),
        _ => Sha256::digest(bytes),
    }))
}

fn parsed<'a, T: Deserialize<'a>>(json: &'a [u8]) -> Result<T, SignatureError> {
    serde_json::from_slice(json).map_err(|error| SignatureError::Malformed(error.to_string()))
}

fn public_key(pem: &str, algorithm: Algorithm) -> Result<Key, String> {
    const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
    const EC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
    let key = SubjectPublicKeyInfoOwned::from_pem(pem.trim()).map_err(|error| error.to_string())?;
    let bytes = key.subject_public_key.raw_bytes().to_vec();
    match (algorithm, key.algorithm.oid) {
        (Algorithm::RS256, RSA) => Ok(Key::Rs256(bytes)),
        (Algorithm::ES256, EC) => Ok(Key::Es256(bytes)),
        (_, other) => Err(format!("it is a key of another kind ({other})")),
    }
}
