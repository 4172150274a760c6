//! The items of `toPorts`.

use std::sync::Arc;

use model::{L7Rule, Originate, PortPrefix, Protocol, Requests, Terminate};

use crate::rule::{Application, Direction, L7, NamedPort, PortRule, TlsContext, Unenforced};
use crate::spec::application::{self, Kind, Spoken};
use crate::spec::fields::{At, Check, Fields};
use crate::spec::tls::{self, Around};

/// The most `ports` in an item.
const MAX_PORTS: usize = 40;
/// The protocols that `ANY` and an absent protocol stand for.
const ANY: &[Protocol] = &[Protocol::TCP, Protocol::UDP, Protocol::SCTP];

const ITEM: &[&str] =
    &["listener", "originatingTLS", "ports", "rules", "serverNames", "terminatingTLS"];

/// Of them, those that only what is allowed may have.
const FOR_ALLOWED: &[&str] =
    &["listener", "originatingTLS", "rules", "serverNames", "terminatingTLS"];

/// Ports as they were written.
struct Written<'n> {
    at: At<'n>,
    protocols: &'static [Protocol],
    port: WrittenPort,
}

/// Rules that say something.
struct Rules<'a> {
    /// The field of their protocol.
    at: &'a At<'a>,
    kind: Kind,
    spoken: &'a Spoken,
}

enum WrittenPort {
    Range(u16, u16),
    Named(String),
}

/// Reads `toPorts`; empty is as absent.
pub(super) fn read(check: &mut Check, at: &At<'_>, direction: Direction) -> Option<Vec<PortRule>> {
    let items = check.list(at)?;
    let read = |item| port_rule(check, item, direction);
    let rules: Vec<PortRule> = items.iter().filter_map(read).collect();
    (!items.is_empty()).then_some(rules)
}

fn port_rule(check: &mut Check, at: &At<'_>, direction: Direction) -> Option<PortRule> {
    let fields = check.fields(at, ITEM)?;
    if direction == Direction::Deny {
        check.for_allowed_only(&fields, FOR_ALLOWED);
    }
    let ports = check.present(&fields, "ports");
    let named_any = ports.as_ref().is_some_and(|ports| !ports.is_empty_list());
    let written = match ports {
        Some(ports) => Some(read_ports(check, &ports)?),
        None => None,
    };
    let rules = match check.present(&fields, "rules") {
        Some(rules) => Some(application::read(check, &rules)?),
        None => None,
    };
    let rules = rules.as_ref().and_then(|own| rules_at_all(check, own));
    let around = tls::read(check, &fields, rules.is_some());
    let application = application(rules.as_ref().map(|rules| rules.spoken), around);
    let application = application.map(|own| own.judged_where(check.options.l7));
    let written = match (written, &rules) {
        (None, Some(rules)) => meant_ports(check, fields.at("rules"), rules.kind),
        (written, Some(rules)) => {
            let written = written.unwrap_or_default();
            check_ports(check, rules, &written);
            written
        }
        (written, None) => written.unwrap_or_default(),
    };
    if written.is_empty() && !named_any {
        check.warn(fields.itself(), "has no ports, so it covers nothing");
    }
    if let Some(what) = application.as_ref().and_then(Application::unenforced) {
        note(check, &fields, what);
    }
    if let Some(Application::L7(l7)) = &application {
        warn_of_tls(check, &fields, l7, &written);
    }
    let carries =
        |protocol: &Protocol| rules.is_none() || matches!(*protocol, Protocol::TCP | Protocol::UDP);
    Some(PortRule {
        at: at.spot(),
        ports: written.iter().flat_map(|ports| ports.prefixes(carries)).collect(),
        named: written.iter().flat_map(|ports| ports.named(carries)).collect(),
        application,
    })
}

/// Rules that say something; those without an item are as absent.
fn rules_at_all<'a>(check: &mut Check, rules: &'a application::Rules<'_>) -> Option<Rules<'a>> {
    let Some(spoken) = &rules.spoken else {
        check.warn(&rules.at, "is empty, so as in Cilium everything may be said at these ports");
        return None;
    };
    Some(Rules { at: &rules.at, kind: rules.kind, spoken })
}

