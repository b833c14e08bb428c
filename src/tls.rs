//! TLS as a client: the system's root certificates, by rustls.

use std::sync::Arc;

use tokio_rustls::{
    TlsConnector,
    rustls::{
        ClientConfig, RootCertStore,
        crypto::ring,
        pki_types::{InvalidDnsNameError, ServerName},
    },
};

/// Why there can be no TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("no root certificates: {0}; install the system's, or name a file by SSL_CERT_FILE")]
    NoRoots(String),
    #[error("TLS cannot be set up: {0}")]
    SetUp(String),
    #[error("a certificate cannot be for such a name: {0}")]
    Name(#[from] InvalidDnsNameError),
}

/// With the system's root certificates, or those of `SSL_CERT_FILE`. Blocks.
pub(crate) fn connector() -> Result<TlsConnector, TlsError> {
    with_roots(roots()?)
}

pub(crate) fn with_roots(roots: RootCertStore) -> Result<TlsConnector, TlsError> {
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| TlsError::SetUp(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

/// Whom a certificate must be for: a name, or an address.
pub(crate) fn server_name(host: &str) -> Result<ServerName<'static>, TlsError> {
    Ok(ServerName::try_from(host.to_owned())?)
}

fn roots() -> Result<RootCertStore, TlsError> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(found.certs);
    if added == 0 {
        let why = found.errors.first().map_or("none are installed".to_owned(), ToString::to_string);
        return Err(TlsError::NoRoots(why));
    }
    Ok(roots)
}
