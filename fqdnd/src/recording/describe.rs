//! From what the programs and the DNS workers saw to flows as people read them.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use dnsproxy::Breach;
use engine::explain::Outcome as Explained;
use flows::{
    Direction, Dns, EventKind, Flow, Layer4, Layer7, MessageKind, Record, Side, TcpFlags, Time,
    Uuid, Verdict, Who,
};
use model::{
    DnsFailure, DropReason, EndpointId, Frontend, Name, Outcome, PacketEvent, PacketHeaders,
    Protocol, TransportHeader,
};

use super::Flows;
use super::directory::Directory;
use super::exchanges::{self, Exchange};
use super::policies::{Case, Explainer, Policies};

mod requests;

/// What flows are made with.
pub struct Describer {
    flows: Arc<Flows>,
    /// Who is who.
    pub directory: Directory,
    /// Why.
    pub explainer: Explainer,
    /// What the numbers of this recorder's flows begin with.
    seed: u128,
    sequence: u64,
}

/// Who speaks with whom through a proxy.
struct Conversation {
    /// The client's endpoint, where it is known.
    endpoint: Option<EndpointId>,
    protocol: Protocol,
    client: SocketAddr,
    server: SocketAddr,
}

impl Describer {
    /// Flows get numbers that follow from a random `seed`.
    pub fn new(flows: Arc<Flows>, directory: Directory, explainer: Explainer, seed: u128) -> Self {
        Self { flows, directory, explainer, seed, sequence: 0 }
    }

    /// A packet that was dropped or began a flow.
    pub fn packet(&mut self, event: &PacketEvent, time: Time) -> Flow {
        let own = event.endpoint.map(|endpoint| self.directory.endpoint(endpoint));
        let own = own.unwrap_or_default();
        let (source, destination) = match &event.packet {
            Some(packet) => self.ends(event, packet, own),
            None => unread(event.direction, own),
        };
        let (verdict, kind, drop_reason) = match event.outcome {
            Outcome::Forwarded => (Verdict::Forwarded, EventKind::PolicyVerdict, None),
            Outcome::Redirected | Outcome::Inspected => {
                (Verdict::Redirected, EventKind::PolicyVerdict, None)
            }
            Outcome::Dropped(reason) => (Verdict::Dropped, EventKind::Drop, Some(reason)),
            Outcome::Audited(reason) => (Verdict::Audit, EventKind::PolicyVerdict, Some(reason)),
        };
        let Policies { allow, deny } = self.policies_of_packet(event, &source, &destination);
        let service = event.packet.filter(|packet| packet.frontend);
        let service = service.and_then(|packet| self.directory.service(packet.identity?));
        Flow {
            time,
            uuid: self.uuid(),
            verdict,
            drop_reason,
            event: kind,
            direction: Some(direction(event.direction)),
            is_reply: (kind != EventKind::Drop).then_some(false),
            source,
            destination,
            destination_service: service,
            l4: event.packet.as_ref().map(layer4),
            l7: None,
            allowed_by: allow,
            denied_by: deny,
            interface: Some((event.interface, self.directory.interface(event.interface))),
            proxy_port: None,
            node: Arc::clone(&self.flows.node),
        }
    }

    fn ends(&mut self, event: &PacketEvent, packet: &PacketHeaders, own: Arc<Who>) -> (Side, Side) {
        let (from, to) = (packet.source.ip(), packet.destination.ip());
        match event.direction {
            model::Direction::Outbound => {
                let names = event.endpoint.map(|endpoint| self.directory.names(endpoint, to));
                let who = if packet.frontend {
                    Arc::new(Who { identity: packet.identity, ..Who::default() })
                } else {
                    self.directory.who(to, packet.identity)
                };
                (side(from, own), Side { names: names.unwrap_or_default(), ..side(to, who) })
            }
            model::Direction::Inbound => {
                let who = self.directory.who(from, None);
                (side(from, who), side(to, own))
            }
        }
    }