/// What rules and the fields around them make together.
fn application(spoken: Option<&Spoken>, around: Around) -> Option<Application> {
    let outer = around.unenforced();
    let (inner, requests, headers) = match spoken {
        Some(Spoken::Dns(names)) if outer.is_none() => {
            return Some(Application::Dns(names.clone()));
        }
        Some(Spoken::Requests(field, requests, headers)) if !around.listener => {
            (Some(*field), requests.clone(), headers.clone())
        }
        // Nothing judges DNS within TLS, or sends anything to a listener.
        Some(Spoken::Dns(_) | Spoken::Requests(..)) => {
            return outer.map(Application::Unenforced);
        }
        None if around.listener => return outer.map(Application::Unenforced),
        None => (None, Requests::Any, Vec::new()),
    };
    let Around { server_names, terminating, originating, .. } = around;
    let name = |context: &TlsContext| context.secret.to_string();
    let rule = L7Rule {
        server_names,
        terminate: terminating.as_ref().map(|own| Terminate::Unavailable(name(own))),
        originate: originating.as_ref().map(|own| Originate::Unavailable(name(own))),
        requests,
    };
    let field = outer.or(inner)?;
    Some(Application::L7(Arc::new(L7 { field, rule, terminating, originating, headers })))
}

/// Warns of TLS that the proxy will have to refuse.
fn warn_of_tls(check: &mut Check, fields: &Fields<'_>, l7: &L7, ports: &[Written<'_>]) {
    let L7 { rule, terminating, originating, .. } = l7;
    let is_https = |own: &Written<'_>| matches!(own.port, WrittenPort::Range(443, 443));
    if terminating.is_some() && originating.is_none() {
        let message = "lets nothing pass without originatingTLS: it would leave in the clear";
        check.warn(fields.at("terminatingTLS"), message);
    } else if matches!(rule.requests, Requests::Http(_))
        && terminating.is_none()
        && ports.iter().any(is_https)
    {
        let message = "is for HTTP in the clear: to judge what is said in TLS, terminatingTLS and \
                       originatingTLS have to stand beside it; without them TLS is refused";
        check.warn(fields.at("rules"), message);
    }
}

fn note(check: &mut Check, fields: &Fields<'_>, what: Unenforced) {
    let at = match what {
        Unenforced::Listener => fields.at("listener"),
        Unenforced::ServerNames => fields.at("serverNames"),
        Unenforced::Tls if fields.field("terminatingTLS").is_some() => fields.at("terminatingTLS"),
        Unenforced::Tls => fields.at("originatingTLS"),
        Unenforced::Http | Unenforced::Kafka => fields.at("rules"),
        Unenforced::Authentication | Unenforced::Groups => fields.itself(),
    };
    check.unenforced(at, what, "these ports are not opened");
}

/// The ports of rules that name none: those of the protocol itself.
fn meant_ports<'n>(check: &mut Check, at: &At<'n>, kind: Kind) -> Vec<Written<'n>> {
    const DNS: &[Protocol] = &[Protocol::UDP, Protocol::TCP];
    let (port, protocols, message): (_, &[_], _) = match kind {
        Kind::Dns => {
            (53, DNS, "has no ports, so the DNS port 53 is meant, UDP and TCP; Cilium refuses this")
        }
        Kind::Http => (
            80,
            &[Protocol::TCP],
            "has no ports, so the HTTP port 80 is meant; in Cilium this allows nothing",
        ),
        Kind::Kafka => (
            9092,
            &[Protocol::TCP],
            "has no ports, so the Kafka port 9092 is meant; in Cilium this allows nothing",
        ),
    };
    check.warn(at, message);
    vec![Written { at: at.clone(), protocols, port: WrittenPort::Range(port, port) }]
}

/// Checks ports that stand beside rules for what is said there.
fn check_ports(check: &mut Check, rules: &Rules<'_>, ports: &[Written<'_>]) {
    let is_dns = rules.kind == Kind::Dns;
    if is_dns && ports.is_empty() {
        check.problem(rules.at, "needs a port: `ports` is empty; left out, it means port 53");
    }
    for written in ports {
        match written.port {
            WrittenPort::Range(0, _) if is_dns => {
                check.problem(&written.at, "must not be port 0 beside rules.dns: name the port");
                continue;
            }
            WrittenPort::Range(0, _) => {
                check.problem(&written.at, "must not be port 0 beside rules: name the port");
                continue;
            }
            WrittenPort::Range(first, last) if is_dns && first != last => {
                check.problem(&written.at, "must not be a range beside rules.dns");
                continue;
            }
            WrittenPort::Range(..) | WrittenPort::Named(_) => {}
        }
        check_protocols(check, rules.kind, written);
    }
}

fn check_protocols(check: &mut Check, kind: Kind, written: &Written<'_>) {
    let field = match kind {
        Kind::Dns => {
            if written.protocols == [Protocol::SCTP] {
                check.warn(&written.at, "allows nothing: there is no DNS over SCTP");
            }
            return;
        }
        Kind::Http => "http",
        Kind::Kafka => "kafka",
    };
    if written.protocols != [Protocol::TCP] {
        check.problem(&written.at, format!("must be TCP beside rules.{field}"));
    }
}

