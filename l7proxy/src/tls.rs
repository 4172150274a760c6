//! TLS that ends here and begins again: certificates, and the two handshakes.
//!
//! The destination's handshake comes first, offering what the client offered, so that both sides
//! speak the same protocol; only then is the client's completed. The destination has to prove the
//! name that the client asked for.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use l7proxy_core::Reason;
use model::{KeyPair, Name, Originate, Terminate};
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::time::timeout;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::cache::Cache;
use crate::prefixed::Io;
use crate::session::Session;

mod mint;

use mint::Mint;

/// The protocols that may be agreed on inside.
const HTTP2: &[u8] = b"h2";
const HTTP1: &[u8] = b"http/1.1";

/// How the destination is reached.
pub(crate) struct Ends {
    originate: Option<Originate>,
    alpn: Vec<Vec<u8>>,
    /// A connection that stands already.
    ready: Option<Io>,
}

/// Certificates and configurations, kept while they are of use.
#[derive(Debug)]
pub(crate) struct Certificates {
    shown: Cache<(Terminate, Name), Shown>,
    clients: Cache<Originate, Arc<ClientConfig>>,
    mint: Mint,
}

/// A certificate for clients, and until when it is shown.
#[derive(Clone, Debug)]
struct Shown {
    certificate: Arc<CertifiedKey>,
    until: SystemTime,
}

/// How long a certificate is shown before it is made again.
const SHOWN_FOR: Duration = Duration::from_secs(12 * 3600);

impl Certificates {
    pub fn new(capacity: usize) -> Self {
        Self { shown: Cache::new(capacity), clients: Cache::new(capacity), mint: Mint::new() }
    }

    /// What clients that ask for this name are shown.
    fn show(&self, terminate: &Terminate, name: &Name) -> Result<Arc<CertifiedKey>, Reason> {
        let now = SystemTime::now();
        let key = (terminate.clone(), name.clone());
        if let Some(shown) = self.shown.find(&key, |shown| shown.until > now) {
            return Ok(shown.certificate);
        }
        let certificate = match terminate {
            Terminate::Certificate(pair) => certified(pair),
            Terminate::Issuer(issuer) => self.mint.issue(issuer, name, now),
            Terminate::Unavailable(_) => None,
        };
        let certificate = Arc::new(certificate.ok_or(Reason::SecretUnavailable)?);
        let shown = Shown { certificate: Arc::clone(&certificate), until: now + SHOWN_FOR };
        self.shown.put(key, shown);
        Ok(certificate)
    }

    /// How destinations are met.
    fn client(&self, originate: &Originate) -> Result<Arc<ClientConfig>, Reason> {
        if let Some(config) = self.clients.find(originate, |_| true) {
            return Ok(config);
        }
        let config = Arc::new(client_config(originate).ok_or(Reason::SecretUnavailable)?);
        self.clients.put(originate.clone(), Arc::clone(&config));
        Ok(config)
    }
}

fn certified(pair: &KeyPair) -> Option<CertifiedKey> {
    let chain: Vec<_> = certificates(&pair.chain)?;
    let key = PrivateKeyDer::from_pem_slice(pair.key.0.as_bytes()).ok()?;
    let key = CertifiedKey::from_der(chain, key, &ring::default_provider()).ok()?;
    Some(key)
}

/// The certificates of a PEM text, one at least.
fn certificates(pem: &str) -> Option<Vec<CertificateDer<'static>>> {
    let list: Vec<_> =
        CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<_, _>>().ok()?;
    (!list.is_empty()).then_some(list)
}

fn client_config(originate: &Originate) -> Option<ClientConfig> {
    let Originate::Trusting { trusted, client } = originate else { return None };
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(certificates(trusted)?);
    if added == 0 {
        return None;
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .ok()?
        .with_root_certificates(roots);
    match client {
        None => Some(builder.with_no_client_auth()),
        Some(pair) => {
            let key = PrivateKeyDer::from_pem_slice(pair.key.0.as_bytes()).ok()?;
            builder.with_client_auth_cert(certificates(&pair.chain)?, key).ok()
        }
    }
}

/// Shows one certificate to whoever asks.
#[derive(Debug)]
struct Always(Arc<CertifiedKey>);

impl ResolvesServerCert for Always {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}

fn server_config(
    certificate: Arc<CertifiedKey>,
    alpn: Vec<Vec<u8>>,
) -> Result<Arc<ServerConfig>, Reason> {
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|_| Reason::HandshakeFailed)?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(Always(certificate)));
    config.alpn_protocols = alpn;
    // Each connection is judged by its own ClientHello.
    config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

