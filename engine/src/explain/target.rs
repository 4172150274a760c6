//! Where a connection goes, as people write it.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use model::{EndpointName, Name};
use policy::Entity;
use thiserror::Error;

/// Where a connection goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A pod.
    Pod(EndpointName),
    /// An address.
    Address(IpAddr),
    /// The addresses of a name.
    Name(Name),
    /// Everything that an entity stands for.
    Entity(Entity),
    /// A service.
    Service(EndpointName),
}

/// Why a text is no target.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TargetError {
    /// None of the forms.
    #[error(
        "`{0}` is none of NAMESPACE/POD, an address, a name, entity:NAME and service:NAMESPACE/NAME"
    )]
    Unknown(String),
    /// No entity has this name.
    #[error("`{0}` is no entity; there are {known}", known = Entity::names().join(", "))]
    Entity(String),
    /// A service is not named whole.
    #[error("`service:{0}` is not of the form service:NAMESPACE/NAME")]
    Service(String),
    /// A range has many destinations.
    #[error("`{0}` is a range; name one address of it")]
    Range(String),
}

impl FromStr for Target {
    type Err = TargetError;

    fn from_str(text: &str) -> Result<Self, TargetError> {
        let unknown = || TargetError::Unknown(text.to_owned());
        if let Some(name) = text.strip_prefix("entity:") {
            let entity = Entity::parse(name).ok_or_else(|| TargetError::Entity(name.to_owned()))?;
            return Ok(Self::Entity(entity));
        }
        if let Some(name) = text.strip_prefix("service:") {
            let service = full_name(name).ok_or_else(|| TargetError::Service(name.to_owned()))?;
            return Ok(Self::Service(service));
        }
        if let Ok(address) = text.parse() {
            return Ok(Self::Address(address));
        }
        if text.contains('/') {
            if text.parse::<model::Prefix>().is_ok() {
                return Err(TargetError::Range(text.to_owned()));
            }
            return full_name(text).map(Self::Pod).ok_or_else(unknown);
        }
        let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if text.is_empty() || !text.chars().all(is_plain) {
            return Err(unknown());
        }
        text.parse().map(Self::Name).map_err(|_| unknown())
    }
}

/// `NAMESPACE/NAME`.
fn full_name(text: &str) -> Option<EndpointName> {
    let (namespace, name) = text.split_once('/')?;
    let whole = !namespace.is_empty() && !name.is_empty() && !name.contains('/');
    whole.then(|| EndpointName { namespace: namespace.to_owned(), name: name.to_owned() })
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pod(name) => name.fmt(f),
            Self::Address(address) => address.fmt(f),
            Self::Name(name) => name.fmt(f),
            Self::Entity(entity) => write!(f, "entity:{entity}"),
            Self::Service(name) => write!(f, "service:{name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_is_read_and_written() {
        for text in
            ["prod/db", "10.0.0.1", "2001:db8::1", "a.com.", "entity:world", "service:prod/db"]
        {
            assert_eq!(text.parse::<Target>().unwrap().to_string(), text);
        }
        assert!(matches!("www.example.com".parse(), Ok(Target::Name(_))));
    }

    #[test]
    fn what_is_no_target_is_refused_with_the_reason() {
        let said = |text: &str| text.parse::<Target>().unwrap_err().to_string();
        assert!(said("entity:moon").starts_with("`moon` is no entity; there are all, cluster"));
        assert_eq!(said("service:db"), "`service:db` is not of the form service:NAMESPACE/NAME");
        assert_eq!(said("10.0.0.0/8"), "`10.0.0.0/8` is a range; name one address of it");
        for text in ["", "a/b/c", "/b", "a b", "*.com", "a..b"] {
            assert!(said(text).contains("is none of NAMESPACE/POD"), "{text}");
        }
    }
}
