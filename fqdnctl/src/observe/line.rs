//! What is said of a flow: who, with whom, how it was seen, and what became of it.

use hubble::event;
use hubble::proto::flow::{
    Endpoint, Flow, L7FlowType, Policy, Service, TrafficDirection, Verdict, layer4, layer7,
};
use hubble::reason;
use model::Identity;

/// How exactly a rule matched, by Cilium's numbers.
const POLICY_MATCHES: [&str; 7] =
    ["none", "L3-Only", "L3-L4", "L4-Only", "all", "L3-Proto", "Proto-Only"];

/// The words for one flow.
pub(crate) struct Line<'a> {
    pub flow: &'a Flow,
    /// Addresses and ports, not whose they are.
    pub numeric: bool,
}

/// One end of a flow.
pub(crate) struct End {
    /// A pod, a service, names or an address, with the port.
    pub name: String,
    pub identity: String,
}

impl Line<'_> {
    /// Who began, an arrow in the direction of the packet, and with whom.
    pub fn ends(&self) -> (End, &'static str, End) {
        let (source, destination) = (self.source(), self.destination());
        match self.flow.is_reply {
            None => (source, "<>", destination),
            Some(false) => (source, "->", destination),
            Some(true) => (destination, "<-", source),
        }
    }

    /// The end that sent it.
    pub fn source(&self) -> End {
        let flow = self.flow;
        let address = flow.ip.as_ref().map_or("", |ip| &ip.source);
        let port = self.ports().map(|(source, _)| source);
        let names = &flow.source_names;
        self.end(flow.source.as_ref(), flow.source_service.as_ref(), names, address, port)
    }

    /// The end that it was sent to.
    pub fn destination(&self) -> End {
        let flow = self.flow;
        let address = flow.ip.as_ref().map_or("", |ip| &ip.destination);
        let port = self.ports().map(|(_, destination)| destination);
        let names = &flow.destination_names;
        self.end(flow.destination.as_ref(), flow.destination_service.as_ref(), names, address, port)
    }

    fn end(
        &self,
        endpoint: Option<&Endpoint>,
        service: Option<&Service>,
        names: &[String],
        address: &str,
        port: Option<u32>,
    ) -> End {
        let pod = endpoint.filter(|endpoint| !endpoint.pod_name.is_empty());
        let mut name = match (pod, service) {
            (_, _) if self.numeric => literal(address, port),
            (Some(pod), _) => format!("{}/{}", pod.namespace, pod.pod_name),
            (None, Some(service)) => format!("{}/{}", service.namespace, service.name),
            (None, None) if !names.is_empty() => names.join(","),
            (None, None) => literal(address, port),
        };
        if let Some(port) = port {
            name.push_str(&format!(":{port}"));
        }
        if name.is_empty() {
            "?".clone_into(&mut name);
        }
        let identity = match Identity(endpoint.map_or(0, |endpoint| endpoint.identity)) {
            Identity::ANY => "(unknown)".to_owned(),
            identity if identity.0 < Identity::first(model::Scope::Labels).0 => {
                format!("({identity})")
            }
            identity => format!("(ID:{})", identity.0),
        };
        End { name, identity }
    }

    fn ports(&self) -> Option<(u32, u32)> {
        use layer4::Protocol;
        match self.flow.l4.as_ref()?.protocol.as_ref()? {
            Protocol::Tcp(own) => Some((own.source_port, own.destination_port)),
            Protocol::Udp(own) => Some((own.source_port, own.destination_port)),
            Protocol::Sctp(own) => Some((own.source_port, own.destination_port)),
            Protocol::IcmPv4(_) | Protocol::IcmPv6(_) => None,
        }
    }

    /// How it was seen, and for a drop or an audit why.
    pub fn kind(&self) -> String {
        if let Some(l7) = &self.flow.l7 {
            let protocol = match &l7.record {
                Some(layer7::Record::Dns(_)) => "dns",
                Some(layer7::Record::Http(_)) => "http",
                Some(layer7::Record::Kafka(_)) => "kafka",
                None => "l7",
            };
            let half = match l7.r#type() {
                L7FlowType::Request => "request",
                L7FlowType::Response => "response",
                L7FlowType::Sample => "sample",
                L7FlowType::UnknownL7Type => "unknown",
            };
            return format!("{protocol}-{half}");
        }
        let event = self.flow.event_type.unwrap_or_default();
        match event.r#type {
            event::DROP => format!("drop:{}", self.reason().unwrap_or_default()),
            event::POLICY_VERDICT if self.flow.verdict() == Verdict::Audit => {
                format!("audit:{}", self.reason().unwrap_or_default())
            }
            event::POLICY_VERDICT => {
                let matched = usize::try_from(self.flow.policy_match_type).unwrap_or(usize::MAX);
                let matched = POLICY_MATCHES.get(matched).unwrap_or(&"unknown");
                format!("policy-verdict:{matched}")
            }
            event::TRACE => {
                let point = self.flow.trace_observation_point().as_str_name();
                point.to_ascii_lowercase().replace('_', "-")
            }
            other => format!("event-{other}"),
        }
    }

    /// Why it was dropped, or would have been: our word for it, or Hubble's where we have none.
    pub fn reason(&self) -> Option<String> {
        let reason = self.flow.drop_reason_desc();
        if self.flow.drop_reason_desc == 0 {
            return None;
        }
        Some(reason::from_hubble(reason).map_or_else(
            || reason.as_str_name().to_ascii_lowercase().replace('_', "-"),
            |own| own.to_string(),
        ))
    }

    /// The direction, in which policies have judged it.
    pub fn direction(&self) -> &'static str {
        match self.flow.traffic_direction() {
            TrafficDirection::Egress => "EGRESS",
            TrafficDirection::Ingress => "INGRESS",
            TrafficDirection::Unknown => "",
        }
    }

    /// What became of it.
    pub fn verdict(&self) -> &'static str {
        match self.flow.verdict() {
            Verdict::Unknown => "UNKNOWN",
            verdict => verdict.as_str_name(),
        }
    }

    /// The policies that decided, each with its place where that is known.
    pub fn policies(&self) -> Vec<String> {
        let flow = self.flow;
        // What was dropped because nothing allows it may name the policies that let it be asked.
        let [egress, ingress] = match flow.verdict() {
            Verdict::Dropped | Verdict::Audit => [&flow.egress_denied_by, &flow.ingress_denied_by],
            _ => [&flow.egress_allowed_by, &flow.ingress_allowed_by],
        };
        egress.iter().chain(ingress).map(policy).collect()
    }

    /// What was said, without the reason of a drop, which [`Line::kind`] tells.
    #[expect(deprecated, reason = "the server puts it into no other field")]
    pub fn summary(&self) -> &str {
        let summary = self.flow.summary.as_str();
        let Some(reason) = self.reason().filter(|_| self.flow.l7.is_none()) else {
            return summary;
        };
        summary.strip_suffix(&format!("({reason})")).unwrap_or(summary).trim_end()
    }
}

/// An address, in brackets where a port follows an IPv6 address.
fn literal(address: &str, port: Option<u32>) -> String {
    match port {
        Some(_) if address.contains(':') => format!("[{address}]"),
        _ => address.to_owned(),
    }
}

/// `NAMESPACE/NAME`, and `FILE:LINE` of fqdnd's policies.
fn policy(policy: &Policy) -> String {
    let mut text = match policy.namespace.as_str() {
        "" => policy.name.clone(),
        namespace => format!("{namespace}/{}", policy.name),
    };
    let place = policy.labels.iter().find_map(|label| label.strip_prefix("fqdnd:file="));
    if let Some(place) = place {
        let file = place.rsplit('/').next().unwrap_or(place);
        text.push_str(&format!(" ({file})"));
    }
    text
}

#[cfg(test)]
mod tests;
