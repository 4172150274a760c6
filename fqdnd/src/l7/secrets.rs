//! Rules with the secrets that they name filled in.
//!
//! A policy of one namespace gets no secret of another's, unless that namespace is said to be for
//! all: a rule can send a secret's value to a server, so whoever may name it may read it.

use std::collections::BTreeSet;

use kubernetes::{Secret, meant};
use model::{
    EndpointName, HeaderValue, Hidden, KeyPair, L7Rule, Objects, Originate, Requests, Terminate,
};
use policy::{L7, SecretKey, TlsContext};

/// Where a Secret's certificate, its key and its authorities stand if nobody says.
const CERTIFICATE: &str = "tls.crt";
const PRIVATE_KEY: &str = "tls.key";
const TRUSTED_CA: &str = "ca.crt";

/// The secrets there are, and who gets them.
#[derive(Clone, Debug, Default)]
pub struct Secrets {
    secrets: Objects<EndpointName, Secret>,
    /// The namespaces whose secrets every policy may name.
    for_all: BTreeSet<String>,
}

/// Why a secret is of no use to a rule, for people to read.
type Lack = String;

impl Secrets {
    /// None yet.
    pub fn new(for_all: &[String]) -> Self {
        Self { secrets: Objects::default(), for_all: for_all.iter().cloned().collect() }
    }

    /// Others, for the same policies.
    #[must_use]
    pub fn with(&self, secrets: Objects<EndpointName, Secret>) -> Self {
        Self { secrets, for_all: self.for_all.clone() }
    }

    /// Rules as the proxy gets them.
    pub fn fill(&self, l7: &L7) -> L7Rule {
        let mut rule = l7.rule.clone();
        if let Some(context) = &l7.terminating {
            rule.terminate = Some(self.terminate(context).unwrap_or_else(Terminate::Unavailable));
        }
        if let Some(context) = &l7.originating {
            rule.originate = Some(self.originate(context).unwrap_or_else(Originate::Unavailable));
        }
        if let Requests::Http(rules) = &mut rule.requests {
            for header in &l7.headers {
                let own = rules.get_mut(header.rule);
                let own = own.and_then(|rule| rule.header_matches.get_mut(header.header));
                if let Some(own) = own
                    && let Ok(value) = self.header(&header.secret)
                {
                    own.value = HeaderValue::Exactly(value);
                }
            }
        }
        rule
    }

    /// Why rules cannot use the secrets that they name, if they cannot.
    pub fn lacks(&self, l7: &L7) -> Vec<Lack> {
        let terminating = l7.terminating.iter().filter_map(|own| self.terminate(own).err());
        let originating = l7.originating.iter().filter_map(|own| self.originate(own).err());
        let headers = l7.headers.iter().filter_map(|own| self.header(&own.secret).err());
        terminating.chain(originating).chain(headers).collect()
    }

    fn terminate(&self, context: &TlsContext) -> Result<Terminate, Lack> {
        let secret = self.get(&context.secret)?;
        let pair = key_pair(secret, context)?;
        Ok(if secret.issues { Terminate::Issuer(pair) } else { Terminate::Certificate(pair) })
    }

    fn originate(&self, context: &TlsContext) -> Result<Originate, Lack> {
        let secret = self.get(&context.secret)?;
        let key = context.trusted_ca.as_deref().unwrap_or(TRUSTED_CA);
        let trusted = value(secret, &context.secret, key)?.0.clone();
        // What it shows of itself, where the secret has it or the rule asks for it.
        let asks = context.certificate.is_some() || context.private_key.is_some();
        let client = match key_pair(secret, context) {
            Ok(pair) => Some(pair),
            Err(lack) if asks => return Err(lack),
            Err(_) => None,
        };
        Ok(Originate::Trusting { trusted, client })
    }

    /// The one value of a header's secret.
    fn header(&self, key: &SecretKey) -> Result<Hidden, Lack> {
        let mut values = self.get(key)?.values.values();
        match (values.next(), values.next()) {
            (Some(value), None) => Ok(value.clone()),
            (None, _) | (Some(_), Some(_)) => Err(format!("Secret {key} has not one value alone")),
        }
    }

