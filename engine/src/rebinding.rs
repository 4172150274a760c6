//! The rebinding guard: which addresses a name from outside must not bring.
//!
//! Whoever owns a name can let it resolve to an address that is close to the pod: the cluster, the
//! node, the cloud's metadata service. Such an address is not learned. An IPv6 address that carries
//! an IPv4 address (mapped, translated, tunnelled) is judged by both, and by every way to read it
//! where the prefix leaves that open: one way that leads inside is enough to refuse it.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use model::{Name, NameRef, Prefix};
use thiserror::Error;

/// Tells addresses that only the cluster's own names may have.
#[derive(Clone, Debug, Default)]
pub struct Guard {
    /// The cluster's domain and other domains whose names may resolve to anything.
    pub internal_domains: Vec<Name>,
    /// The addresses of pods, services and nodes.
    pub cluster_prefixes: Vec<Prefix>,
    /// Addresses that every name may have, whatever else is said of them.
    pub allow: Vec<Prefix>,
}

/// An outside name has an address that it must not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("{address} is {kind}")]
pub struct Rebinding {
    /// The address, as the answer has it.
    pub address: IpAddr,
    /// What is wrong with it.
    pub kind: Inside,
}

/// In what way an address is close to the pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Inside {
    /// A pod, a service or a node.
    Cluster,
    /// The metadata or credentials service of a cloud.
    Metadata,
    /// 0.0.0.0/8 and `::`, which reach the host itself.
    Unspecified,
    /// 127.0.0.0/8 and `::1`.
    Loopback,
    /// 169.254.0.0/16 and fe80::/10.
    LinkLocal,
    /// 10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16 (RFC 1918), and the site-local fec0::/10.
    Private,
    /// fc00::/7 (RFC 4193).
    UniqueLocal,
    /// 100.64.0.0/10 (RFC 6598).
    SharedSpace,
    /// 224.0.0.0/4 and ff00::/8.
    Multicast,
    /// 240.0.0.0/4, broadcast included.
    Reserved,
}

/// Where clouds serve metadata and credentials: AWS and most others, ECS, EKS, Alibaba, Oracle,
/// Azure (an address that is public by its looks), GCP.
const METADATA: [IpAddr; 9] = [
    IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254)),
    IpAddr::V4(Ipv4Addr::new(169, 254, 170, 2)),
    IpAddr::V4(Ipv4Addr::new(169, 254, 170, 23)),
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V4(Ipv4Addr::new(192, 0, 0, 192)),
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23)),
    IpAddr::V6(Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)),
];

impl Guard {
    /// Whether an answer may give `address` to `name`.
    pub fn admits(&self, name: NameRef<'_>, address: IpAddr) -> Result<(), Rebinding> {
        if self.internal_domains.iter().any(|domain| name.is_under(domain.as_ref()))
            || self.allows(address)
        {
            return Ok(());
        }
        let carried = match address {
            IpAddr::V4(_) => Carried::default(),
            IpAddr::V6(address) => Carried::by(address),
        };
        // The carried address first: it says better what the other one is for.
        let readings = carried.iter().map(IpAddr::V4).filter(|reading| !self.allows(*reading));
        match readings.chain([address]).find_map(|reading| self.inside(reading)) {
            Some(kind) => Err(Rebinding { address, kind }),
            None => Ok(()),
        }
    }

    fn allows(&self, address: IpAddr) -> bool {
        self.allow.iter().any(|prefix| prefix.covers(address))
    }

    fn inside(&self, address: IpAddr) -> Option<Inside> {
        if METADATA.contains(&address) {
            return Some(Inside::Metadata);
        }
        if self.cluster_prefixes.iter().any(|prefix| prefix.covers(address)) {
            return Some(Inside::Cluster);
        }
        match address {
            IpAddr::V4(address) => inside_v4(address),
            IpAddr::V6(address) => inside_v6(address),
        }
    }
}

