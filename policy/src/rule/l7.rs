//! Rules for what is said on a connection, as documents write them: secrets are named, not held.

use model::L7Rule;

use crate::rule::Unenforced;

/// Rules for HTTP, Kafka or TLS at a port.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct L7 {
    /// The field that asks for it, as people know it.
    pub field: Unenforced,
    /// What it allows. Every secret it needs is unavailable here, so that nothing passes for want
    /// of one before they are filled in.
    pub rule: L7Rule,
    /// `terminatingTLS`.
    pub terminating: Option<TlsContext>,
    /// `originatingTLS`.
    pub originating: Option<TlsContext>,
    /// The secrets that header values stand in.
    pub headers: Vec<HeaderSecret>,
}

/// Where the certificates of one side of a connection stand.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TlsContext {
    /// The secret.
    pub secret: SecretKey,
    /// The key in it of the certificate, if that is not the usual one.
    pub certificate: Option<String>,
    /// The same for the private key.
    pub private_key: Option<String>,
    /// The same for the certificates of authorities.
    pub trusted_ca: Option<String>,
}

/// The name of a secret.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SecretKey {
    /// Its namespace, if the document names one.
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
}

/// The secret of one item of `headerMatches`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HeaderSecret {
    /// Which item of `rules.http`.
    pub rule: usize,
    /// Which item of its `headerMatches`.
    pub header: usize,
    /// The secret.
    pub secret: SecretKey,
}

impl std::fmt::Display for SecretKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{namespace}/{}", self.name),
            None => f.write_str(&self.name),
        }
    }
}
