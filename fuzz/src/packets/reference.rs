//! The model: what the programs should do with a frame, said as plainly as it can be.
//!
//! Nothing here knows time: no flow, fragment or lease runs out while a script runs.

mod header;

use std::collections::BTreeMap;
use std::net::IpAddr;

use model::{
    DropReason, EndpointEntry, EndpointId, Enforcement, Interface, Moment, Protocol, State, Verdict,
};

use crate::kernel::{Judged, Probe, audits_default_deny, judge};
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

/// What became of a frame that went on.
struct Sent {
    verdict: Verdict,
    /// The reason for which it was told as audited.
    told: Option<DropReason>,
}

impl Sent {
    /// As it was to be, and untold.
    const PLAINLY: Self = Self { verdict: Verdict::Allow, told: None };
}

/// Both ends of a flow as the endpoint sees them.
type FlowKey = (IpAddr, u16, IpAddr, u16, u8);

#[derive(Clone, Copy, Debug)]
struct Flow {
    /// None: denied after it had been allowed.
    verdict: Option<Verdict>,
    audited: Option<DropReason>,
    generation: u32,
    fin_local: bool,
    fin_remote: bool,
    reset: bool,
}

impl Flow {
    /// One that a packet begins.
    fn new(verdict: Option<Verdict>, generation: u32) -> Self {
        let (fin_local, fin_remote, reset) = (false, false, false);
        Self { verdict, audited: None, generation, fin_local, fin_remote, reset }
    }

    /// Whether some rule lets it pass, and not only that default deny is audited.
    fn passes_by_rule(&self) -> bool {
        matches!(self.audited, None | Some(DropReason::DenyRule))
    }

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

    /// The endpoint sends a frame: what becomes of it, and why it is told as audited.
    pub fn send(&mut self, frame: &[u8], now: Moment) -> (Outcome, Option<DropReason>) {
        let entry = self.state.endpoints[&self.interface];
        let sent = match entry.enforcement {
            Enforcement::Closed(reason) => Err(reason),
            Enforcement::Open | Enforcement::Table(_) => self.send_by(&entry, frame, now),
        };
        match sent {
            Ok(Sent { verdict: Verdict::Dns | Verdict::Proxy, told }) => (Outcome::Redirect, told),
            Ok(Sent { told, .. }) => (Outcome::Pass, told),
            Err(reason) => (Outcome::Drop(reason), None),
        }
    }

    fn send_by(
        &mut self,
        entry: &EndpointEntry,
        frame: &[u8],
        now: Moment,
    ) -> Result<Sent, DropReason> {
        let open = entry.enforcement == Enforcement::Open;
        let (mut header, part) = match header::read_frame(frame) {
            Ok(Frame::Ip(header, part)) => (header, part),
            Ok(Frame::Arp) => return Ok(Sent::PLAINLY),
            Ok(Frame::Other) if open => return Ok(Sent::PLAINLY),
            Ok(Frame::Other) => return Err(DropReason::UnsupportedEthertype),
            Err((DropReason::UnsupportedHeader, Some(source))) if open => {
                return self
                    .legal(entry.endpoint, source)
                    .then_some(Sent::PLAINLY)
                    .ok_or(DropReason::SpoofedSource);
            }
            Err((reason, _)) => return Err(reason),
        };
        let legal = self.legal(entry.endpoint, header.source);
        let spoofed = Err(DropReason::SpoofedSource);
        if part.offset > 0 {
            return match self.later_fragment(open, &header, part) {
                _ if !legal => spoofed,
                Err(reason @ DropReason::FragmentUnknown) => {
                    self.stray(entry, &header, reason, now)
                }
                other => other,
            };
        }
        if let Err(reason) = header::read_transport(frame, &mut header, part) {
            return if legal { Err(reason) } else { spoofed };
        }
        let link_source = matches!(header.source, IpAddr::V6(v6) if v6.is_unspecified() || v6.is_unicast_link_local());
        if header.is_router_message() && !open {
            return Err(DropReason::RouterMessage);
        }
        if (legal || link_source) && (header.is_neighbourly() || header.is_report(part)) {
            return Ok(Sent::PLAINLY);
        }
        if !legal {
            return spoofed;
        }
        if header.is_control() && open {
            return Ok(Sent::PLAINLY);
        }
        if header.is_error() {
            return match self.error(frame, &header, entry.generation) {
                true => Ok(Sent::PLAINLY),
                false => self.stray(entry, &header, DropReason::IcmpUnrelated, now),
            };
        }
        if header.is_tracked() {
            self.send_tracked(entry, &header, part, now)
        } else if open {
            Ok(Sent::PLAINLY)
        } else {
            let judged = judge(&self.state, entry, probe(&header), now, false)?;
            let carried = self.carry_out(entry, &header, part, judged)?;
            Ok(Sent { verdict: carried.verdict, told: carried.audited })
        }
    }

    /// What belongs to nothing known passes where default deny is audited and nothing denies it.
    fn stray(
        &self,
        entry: &EndpointEntry,
        header: &Header,
        reason: DropReason,
        now: Moment,
    ) -> Result<Sent, DropReason> {
        let probe = probe(header);
        if !audits_default_deny(&self.state, entry, probe) {
            return Err(reason);
        }
        let judged = judge(&self.state, entry, probe, now, false);
        judged.map(|_| Sent { told: Some(reason), ..Sent::PLAINLY }).map_err(|_| reason)
    }

    fn legal(&self, endpoint: EndpointId, source: IpAddr) -> bool {
        self.state.sources.keys().any(|(own, prefix)| *own == endpoint && prefix.covers(source))
    }

