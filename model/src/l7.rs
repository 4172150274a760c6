//! What may be said over the connections to one destination and port: HTTP, Kafka and TLS rules.
//!
//! Rules are alternatives: a request passes that any of them allows, and no rule at all allows
//! nothing. They carry what they need to be judged, secrets included, so whoever holds them needs
//! no other source. Secrets never appear in what is printed.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{NameRef, Pattern};

/// The requests of Kafka's protocol by the names that Cilium knows, each in the place of its number.
pub const KAFKA_REQUESTS: [&str; 34] = [
    "produce",
    "fetch",
    "offsets",
    "metadata",
    "leaderandisr",
    "stopreplica",
    "updatemetadata",
    "controlledshutdown",
    "offsetcommit",
    "offsetfetch",
    "findcoordinator",
    "joingroup",
    "heartbeat",
    "leavegroup",
    "syncgroup",
    "describegroups",
    "listgroups",
    "saslhandshake",
    "apiversions",
    "createtopics",
    "deletetopics",
    "deleterecords",
    "initproducerid",
    "offsetforleaderepoch",
    "addpartitionstotxn",
    "addoffsetstotxn",
    "endtxn",
    "writetxnmarkers",
    "txnoffsetcommit",
    "describeacls",
    "createacls",
    "deleteacls",
    "describeconfigs",
    "alterconfigs",
];

/// Everything that the rules for one destination and port allow.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct L7Rules(
    /// The alternatives, one for each item of `toPorts` that covers the destination and port.
    pub BTreeSet<L7Rule>,
);

/// One alternative: TLS of these names, handled so, with these requests inside.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct L7Rule {
    /// `serverNames`: the connection must be TLS for one of them. Absent: TLS or not, any name.
    pub server_names: Option<ServerNames>,
    /// `terminatingTLS`: the pod's TLS ends at the proxy, which reads what is inside.
    pub terminate: Option<Terminate>,
    /// `originatingTLS`: the proxy speaks TLS to the destination.
    pub originate: Option<Originate>,
    /// What may be said inside.
    pub requests: Requests,
}

/// The requests that one alternative allows.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Requests {
    /// Whatever is said, in any protocol.
    Any,
    /// The HTTP requests that one of these matches; none of them, no request.
    Http(Vec<HttpRule>),
    /// The Kafka requests whose every topic one of these matches; none of them, no request.
    Kafka(Vec<KafkaRule>),
}

/// An item of `rules.http`. Every condition that is there must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct HttpRule {
    /// A regular expression for the whole method.
    pub method: Option<String>,
    /// A regular expression for the whole path, its query included.
    pub path: Option<String>,
    /// A regular expression for the whole host, in lower case, its port included where it is sent.
    pub host: Option<String>,
    /// `headers`: what must be there.
    pub headers: Vec<HeaderCondition>,
    /// `headerMatches`: what must be there, or what is done about it.
    pub header_matches: Vec<HeaderMatch>,
}

/// An item of `headers`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct HeaderCondition {
    /// The header's name, in lower case.
    pub name: String,
    /// Its exact value; absent where it need only be there.
    pub value: Option<String>,
}

/// An item of `headerMatches`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct HeaderMatch {
    /// The header's name, in lower case.
    pub name: String,
    /// Its exact value.
    pub value: HeaderValue,
    /// What is done about a request that does not have it.
    pub mismatch: Mismatch,
}

/// The value that a header must have.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HeaderValue {
    /// Any: the header need only be there.
    Present,
    /// This one, from the policy or from a Secret.
    Exactly(Hidden),
    /// That of a Secret that is not there, named here: the rule matches no request.
    Unavailable(String),
}

/// What is done about a request whose header does not match.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum Mismatch {
    /// The rule does not match.
    #[default]
    Fail,
    /// The mismatch is recorded.
    Log,
    /// The wanted value is added to those that are there.
    Add,
    /// Every value of the header is taken out.
    Delete,
    /// The wanted value takes the place of those that are there.
    Replace,
}

/// An item of `rules.kafka`. Every condition that is there must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct KafkaRule {
    /// The numbers of the requests that `apiKey` or `role` names; none, every request.
    pub api_keys: BTreeSet<i16>,
    /// The version of the request.
    pub api_version: Option<i16>,
    /// What the client calls itself.
    pub client_id: Option<String>,
    /// The topic.
    pub topic: Option<String>,
}

/// `serverNames`: the names that a TLS client may say it wants.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "Vec<String>", into = "Vec<String>")]
pub struct ServerNames(
    /// The patterns, in the policy's order.
    pub Vec<Pattern>,
);

/// How the pod's TLS is ended.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Terminate {
    /// With this certificate, whatever name is asked for.
    Certificate(KeyPair),
    /// With a certificate for the name that is asked for, issued by this authority.
    Issuer(KeyPair),
    /// The Secret, named here, is not there or of no use: nothing passes.
    Unavailable(String),
}

/// How TLS to the destination is begun.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Originate {
    /// The server must be trusted by these.
    Trusting {
        /// The authorities' certificates, in PEM.
        trusted: String,
        /// What the proxy shows a server that asks who it is.
        client: Option<KeyPair>,
    },
    /// The Secret, named here, is not there or of no use: nothing passes.
    Unavailable(String),
}

/// A certificate and its key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct KeyPair {
    /// The certificate and those above it, in PEM.
    pub chain: String,
    /// The key, in PEM.
    pub key: Hidden,
}

/// A text that is never printed.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Hidden(
    /// The text.
    pub String,
);

impl ServerNames {
    /// Whether one of them matches.
    pub fn matches(&self, name: NameRef<'_>) -> bool {
        self.0.iter().any(|pattern| pattern.matches(name))
    }
}

impl TryFrom<Vec<String>> for ServerNames {
    type Error = crate::PatternError;

    fn try_from(texts: Vec<String>) -> Result<Self, Self::Error> {
        texts.iter().map(|text| Pattern::match_pattern(text)).collect::<Result<_, _>>().map(Self)
    }
}

impl From<ServerNames> for Vec<String> {
    fn from(names: ServerNames) -> Self {
        names.0.iter().map(|pattern| pattern.as_str().to_owned()).collect()
    }
}

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hidden")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_not_printed() {
        let pair = KeyPair { chain: "chain".into(), key: Hidden("private".into()) };
        assert!(!format!("{pair:?}").contains("private"));
    }
}
