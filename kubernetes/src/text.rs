//! Texts of a document that are checked while it is read, so that what is wrong is reported with
//! its place, and what is right is short and can stand in a log line or a table as it is.

use std::net::IpAddr;

use model::{Name, Prefix, PrefixError, Protocol};
use serde::Deserialize;
use thiserror::Error;

/// The name of an object: a DNS subdomain.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct ObjectName(String);

/// The name of a namespace: a DNS label.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct NamespaceName(String);

/// The key of a label, with or without a prefix.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct LabelKey(String);

/// The value of a label.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct LabelValue(String);

/// The address of a pod or service; none where the text is empty or `None`, as in a status that
/// is not filled in yet and in a headless service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct Address(pub Option<IpAddr>);

/// A prefix; a bare address is none, as in Cilium.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct Cidr(pub Prefix);

/// The name of a host outside, as an ExternalName service has it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct HostName(pub Name);

/// The protocol of a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct PortProtocol(pub Protocol);

/// Why a text is not what its field wants.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(crate) enum TextError {
    #[error("`{0}` is no object's name: at most 253 lower-case letters, digits, `-` and `.`")]
    ObjectName(String),
    #[error("`{0}` is no namespace's name: at most 63 lower-case letters, digits and `-`")]
    NamespaceName(String),
    #[error("`{0}` is no label's key")]
    LabelKey(String),
    #[error("`{0}` is no label's value: at most 63 letters, digits, `-`, `_` and `.`")]
    LabelValue(String),
    #[error("`{0}` is not an IPv4 or IPv6 address")]
    NoAddress(String),
    #[error("`{0}` cannot be the address of one pod or service")]
    SpecialAddress(IpAddr),
    #[error("`{0}` is not TCP, UDP or SCTP")]
    Protocol(String),
    #[error(transparent)]
    Prefix(PrefixError),
    #[error("`{0}` is no host's name: at most 253 letters, digits, `-` and `.`")]
    HostName(String),
}

impl ObjectName {
    pub fn into_string(self) -> String {
        self.0
    }
}

impl NamespaceName {
    /// The namespace where a document names none.
    const DEFAULT: &'static str = "default";

    /// The name in a document, or `default`.
    pub fn or_default(name: Option<Self>) -> String {
        name.map_or_else(|| Self::DEFAULT.to_owned(), |name| name.0)
    }
}

impl LabelKey {
    pub fn into_string(self) -> String {
        self.0
    }
}

impl LabelValue {
    pub fn into_string(self) -> String {
        self.0
    }
}

impl TryFrom<String> for ObjectName {
    type Error = TextError;

    fn try_from(text: String) -> Result<Self, TextError> {
        if is_subdomain(&text, 253) {
            Ok(Self(text))
        } else {
            Err(TextError::ObjectName(plain(&text)))
        }
    }
}

impl TryFrom<String> for NamespaceName {
    type Error = TextError;

    fn try_from(text: String) -> Result<Self, TextError> {
        if text.is_empty() {
            return Ok(Self(Self::DEFAULT.to_owned()));
        }
        if is_subdomain(&text, 63) && !text.contains('.') {
            return Ok(Self(text));
        }
        Err(TextError::NamespaceName(plain(&text)))
    }
}

impl TryFrom<String> for LabelKey {
    type Error = TextError;

    fn try_from(text: String) -> Result<Self, TextError> {
        let (prefix, name) = text.split_once('/').unwrap_or(("a", &text));
        if is_subdomain(prefix, 253) && !name.is_empty() && is_label_value(name) {
            return Ok(Self(text));
        }
        Err(TextError::LabelKey(plain(&text)))
    }
}

impl TryFrom<String> for LabelValue {
    type Error = TextError;

    fn try_from(text: String) -> Result<Self, TextError> {
        if is_label_value(&text) {
            Ok(Self(text))
        } else {
            Err(TextError::LabelValue(plain(&text)))
        }
    }
}

impl TryFrom<String> for Address {
    type Error = TextError;

    fn try_from(text: String) -> Result<Self, TextError> {
        match text.as_str() {
            "" | "None" => Ok(Self(None)),
            text => address(text).map(|address| Self(Some(address))),
        }
    }
}

impl TryFrom<String> for PortProtocol {
    type Error = TextError;

    fn try_from(text: String) -> Result<Self, TextError> {
        match text.as_str() {
            "" | "TCP" => Ok(Self(Protocol::TCP)),
            "UDP" => Ok(Self(Protocol::UDP)),
            "SCTP" => Ok(Self(Protocol::SCTP)),
            other => Err(TextError::Protocol(plain(other))),
        }
    }
}

impl TryFrom<String> for Cidr {
    type Error = TextError;

    fn try_from(text: String) -> Result<Self, TextError> {
        // What is so long is no prefix, and too long for a message.
        plain(&text).parse().map(Self).map_err(TextError::Prefix)
    }
}

impl TryFrom<String> for HostName {
    type Error = TextError;

