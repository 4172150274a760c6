//! A flow in a few words, as Hubble's clients show it.

use std::fmt::Write;

use model::Protocol;

use crate::flow::plain;
use crate::{Dns, Flow, Http, Kafka, Layer4, Layer7, MessageKind, Record};

impl Flow {
    /// What was seen, in a few words; for a drop, why.
    pub fn summary(&self) -> String {
        let mut text = match (&self.l7, self.l4) {
            (Some(l7), _) => l7.summary(),
            (None, Some(l4)) => l4.summary(),
            (None, None) => String::new(),
        };
        if let Some(reason) = self.drop_reason {
            let gap = if text.is_empty() { "" } else { " " };
            let _ = write!(text, "{gap}({reason})");
        }
        text
    }
}

impl Layer4 {
    fn summary(self) -> String {
        match self {
            Self::Tcp { flags: Some(flags), .. } => format!("TCP Flags: {flags}"),
            Self::IcmpV4 { kind, code } => format!("ICMPv4 type {kind} code {code}"),
            Self::IcmpV6 { kind, code } => format!("ICMPv6 type {kind} code {code}"),
            Self::Other(Protocol(number)) => format!("IP protocol {number}"),
            Self::Tcp { flags: None, .. } | Self::Udp { .. } | Self::Sctp { .. } => {
                self.protocol().to_string()
            }
        }
    }
}

impl Layer7 {
    fn summary(&self) -> String {
        match &self.record {
            Record::Dns(dns) => dns.summary(self.kind),
            Record::Http(http) => http.summary(),
            Record::Kafka(kafka) => kafka.summary(),
            Record::Tls(tls) => {
                format!("TLS SNI: {}", tls.sni.as_deref().unwrap_or("none"))
            }
        }
    }
}

impl Dns {
    fn summary(&self, kind: MessageKind) -> String {
        let question = format!("{} {}", self.query, self.qtype_text());
        if kind == MessageKind::Request {
            return format!("DNS Query {question}");
        }
        let mut text = "DNS Answer".to_owned();
        if let Some(failure) = self.failure {
            let _ = write!(text, " {}", failure.as_str());
        } else if self.rcode != Some(0) {
            let _ = write!(text, " RCode: {}", self.rcode_text().unwrap_or_default());
        }
        if !self.addresses.is_empty() {
            let addresses: Vec<String> = self.addresses.iter().map(ToString::to_string).collect();
            let _ = write!(text, " {:?} TTL: {}", addresses.join(","), self.ttl);
        }
        if !self.cnames.is_empty() {
            let names: Vec<String> = self.cnames.iter().map(plain).collect();
            let _ = write!(text, " CNAMEs: {:?}", names.join(","));
        }
        let _ = write!(text, " (Proxy {question})");
        text
    }
}

impl Http {
    fn summary(&self) -> String {
        let request = format!("{} {} {}", self.protocol, self.method, self.url);
        match self.code {
            Some(code) => format!("{} {code} ({} {})", self.protocol, self.method, self.url),
            None => request,
        }
    }
}

impl Kafka {
    fn summary(&self) -> String {
        let Self { api_key, topic, correlation_id, error_code, .. } = self;
        let error = if *error_code == 0 { String::new() } else { format!(" error {error_code}") };
        format!("Kafka {api_key} correlation id {correlation_id} topic '{topic}'{error}")
    }
}