    fn get(&self, key: &SecretKey) -> Result<&Secret, Lack> {
        let Some(name) = meant(key) else {
            return Err(format!("Secret {key} needs a namespace in a clusterwide policy"));
        };
        let is_own = key.asked_in.as_ref().is_none_or(|own| *own == name.namespace);
        if !is_own && !self.for_all.contains(&name.namespace) {
            return Err(format!("Secret {key} is of another namespace, see l7.secretNamespaces"));
        }
        let secret = self.secrets.get(&name).map(|secret| &**secret);
        secret.ok_or_else(|| format!("Secret {key} is not there"))
    }
}

fn key_pair(secret: &Secret, context: &TlsContext) -> Result<KeyPair, Lack> {
    let certificate = context.certificate.as_deref().unwrap_or(CERTIFICATE);
    let key = context.private_key.as_deref().unwrap_or(PRIVATE_KEY);
    Ok(KeyPair {
        chain: value(secret, &context.secret, certificate)?.0.clone(),
        key: value(secret, &context.secret, key)?.clone(),
    })
}

fn value<'s>(secret: &'s Secret, name: &SecretKey, key: &str) -> Result<&'s Hidden, Lack> {
    secret.values.get(key).ok_or_else(|| format!("Secret {name} has no `{key}`"))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn named(namespace: &str, asked_in: Option<&str>) -> SecretKey {
        SecretKey {
            namespace: Some(namespace.into()),
            name: "keys".into(),
            asked_in: asked_in.map(str::to_owned),
        }
    }

    fn context(secret: SecretKey) -> TlsContext {
        TlsContext { secret, certificate: None, private_key: None, trusted_ca: None }
    }

    fn secrets(values: &[&str], issues: bool) -> Secrets {
        let values = values.iter().map(|&key| (key.to_owned(), Hidden(format!("the {key}"))));
        let secret = Secret { values: values.collect(), issues };
        let name = EndpointName { namespace: "prod".into(), name: "keys".into() };
        Secrets::new(&["shared".to_owned()]).with([(name, Arc::new(secret))].into_iter().collect())
    }

    #[test]
    fn a_certificate_is_shown_and_an_authority_issues() {
        let own = context(named("prod", Some("prod")));
        let pair = KeyPair { chain: "the tls.crt".into(), key: Hidden("the tls.key".into()) };
        let shown = secrets(&["tls.crt", "tls.key"], false).terminate(&own);
        assert_eq!(shown, Ok(Terminate::Certificate(pair.clone())));
        let issued = secrets(&["tls.crt", "tls.key"], true).terminate(&own);
        assert_eq!(issued, Ok(Terminate::Issuer(pair)));
        let lack = secrets(&["tls.crt"], false).terminate(&own).unwrap_err();
        assert_eq!(lack, "Secret prod/keys has no `tls.key`");
    }

    #[test]
    fn a_policy_gets_secrets_of_its_own_namespace_and_of_those_for_all() {
        let get = |key: &SecretKey| secrets(&["a"], false).header(key).map(|value| value.0);
        assert_eq!(get(&named("prod", Some("prod"))), Ok("the a".into()));
        assert_eq!(get(&named("prod", None)), Ok("the a".into()));
        let foreign = get(&named("prod", Some("dev"))).unwrap_err();
        let words = "Secret prod/keys is of another namespace, see l7.secretNamespaces";
        assert_eq!(foreign, words);
        let absent = get(&named("shared", Some("dev"))).unwrap_err();
        assert_eq!(absent, "Secret shared/keys is not there");
    }

    #[test]
    fn a_destination_is_trusted_by_an_authority_and_shown_what_there_is() {
        let own = context(named("prod", Some("prod")));
        let plain = secrets(&["ca.crt"], false).originate(&own);
        let trusted = String::from("the ca.crt");
        assert_eq!(plain, Ok(Originate::Trusting { trusted, client: None }));
        let both = secrets(&["ca.crt", "tls.crt", "tls.key"], false).originate(&own).unwrap();
        assert!(matches!(both, Originate::Trusting { client: Some(_), .. }));
        let asks = TlsContext { certificate: Some("mine.crt".into()), ..own };
        let lack = secrets(&["ca.crt"], false).originate(&asks).unwrap_err();
        assert_eq!(lack, "Secret prod/keys has no `mine.crt`");
    }
}