    fn try_from(text: String) -> Result<Self, TextError> {
        let refused = || TextError::HostName(plain(&text));
        let name = text.strip_suffix('.').unwrap_or(&text);
        if !is_subdomain(&name.to_ascii_lowercase(), 253) {
            return Err(refused());
        }
        name.parse().map(Self).map_err(|_| refused())
    }
}

impl Default for PortProtocol {
    fn default() -> Self {
        Self(Protocol::TCP)
    }
}

/// An address that one pod or service can have.
pub(crate) fn address(text: &str) -> Result<IpAddr, TextError> {
    let address: IpAddr = text.parse().map_err(|_| TextError::NoAddress(plain(text)))?;
    let mapped = matches!(address, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some());
    if address.is_unspecified() || address.is_loopback() || address.is_multicast() || mapped {
        return Err(TextError::SpecialAddress(address));
    }
    Ok(address)
}

/// A prefix, or an address that stands for itself alone.
pub(crate) fn source(text: &str) -> Result<Prefix, String> {
    match text.parse::<IpAddr>() {
        Ok(address) => Ok(Prefix::host(address)),
        Err(_) => text.parse::<Prefix>().map_err(|error| error.to_string()),
    }
}

/// A foreign text as a message may show it: without control characters, and not all of it.
pub(crate) fn plain(text: &str) -> String {
    const SHOWN: usize = 80;
    let mut shown: String = text.chars().take(SHOWN).flat_map(char::escape_debug).collect();
    if text.chars().nth(SHOWN).is_some() {
        shown.push('…');
    }
    shown
}

/// A foreign text as one line of a log or status.
pub(crate) fn plain_line(text: &str) -> String {
    const SHOWN: usize = 300;
    let mut shown: String =
        text.chars().take(SHOWN).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.chars().nth(SHOWN).is_some() {
        shown.push('…');
    }
    shown
}

fn is_subdomain(text: &str, longest: usize) -> bool {
    let edge = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    is_bounded(text, longest, edge, |byte| matches!(byte, b'-' | b'.')) && !text.is_empty()
}

fn is_label_value(text: &str) -> bool {
    let edge = |byte: u8| byte.is_ascii_alphanumeric();
    is_bounded(text, 63, edge, |byte| matches!(byte, b'-' | b'_' | b'.'))
}

/// Whether `text` is short, begins and ends with an edge byte, and has no others than edge and
/// inner bytes.
fn is_bounded(
    text: &str,
    longest: usize,
    edge: impl Fn(u8) -> bool,
    inner: impl Fn(u8) -> bool,
) -> bool {
    let bytes = text.as_bytes();
    bytes.len() <= longest
        && bytes.first().is_none_or(|byte| edge(*byte))
        && bytes.last().is_none_or(|byte| edge(*byte))
        && bytes.iter().all(|byte| edge(*byte) || inner(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepts<T: TryFrom<String, Error = TextError>>(text: &str) -> bool {
        T::try_from(text.to_owned()).is_ok()
    }

    #[test]
    fn accepts_the_names_and_labels_that_kubernetes_accepts() {
        assert!(accepts::<ObjectName>("web-0.a") && accepts::<ObjectName>("0"));
        for text in ["", "-a", "a-", "A", "a_b", "a b", "a\u{1b}[2J", &"a".repeat(254)] {
            assert!(!accepts::<ObjectName>(text), "{text:?}");
        }
        assert!(accepts::<NamespaceName>("kube-system") && !accepts::<NamespaceName>("a.b"));
        assert!(accepts::<LabelKey>("app") && accepts::<LabelKey>("app.kubernetes.io/Name_1"));
        for text in ["", "/a", "a/", "a/b/c", "A.b/c", "-a", "a b"] {
            assert!(!accepts::<LabelKey>(text), "{text:?}");
        }
        assert!(accepts::<LabelValue>("") && accepts::<LabelValue>("V1.2_3-x"));
        assert!(!accepts::<LabelValue>("a b") && !accepts::<LabelValue>("_a"));
    }

    #[test]
    fn refuses_addresses_that_no_single_pod_can_have() {
        assert_eq!(address("10.0.0.1"), Ok("10.0.0.1".parse().unwrap()));
        for text in ["0.0.0.0", "::", "127.0.0.1", "::1", "224.0.0.1", "ff02::1"] {
            assert_eq!(address(text), Err(TextError::SpecialAddress(text.parse().unwrap())));
        }
        assert_eq!(
            address("::ffff:10.0.0.1").unwrap_err().to_string(),
            "`::ffff:10.0.0.1` cannot be the address of one pod or service"
        );
        assert_eq!(
            address("ten\n").unwrap_err().to_string(),
            "`ten\\n` is not an IPv4 or IPv6 address"
        );
    }

    #[test]
    fn shows_only_the_beginning_of_a_long_text() {
        assert_eq!(plain(&"x".repeat(100)), format!("{}…", "x".repeat(80)));
        assert_eq!(plain("a\u{1b}[2J"), "a\\u{1b}[2J");
    }
}
