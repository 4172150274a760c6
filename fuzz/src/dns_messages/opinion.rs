//! The second opinion: what a message says, from hickory-proto's own records.

use std::net::IpAddr;

use dnsproxy_core::Address;
use hickory_proto::op::Message;
use hickory_proto::rr::rdata::SVCB;
use hickory_proto::rr::rdata::svcb::{SvcParamKey, SvcParamValue};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};

/// The addresses that the question leads to; none where hickory has no opinion.
pub fn addresses(message: &Message) -> Option<Vec<Address>> {
    let [query] = &message.queries[..] else { return None };
    let sections = message.answers.iter().chain(&message.authorities).chain(&message.additionals);
    // It reads no DNAME, and a class by its own lights where OPT stands in the wrong place.
    let foreign = [RecordType::DNAME, RecordType::OPT];
    if sections.clone().any(|record| foreign.contains(&record.record_type())) {
        return None;
    }
    if query.query_class() != DNSClass::IN {
        return Some(Vec::new());
    }
    let of_class = message.answers.iter().filter(|record| record.dns_class == DNSClass::IN);
    Some(reachable(query.name().clone(), of_class.collect()))
}

fn reachable(mut name: Name, mut records: Vec<&Record>) -> Vec<Address> {
    let mut found = Vec::new();
    let mut least = u32::MAX;
    for _ in 0..=16 {
        records.retain(|record| {
            let Some(addresses) = carried(&record.data) else { return true };
            if !same(&record.name, &name) {
                return true;
            }
            let ttl = least.min(counted(record.ttl));
            found.extend(addresses.into_iter().map(|ip| Address { ip, ttl }));
            false
        });
        let alias = records
            .iter()
            .position(|record| same(&record.name, &name) && matches!(record.data, RData::CNAME(_)));
        let Some(alias) = alias.map(|index| records.remove(index)) else { break };
        let RData::CNAME(target) = &alias.data else { unreachable!() };
        least = least.min(counted(alias.ttl));
        name = target.0.clone();
    }
    found
}

fn carried(data: &RData) -> Option<Vec<IpAddr>> {
    match data {
        RData::A(ip) => Some(vec![ip.0.into()]),
        RData::AAAA(ip) => Some(vec![ip.0.into()]),
        RData::HTTPS(service) => Some(hints(&service.0)),
        RData::SVCB(service) => Some(hints(service)),
        _ => None,
    }
}

fn hints(service: &SVCB) -> Vec<IpAddr> {
    if service.svc_priority == 0 {
        return Vec::new();
    }
    let address = |(_, value): &(SvcParamKey, SvcParamValue)| -> Vec<IpAddr> {
        match value {
            SvcParamValue::Ipv4Hint(hint) => hint.0.iter().map(|ip| IpAddr::V4(ip.0)).collect(),
            SvcParamValue::Ipv6Hint(hint) => hint.0.iter().map(|ip| IpAddr::V6(ip.0)).collect(),
            _ => Vec::new(),
        }
    };
    service.svc_params.iter().flat_map(address).collect()
}

/// A TTL with its highest bit set is none (RFC 2181, 8).
fn counted(ttl: u32) -> u32 {
    if ttl > i32::MAX as u32 { 0 } else { ttl }
}

fn same(one: &Name, other: &Name) -> bool {
    wire(one) == wire(other)
}

/// A name in lower case as it stands on the wire.
pub fn wire(name: &Name) -> Vec<u8> {
    let mut wire = Vec::new();
    for label in name.iter() {
        wire.push(label.len() as u8);
        wire.extend(label.to_ascii_lowercase());
    }
    wire.push(0);
    wire
}