    fn policies_of_packet(&mut self, event: &PacketEvent, from: &Side, to: &Side) -> Policies {
        let outcome = match event.outcome {
            Outcome::Forwarded => Explained::Allow,
            Outcome::Redirected | Outcome::Inspected => Explained::Redirect,
            Outcome::Dropped(DropReason::PolicyDenied | DropReason::DenyRule) => Explained::Deny,
            Outcome::Dropped(_) | Outcome::Audited(_) => return Policies::default(),
        };
        let (Some(packet), Some(table), model::Direction::Outbound) =
            (&event.packet, event.table, event.direction)
        else {
            return Policies::default();
        };
        let case = Case {
            table,
            identity: packet.identity,
            names: Arc::clone(&to.names),
            protocol: packet.protocol,
            port: port(packet),
            asks: None,
        };
        self.policies(&case, from, packet.destination.ip(), outcome)
    }

    /// A question of DNS, with what became of it.
    pub fn exchange(&mut self, exchange: &Exchange, time: Time) -> Flow {
        let flow = self.read_by_proxy(
            &Conversation {
                endpoint: exchange.endpoint,
                protocol: exchange.transport.protocol(),
                client: exchange.client,
                server: exchange.server,
            },
            time,
        );
        let query = exchange.name();
        let asked = exchange.endpoint.map(|endpoint| (endpoint, query.clone()));
        let Policies { allow, deny } =
            self.policies_of_question(exchange, asked, &flow.source, &flow.destination);
        let (verdict, drop_reason) = verdict(exchange);
        let l7 = Some(Box::new(message(exchange, query)));
        Flow { verdict, drop_reason, l7, allowed_by: allow, denied_by: deny, ..flow }
    }

    /// What a proxy read, as far as its ends tell: it went on, whatever it was.
    fn read_by_proxy(&mut self, conversation: &Conversation, time: Time) -> Flow {
        let &Conversation { endpoint, protocol, client, server } = conversation;
        let who = match endpoint {
            Some(endpoint) => self.directory.endpoint(endpoint),
            None => self.directory.who(client.ip(), None),
        };
        let frontend = Frontend { address: server.ip(), protocol, port: server.port() };
        let service = self.directory.frontend_at(frontend);
        let server_who = match service {
            Some(_) => Arc::new(Who { identity: service, ..Who::default() }),
            None => self.directory.who(server.ip(), None),
        };
        Flow {
            time,
            uuid: self.uuid(),
            verdict: Verdict::Forwarded,
            drop_reason: None,
            event: EventKind::L7,
            direction: Some(Direction::Egress),
            is_reply: Some(false),
            source: side(client.ip(), who),
            destination: side(server.ip(), server_who),
            destination_service: service.and_then(|own| self.directory.service(own)),
            l4: Some(ports(protocol, client, server)),
            l7: None,
            allowed_by: Arc::default(),
            denied_by: Arc::default(),
            interface: None,
            proxy_port: None,
            node: Arc::clone(&self.flows.node),
        }
    }

    fn policies_of_question(
        &mut self,
        exchange: &Exchange,
        asked: Option<(EndpointId, Name)>,
        from: &Side,
        to: &Side,
    ) -> Policies {
        let outcome = match exchange.outcome {
            exchanges::Outcome::Refused => Explained::Deny,
            exchanges::Outcome::OverLimit
            | exchanges::Outcome::Answered(_)
            | exchanges::Outcome::Failed(_) => Explained::Redirect,
        };
        let Some((endpoint, query)) = asked else { return Policies::default() };
        let Some(table) = self.directory.table(endpoint) else { return Policies::default() };
        let case = Case {
            table,
            identity: to.who.identity,
            names: Arc::clone(&to.names),
            protocol: exchange.transport.protocol(),
            port: exchange.server.port(),
            asks: Some(query),
        };
        self.policies(&case, from, exchange.server.ip(), outcome)
    }

    fn policies(&mut self, case: &Case, from: &Side, to: IpAddr, outcome: Explained) -> Policies {
        if from.who.pod.is_none() {
            return Policies::default();
        }
        self.explainer.policies(case, from, to, outcome).unwrap_or_else(|| {
            self.flows.counts.unexplained.fetch_add(1, Ordering::Relaxed);
            Policies::default()
        })
    }

    fn uuid(&mut self) -> Uuid {
        self.sequence += 1;
        Uuid::new(self.seed, self.sequence)
    }
}

