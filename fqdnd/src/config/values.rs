//! What the values of keys may be, beside numbers, texts and times.

use clap::ValueEnum;
use model::Prefix;
use serde::{Deserialize, Deserializer, de};

/// A prefix as it stands in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PrefixKey(pub Prefix);

impl std::str::FromStr for PrefixKey {
    type Err = model::PrefixError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

impl<'de> Deserialize<'de> for PrefixKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// An address, or a prefix, as it stands in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServerKey(pub Prefix);

impl std::str::FromStr for ServerKey {
    type Err = model::PrefixError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(|address| Self(Prefix::host(address))).or_else(|_| text.parse().map(Self))
    }
}

impl<'de> Deserialize<'de> for ServerKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// A number as it stands in a file or flag, `0x` for hexadecimal.
pub(super) fn parse_number(text: &str) -> Result<u32, String> {
    let parsed = match text.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16),
        None => text.parse(),
    };
    parsed.map_err(|error| format!("`{text}` is no number up to 0xffffffff: {error}"))
}

/// How programs are attached to interfaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum AttachChoice {
    /// TCX where the kernel has it (6.6), clsact below.
    Auto,
    /// TCX links.
    Tcx,
    /// Filters of a clsact qdisc.
    Clsact,
}

/// What a name that no rule allows is answered with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum RefusalChoice {
    /// REFUSED: resolvers stop their search list.
    Refused,
    /// NXDOMAIN: resolvers go on with their search list.
    Nxdomain,
}

/// What becomes of queries over a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LimitChoice {
    /// They are refused.
    Enforce,
    /// They pass, and are counted and logged.
    Audit,
}

/// Whose answers teach addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum TeacherChoice {
    /// Trusted servers' where the cluster's own are known, any server's elsewhere.
    Auto,
    /// Those of every server that a rule lets be asked.
    Any,
    /// Trusted servers' alone.
    Trusted,
}

/// Where a toEndpoints selector without a namespace looks for pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum ScopeChoice {
    /// In the policy's own namespace, as Cilium does.
    PolicyNamespace,
    /// In all namespaces.
    AllNamespaces,
}

/// From which address the L7 proxy reaches destinations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum UpstreamChoice {
    /// From the node's.
    Node,
    /// From the pod's own.
    Pod,
}

/// How logs are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// A line of text for each event.
    Text,
    /// A JSON object for each event.
    Json,
}