/// Ends the client's TLS and begins the destination's: both streams, and whether HTTP/2 was agreed.
pub(crate) async fn intercept(
    session: &Session,
    io: Io,
    terminate: &Terminate,
    originate: &Originate,
) -> Result<(Io, Ends, bool), Reason> {
    let hello = session.hello().ok_or(Reason::MalformedHello)?;
    let name = hello.server_name.clone()?;
    let certificate = session.shared.certificates.show(terminate, &name)?;
    let ours = |protocol: &&Vec<u8>| *protocol == HTTP2 || *protocol == HTTP1;
    let offered: Vec<Vec<u8>> = hello.alpn.iter().filter(ours).cloned().collect();
    let ends = Ends { originate: Some(originate.clone()), alpn: offered.clone(), ready: None };
    let (upstream, agreed) = ends.handshake(session, &name.to_string()).await?;
    // Where the destination chose nothing, HTTP/1 is what is spoken.
    let chosen = agreed.clone().or_else(|| offered.contains(&HTTP1.to_vec()).then(|| HTTP1.into()));
    let config = server_config(certificate, chosen.into_iter().collect())?;
    let patience = session.shared.options.opening_time();
    let accepted = timeout(patience, TlsAcceptor::from(config).accept(io)).await;
    let stream = accepted.map_err(|_| Reason::SlowClient)?.map_err(|_| Reason::HandshakeFailed)?;
    let h2 = agreed.as_deref() == Some(HTTP2);
    let alpn = agreed.into_iter().collect();
    let ends = Ends { originate: Some(originate.clone()), alpn, ready: Some(upstream) };
    Ok((Box::new(stream), ends, h2))
}

impl Ends {
    /// A destination that is reached without TLS, or with TLS of our own.
    pub fn plain(originate: Option<Originate>) -> Self {
        Self { originate, alpn: Vec::new(), ready: None }
    }

    /// Whether the destination is spoken to in TLS.
    pub const fn is_tls(&self) -> bool {
        self.originate.is_some()
    }

    /// The connection that stands already.
    pub fn take_ready(&mut self) -> Option<Io> {
        self.ready.take()
    }

    /// A connection to the destination. `host` names it where the client's TLS did not.
    pub async fn connect(mut self, session: &Session, host: Option<&str>) -> Result<Io, Reason> {
        match self.take_ready() {
            Some(ready) => Ok(ready),
            None => self.connect_anew(session, host).await,
        }
    }

    /// A new connection to the destination.
    pub async fn connect_anew(&self, session: &Session, host: Option<&str>) -> Result<Io, Reason> {
        if self.originate.is_none() {
            return Ok(Box::new(session.dial().await?));
        }
        let name = session.server_name().or_else(|| host.map(str::to_owned));
        let name = name.ok_or(Reason::ServerNameMissing)?;
        self.handshake(session, &name).await.map(|(io, _)| io)
    }

    /// Connects, and proves in TLS who is there: the stream, and the protocol agreed on.
    async fn handshake(
        &self,
        session: &Session,
        name: &str,
    ) -> Result<(Io, Option<Vec<u8>>), Reason> {
        let originate = self.originate.as_ref().ok_or(Reason::NotOriginated)?;
        let mut config = session.shared.certificates.client(originate)?;
        if !self.alpn.is_empty() {
            let mut own = (*config).clone();
            own.alpn_protocols.clone_from(&self.alpn);
            config = Arc::new(own);
        }
        let name = name.strip_suffix('.').unwrap_or(name).to_owned();
        let name = ServerName::try_from(name).map_err(|_| Reason::ServerNameOdd)?;
        let stream = session.dial().await?;
        let connecting = TlsConnector::from(config).connect(name, stream);
        let connected = timeout(session.shared.options.connect_time(), connecting).await;
        let stream = connected.map_err(|_| Reason::UpstreamUnreachable)?.map_err(|error| {
            tracing::debug!(destination = %session.destination, %error, "no TLS upstream");
            Reason::UpstreamUntrusted
        })?;
        let agreed = stream.get_ref().1.alpn_protocol().map(<[u8]>::to_vec);
        Ok((Box::new(stream), agreed))
    }
}