fn inside_v4(address: Ipv4Addr) -> Option<Inside> {
    Some(match address.octets() {
        [0, ..] => Inside::Unspecified,
        [127, ..] => Inside::Loopback,
        [169, 254, ..] => Inside::LinkLocal,
        [10, ..] | [172, 16..=31, ..] | [192, 168, ..] => Inside::Private,
        [100, 64..=127, ..] => Inside::SharedSpace,
        [224..=239, ..] => Inside::Multicast,
        [240..=255, ..] => Inside::Reserved,
        _ => return None,
    })
}

fn inside_v6(address: Ipv6Addr) -> Option<Inside> {
    Some(match address.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0] => Inside::Unspecified,
        [0, 0, 0, 0, 0, 0, 0, 1] => Inside::Loopback,
        [0xfe80..=0xfebf, ..] => Inside::LinkLocal,
        [0xfec0..=0xfeff, ..] => Inside::Private,
        [0xfc00..=0xfdff, ..] => Inside::UniqueLocal,
        [0xff00..=0xffff, ..] => Inside::Multicast,
        _ => return None,
    })
}

/// The IPv4 addresses that an IPv6 address may carry.
#[derive(Default)]
struct Carried([Option<Ipv4Addr>; 4]);

impl Carried {
    fn by(address: Ipv6Addr) -> Self {
        let bytes = address.octets();
        let at = |places: [usize; 4]| Some(Ipv4Addr::from(places.map(|place| bytes[place])));
        let last = [12, 13, 14, 15];
        match address.segments() {
            // `::` and `::1` carry nothing.
            [0, 0, 0, 0, 0, 0, 0, 0 | 1] => Self::default(),
            // Compatible (RFC 4291), mapped, translated (RFC 2765), NAT64 (RFC 6052).
            [0, 0, 0, 0, 0, 0 | 0xffff, ..]
            | [0, 0, 0, 0, 0xffff, 0, ..]
            | [0x64, 0xff9b, 0, 0, 0, 0, ..] => Self([at(last), None, None, None]),
            [0x64, 0xff9b, 1, ..] => Self::by_local_nat64(&bytes),
            // 6to4 (RFC 3056).
            [0x2002, ..] => Self([at([2, 3, 4, 5]), None, None, None]),
            // Teredo (RFC 4380): the server, and the client with all bits turned over.
            [0x2001, 0, ..] => {
                let client = at(last).map(|client| Ipv4Addr::from_bits(!client.to_bits()));
                Self([at([4, 5, 6, 7]), client, None, None])
            }
            // ISATAP (RFC 5214).
            [_, _, _, _, 0 | 0x200, 0x5efe, ..] => Self([at(last), None, None, None]),
            _ => Self::default(),
        }
    }

    /// Under 64:ff9b:1::/48 (RFC 8215) the network chooses the prefix's length, and with it where
    /// the IPv4 address stands (RFC 6052, 2.2): every length counts whose suffix is zero.
    fn by_local_nat64(bytes: &[u8; 16]) -> Self {
        let layouts: [([usize; 4], usize); 4] = [
            ([6, 7, 9, 10], 11),
            ([7, 9, 10, 11], 12),
            ([9, 10, 11, 12], 13),
            ([12, 13, 14, 15], 16),
        ];
        let is_zero = |from: usize| bytes[from..].iter().all(|byte| *byte == 0);
        Self(layouts.map(|(places, suffix)| {
            // All zero at the end is a shorter prefix, not 0.0.0.0 behind the longest.
            let fits = if suffix == 16 { !is_zero(12) } else { is_zero(suffix) };
            fits.then(|| Ipv4Addr::from(places.map(|place| bytes[place])))
        }))
    }

    fn iter(&self) -> impl Iterator<Item = Ipv4Addr> {
        self.0.iter().copied().flatten()
    }
}

impl fmt::Display for Inside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cluster => "an address of the cluster",
            Self::Metadata => "a metadata service",
            Self::Unspecified => "an unspecified address",
            Self::Loopback => "a loopback address",
            Self::LinkLocal => "a link-local address",
            Self::Private => "a private address",
            Self::UniqueLocal => "a unique local address",
            Self::SharedSpace => "an address of the shared space",
            Self::Multicast => "a multicast address",
            Self::Reserved => "a reserved address",
        })
    }
}

#[cfg(test)]
mod tests;
