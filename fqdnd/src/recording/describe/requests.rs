//! From what the L7 proxy was asked to flows as people read them.

use std::sync::Arc;
use std::time::Duration;

use engine::explain::Outcome as Explained;
use flows::{Flow, Http, Kafka, Layer7, MessageKind, Record, Seen, Time, Tls, Verdict};
use l7proxy_core::control::{Access, Asked};
use l7proxy_core::{Fate, Reason};
use model::{DropReason, KAFKA_REQUESTS, Name, Protocol};

use super::{Case, Conversation, Describer, Ends, Frame, Policies};

impl Describer {
    /// What was asked of a destination: a flow for each topic that a request of Kafka names, one
    /// for anything else.
    pub fn requests(&mut self, access: Access, time: Time) -> impl Iterator<Item = Seen> {
        let (client, server) = (access.client, access.destination);
        let (endpoint, protocol) = (access.endpoint, Protocol::TCP);
        let conversation = Conversation { endpoint, client: client.ip(), protocol, server };
        let ends = self.directory.ends(conversation);
        let own = ends.source.who.endpoint;
        let names = own.map(|own| self.directory.names(own, server.ip())).unwrap_or_default();
        let (count, access) = (count(&access), Arc::new(access));
        (0..count).map(move |at| {
            let (access, ends, names) =
                (Arc::clone(&access), Arc::clone(&ends), Arc::clone(&names));
            let frame = self.frame(time);
            Seen::new(time, move || frame.request(&access, at, &ends, names))
        })
    }
}

impl Frame {
    /// The request's flow, or that of one of its topics.
    fn request(self, access: &Access, at: usize, ends: &Ends, names: Arc<[Name]>) -> Flow {
        let (protocol, server) = (Protocol::TCP, access.destination);
        let policies = ends.table.map(|table| {
            let (identity, names) = (ends.destination.who.identity, Arc::clone(&names));
            let case = Case { table, identity, names, protocol, port: server.port(), asks: None };
            self.grounds.policies(&case, &ends.source, server.ip(), Explained::Redirect)
        });
        let Policies { allow, deny } = policies.unwrap_or_default();
        let (verdict, drop_reason) = verdict(access.fate);
        let l7 = Some(Box::new(message(access, record(access, at))));
        let mut flow = self.read_by_proxy(ends, protocol, access.client, server);
        flow.destination.names = names;
        Flow { verdict, drop_reason, l7, allowed_by: allow, denied_by: deny, ..flow }
    }
}

const fn verdict(fate: Fate) -> (Verdict, Option<DropReason>) {
    match fate {
        Fate::Passed => (Verdict::Forwarded, None),
        Fate::Audited(reason) => (Verdict::Audit, refusal(reason).1),
        Fate::Refused(reason) => refusal(reason),
    }
}

/// What a refusal comes to.
const fn refusal(reason: Reason) -> (Verdict, Option<DropReason>) {
    match reason {
        Reason::RequestDenied
        | Reason::KafkaDenied
        | Reason::ServerNameDenied
        | Reason::ServerNameNotResolved
        | Reason::ServerNameMissing
        | Reason::ServerNameOdd
        | Reason::EncryptedHello
        | Reason::TlsNotTerminated
        | Reason::NotTls
        | Reason::NotOriginated
        | Reason::SecretUnavailable
        | Reason::HostIsNotServerName
        | Reason::ConnectMethod
        | Reason::UnknownProtocol
        | Reason::KafkaVersion
        | Reason::NoRules
        | Reason::RulesChanged => (Verdict::Dropped, Some(DropReason::PolicyDenied)),
        Reason::MalformedRequest
        | Reason::AmbiguousLength
        | Reason::MalformedChunk
        | Reason::AmbiguousHost
        | Reason::AmbiguousPath
        | Reason::HeadTooLarge
        | Reason::MalformedHello
        | Reason::MalformedKafka => (Verdict::Dropped, Some(DropReason::Malformed)),
        Reason::NoJudgement => (Verdict::Dropped, Some(DropReason::ProxyUnavailable)),
        Reason::OverConnections
        | Reason::OverEndpointConnections
        | Reason::OverRequests
        | Reason::SlowClient => (Verdict::Dropped, None),
        Reason::HandshakeFailed
        | Reason::UpstreamUnreachable
        | Reason::UpstreamUntrusted
        | Reason::UpstreamFailed => (Verdict::Error, None),
    }
}

fn message(access: &Access, record: Record) -> Layer7 {
    let is_answered = access.fate.refused().is_none();
    let refused = access.fate.reason().map(|reason| match reason.advice() {
        Some(advice) => format!("{reason}: {advice}").into(),
        None => reason.as_str().into(),
    });
    Layer7 {
        kind: if is_answered { MessageKind::Response } else { MessageKind::Request },
        latency: access.micros.filter(|_| is_answered).map(Duration::from_micros),
        record,
        refused,
    }
}

