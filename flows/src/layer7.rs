//! What a proxy read: questions of DNS with their answers, and requests of other protocols.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use model::{DnsFailure, Name};

/// A message, as a proxy saw it.
#[derive(Clone, Debug, PartialEq)]
pub struct Layer7 {
    /// Whether it is a request or its answer.
    pub kind: MessageKind,
    /// How long the answer took; none for a request.
    pub latency: Option<Duration>,
    /// What it said.
    pub record: Record,
    /// Why the proxy refused it or could not carry it, in a word, and perhaps what to do about it.
    pub refused: Option<Arc<str>>,
}

/// Which half of an exchange a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MessageKind {
    /// What was asked.
    Request,
    /// What was answered.
    Response,
}

/// A message's content, by protocol.
#[derive(Clone, Debug, PartialEq)]
pub enum Record {
    /// DNS.
    Dns(Dns),
    /// HTTP.
    Http(Http),
    /// Kafka.
    Kafka(Kafka),
    /// The start of a TLS connection.
    Tls(Tls),
    /// A connection of which no more is known.
    Connection,
}

/// A question of DNS, and what was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dns {
    /// The name that was asked for.
    pub query: Name,
    /// The record type that was asked for, by its number.
    pub qtype: u16,
    /// The response code; none for a question.
    pub rcode: Option<u16>,
    /// The addresses in the answer, in its order. Long answers are cut.
    pub addresses: Box<[IpAddr]>,
    /// The least TTL of the addresses, in seconds.
    pub ttl: u32,
    /// The aliases in the answer, in its order. Long chains are cut.
    pub cnames: Box<[Name]>,
    /// Whether addresses or aliases were left out.
    pub cut: bool,
    /// Why the proxy answered with an error of its own, where it did though policy allows it.
    pub failure: Option<DnsFailure>,
}

/// A request of HTTP, or its answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Http {
    /// The answer's status; none for a request.
    pub code: Option<u16>,
    /// The method.
    pub method: String,
    /// The URL.
    pub url: String,
    /// The protocol and its version, such as `HTTP/1.1`.
    pub protocol: String,
    /// Headers.
    pub headers: Vec<(String, String)>,
}

/// A request of Kafka, or its answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kafka {
    /// The answer's error code; 0 for none.
    pub error_code: i32,
    /// The version of the API.
    pub api_version: i32,
    /// The API's name, such as `produce`.
    pub api_key: String,
    /// The number by which an answer belongs to its request.
    pub correlation_id: i32,
    /// The topic.
    pub topic: String,
}

/// The start of a TLS connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    /// The server name that the client asked for, if it named one.
    pub sni: Option<String>,
}

impl Dns {
    /// The question's type as people write it.
    pub fn qtype_text(&self) -> String {
        let name = match self.qtype {
            1 => "A",
            2 => "NS",
            5 => "CNAME",
            6 => "SOA",
            12 => "PTR",
            15 => "MX",
            16 => "TXT",
            28 => "AAAA",
            33 => "SRV",
            35 => "NAPTR",
            39 => "DNAME",
            43 => "DS",
            46 => "RRSIG",
            48 => "DNSKEY",
            52 => "TLSA",
            64 => "SVCB",
            65 => "HTTPS",
            255 => "ANY",
            257 => "CAA",
            other => return format!("TYPE{other}"),
        };
        name.to_owned()
    }

    /// The types of the records in the answer that were taken.
    pub fn answer_types(&self) -> Vec<&'static str> {
        let has = |wanted: fn(&IpAddr) -> bool| self.addresses.iter().any(wanted);
        let mut types = Vec::new();
        for (name, present) in [
            ("CNAME", !self.cnames.is_empty()),
            ("A", has(IpAddr::is_ipv4)),
            ("AAAA", has(IpAddr::is_ipv6)),
        ] {
            if present {
                types.push(name);
            }
        }
        types
    }

    /// The response code as people write it; none for a question.
    pub fn rcode_text(&self) -> Option<String> {
        let name = match self.rcode? {
            0 => "NOERROR",
            1 => "FORMERR",
            2 => "SERVFAIL",
            3 => "NXDOMAIN",
            4 => "NOTIMP",
            5 => "REFUSED",
            6 => "YXDOMAIN",
            7 => "YXRRSET",
            8 => "NXRRSET",
            9 => "NOTAUTH",
            10 => "NOTZONE",
            other => return Some(format!("RCODE{other}")),
        };
        Some(name.to_owned())
    }
}