    fn later_fragment(&self, open: bool, header: &Header, part: Part) -> Result<Sent, DropReason> {
        if open {
            return Ok(Sent::PLAINLY);
        }
        let least = if header.protocol == 6 { 20 } else { 8 };
        if u32::from(part.offset) * 8 < least {
            return Err(DropReason::Malformed);
        }
        match self.fragments.get(&fragment_key(header, part)) {
            None => Err(DropReason::FragmentUnknown),
            Some(Verdict::Dns | Verdict::Proxy) => Err(DropReason::FragmentToProxy),
            Some(_) => Ok(Sent::PLAINLY),
        }
    }

    /// Sends a packet where it is to go, or past its proxy where it cannot go there and default
    /// deny is audited.
    fn carry_out(
        &mut self,
        entry: &EndpointEntry,
        header: &Header,
        part: Part,
        judged: Judged,
    ) -> Result<Judged, DropReason> {
        let missing = match judged.verdict {
            Verdict::Dns | Verdict::Proxy if part.more => Some(DropReason::FragmentToProxy),
            // A test run is at no ingress, so no socket can be assigned.
            Verdict::Dns | Verdict::Proxy if entry.bridge.is_none() => {
                Some(DropReason::ProxyUnavailable)
            }
            _ => None,
        };
        let carried = match missing {
            None => Ok(judged),
            Some(reason) => self.unless_audited(entry, header, judged, reason),
        };
        if part.more {
            let verdict = carried.map_or(judged.verdict, |carried| carried.verdict);
            self.fragments.insert(fragment_key(header, part), verdict);
        }
        carried
    }

    /// Directly, where default deny is audited.
    fn unless_audited(
        &self,
        entry: &EndpointEntry,
        header: &Header,
        judged: Judged,
        reason: DropReason,
    ) -> Result<Judged, DropReason> {
        if !audits_default_deny(&self.state, entry, probe(header)) {
            return Err(reason);
        }
        Ok(Judged { verdict: Verdict::Allow, audited: judged.audited.or(Some(reason)) })
    }

    fn send_tracked(
        &mut self,
        entry: &EndpointEntry,
        header: &Header,
        part: Part,
        now: Moment,
    ) -> Result<Sent, DropReason> {
        let key = header.flow(true);
        let old = self.outbound.get(&key).copied();
        let living = old.is_some_and(|flow| flow.verdict.is_some())
            && !(header.opens && header.is_connected());
        if let (true, Some(flow)) = (living, self.outbound.get_mut(&key))
            && flow.generation == entry.generation
        {
            flow.close(header, true);
            let kept = Judged { verdict: flow.verdict.unwrap(), audited: None };
            let carried = self.carry_out(entry, header, part, kept)?;
            return Ok(Sent { verdict: carried.verdict, told: carried.audited });
        }
        if !living
            && !header.opens
            && let Some(flow) = self.inbound.get_mut(&key)
        {
            flow.close(header, true);
            let reply = Judged { verdict: Verdict::Allow, audited: None };
            return self.carry_out(entry, header, part, reply).map(|_| Sent::PLAINLY);
        }
        let old = old.filter(|_| living);
        let judged = match self.judge_flow(entry, header, now, old) {
            Ok(judged) => judged,
            Err(reason) => {
                if living {
                    let flow = self.outbound.get_mut(&key).unwrap();
                    (flow.verdict, flow.audited) = (None, None);
                }
                return Err(reason);
            }
        };
        let mut flow = old.unwrap_or(Flow::new(None, 0));
        let again = (flow.verdict, flow.audited) != (Some(judged.verdict), judged.audited);
        (flow.verdict, flow.audited) = (Some(judged.verdict), judged.audited);
        flow.generation = entry.generation;
        flow.close(header, true);
        if !living {
            self.inbound.remove(&key);
        }
        self.outbound.insert(key, flow);
        let carried = self.carry_out(entry, header, part, judged)?;
        let direct = carried.verdict != judged.verdict;
        // A connection stays as it began.
        if direct && header.protocol == Protocol::TCP.0 {
            (flow.verdict, flow.audited) = (Some(carried.verdict), carried.audited);
            self.outbound.insert(key, flow);
        }
        let told = carried.audited.filter(|_| !living || again || direct);
        Ok(Sent { verdict: carried.verdict, told })
    }

    /// Judges a packet of a flow; `old`: it lived before.
    fn judge_flow(
        &self,
        entry: &EndpointEntry,
        header: &Header,
        now: Moment,
        old: Option<Flow>,
    ) -> Result<Judged, DropReason> {
        let by_rule = old.is_some_and(|flow| flow.passes_by_rule());
        let mut judged = judge(&self.state, entry, probe(header), now, by_rule)?;
        let proxied = old.is_some_and(|flow| flow.verdict == Some(Verdict::Proxy));
        // Its server knows it from the L7 proxy alone.
        if proxied && judged.verdict == Verdict::Allow {
            judged.verdict = Verdict::Proxy;
        }
        // No connection here is a proxy's own: it could only reset this one.
        let begun = header.protocol == Protocol::TCP.0 && !header.opens;
        if begun && matches!(judged.verdict, Verdict::Dns | Verdict::Proxy) {
            let reason = DropReason::ProxyUnavailable;
            return Ok(self.unless_audited(entry, header, judged, reason).unwrap_or(judged));
        }
        Ok(judged)
    }

    /// An error passes for a flow that is allowed as it stands, and for one that came in.
    fn error(&self, frame: &[u8], header: &Header, generation: u32) -> bool {
        let Some(key) = header::quoted_flow(frame, header) else { return false };
        let outbound = self.outbound.get(&key).is_some_and(|flow| {
            flow.verdict == Some(Verdict::Allow) && flow.generation == generation
        });
        outbound || self.inbound.contains_key(&key)
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
            self.inbound.insert(key, Flow::new(Some(Verdict::Allow), entry.generation));
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
