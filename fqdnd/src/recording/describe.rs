//! From what the programs and the DNS workers saw to flows as people read them.
//!
//! Who the ends are is settled when a record is taken, and so are the names of an address: pods and
//! names come and go. Everything else follows from the record and from the [`Grounds`] that were in
//! force, and waits until somebody reads the flow.

use std::net::SocketAddr;
use std::sync::Arc;

use dnsproxy::Breach;
use engine::explain::Outcome as Explained;
use flows::{
    Direction, Dns, EventKind, Flow, Layer4, Layer7, MessageKind, Record, Seen, Side, TcpFlags,
    Time, Uuid, Verdict, Who,
};
use model::{
    DnsFailure, DropReason, Name, Outcome, PacketEvent, PacketHeaders, Protocol, TransportHeader,
};

use super::conversations::{Conversation, Ends, side};
use super::directory::Directory;
use super::exchanges::{self, Exchange};
use super::grounds::{Case, Grounds};
use super::policies::Policies;

mod requests;

/// What flows are made with.
pub struct Describer {
    node: Arc<str>,
    /// Who is who.
    pub directory: Directory,
    /// What the numbers of this recorder's flows begin with.
    seed: u128,
    sequence: u64,
}

/// What every flow of a proxy's has.
struct Frame {
    time: Time,
    uuid: Uuid,
    node: Arc<str>,
    grounds: Arc<Grounds>,
}

impl Describer {
    /// Flows of a node get numbers that follow from a random `seed`.
    pub fn new(node: &str, directory: Directory, seed: u128) -> Self {
        Self { node: node.into(), directory, seed, sequence: 0 }
    }

    /// A question of DNS, with what became of it.
    pub fn exchange(&mut self, exchange: Exchange, time: Time) -> Seen {
        let ends = self.directory.ends(exchange.conversation());
        let frame = self.frame(time);
        Seen::new(time, move || frame.exchange(&exchange, &ends))
    }

    /// A packet that was dropped or began a flow.
    pub fn packet(&mut self, event: &PacketEvent, time: Time) -> Seen {
        let flow = self.undecided(event, time);
        let Some((case, outcome)) = case(event, &flow.destination) else { return flow.into() };
        let grounds = Arc::clone(self.directory.grounds());
        Seen::new(time, move || {
            let to = flow.destination.address;
            let policies = to.map(|to| grounds.policies(&case, &flow.source, to, outcome));
            let Policies { allow, deny } = policies.unwrap_or_default();
            Flow { allowed_by: allow, denied_by: deny, ..flow }
        })
    }

    /// All of a packet's flow but the policies.
    fn undecided(&mut self, event: &PacketEvent, time: Time) -> Flow {
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
            Outcome::Audited(reason) => (Verdict::Audit, EventKind::PolicyVerdict, Some(reason)),
            Outcome::Dropped(reason) => (Verdict::Dropped, EventKind::Drop, Some(reason)),
        };
        let service = event.packet.filter(|packet| packet.frontend);
        let service = service.and_then(|packet| self.directory.service(packet.identity?));
        Flow {
            time,
            uuid: self.uuid(),
            verdict,
            drop_reason,
            event: kind,
            direction: Some(direction(event.direction)),
            is_reply: (verdict != Verdict::Dropped).then_some(false),
            source,
            destination,
            destination_service: service,
            l4: event.packet.as_ref().map(layer4),
            l7: None,
            allowed_by: Arc::default(),
            denied_by: Arc::default(),
            interface: Some((event.interface, self.directory.interface(event.interface))),
            proxy_port: None,
            node: Arc::clone(&self.node),
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

    fn frame(&mut self, time: Time) -> Frame {
        let (node, grounds) = (Arc::clone(&self.node), Arc::clone(self.directory.grounds()));
        Frame { time, uuid: self.uuid(), node, grounds }
    }

    fn uuid(&mut self) -> Uuid {
        self.sequence += 1;
        Uuid::new(self.seed, self.sequence)
    }
}

impl Frame {
    fn exchange(self, exchange: &Exchange, ends: &Ends) -> Flow {
        let query = exchange.name();
        let Policies { allow, deny } = self.policies_of_question(exchange, ends, query.clone());
        let (verdict, drop_reason) = verdict(exchange);
        let l7 = Some(Box::new(message(exchange, query)));
        let flow = self.read_by_proxy(
            ends,
            exchange.transport.protocol(),
            exchange.client,
            exchange.server,
        );
        Flow { verdict, drop_reason, l7, allowed_by: allow, denied_by: deny, ..flow }
    }

    fn policies_of_question(&self, exchange: &Exchange, ends: &Ends, query: Name) -> Policies {
        let outcome = match (exchange.outcome, exchange.breach) {
            (exchanges::Outcome::Refused, _) => Explained::Deny,
            (_, Some(Breach::Policy)) => Explained::Audit,
            (
                exchanges::Outcome::OverLimit
                | exchanges::Outcome::Answered(_)
                | exchanges::Outcome::Failed(_),
                None | Some(Breach::Limit),
            ) => Explained::Redirect,
        };
        let (Some(_), Some(table)) = (exchange.endpoint, ends.table) else {
            return Policies::default();
        };
        let case = Case {
            table,
            identity: ends.destination.who.identity,
            names: Arc::default(),
            protocol: exchange.transport.protocol(),
            port: exchange.server.port(),
            asks: Some(query),
        };
        self.grounds.policies(&case, &ends.source, exchange.server.ip(), outcome)
    }

    /// What a proxy read, as far as its ends tell: it went on, whatever it was.
    fn read_by_proxy(
        self,
        ends: &Ends,
        protocol: Protocol,
        client: SocketAddr,
        server: SocketAddr,
    ) -> Flow {
        Flow {
            time: self.time,
            uuid: self.uuid,
            verdict: Verdict::Forwarded,
            drop_reason: None,
            event: EventKind::L7,
            direction: Some(Direction::Egress),
            is_reply: Some(false),
            source: ends.source.clone(),
            destination: ends.destination.clone(),
            destination_service: ends.service.clone(),
            l4: Some(ports(protocol, client, server)),
            l7: None,
            allowed_by: Arc::default(),
            denied_by: Arc::default(),
            interface: None,
            proxy_port: None,
            node: self.node,
        }
    }
}

/// What a packet was decided by, and what came of it; none where no policy of this node's did.
fn case(event: &PacketEvent, to: &Side) -> Option<(Case, Explained)> {
    let outcome = match event.outcome {
        Outcome::Forwarded => Explained::Allow,
        Outcome::Redirected | Outcome::Inspected => Explained::Redirect,
        Outcome::Dropped(DropReason::PolicyDenied | DropReason::DenyRule) => Explained::Deny,
        Outcome::Audited(DropReason::PolicyDenied | DropReason::DenyRule) => Explained::Audit,
        Outcome::Dropped(_) | Outcome::Audited(_) => return None,
    };
    let (Some(packet), Some(table), model::Direction::Outbound) =
        (&event.packet, event.table, event.direction)
    else {
        return None;
    };
    let case = Case {
        table,
        identity: packet.identity,
        names: Arc::clone(&to.names),
        protocol: packet.protocol,
        port: port(packet),
        asks: None,
    };
    Some((case, outcome))
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

#[cfg(test)]
mod tests;