/// How many records a request is.
fn count(access: &Access) -> usize {
    match &access.request {
        Asked::Connection | Asked::Tls | Asked::Http { .. } => 1,
        Asked::Kafka { topics, .. } => topics.len().max(1),
    }
}

/// A request's record, or that of one of its topics.
fn record(access: &Access, at: usize) -> Record {
    match &access.request {
        Asked::Connection | Asked::Tls => match &access.server_name {
            Some(name) => Record::Tls(Tls { sni: Some(name.clone()) }),
            None if access.request == Asked::Tls => Record::Tls(Tls { sni: None }),
            None => Record::Connection,
        },
        Asked::Http { version, method, host, path, status, edited } => {
            // Inside TLS of the pod's that ended at the proxy, if it named a server.
            let scheme = if access.server_name.is_some() { "https" } else { "http" };
            let header = |name: &String| ("edited-header".to_owned(), name.clone());
            Record::Http(Http {
                code: *status,
                method: method.clone(),
                url: format!("{scheme}://{host}{path}"),
                protocol: protocol(*version),
                headers: edited.iter().map(header).collect(),
            })
        }
        Asked::Kafka { api_key, api_version, correlation, topics, error, client_id: _ } => {
            let number = usize::try_from(*api_key).unwrap_or(usize::MAX);
            Record::Kafka(Kafka {
                error_code: i32::from(*error),
                api_version: i32::from(*api_version),
                api_key: KAFKA_REQUESTS
                    .get(number)
                    .map_or_else(|| api_key.to_string(), |&name| name.to_owned()),
                correlation_id: *correlation,
                topic: topics.get(at).cloned().unwrap_or_default(),
            })
        }
    }
}

fn protocol(version: u8) -> String {
    match version {
        20 => "HTTP/2".to_owned(),
        other => format!("HTTP/{}.{}", other / 10, other % 10),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records(access: &Access) -> Vec<Record> {
        (0..count(access)).map(|at| record(access, at)).collect()
    }

    fn access(request: Asked, server_name: Option<&str>, fate: Fate) -> Access {
        let address = "192.0.2.1:1".parse().unwrap();
        let server_name = server_name.map(str::to_owned);
        let (endpoint, micros) = (None, Some(7));
        let (client, destination) = (address, address);
        Access { endpoint, client, destination, server_name, request, fate, micros }
    }

    fn get(status: Option<u16>) -> Asked {
        let text = str::to_owned;
        let (method, host, path) = (text("GET"), text("a.example"), text("/x?y"));
        Asked::Http { version: 11, method, host, path, status, edited: vec![] }
    }

    #[test]
    fn a_request_inside_tls_has_an_https_url_and_its_answers_status() {
        let [Record::Http(http)] =
            &records(&access(get(Some(200)), Some("a.example"), Fate::Passed))[..]
        else {
            panic!("no record of HTTP")
        };
        let url = http.url.as_str();
        assert_eq!(
            (url, http.code, &*http.protocol),
            ("https://a.example/x?y", Some(200), "HTTP/1.1")
        );
        let [Record::Http(http)] = &records(&access(get(None), None, Fate::Passed))[..] else {
            panic!("no record of HTTP")
        };
        assert_eq!(http.url, "http://a.example/x?y");
    }

    #[test]
    fn a_request_of_kafka_is_a_record_for_each_topic() {
        let asked = |topics: &[&str]| Asked::Kafka {
            api_key: 0,
            api_version: 3,
            correlation: 9,
            client_id: None,
            topics: topics.iter().map(|&topic| topic.to_owned()).collect(),
            error: 29,
        };
        let told = |topics| {
            let records = records(&access(asked(topics), None, Fate::Passed));
            let told = records.into_iter().map(|record| match record {
                Record::Kafka(own) => (own.api_key, own.topic, own.correlation_id, own.error_code),
                other => panic!("{other:?}"),
            });
            told.collect::<Vec<_>>()
        };
        let record = |topic: &str| ("produce".to_owned(), topic.to_owned(), 9, 29);
        assert_eq!(told(&[]), [record("")]);
        assert_eq!(told(&["a", "b"]), [record("a"), record("b")]);
    }

    #[test]
    fn a_refusal_says_what_to_do_about_it() {
        let fate = Fate::Refused(Reason::TlsNotTerminated);
        let refused = access(Asked::Tls, Some("a.example"), fate);
        let [record] = records(&refused).try_into().unwrap();
        let told = message(&refused, record);
        assert_eq!((told.kind, told.latency), (MessageKind::Request, None));
        let words = told.refused.unwrap();
        assert!(words.starts_with("tls-not-terminated: add terminatingTLS"), "{words}");
    }
}
