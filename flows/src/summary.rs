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
        let told = self.l7.as_ref().is_some_and(|l7| l7.refused.is_some());
        if let Some(reason) = self.drop_reason.filter(|_| !told) {
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
        let mut text = match &self.record {
            Record::Dns(dns) => dns.summary(self.kind),
            Record::Http(http) => http.summary(self.kind),
            Record::Kafka(kafka) => kafka.summary(),
            Record::Tls(tls) => {
                format!("TLS SNI: {}", tls.sni.as_deref().unwrap_or("none"))
            }
            Record::Connection => "L7 connection".to_owned(),
        };
        if let Some(refused) = &self.refused {
            let _ = write!(text, " ({refused})");
        }
        text
    }
}

impl Dns {
    fn summary(&self, kind: MessageKind) -> String {
        let question = format!("{} {}", self.query, self.qtype_text());
        if kind == MessageKind::Request {
            let failure = self.failure.map(|own| format!(" ({})", own.as_str()));
            return format!("DNS Query {question}{}", failure.unwrap_or_default());
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
    fn summary(&self, kind: MessageKind) -> String {
        let Self { protocol, method, url, .. } = self;
        match (kind, self.code) {
            (MessageKind::Response, Some(code)) => format!("{protocol} {code} ({method} {url})"),
            (MessageKind::Request, _) | (_, None) => format!("{protocol} {method} {url}"),
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

#[cfg(test)]
mod tests {
    use model::{DnsFailure, DropReason};

    use super::*;
    use crate::{Direction, EventKind, Side, TcpFlags, Time, Uuid, Verdict};

    fn flow(l4: Option<Layer4>, l7: Option<Layer7>, drop_reason: Option<DropReason>) -> String {
        let flow = Flow {
            time: Time::default(),
            uuid: Uuid::new(0, 0),
            verdict: Verdict::Forwarded,
            drop_reason,
            event: EventKind::PolicyVerdict,
            direction: Some(Direction::Egress),
            is_reply: None,
            source: Side::default(),
            destination: Side::default(),
            destination_service: None,
            l4,
            l7: l7.map(Box::new),
            allowed_by: [].into(),
            denied_by: [].into(),
            interface: None,
            proxy_port: None,
            node: "n".into(),
        };
        flow.summary()
    }

    fn dns(kind: MessageKind, change: impl FnOnce(&mut Dns)) -> String {
        let mut dns = Dns {
            query: "www.example".parse().unwrap(),
            qtype: 1,
            rcode: Some(0),
            addresses: [].into(),
            ttl: 0,
            cnames: [].into(),
            cut: false,
            failure: None,
        };
        change(&mut dns);
        flow(
            None,
            Some(Layer7 { kind, latency: None, record: Record::Dns(dns), refused: None }),
            None,
        )
    }

    #[test]
    fn a_packet_is_told_by_its_header_and_a_drop_by_its_reason_too() {
        let flags = Some(TcpFlags(TcpFlags::SYN.0 | TcpFlags::ACK.0));
        let tcp = Layer4::Tcp { source_port: 1, destination_port: 2, flags };
        let denied = Some(DropReason::PolicyDenied);
        assert_eq!(flow(Some(tcp), None, None), "TCP Flags: SYN, ACK");
        assert_eq!(flow(Some(tcp), None, denied), "TCP Flags: SYN, ACK (policy-denied)");
        let echo = Layer4::IcmpV6 { kind: 128, code: 0 };
        assert_eq!(flow(Some(echo), None, None), "ICMPv6 type 128 code 0");
        assert_eq!(flow(Some(Layer4::Other(Protocol(47))), None, None), "IP protocol 47");
        assert_eq!(flow(None, None, denied), "(policy-denied)");
    }

    #[test]
    fn a_question_is_told_with_its_answer_or_why_it_has_none() {
        let answer = dns(MessageKind::Response, |dns| {
            dns.addresses = ["192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap()].into();
            dns.cnames = ["cdn.example".parse().unwrap()].into();
            dns.ttl = 30;
        });
        assert_eq!(
            answer,
            "DNS Answer \"192.0.2.1,192.0.2.2\" TTL: 30 CNAMEs: \"cdn.example\" (Proxy \
             www.example. A)"
        );
        let absent = dns(MessageKind::Response, |dns| dns.rcode = Some(3));
        assert_eq!(absent, "DNS Answer RCode: NXDOMAIN (Proxy www.example. A)");
        let silent = dns(MessageKind::Response, |dns| dns.failure = Some(DnsFailure::Timeout));
        assert_eq!(silent, "DNS Answer upstream-timeout (Proxy www.example. A)");
        let refused = dns(MessageKind::Request, |dns| dns.qtype = 28);
        assert_eq!(refused, "DNS Query www.example. AAAA");
        let limited = dns(MessageKind::Request, |dns| dns.failure = Some(DnsFailure::OverLimit));
        assert_eq!(limited, "DNS Query www.example. A (over-query-limit)");
    }
}
