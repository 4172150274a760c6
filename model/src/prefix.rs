//! IP prefixes.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use thiserror::Error;

/// An IPv4 or IPv6 prefix with its host bits cleared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Prefix(IpNet);

/// Why a text is no prefix.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PrefixError {
    /// There is no slash: an address alone is refused, as Cilium does.
    #[error("`{0}` has no `/`; write `{0}/{1}` for this address alone")]
    NoLength(String, u8),
    /// The part before the slash is no address.
    #[error("`{0}` is not an IPv4 or IPv6 address")]
    Address(String),
    /// The part after the slash is no length.
    #[error("`{0}` is not a prefix length from 0 to {1}")]
    Length(String, u8),
}

impl Prefix {
    /// Every IPv4 address.
    pub fn all_ipv4() -> Self {
        Self(Ipv4Net::default().into())
    }

    /// Every IPv6 address.
    pub fn all_ipv6() -> Self {
        Self(Ipv6Net::default().into())
    }

    /// The prefix that holds `address` alone.
    pub fn host(address: IpAddr) -> Self {
        Self(address.into())
    }

    /// The prefix of `address` that is `length` bits long, or none if it has not so many bits.
    pub fn new(address: IpAddr, length: u8) -> Option<Self> {
        IpNet::new(address, length).ok().map(|net| Self(net.trunc()))
    }

    /// The first address.
    pub fn address(self) -> IpAddr {
        self.0.network()
    }

    /// How many leading bits are fixed.
    pub fn length(self) -> u8 {
        self.0.prefix_len()
    }

    /// Whether the prefix holds one address only.
    pub fn is_host(self) -> bool {
        self.0.prefix_len() == self.0.max_prefix_len()
    }

    /// Whether all of it are IPv4 addresses in IPv6's clothes (RFC 4291, 2.5.5.2), which no packet
    /// on the wire may have.
    pub fn is_v4_mapped(self) -> bool {
        match self.0 {
            IpNet::V4(_) => false,
            IpNet::V6(net) => net.prefix_len() >= 96 && net.addr().to_ipv4_mapped().is_some(),
        }
    }

    /// Whether `address` lies inside.
    pub fn covers(self, address: IpAddr) -> bool {
        self.0.contains(&address)
    }

    /// Whether all of `other` lies inside.
    pub fn contains(self, other: Self) -> bool {
        self.0.contains(&other.0)
    }

    /// The same prefix as the `ipnet` crate has it.
    pub fn net(self) -> IpNet {
        self.0
    }
}

impl FromStr for Prefix {
    type Err = PrefixError;

    fn from_str(text: &str) -> Result<Self, PrefixError> {
        let Some((address, length)) = text.split_once('/') else {
            return Err(match text.parse::<IpAddr>() {
                Ok(address) => PrefixError::NoLength(text.to_owned(), Self::host(address).length()),
                Err(_) => PrefixError::Address(text.to_owned()),
            });
        };
        let address: IpAddr =
            address.parse().map_err(|_| PrefixError::Address(address.to_owned()))?;
        let bits = if address.is_ipv4() { 32 } else { 128 };
        let plain = !length.is_empty() && length.bytes().all(|byte| byte.is_ascii_digit());
        let canonical = plain && (length == "0" || !length.starts_with('0'));
        let length = match length.parse::<u8>() {
            Ok(length) if canonical && length <= bits => length,
            _ => return Err(PrefixError::Length(length.to_owned(), bits)),
        };
        Self::new(address, length).ok_or_else(|| PrefixError::Length(text.to_owned(), bits))
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clears_host_bits() {
        let prefix: Prefix = "10.1.2.3/8".parse().unwrap();
        assert_eq!(prefix.to_string(), "10.0.0.0/8");
    }

    #[test]
    fn refuses_what_cilium_refuses() {
        let error = |text: &str| text.parse::<Prefix>().unwrap_err().to_string();
        assert_eq!(
            error("10.0.0.1"),
            "`10.0.0.1` has no `/`; write `10.0.0.1/32` for this address alone"
        );
        assert_eq!(error("10.0.0.0/33"), "`33` is not a prefix length from 0 to 32");
        assert_eq!(error("10.0.0.0/255.0.0.0"), "`255.0.0.0` is not a prefix length from 0 to 32");
        assert_eq!(error("10.0.0.0/08"), "`08` is not a prefix length from 0 to 32");
        assert_eq!(error("fd00::/+8"), "`+8` is not a prefix length from 0 to 128");
        assert_eq!(error("ten/8"), "`ten` is not an IPv4 or IPv6 address");
    }
}