fn read_ports<'n>(check: &mut Check, at: &At<'n>) -> Option<Vec<Written<'n>>> {
    let items = check.list(at)?;
    if items.len() > MAX_PORTS {
        check.problem(at, format!("has {} items, at most {MAX_PORTS} are allowed", items.len()));
        return None;
    }
    Some(items.iter().filter_map(|item| read_port(check, item)).collect())
}

fn read_port<'n>(check: &mut Check, at: &At<'n>) -> Option<Written<'n>> {
    let fields = check.fields(at, &["endPort", "port", "protocol"])?;
    let protocols = match check.present(&fields, "protocol") {
        Some(protocol) => protocols(check, &protocol)?,
        None => ANY,
    };
    let Some(port) = check.present(&fields, "port") else {
        check.problem(at, "port must be set; \"0\" means every port");
        return None;
    };
    let first = port_number(check, &port)?;
    let end = check.present(&fields, "endPort");
    let port = match (first, end) {
        (WrittenPort::Range(first, _), Some(end)) => {
            WrittenPort::Range(first, end_port(check, &end, first)?)
        }
        (WrittenPort::Named(name), Some(end)) => {
            end_port(check, &end, 0)?;
            check.warn(&end, format!("has no meaning beside the named port `{name}`"));
            WrittenPort::Named(name)
        }
        (port, None) => port,
    };
    Some(Written { at: at.clone(), protocols, port })
}

fn protocols(check: &mut Check, at: &At<'_>) -> Option<&'static [Protocol]> {
    Some(match check.one_of(at, &["TCP", "UDP", "SCTP", "ANY"])? {
        "TCP" => &[Protocol::TCP],
        "UDP" => &[Protocol::UDP],
        "SCTP" => &[Protocol::SCTP],
        _ => ANY,
    })
}

fn port_number(check: &mut Check, at: &At<'_>) -> Option<WrittenPort> {
    let text = check.text(at)?;
    if is_service_name(text) {
        return Some(WrittenPort::Named(text.to_ascii_lowercase()));
    }
    // Cilium reads numbers as Go does: what follows a zero is octal, and `1_000` is 1000.
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    let digits = text.split('_').all(is_number).then(|| text.replace('_', ""));
    let radix = if text.len() > 1 && text.starts_with('0') { 8 } else { 10 };
    let port = digits.and_then(|digits| u16::from_str_radix(&digits, radix).ok());
    let Some(port) = port else {
        check.problem(at, format!("`{text}` is no port from 0 to 65535, nor the name of one"));
        return None;
    };
    if radix == 8 {
        check.warn(at, format!("`{text}` is octal because of its leading zero: port {port}"));
    }
    Some(WrittenPort::Range(port, port))
}

/// The last port of a range, or `first` if there is none.
fn end_port(check: &mut Check, at: &At<'_>, first: u16) -> Option<u16> {
    let number = check.integer(at)?;
    let Ok(last) = u16::try_from(number) else {
        check.problem(at, format!("{number} is no port from 0 to 65535"));
        return None;
    };
    if last < first && last != 0 {
        check.warn(at, format!("is below the port, so port {first} alone is meant"));
    }
    Some(last.max(first))
}

/// Whether this is an IANA service name (RFC 6335, 5.1).
fn is_service_name(text: &str) -> bool {
    (1..=15).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        && text.bytes().any(|byte| byte.is_ascii_alphabetic())
        && !text.starts_with('-')
        && !text.ends_with('-')
        && !text.contains("--")
}

impl Written<'_> {
    fn prefixes(&self, carries: impl Fn(&Protocol) -> bool) -> Vec<PortPrefix> {
        let WrittenPort::Range(first, last) = self.port else { return Vec::new() };
        // Port 0 alone stands for every port.
        let last = if last == 0 { u16::MAX } else { last };
        let protocols = self.protocols.iter().filter(|protocol| carries(protocol));
        protocols.flat_map(|protocol| PortPrefix::range(*protocol, first, last)).collect()
    }

    fn named(&self, carries: impl Fn(&Protocol) -> bool) -> Vec<NamedPort> {
        let WrittenPort::Named(name) = &self.port else { return Vec::new() };
        let protocols = self.protocols.iter().filter(|protocol| carries(protocol));
        protocols.map(|protocol| NamedPort { protocol: *protocol, name: name.clone() }).collect()
    }
}
