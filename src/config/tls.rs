//! Which files does TLS go by?

use super::{ClientTls, ConfigError, ServerTls};
use crate::tls::{Files, Identity};

impl ClientTls {
    /// `of` is the table that it stands in.
    pub(super) fn check(&self, of: &str) -> Result<(), ConfigError> {
        let fail = |found: &str, expected: &str| {
            let (found, expected) = (found.to_owned(), expected.to_owned());
            Err(ConfigError::Value { key: format!("{of}.tls"), found, expected })
        };
        let both = "certificate_file and key_file, or neither";
        match (&self.certificate_file, &self.key_file) {
            (Some(_), None) => fail("certificate_file alone", both),
            (None, Some(_)) => fail("key_file alone", both),
            // It would ask for nothing, and look as if it did.
            _ if !self.files().are_named() => {
                fail("an empty table", "ca_file, certificate_file and key_file, or one of both")
            }
            _ => Ok(()),
        }
    }

    pub fn files(&self) -> Files {
        let identity = self.certificate_file.clone().zip(self.key_file.clone());
        Files {
            ca: self.ca_file.clone(),
            identity: identity.map(|(certificate, key)| Identity { certificate, key }),
        }
    }
}

impl ServerTls {
    pub fn identity(&self) -> Identity {
        Identity { certificate: self.certificate_file.clone(), key: self.key_file.clone() }
    }
}
