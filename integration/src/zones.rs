//! The lab's names: master files under `zones/`, and a zone of names that nobody has asked before.
//!
//! - All files hang under one root zone, so that a CNAME chain may cross from one into another.
//! - A fresh name's addresses follow from its first label alone: `f7.fresh.example.` is
//!   198.18.0.8 and 2001:db8:f::8, and so is `f7.t1.fresh.example.`, with a TTL of 1.

use std::net::{Ipv4Addr, Ipv6Addr};

use hickory_proto::{
    rr::{LowerName, Name, RData, Record, RecordType, rdata::SOA},
    serialize::txt::{ParseError, Parser},
};
use hickory_server::{
    store::in_memory::InMemoryZoneHandler,
    zone_handler::{AxfrPolicy, ZoneType},
};

/// The zone of generated names; every first label below it exists.
pub const FRESH_ZONE: &str = "fresh.example.";

/// How many addresses of each family the fresh names share.
pub(crate) const FRESH_ADDRESSES: u32 = 131_070;
const FRESH_TTL: u32 = 600;
const FRESH_V4: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 0);
const FRESH_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xf, 0, 0, 0, 0, 0);

const FILES: [(&str, &str, &str); 9] = [
    ("root.zone", ".", include_str!("../zones/root.zone")),
    ("example.com.zone", "example.com.", include_str!("../zones/example.com.zone")),
    ("many.example.com.zone", "many.example.com.", include_str!("../zones/many.example.com.zone")),
    ("example.net.zone", "example.net.", include_str!("../zones/example.net.zone")),
    ("example.org.zone", "example.org.", include_str!("../zones/example.org.zone")),
    ("github.com.zone", "github.com.", include_str!("../zones/github.com.zone")),
    (
        "githubusercontent.com.zone",
        "githubusercontent.com.",
        include_str!("../zones/githubusercontent.com.zone"),
    ),
    ("stripe.com.zone", "stripe.com.", include_str!("../zones/stripe.com.zone")),
    ("cluster.local.zone", "cluster.local.", include_str!("../zones/cluster.local.zone")),
];

/// Why the zones could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum ZoneError {
    /// A master file is not well formed.
    #[error("zone file {file}: {source}")]
    Parse {
        /// The file under `zones/`.
        file: &'static str,
        /// The parser's reason.
        source: ParseError,
    },
    /// A record contradicts another one.
    #[error("zone file {file}: the record {record} cannot stand beside the others")]
    Conflict {
        /// The file under `zones/`.
        file: &'static str,
        /// The record.
        record: String,
    },
}

/// Every master file, as one zone under the root.
pub(crate) fn load() -> Result<InMemoryZoneHandler, ZoneError> {
    let mut zone = InMemoryZoneHandler::empty(Name::root(), ZoneType::Primary, AxfrPolicy::Deny);
    for (file, origin, text) in FILES {
        load_file(&mut zone, file, origin, text)?;
    }
    Ok(zone)
}

fn load_file(
    zone: &mut InMemoryZoneHandler,
    file: &'static str,
    origin: &str,
    text: &'static str,
) -> Result<(), ZoneError> {
    let parse = |source| ZoneError::Parse { file, source };
    let origin = Name::from_ascii(origin).map_err(|source| parse(source.into()))?;
    let (_, records) = Parser::new(text, None, Some(origin)).parse().map_err(parse)?;
    for set in records.values() {
        for record in set.records_without_rrsigs() {
            if !zone.upsert_mut(record.clone(), 1) {
                return Err(ZoneError::Conflict { file, record: record.to_string() });
            }
        }
    }
    Ok(())
}

/// What the fresh zone says about a name in it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Fresh {
    number: u32,
    ttl: u32,
}

impl Fresh {
    /// Reads a name under [`FRESH_ZONE`]; any other name is none of this zone's business.
    pub(crate) fn read(name: &LowerName) -> Option<Fresh> {
        let text = name.to_string();
        let below = text.strip_suffix(FRESH_ZONE)?.strip_suffix('.')?;
        let mut labels = below.split('.');
        let number = number_of(labels.next()?);
        let ttl = labels
            .find_map(|label| label.strip_prefix('t').and_then(|seconds| seconds.parse().ok()))
            .unwrap_or(FRESH_TTL);
        Some(Fresh { number, ttl })
    }

    /// The records of `kind` at `name`; none means that the name has no such data.
    pub(crate) fn records(&self, name: &Name, kind: RecordType) -> Vec<Record> {
        let (v4, v6) = fresh_addresses(self.number);
        let data = match kind {
            RecordType::A => RData::A(v4.into()),
            RecordType::AAAA => RData::AAAA(v6.into()),
            _ => return Vec::new(),
        };
        vec![Record::from_rdata(name.clone(), self.ttl, data)]
    }
}

/// The record that goes with an answer without data in the fresh zone.
pub(crate) fn fresh_soa() -> Record {
    let server = Name::from_labels(["ns", "example", "net"]).expect("three short labels");
    let zone = Name::from_labels(["fresh", "example"]).expect("two short labels");
    let soa = SOA::new(server.clone(), server, 1, 3600, 600, 86400, 5);
    Record::from_rdata(zone, 5, RData::SOA(soa))
}

/// The addresses of the fresh name with this number, and of every one that is congruent to it.
pub fn fresh_addresses(number: u32) -> (Ipv4Addr, Ipv6Addr) {
    let offset = number % FRESH_ADDRESSES + 1;
    let v4 = Ipv4Addr::from_bits(FRESH_V4.to_bits() + offset);
    let v6 = Ipv6Addr::from_bits(FRESH_V6.to_bits() + u128::from(offset));
    (v4, v6)
}

/// The digits at the end of a label, or a hash of one that has none (FNV-1a).
fn number_of(label: &str) -> u32 {
    let digits = label.trim_start_matches(|c: char| !c.is_ascii_digit());
    digits.parse().unwrap_or_else(|_| {
        label
            .bytes()
            .fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fresh(name: &str) -> Option<Fresh> {
        Fresh::read(&Name::from_ascii(name).unwrap().into())
    }

    #[test]
    fn every_zone_file_loads() {
        load().unwrap();
    }

    #[test]
    fn a_fresh_name_has_the_address_of_its_number() {
        assert_eq!(fresh("f7.fresh.example."), Some(Fresh { number: 7, ttl: 600 }));
        assert_eq!(fresh("f7.t1.fresh.example."), Some(Fresh { number: 7, ttl: 1 }));
        assert_eq!(fresh("fresh.example."), None);
        assert_eq!(fresh("f7.afresh.example."), None);
        let (v4, v6) = fresh_addresses(7);
        assert_eq!((v4.to_string(), v6.to_string()), ("198.18.0.8".into(), "2001:db8:f::8".into()));
    }

    #[test]
    fn the_last_fresh_address_is_still_in_its_range() {
        let (v4, _) = fresh_addresses(FRESH_ADDRESSES - 1);
        assert_eq!(v4.to_string(), "198.19.255.254");
    }
}
