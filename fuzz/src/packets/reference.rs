//! The model: what the programs should do with a frame, said as plainly as it can be.
//!
//! Nothing here knows time: no flow, fragment or lease runs out while a script runs.

mod header;

use std::collections::BTreeMap;
use std::net::IpAddr;

use model::{
    DropReason, EndpointEntry, EndpointId, Enforcement, Interface, Moment, Protocol, State, Verdict,
};

use crate::kernel::{Probe, judge};
use header::{Frame, Header, Part};

/// What became of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It went on.
    Pass,
    /// It went to the bridge, for the proxy.
    Redirect,
    /// It was dropped.
    Drop(DropReason),
}

/// Both ends of a flow as the endpoint sees them.
type FlowKey = (IpAddr, u16, IpAddr, u16, u8);

#[derive(Clone, Copy, Debug)]
struct Flow {
    /// None: denied after it had been allowed.
    verdict: Option<Verdict>,
    generation: u32,
    fin_local: bool,
    fin_remote: bool,
    reset: bool,
}

impl Flow {
    fn is_over(&self) -> bool {
        self.reset || (self.fin_local && self.fin_remote)
    }

    fn close(&mut self, header: &Header, local: bool) {
        self.fin_local |= header.fin && local;
        self.fin_remote |= header.fin && !local;
        self.reset |= header.reset;
    }
}

/// The endpoint's flows and fragments, and the maps.
pub struct Reference {
    /// The maps.
    pub state: State,
    interface: Interface,
    outbound: BTreeMap<FlowKey, Flow>,
    inbound: BTreeMap<FlowKey, Flow>,
    fragments: BTreeMap<(u32, IpAddr, IpAddr, u8), Verdict>,
}

impl Reference {
    /// A model of one interface, without any map.
    pub fn new(interface: Interface) -> Self {
        Self {
            state: State::default(),
            interface,
            outbound: BTreeMap::new(),
            inbound: BTreeMap::new(),
            fragments: BTreeMap::new(),
        }
    }

    /// Forgets all flows and fragments.
    pub fn forget(&mut self) {
        self.outbound.clear();
        self.inbound.clear();
        self.fragments.clear();
    }

    /// The endpoint sends a frame.
    pub fn send(&mut self, frame: &[u8], now: Moment) -> Outcome {
        let entry = self.state.endpoints[&self.interface];
        let sent = match entry.enforcement {
            Enforcement::Closed(reason) => Err(reason),
            Enforcement::Open | Enforcement::Table(_) => self.send_by(&entry, frame, now),
        };
        match sent {
            Ok(Verdict::Dns | Verdict::Proxy) if entry.bridge.is_some() => Outcome::Redirect,
            // A test run is at no ingress, so no socket can be assigned.
            Ok(Verdict::Dns | Verdict::Proxy) => Outcome::Drop(DropReason::ProxyUnavailable),
            Ok(_) => Outcome::Pass,
            Err(reason) => Outcome::Drop(reason),
        }
    }

    fn send_by(
        &mut self,
        entry: &EndpointEntry,
        frame: &[u8],
        now: Moment,
    ) -> Result<Verdict, DropReason> {
        let open = entry.enforcement == Enforcement::Open;
        let (mut header, part) = match header::read_frame(frame) {
            Ok(Frame::Ip(header, part)) => (header, part),
            Ok(Frame::Arp) => return Ok(Verdict::Allow),
            Ok(Frame::Other) if open => return Ok(Verdict::Allow),
            Ok(Frame::Other) => return Err(DropReason::UnsupportedEthertype),
            Err((DropReason::UnsupportedHeader, Some(source))) if open => {
                return self
                    .legal(entry.endpoint, source)
                    .then_some(Verdict::Allow)
                    .ok_or(DropReason::SpoofedSource);
            }
            Err((reason, _)) => return Err(reason),
        };
        let legal = self.legal(entry.endpoint, header.source);
        let spoofed = Err(DropReason::SpoofedSource);
        if part.offset > 0 {
            return if legal { self.later_fragment(open, &header, part) } else { spoofed };
        }
        if let Err(reason) = header::read_transport(frame, &mut header, part) {
            return if legal { Err(reason) } else { spoofed };
        }
        let link_source = matches!(header.source, IpAddr::V6(v6) if v6.is_unspecified() || v6.is_unicast_link_local());
        if header.is_router_message() && !open {
            return Err(DropReason::RouterMessage);
        }
        if (legal || link_source) && (header.is_neighbourly() || header.is_report(part)) {
            return Ok(Verdict::Allow);
        }
        if !legal {
            return spoofed;
        }
        if header.is_control() && open {
            return Ok(Verdict::Allow);
        }
        if header.is_error() {
            return self.error(frame, &header, entry.generation);
        }
        if header.is_tracked() {
            self.send_tracked(entry, &header, part, now)
        } else if open {
            Ok(Verdict::Allow)
        } else {
            let verdict = judge(&self.state, entry, probe(&header), now, false)?;
            self.carry_out(&header, part, verdict)
        }
    }

    fn legal(&self, endpoint: EndpointId, source: IpAddr) -> bool {
        self.state.sources.keys().any(|(own, prefix)| *own == endpoint && prefix.covers(source))
    }

