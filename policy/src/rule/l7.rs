//! Rules for what is said on a connection, as documents write them: secrets are named, not held.

use model::{HttpRule, KafkaRule, L7Rule, Requests};

use crate::rule::{Application, Policy, Unenforced};

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

/// The name of a secret, as one policy asks for it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SecretKey {
    /// Its namespace: the policy's own where the document names none. None where a clusterwide
    /// policy names none, so that no secret is meant.
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
    /// The policy's namespace; none for a clusterwide policy. Whoever may write policies in one
    /// namespace does not thereby read the secrets of another.
    pub asked_in: Option<String>,
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

impl L7 {
    /// The secrets that it needs.
    pub fn secrets(&self) -> impl Iterator<Item = &SecretKey> {
        let contexts = self.terminating.iter().chain(&self.originating);
        contexts.map(|own| &own.secret).chain(self.headers.iter().map(|own| &own.secret))
    }

    /// The same for whatever is said: it is handled in the same way, and all of it allowed.
    pub fn unlimited(&self) -> Self {
        let requests = match &self.rule.requests {
            Requests::Any => Requests::Any,
            Requests::Http(_) => Requests::Http(vec![HttpRule::default()]),
            Requests::Kafka(_) => Requests::Kafka(vec![KafkaRule::default()]),
        };
        let rule = L7Rule { server_names: None, requests, ..self.rule.clone() };
        Self { rule, headers: Vec::new(), ..self.clone() }
    }
}

impl Policy {
    /// The secrets that its rules need, as often as they need them.
    pub fn secrets(&self) -> impl Iterator<Item = &SecretKey> {
        let ports = self.rules.iter().flat_map(|rule| &rule.egress).flat_map(|own| &own.ports);
        let spoken = ports.flatten().filter_map(|rule| match &rule.application {
            Some(Application::L7(l7)) => Some(l7),
            Some(Application::Dns(_) | Application::Unenforced(_)) | None => None,
        });
        spoken.flat_map(|l7| l7.secrets())
    }
}

impl std::fmt::Display for SecretKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{namespace}/{}", self.name),
            None => f.write_str(&self.name),
        }
    }
}
