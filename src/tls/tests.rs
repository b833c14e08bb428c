#![allow(clippy::unwrap_used, reason = "tests")]

use std::{fs, os::unix::fs::PermissionsExt as _};

use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, duplex},
    task::JoinHandle,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{ServerConfig, sign::SingleCertAndKey},
};

use super::*;

/// Of a CA and a certificate for `localhost` made for tests, valid for a hundred years; the CA's key is gone.
const CA: &str = include_str!("../http/test/ca.pem");
const LEAF: &str = include_str!("../http/test/leaf.pem");
const LEAF_KEY: &str = include_str!("../http/test/leaf.key.pem");

/// The same as files of a test.
pub(crate) struct LocalFiles {
    pub(crate) ca: PathBuf,
    pub(crate) identity: Identity,
    folder: TempDir,
}

impl LocalFiles {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let identity = Identity { certificate: path("leaf.pem"), key: path("leaf.key.pem") };
        let files = Self { ca: path("ca.pem"), identity, folder };
        fs::write(&files.ca, CA).unwrap();
        fs::write(&files.identity.certificate, LEAF).unwrap();
        secret(&files.identity.key, LEAF_KEY);
        files
    }

    pub(crate) fn acceptor(&self, wants_certificates: bool) -> Acceptor {
        Acceptor::new(self.identity.clone(), wants_certificates.then(|| self.ca.clone())).unwrap()
    }

    /// Of a server that speaks this protocol and no other.
    pub(crate) fn speaking(&self, protocol: &[u8]) -> TlsAcceptor {
        let key = SingleCertAndKey::from(certified(&self.identity, &provider()).unwrap());
        let config = ServerConfig::builder_with_provider(provider());
        let config = config.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
        let mut config = config.with_cert_resolver(Arc::new(key));
        config.alpn_protocols = vec![protocol.to_vec()];
        TlsAcceptor::from(Arc::new(config))
    }

    fn trusting(&self) -> Files {
        Files { ca: Some(self.ca.clone()), identity: None }
    }
}

fn secret(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

/// Whether a client that is so configured and the server understand each other.
async fn meet(acceptor: &Acceptor, config: Arc<ClientConfig>) -> bool {
    let (near, far) = duplex(64 * 1024);
    let acceptor = acceptor.now();
    let server: JoinHandle<std::io::Result<()>> = tokio::spawn(async move {
        let mut stream = acceptor.accept(far).await?;
        let byte = stream.read_u8().await?;
        stream.write_u8(byte).await?;
        stream.shutdown().await
    });
    let client = async {
        let mut stream = TlsConnector::from(config).connect(server_name("localhost").unwrap(), near).await?;
        stream.write_u8(7).await?;
        stream.flush().await?;
        stream.read_u8().await
    };
    let answer = client.await;
    let _ = server.await.unwrap();
    answer.is_ok_and(|byte| byte == 7)
}

#[tokio::test]
async fn a_client_trusts_the_authorities_of_its_file_alone_and_shows_what_is_asked_for() {
    let files = LocalFiles::new();
    let open = files.acceptor(false);
    assert!(meet(&open, client(&files.trusting()).unwrap()).await);
    // A certificate that is no authority's has signed nothing.
    let stranger = Files { ca: Some(files.identity.certificate.clone()), identity: None };
    assert!(!meet(&open, client(&stranger).unwrap()).await);
    let closed = files.acceptor(true);
    assert!(!meet(&closed, client(&files.trusting()).unwrap()).await);
    let known = Files { identity: Some(files.identity.clone()), ..files.trusting() };
    assert!(meet(&closed, client(&known).unwrap()).await);
    assert!(meet(&closed, Arc::new(pinned(&files.identity).unwrap())).await);
    let other = Identity { certificate: files.ca.clone(), key: files.identity.key.clone() };
    assert!(pinned(&other).is_err(), "a certificate and a key of another");
}

#[tokio::test]
async fn files_that_change_count_without_a_restart_and_bad_ones_change_nothing() {
    let files = LocalFiles::new();
    let (acceptor, config) = (files.acceptor(false), client(&files.trusting()).unwrap());
    fs::write(&files.ca, "no certificate at all").unwrap();
    fs::write(&files.identity.certificate, "nor this").unwrap();
    assert!(meet(&acceptor, Arc::clone(&config)).await, "what was read before is in use");
    fs::write(&files.identity.certificate, LEAF).unwrap();
    // Trusted no more: another authority has taken the place of the one that has signed.
    fs::write(&files.ca, LEAF).unwrap();
    assert!(!meet(&acceptor, Arc::clone(&config)).await);
    fs::write(&files.ca, CA).unwrap();
    assert!(meet(&acceptor, config).await);
}

#[test]
fn what_cannot_be_read_is_named_with_what_was_expected() {
    let files = LocalFiles::new();
    let says = |files: &Files| client(files).unwrap_err().to_string();
    let gone = files.folder.path().join("gone.pem");
    let named = says(&Files { ca: Some(gone.clone()), identity: None });
    assert!(named.contains("cannot read") && named.contains("gone.pem"), "{named}");
    fs::write(&gone, "hello").unwrap();
    let named = says(&Files { ca: Some(gone.clone()), identity: None });
    assert!(named.contains("gone.pem: none, expected PEM with certificates"), "{named}");
    let with = |key: &Path| Files {
        ca: None,
        identity: Some(Identity { key: key.to_owned(), ..files.identity.clone() }),
    };
    secret(&gone, "hello");
    let named = says(&Files { ca: Some(files.ca.clone()), ..with(&gone) });
    assert!(named.contains("gone.pem: none, expected PEM with a private key"), "{named}");
    fs::set_permissions(&files.identity.key, fs::Permissions::from_mode(0o644)).unwrap();
    let named = says(&Files { ca: Some(files.ca.clone()), ..with(&files.identity.key) });
    assert!(named.contains("mode 0644"), "{named}");
}