fn side(address: IpAddr, who: Arc<Who>) -> Side {
    Side { address: Some(address), who, names: Arc::default() }
}

/// The ends of a packet whose headers could not be read.
fn unread(direction: model::Direction, own: Arc<Who>) -> (Side, Side) {
    let own = Side { who: own, ..Side::default() };
    match direction {
        model::Direction::Outbound => (own, Side::default()),
        model::Direction::Inbound => (Side::default(), own),
    }
}

const fn direction(direction: model::Direction) -> Direction {
    match direction {
        model::Direction::Outbound => Direction::Egress,
        model::Direction::Inbound => Direction::Ingress,
    }
}

fn layer4(packet: &PacketHeaders) -> Layer4 {
    match packet.transport {
        Some(TransportHeader::Tcp(flags)) => Layer4::Tcp {
            source_port: packet.source.port(),
            destination_port: packet.destination.port(),
            flags: Some(TcpFlags(flags)),
        },
        Some(TransportHeader::Icmp { kind, code }) if packet.protocol == Protocol::ICMPV6 => {
            Layer4::IcmpV6 { kind, code }
        }
        Some(TransportHeader::Icmp { kind, code }) => Layer4::IcmpV4 { kind, code },
        Some(TransportHeader::Ports) => ports(packet.protocol, packet.source, packet.destination),
        None => Layer4::Other(packet.protocol),
    }
}

fn ports(protocol: Protocol, source: SocketAddr, destination: SocketAddr) -> Layer4 {
    let (source_port, destination_port) = (source.port(), destination.port());
    match protocol {
        Protocol::TCP => Layer4::Tcp { source_port, destination_port, flags: None },
        Protocol::SCTP => Layer4::Sctp { source_port, destination_port },
        Protocol::UDP => Layer4::Udp { source_port, destination_port },
        other => Layer4::Other(other),
    }
}

/// The port as rules know it: for ICMP, the message's type.
fn port(packet: &PacketHeaders) -> u16 {
    match packet.transport {
        Some(TransportHeader::Icmp { kind, .. }) => kind.into(),
        Some(TransportHeader::Tcp(_) | TransportHeader::Ports) | None => packet.destination.port(),
    }
}

const fn verdict(exchange: &Exchange) -> (Verdict, Option<DropReason>) {
    match (exchange.outcome, exchange.endpoint) {
        (exchanges::Outcome::Refused, Some(_)) => {
            (Verdict::Dropped, Some(DropReason::PolicyDenied))
        }
        (exchanges::Outcome::Refused, None) => {
            (Verdict::Dropped, Some(DropReason::EndpointUnknown))
        }
        (exchanges::Outcome::OverLimit, _) => (Verdict::Dropped, None),
        (exchanges::Outcome::Answered(_), _) => match exchange.breach {
            None => (Verdict::Forwarded, None),
            Some(Breach::Policy) => (Verdict::Audit, Some(DropReason::PolicyDenied)),
            Some(Breach::Limit) => (Verdict::Audit, None),
        },
        (exchanges::Outcome::Failed(_), _) => (Verdict::Error, None),
    }
}

fn message(exchange: &Exchange, query: Name) -> Layer7 {
    const SERVFAIL: u16 = 2;
    let (kind, rcode, failure) = match exchange.outcome {
        exchanges::Outcome::Refused => (MessageKind::Request, None, None),
        exchanges::Outcome::OverLimit => (MessageKind::Request, None, Some(DnsFailure::OverLimit)),
        exchanges::Outcome::Answered(rcode) => (MessageKind::Response, Some(rcode), None),
        exchanges::Outcome::Failed(failure) => {
            (MessageKind::Response, Some(SERVFAIL), Some(failure))
        }
    };
    let dns = Dns {
        query,
        qtype: exchange.qtype,
        rcode,
        addresses: exchange.addresses(),
        ttl: exchange.ttl,
        cnames: exchange.aliases(),
        cut: exchange.cut,
        failure,
    };
    let latency = exchange.forwarded.map(|forwarded| exchange.at.since(forwarded));
    Layer7 { kind, latency, record: Record::Dns(dns), refused: None }
}
