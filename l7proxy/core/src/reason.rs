//! Why a connection or a request was refused.

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident, $text:literal;)*) => {
        /// Why a connection or a request was refused.
        #[derive(
            Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
        )]
        pub enum Reason {
            $($(#[$doc])* #[serde(rename = $text)] $name,)*
        }

        impl Reason {
            /// All reasons.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The reason's name as people read it.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }
        }
    };
}

reasons! {
    /// No rule allows the HTTP request.
    RequestDenied, "request-denied";
    /// The bytes are no HTTP request, or one that can be read in several ways.
    MalformedRequest, "malformed-request";
    /// Content-Length and Transfer-Encoding disagree, repeat or are odd.
    AmbiguousLength, "ambiguous-length";
    /// A chunk's size or end is not as it must be.
    MalformedChunk, "malformed-chunk";
    /// Host is missing, repeated, odd or not the authority of the request's target.
    AmbiguousHost, "ambiguous-host";
    /// The request's head is over the limit.
    HeadTooLarge, "head-too-large";
    /// CONNECT would open a tunnel that nobody judges.
    ConnectMethod, "connect-method";
    /// The path has `.` or `..` segments, or bytes that stand in no path.
    AmbiguousPath, "ambiguous-path";
    /// Inside terminated TLS, the host is not the name that the client asked for in TLS.
    HostIsNotServerName, "host-is-not-server-name";
    /// TLS where the rules are about requests and do not end it.
    TlsNotTerminated, "tls-not-terminated";
    /// No TLS where the rules want it.
    NotTls, "not-tls";
    /// The ClientHello is broken or too long.
    MalformedHello, "malformed-client-hello";
    /// The ClientHello hides its server name.
    EncryptedHello, "encrypted-client-hello";
    /// The ClientHello has no server name.
    ServerNameMissing, "server-name-missing";
    /// The ClientHello's server name is repeated or no name.
    ServerNameOdd, "server-name-odd";
    /// No rule allows the server name.
    ServerNameDenied, "server-name-denied";
    /// The pod did not resolve the server name to this address.
    ServerNameNotResolved, "server-name-not-resolved";
    /// The rules terminate TLS and do not originate it, so requests would leave in the clear.
    NotOriginated, "tls-not-originated";
    /// A Secret that the rules need is not there or of no use.
    SecretUnavailable, "secret-unavailable";
    /// The pod's TLS handshake failed.
    HandshakeFailed, "tls-handshake-failed";
    /// The destination could not be reached.
    UpstreamUnreachable, "upstream-unreachable";
    /// The destination's certificate is not trusted, or its TLS handshake failed.
    UpstreamUntrusted, "upstream-untrusted";
    /// The destination broke its protocol or went away before it answered.
    UpstreamFailed, "upstream-failed";
    /// The bytes belong to no protocol that the rules speak of.
    UnknownProtocol, "unknown-protocol";
    /// No rule allows the Kafka request.
    KafkaDenied, "kafka-request-denied";
    /// The bytes are no Kafka request.
    MalformedKafka, "malformed-kafka-request";
    /// A Kafka request whose topics cannot be read in this version.
    KafkaVersion, "kafka-version-unreadable";
    /// No rule covers the connection, or its pod is not known.
    NoRules, "no-rules";
    /// The daemon that knows the rules gives no answer.
    NoJudgement, "no-judgement";
    /// The proxy has as many connections as it may.
    OverConnections, "over-connections";
    /// The endpoint has as many connections as it may.
    OverEndpointConnections, "over-endpoint-connections";
    /// The endpoint has as many requests in flight as it may.
    OverRequests, "over-requests";
    /// The client took too long.
    SlowClient, "slow-client";
    /// The rules changed, and the connection cannot go on under the new ones.
    RulesChanged, "rules-changed";
}

impl Reason {
    /// Whether rules are against what was refused, and neither its form, nor a bound, nor an end
    /// that failed: so that it could go on all the same.
    pub const fn is_of_rules(self) -> bool {
        match self {
            Self::RequestDenied
            | Self::HostIsNotServerName
            | Self::TlsNotTerminated
            | Self::NotTls
            | Self::MalformedHello
            | Self::EncryptedHello
            | Self::ServerNameMissing
            | Self::ServerNameOdd
            | Self::ServerNameDenied
            | Self::ServerNameNotResolved
            | Self::NotOriginated
            | Self::SecretUnavailable
            | Self::UnknownProtocol
            | Self::KafkaDenied
            | Self::MalformedKafka
            | Self::KafkaVersion
            | Self::NoRules => true,
            Self::MalformedRequest
            | Self::AmbiguousLength
            | Self::MalformedChunk
            | Self::AmbiguousHost
            | Self::HeadTooLarge
            | Self::ConnectMethod
            | Self::AmbiguousPath
            | Self::HandshakeFailed
            | Self::UpstreamUnreachable
            | Self::UpstreamUntrusted
            | Self::UpstreamFailed
            | Self::NoJudgement
            | Self::OverConnections
            | Self::OverEndpointConnections
            | Self::OverRequests
            | Self::SlowClient
            | Self::RulesChanged => false,
        }
    }

    /// What to do about it, for those where the rules want a change.
    pub const fn advice(self) -> Option<&'static str> {
        match self {
            Self::TlsNotTerminated => {
                Some("add terminatingTLS and originatingTLS beside the rules, or use serverNames")
            }
            Self::NotOriginated => Some("add originatingTLS beside terminatingTLS"),
            Self::SecretUnavailable => Some("add the Secret that the policy names"),
            Self::EncryptedHello => Some("strip `ech` from the DNS answers of this name"),
            _ => None,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_said_the_same_everywhere() {
        for reason in Reason::ALL {
            let said = serde_json::to_string(reason).unwrap();
            assert_eq!(said, format!("\"{reason}\""));
        }
    }
}
