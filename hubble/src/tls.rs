//! Certificates of the server and of those who may ask it.
//!
//! Files are read again when they have changed, as they do when a certificate is renewed; what
//! cannot be read then leaves in force what was. There is no TLS below 1.3, and no client without
//! a certificate that the given authority has signed.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use rustls::crypto::ring;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{VerifierBuilderError, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig, version};
use tokio_rustls::TlsAcceptor;
use tracing::{info, warn};

/// Where certificates stand, all in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files {
    /// The server's certificate, with those between it and its authority.
    pub certificate: PathBuf,
    /// The server's key.
    pub key: PathBuf,
    /// The authority that signs clients' certificates.
    pub client_ca: PathBuf,
}

/// Why there can be no TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read, or holds no PEM of the right kind.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: pem::Error,
    },
    /// A file holds no certificate.
    #[error("{}: there is no certificate in it", .0.display())]
    Empty(PathBuf),
    /// A certificate cannot be used, or does not belong to the key.
    #[error("{}: {source}", path.display())]
    Certificate {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: rustls::Error,
    },
    /// The authority cannot be used.
    #[error("{}: {source}", path.display())]
    Authority {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: VerifierBuilderError,
    },
}

/// What a server needs for TLS, as its files have it now.
pub struct Tls {
    files: Files,
    current: Mutex<Current>,
}

struct Current {
    acceptor: TlsAcceptor,
    /// When the files were last written.
    written: Written,
}

type Written = [Option<SystemTime>; 3];

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Tls").field(&self.files).finish()
    }
}

impl Tls {
    /// Reads the files.
    pub fn read(files: Files) -> Result<Self, TlsError> {
        let written = files.written();
        let current = Mutex::new(Current { acceptor: files.read()?, written });
        Ok(Self { files, current })
    }

    /// What greets the next client.
    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let written = self.files.written();
        if written != current.written {
            current.written = written;
            match self.files.read() {
                Ok(acceptor) => {
                    current.acceptor = acceptor;
                    info!("the certificates of the Hubble API have changed");
                }
                Err(error) => {
                    warn!(%error, "changed certificates cannot be used: the old ones are");
                }
            }
        }
        current.acceptor.clone()
    }
}

impl Files {
    fn written(&self) -> Written {
        [&self.certificate, &self.key, &self.client_ca]
            .map(|path| path.metadata().and_then(|data| data.modified()).ok())
    }

    fn read(&self) -> Result<TlsAcceptor, TlsError> {
        let provider = Arc::new(ring::default_provider());
        let mut authority = RootCertStore::empty();
        for certificate in certificates(&self.client_ca)? {
            authority.add(certificate).map_err(of_certificate(&self.client_ca))?;
        }
        let clients =
            WebPkiClientVerifier::builder_with_provider(authority.into(), Arc::clone(&provider))
                .build()
                .map_err(|source| TlsError::Authority { path: self.client_ca.clone(), source })?;
        let key = PrivateKeyDer::from_pem_file(&self.key).map_err(of_file(&self.key))?;
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&version::TLS13])
            .map_err(of_certificate(&self.certificate))?
            .with_client_cert_verifier(clients)
            .with_single_cert(certificates(&self.certificate)?, key)
            .map_err(of_certificate(&self.certificate))?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Arc::new(config).into())
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let read = CertificateDer::pem_file_iter(path).map_err(of_file(path))?;
    let certificates = read.collect::<Result<Vec<_>, _>>().map_err(of_file(path))?;
    if certificates.is_empty() {
        return Err(TlsError::Empty(path.to_owned()));
    }
    Ok(certificates)
}

fn of_file(path: &Path) -> impl FnOnce(pem::Error) -> TlsError {
    move |source| TlsError::File { path: path.to_owned(), source }
}

fn of_certificate(path: &Path) -> impl FnOnce(rustls::Error) -> TlsError {
    move |source| TlsError::Certificate { path: path.to_owned(), source }
}
