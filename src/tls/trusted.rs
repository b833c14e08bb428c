//! Whom does a client trust, and what does it show, as its files say now?

use std::{path::PathBuf, sync::Arc};

use tokio_rustls::rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::{
        ResolvesClientCert, WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
    sign::{CertifiedKey, SingleCertAndKey},
};

use super::{Identity, TlsError, authorities, certified, kept::Kept, provider};

/// Servers whose certificates one of these has signed.
pub(super) fn by(
    roots: RootCertStore,
    provider: Arc<CryptoProvider>,
) -> Result<Arc<WebPkiServerVerifier>, TlsError> {
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build();
    verifier.map_err(|cause| TlsError::SetUp(Error::General(cause.to_string())))
}

/// Servers whose certificate an authority of the file has signed.
#[derive(Debug)]
pub(super) struct Trusted(Kept<Arc<WebPkiServerVerifier>>);

impl Trusted {
    pub(super) fn new(ca: PathBuf, provider: Arc<CryptoProvider>) -> Result<Self, TlsError> {
        let make = {
            let ca = ca.clone();
            move || by(authorities(&ca)?, Arc::clone(&provider))
        };
        Ok(Self(Kept::new(vec![ca], make)?))
    }
}

impl ServerCertVerifier for Trusted {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.0.now().verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.now().verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.now().verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.now().supported_verify_schemes()
    }
}

/// What a client shows.
#[derive(Debug)]
pub(super) struct Shown(Kept<Arc<CertifiedKey>>);

impl Shown {
    pub(super) fn new(identity: Identity) -> Result<Self, TlsError> {
        let files = vec![identity.certificate.clone(), identity.key.clone()];
        Ok(Self(Kept::new(files, move || certified(&identity, &provider()).map(Arc::new))?))
    }
}

impl ResolvesClientCert for Shown {
    fn resolve(&self, _authorities: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&*self.0.now()))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// As a client that trusts one certificate, whatever name it is for: who shows it has its key. Shows the same. Blocks.
pub(crate) fn pinned(identity: &Identity) -> Result<ClientConfig, TlsError> {
    let provider = provider();
    let key = certified(identity, &provider)?;
    let pinned =
        Pinned { certificate: key.end_entity_cert()?.clone().into_owned(), provider: Arc::clone(&provider) };
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let builder = builder.dangerous().with_custom_certificate_verifier(Arc::new(pinned));
    Ok(builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(key))))
}

#[derive(Debug)]
struct Pinned {
    certificate: CertificateDer<'static>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match *end_entity == self.certificate {
            true => Ok(ServerCertVerified::assertion()),
            false => Err(CertificateError::ApplicationVerificationFailure.into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
