//! TLS, by rustls: whom a client trusts and what it shows, and what a server does.
//!
//! Files are looked at for each connection, so that a renewed certificate counts without a restart. What cannot be read
//! then, or does not fit together, leaves what was there before in use, and the log says so.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use tokio_rustls::rustls::{
    self, ClientConfig, RootCertStore,
    crypto::{CryptoProvider, ring},
    pki_types::{
        CertificateDer, InvalidDnsNameError, PrivateKeyDer, ServerName,
        pem::{self, PemObject as _},
    },
    sign::CertifiedKey,
};
pub(crate) use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::{
    secret_file::{self, SecretFileError},
    text_file,
};

mod kept;
mod server;
mod trusted;

pub use server::Acceptor;
pub(crate) use trusted::pinned;
use trusted::{Shown, Trusted};

/// Bytes of a file with certificates, and of one with a key.
const CERTIFICATES_MAX: u64 = 1024 * 1024;
const KEY_MAX: u64 = 64 * 1024;

/// What a client goes by, instead of the system's root certificates and of showing nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Files {
    /// Who may have signed the server's certificate, as PEM.
    pub ca: Option<PathBuf>,
    /// What is shown to the server.
    pub identity: Option<Identity>,
}

/// A certificate with those that lead to its CA, and its key, as PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

impl Files {
    /// Whether TLS was asked for by them.
    pub fn are_named(&self) -> bool {
        self.ca.is_some() || self.identity.is_some()
    }
}

/// Where a client connects to.
#[derive(Debug, Clone)]
pub struct Server {
    pub url: String,
    /// What TLS with it goes by.
    pub files: Files,
}

impl Server {
    /// Each that [`Server::url`] names; several are separated by commas.
    pub fn urls(&self) -> Vec<&str> {
        self.url.split(',').map(str::trim).collect()
    }
}

impl From<&str> for Server {
    fn from(url: &str) -> Self {
        Self { url: url.to_owned(), files: Files::default() }
    }
}

impl From<&String> for Server {
    fn from(url: &String) -> Self {
        Self::from(url.as_str())
    }
}

impl From<&Server> for Server {
    fn from(server: &Server) -> Self {
        server.clone()
    }
}

/// Why there can be no TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("no root certificates: {0}; install the system's, or name a file by SSL_CERT_FILE")]
    NoRoots(String),
    #[error("TLS cannot be set up: {0}")]
    SetUp(#[from] rustls::Error),
    #[error("a certificate cannot be for such a name: {0}")]
    Name(#[from] InvalidDnsNameError),
    #[error("cannot read {}: {cause}", path.display())]
    Read { path: PathBuf, cause: std::io::Error },
    #[error(transparent)]
    Key(#[from] SecretFileError),
    #[error("{}: {found}, expected PEM with {expected}", path.display())]
    Pem { path: PathBuf, found: String, expected: &'static str },
    #[error("{} and {} do not belong together: {cause}", identity.certificate.display(), identity.key.display())]
    Pair { identity: Identity, cause: rustls::Error },
    #[error("{}: {cause}", path.display())]
    Authority { path: PathBuf, cause: String },
}

/// For servers of others: the system's root certificates, or those of `SSL_CERT_FILE`. Blocks.
pub(crate) fn connector() -> Result<TlsConnector, TlsError> {
    connector_by(&Files::default())
}

/// The same by these files. Blocks.
pub(crate) fn connector_by(files: &Files) -> Result<TlsConnector, TlsError> {
    client(files).map(TlsConnector::from)
}

/// The same for a protocol that the server must speak by TLS, too. Blocks.
pub(crate) fn connector_speaking(files: &Files, protocol: &[u8]) -> Result<TlsConnector, TlsError> {
    let mut client = Arc::unwrap_or_clone(client(files)?);
    client.alpn_protocols = vec![protocol.to_vec()];
    Ok(TlsConnector::from(Arc::new(client)))
}

/// As a client that goes by these files. Blocks.
pub(crate) fn client(files: &Files) -> Result<Arc<ClientConfig>, TlsError> {
    let provider = provider();
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider));
    let builder = builder.with_safe_default_protocol_versions()?;
    let builder = match &files.ca {
        Some(ca) => {
            let trusted = Trusted::new(ca.clone(), provider)?;
            builder.dangerous().with_custom_certificate_verifier(Arc::new(trusted))
        }
        None => builder.with_webpki_verifier(trusted::by(system()?, provider)?),
    };
    Ok(Arc::new(match &files.identity {
        Some(identity) => builder.with_client_cert_resolver(Arc::new(Shown::new(identity.clone())?)),
        None => builder.with_no_client_auth(),
    }))
}

/// Whom a certificate must be for: a name, or an address.
pub(crate) fn server_name(host: &str) -> Result<ServerName<'static>, TlsError> {
    Ok(ServerName::try_from(host.to_owned())?)
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

fn system() -> Result<RootCertStore, TlsError> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(found.certs);
    if added == 0 {
        let why = found.errors.first().map_or("none are installed".to_owned(), ToString::to_string);
        return Err(TlsError::NoRoots(why));
    }
    Ok(roots)
}

/// Of a file with the certificates of authorities.
fn authorities(path: &Path) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        let added = roots.add(certificate);
        added.map_err(|cause| TlsError::Authority { path: path.to_owned(), cause: cause.to_string() })?;
    }
    Ok(roots)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    const EXPECTED: &str = "certificates";
    let text = text_file::read(path, CERTIFICATES_MAX);
    let text = text.map_err(|cause| TlsError::Read { path: path.to_owned(), cause })?;
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text.as_bytes()).collect();
    match read {
        Ok(certificates) if certificates.is_empty() => {
            Err(TlsError::Pem { path: path.to_owned(), found: "none".to_owned(), expected: EXPECTED })
        }
        Ok(certificates) => Ok(certificates),
        Err(cause) => Err(not_pem(path, &cause, EXPECTED)),
    }
}

/// A certificate and its key, which belong together.
fn certified(identity: &Identity, provider: &CryptoProvider) -> Result<CertifiedKey, TlsError> {
    let chain = certificates(&identity.certificate)?;
    let text = secret_file::read(&identity.key, KEY_MAX)?;
    let key = PrivateKeyDer::from_pem_slice(text.as_bytes());
    let key = key.map_err(|cause| not_pem(&identity.key, &cause, "a private key"))?;
    let pair = CertifiedKey::from_der(chain, key, provider);
    pair.map_err(|cause| TlsError::Pair { identity: identity.clone(), cause })
}

/// Without what is in it: it may be a key.
fn not_pem(path: &Path, cause: &pem::Error, expected: &'static str) -> TlsError {
    let found = match cause {
        pem::Error::NoItemsFound => "none",
        _ => "what is no PEM",
    };
    TlsError::Pem { path: path.to_owned(), found: found.to_owned(), expected }
}

#[cfg(test)]
pub(crate) mod tests;