    fn later_fragment(
        &self,
        open: bool,
        header: &Header,
        part: Part,
    ) -> Result<Verdict, DropReason> {
        if open {
            return Ok(Verdict::Allow);
        }
        let least = if header.protocol == 6 { 20 } else { 8 };
        if u32::from(part.offset) * 8 < least {
            return Err(DropReason::Malformed);
        }
        match self.fragments.get(&fragment_key(header, part)) {
            None => Err(DropReason::FragmentUnknown),
            Some(Verdict::Dns | Verdict::Proxy) => Err(DropReason::FragmentToProxy),
            Some(_) => Ok(Verdict::Allow),
        }
    }

    fn carry_out(
        &mut self,
        header: &Header,
        part: Part,
        verdict: Verdict,
    ) -> Result<Verdict, DropReason> {
        if part.more {
            self.fragments.insert(fragment_key(header, part), verdict);
            if matches!(verdict, Verdict::Dns | Verdict::Proxy) {
                return Err(DropReason::FragmentToProxy);
            }
        }
        Ok(verdict)
    }

    fn send_tracked(
        &mut self,
        entry: &EndpointEntry,
        header: &Header,
        part: Part,
        now: Moment,
    ) -> Result<Verdict, DropReason> {
        let key = header.flow(true);
        let old = self.outbound.get(&key).copied();
        let living = old.is_some_and(|flow| flow.verdict.is_some())
            && !(header.opens && header.is_connected());
        if let (true, Some(flow)) = (living, self.outbound.get_mut(&key))
            && flow.generation == entry.generation
        {
            flow.close(header, true);
            let verdict = flow.verdict.unwrap();
            return self.carry_out(header, part, verdict);
        }
        if !living
            && !header.opens
            && let Some(flow) = self.inbound.get_mut(&key)
        {
            flow.close(header, true);
            return self.carry_out(header, part, Verdict::Allow);
        }
        let verdict = match judge(&self.state, entry, probe(header), now, living) {
            Ok(verdict) => verdict,
            Err(reason) => {
                if living {
                    self.outbound.get_mut(&key).unwrap().verdict = None;
                }
                return Err(reason);
            }
        };
        let judged = living && old.is_some_and(|flow| flow.verdict == Some(Verdict::Proxy));
        // Its server knows it from the L7 proxy alone.
        let verdict = if judged && verdict == Verdict::Allow { Verdict::Proxy } else { verdict };
        let fresh = Flow {
            verdict: None,
            generation: 0,
            fin_local: false,
            fin_remote: false,
            reset: false,
        };
        let mut flow = old.filter(|_| living).unwrap_or(fresh);
        (flow.verdict, flow.generation) = (Some(verdict), entry.generation);
        flow.close(header, true);
        if !living {
            self.inbound.remove(&key);
        }
        self.outbound.insert(key, flow);
        self.carry_out(header, part, verdict)
    }

    /// An error passes for a flow that is allowed as it stands, and for one that came in.
    fn error(&self, frame: &[u8], header: &Header, generation: u32) -> Result<Verdict, DropReason> {
        let unrelated = Err(DropReason::IcmpUnrelated);
        let Some(key) = header::quoted_flow(frame, header) else { return unrelated };
        let outbound = self.outbound.get(&key).is_some_and(|flow| {
            flow.verdict == Some(Verdict::Allow) && flow.generation == generation
        });
        if outbound || self.inbound.contains_key(&key) { Ok(Verdict::Allow) } else { unrelated }
    }

    /// A frame reaches the endpoint; `answer`: it carries the mark of the proxy's answers.
    pub fn receive(&mut self, frame: &[u8], answer: bool) {
        let entry = self.state.endpoints[&self.interface];
        if matches!(entry.enforcement, Enforcement::Closed(_)) {
            return;
        }
        let Ok(Frame::Ip(mut header, part)) = header::read_frame(frame) else { return };
        if part.offset > 0 || header::read_transport(frame, &mut header, part).is_err() {
            return;
        }
        if !header.is_tracked() {
            return;
        }
        let key = header.flow(false);
        if let Some(flow) = self.outbound.get_mut(&key) {
            if flow.verdict.is_none() {
                if !header.opens {
                    return;
                }
            } else if !(header.opens && (header.is_icmp() || flow.is_over())) {
                flow.close(&header, false);
                return;
            }
        }
        if let Some(flow) = self.inbound.get_mut(&key)
            && !(header.opens && flow.is_over())
        {
            flow.close(&header, false);
            return;
        }
        let begins = header.opens || header.protocol == Protocol::UDP.0;
        let legal = self.legal(entry.endpoint, header.destination);
        if begins && legal && !answer && !is_multicast(header.destination) {
            let flow = Flow {
                verdict: Some(Verdict::Allow),
                generation: entry.generation,
                fin_local: false,
                fin_remote: false,
                reset: false,
            };
            self.inbound.insert(key, flow);
        }
    }
}

fn probe(header: &Header) -> Probe {
    let port = if header.is_icmp() { u16::from(header.icmp_type) } else { header.destination_port };
    Probe { to: header.destination, protocol: Protocol(header.protocol), port }
}

/// IPv6 names the protocol in the first fragment only.
fn fragment_key(header: &Header, part: Part) -> (u32, IpAddr, IpAddr, u8) {
    let protocol = if header.source.is_ipv4() { header.protocol } else { 0 };
    (part.identification, header.source, header.destination, protocol)
}

/// 224.0.0.0 and everything above, broadcast included.
fn is_multicast(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.octets()[0] >= 224,
        IpAddr::V6(v6) => v6.is_multicast(),
    }
}
