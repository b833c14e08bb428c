//! What does a server show, and whose certificates does it want to see?

use std::{path::PathBuf, sync::Arc};

use tokio_rustls::{
    TlsAcceptor,
    rustls::{Error, ServerConfig, server::WebPkiClientVerifier, sign::SingleCertAndKey},
};

use super::{Identity, TlsError, authorities, certified, kept::Kept, provider};

/// Of HTTP/1.1 and nothing else.
const PROTOCOL: &[u8] = b"http/1.1";

/// Takes TLS connections, each by what the files say when it comes.
#[derive(Debug)]
pub struct Acceptor(Kept<Config>);

/// Without a word in `Debug`.
struct Config(Arc<ServerConfig>);

impl Acceptor {
    /// With `client_ca`, only clients with a certificate of such an authority are let in. Blocks.
    pub fn new(identity: Identity, client_ca: Option<PathBuf>) -> Result<Self, TlsError> {
        let own = [identity.certificate.clone(), identity.key.clone()];
        let files = own.into_iter().chain(client_ca.clone()).collect();
        Ok(Self(Kept::new(files, move || config(&identity, client_ca.as_ref()))?))
    }

    pub(crate) fn now(&self) -> TlsAcceptor {
        TlsAcceptor::from(Arc::clone(&self.0.now().0))
    }
}

fn config(identity: &Identity, client_ca: Option<&PathBuf>) -> Result<Config, TlsError> {
    let provider = provider();
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider));
    let builder = builder.with_safe_default_protocol_versions()?;
    let builder = match client_ca {
        Some(ca) => {
            let roots = Arc::new(authorities(ca)?);
            let clients = WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(&provider)).build();
            let clients = clients.map_err(|cause| Error::General(cause.to_string()))?;
            builder.with_client_cert_verifier(clients)
        }
        None => builder.with_no_client_auth(),
    };
    let key = SingleCertAndKey::from(certified(identity, &provider)?);
    let mut config = builder.with_cert_resolver(Arc::new(key));
    config.alpn_protocols = vec![PROTOCOL.to_vec()];
    Ok(Config(Arc::new(config)))
}
