//! The items of `toPorts`.

use model::{Pattern, PortPrefix, Protocol};

use crate::rule::{Application, PortRule};
use crate::spec::egress;
use crate::spec::fields::{At, Check, Fields};

/// The most `ports` in an item.
const MAX_PORTS: usize = 40;
const DNS_PORT: u16 = 53;
/// The protocols that `ANY` and an absent protocol stand for.
const ANY: &[Protocol] = &[Protocol::TCP, Protocol::UDP, Protocol::SCTP];

const ITEM: &[&str] =
    &["listener", "originatingTLS", "ports", "rules", "serverNames", "terminatingTLS"];
const RULES: &[&str] = &["dns", "http", "kafka", "l7", "l7proto"];

/// Ports as they were written.
struct Written<'n> {
    at: At<'n>,
    protocols: &'static [Protocol],
    first: u16,
    last: u16,
}

/// Reads `toPorts`; empty is as absent.
pub(super) fn read(check: &mut Check, at: &At<'_>) -> Option<Vec<PortRule>> {
    let items = check.list(at)?;
    let rules: Vec<PortRule> = items.iter().filter_map(|item| port_rule(check, item)).collect();
    (!items.is_empty()).then_some(rules)
}

fn port_rule(check: &mut Check, at: &At<'_>) -> Option<PortRule> {
    let fields = check.fields(at, ITEM)?;
    for key in ["listener", "originatingTLS", "serverNames", "terminatingTLS"] {
        if let Some(field) = check.present(&fields, key) {
            check.not_yet(&field);
        }
    }
    let written = match check.present(&fields, "ports") {
        Some(ports) => Some(read_ports(check, &ports)?),
        None => None,
    };
    match check.present(&fields, "rules") {
        Some(rules) => application_rule(check, &rules, written),
        None => Some(plain_rule(check, &fields, written.as_deref().unwrap_or_default())),
    }
}

fn plain_rule(check: &mut Check, fields: &Fields<'_>, written: &[Written<'_>]) -> PortRule {
    if written.is_empty() {
        check.warn(fields.itself(), "has no ports, so it allows nothing");
    }
    let ports = written.iter().flat_map(|ports| ports.prefixes(ports.protocols)).collect();
    PortRule { ports, application: None }
}

fn application_rule(
    check: &mut Check,
    at: &At<'_>,
    written: Option<Vec<Written<'_>>>,
) -> Option<PortRule> {
    let fields = check.fields(at, RULES)?;
    for key in ["http", "kafka", "l7", "l7proto"] {
        if let Some(field) = check.present(&fields, key) {
            check.not_yet(&field);
        }
    }
    let Some(dns) = check.present(&fields, "dns") else {
        if RULES.iter().all(|key| fields.field(key).is_none()) {
            check.problem(at, "must have one of dns, http, kafka, l7proto");
        }
        return None;
    };
    let items = check.list(&dns)?;
    let patterns: Vec<Pattern> =
        items.iter().filter_map(|item| egress::pattern(check, item)).collect();
    let ports = match written {
        Some(written) => dns_ports(check, &dns, &written, items.is_empty()),
        None => {
            check.warn(
                at,
                "has no ports, so the DNS port 53 is meant, UDP and TCP; Cilium refuses this",
            );
            [Protocol::UDP, Protocol::TCP].map(|p| PortPrefix::port(p, DNS_PORT)).into()
        }
    };
    Some(PortRule { ports, application: Some(Application::Dns(patterns)) })
}

/// The ports of a rule for DNS.
fn dns_ports(
    check: &mut Check,
    dns: &At<'_>,
    written: &[Written<'_>],
    is_empty: bool,
) -> Vec<PortPrefix> {
    if written.is_empty() {
        check.problem(dns, "needs a port: `ports` is empty; left out, it means port 53");
    }
    let mut prefixes = Vec::new();
    for ports in written {
        if ports.first == 0 {
            check.problem(&ports.at, "must not be port 0 beside rules.dns: name the port");
        } else if ports.first != ports.last {
            check.problem(&ports.at, "must not be a range beside rules.dns");
        } else if is_empty && ports.protocols != [Protocol::TCP] {
            check.problem(&ports.at, "must be TCP where rules.dns is empty, as in Cilium");
        } else if ports.protocols == [Protocol::SCTP] {
            check.warn(&ports.at, "allows nothing: there is no DNS over SCTP");
        }
        let carries_dns = |protocol: &Protocol| *protocol != Protocol::SCTP;
        let protocols: Vec<_> = ports.protocols.iter().copied().filter(carries_dns).collect();
        prefixes.extend(ports.prefixes(&protocols));
    }
    prefixes
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
    let last = match check.present(&fields, "endPort") {
        Some(end) => end_port(check, &end, first)?,
        None => first,
    };
    Some(Written { at: at.clone(), protocols, first, last })
}

fn protocols(check: &mut Check, at: &At<'_>) -> Option<&'static [Protocol]> {
    Some(match check.text(at)? {
        "TCP" => &[Protocol::TCP],
        "UDP" => &[Protocol::UDP],
        "SCTP" => &[Protocol::SCTP],
        "ANY" => ANY,
        other => {
            check.problem(at, format!("`{other}` is none of TCP, UDP, SCTP, ANY"));
            return None;
        }
    })
}

fn port_number(check: &mut Check, at: &At<'_>) -> Option<u16> {
    let text = check.text(at)?;
    if is_service_name(text) {
        check.problem(at, format!("named ports such as `{text}` are not enforced yet"));
        return None;
    }
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    // Cilium reads a leading zero as Go does: what follows is octal.
    let radix = if text.len() > 1 && text.starts_with('0') { 8 } else { 10 };
    let Some(port) = digits.then(|| u16::from_str_radix(text, radix).ok()).flatten() else {
        check.problem(at, format!("`{text}` is no port from 0 to 65535, nor the name of one"));
        return None;
    };
    if radix == 8 {
        check.warn(at, format!("`{text}` is octal because of its leading zero: port {port}"));
    }
    Some(port)
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
    fn prefixes(&self, protocols: &[Protocol]) -> Vec<PortPrefix> {
        // Port 0 alone stands for every port.
        let last = if self.last == 0 { u16::MAX } else { self.last };
        protocols.iter().flat_map(|p| PortPrefix::range(*p, self.first, last)).collect()
    }
}
