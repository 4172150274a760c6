//! The UDP header that the proxy writes itself, because its answers carry a server's address.

use std::net::{IpAddr, SocketAddr};

/// The length of a UDP header.
pub(crate) const UDP_HEADER_LEN: usize = 8;

/// The longest payload of a datagram: what 16 bits of length leave beside the IPv4 and UDP
/// headers, which is less than IPv6 leaves.
pub(crate) const MAX_PAYLOAD: usize = 65_535 - 20 - UDP_HEADER_LEN;

/// Completes a datagram whose first eight bytes are free, from `source` to `destination`. Says
/// whether it is one: it must fit into a datagram, and both addresses must be of one family.
pub(crate) fn complete(datagram: &mut [u8], source: SocketAddr, destination: SocketAddr) -> bool {
    let Ok(length) = u16::try_from(datagram.len()) else { return false };
    let Some(payload) = datagram.len().checked_sub(UDP_HEADER_LEN) else { return false };
    if payload > MAX_PAYLOAD || source.is_ipv4() != destination.is_ipv4() {
        return false;
    }
    datagram[0..2].copy_from_slice(&source.port().to_be_bytes());
    datagram[2..4].copy_from_slice(&destination.port().to_be_bytes());
    datagram[4..6].copy_from_slice(&length.to_be_bytes());
    datagram[6..8].copy_from_slice(&[0, 0]);
    let pseudo = address_sum(source.ip()) + address_sum(destination.ip());
    let sum = pseudo + u64::from(libc::IPPROTO_UDP as u16) + u64::from(length) + word_sum(datagram);
    let checksum = match !fold(sum) {
        // Zero stands for "no checksum" (RFC 768).
        0 => 0xffff,
        checksum => checksum,
    };
    datagram[6..8].copy_from_slice(&checksum.to_be_bytes());
    true
}

fn address_sum(address: IpAddr) -> u64 {
    match address {
        IpAddr::V4(address) => word_sum(&address.octets()),
        IpAddr::V6(address) => word_sum(&address.octets()),
    }
}

/// The sum of the sixteen-bit words; four bytes at a time, which comes to the same when folded.
fn word_sum(bytes: &[u8]) -> u64 {
    let chunks = bytes.chunks_exact(4);
    let mut last = [0; 4];
    last[..chunks.remainder().len()].copy_from_slice(chunks.remainder());
    let value =
        |chunk: &[u8]| u64::from(u32::from_be_bytes([chunk[0], chunk[1], chunk[2], chunk[3]]));
    chunks.map(value).sum::<u64>() + value(&last)
}

/// Folds a sum into sixteen bits, carries going round.
fn fold(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    fn datagram(source: &str, destination: &str, payload: &[u8]) -> Option<Vec<u8>> {
        let mut bytes = [&[0xaa; UDP_HEADER_LEN], payload].concat();
        let whole = complete(&mut bytes, source.parse().unwrap(), destination.parse().unwrap());
        whole.then_some(bytes)
    }

    /// The checksum word by word, as RFC 1071 describes it; right if it comes to all ones.
    fn verifies(source: &str, destination: &str, bytes: &[u8]) -> bool {
        let octets = |text: &str| match text.parse::<SocketAddr>().unwrap().ip() {
            IpAddr::V4(address) => address.octets().to_vec(),
            IpAddr::V6(address) => address.octets().to_vec(),
        };
        let length = (bytes.len() as u32).to_be_bytes();
        let all = [&octets(source), &octets(destination), &length[..], &[0, 0, 0, 17], bytes];
        let mut all = all.concat();
        all.resize(all.len().next_multiple_of(2), 0);
        let sum: u32 = all.chunks(2).map(|word| u32::from(word[0]) << 8 | u32::from(word[1])).sum();
        (sum & 0xffff) + (sum >> 16) == 0xffff
    }

    #[test]
    fn writes_ports_length_and_a_checksum_that_verifies() {
        for (source, destination) in [
            ("10.96.0.10:53", "10.0.0.5:40000"),
            ("[2001:db8::53]:53", "[fd00::5]:40000"),
            ("255.255.255.255:65535", "255.255.255.255:65535"),
        ] {
            for payload in [&b""[..], b"a", b"abc", b"abcd", &[0xff; 1501]] {
                let bytes = datagram(source, destination, payload).unwrap();
                let port = source.rsplit(':').next().unwrap().parse::<u16>().unwrap();
                assert_eq!(bytes[..2], port.to_be_bytes());
                assert_eq!(usize::from(u16::from_be_bytes([bytes[4], bytes[5]])), bytes.len());
                assert!(verifies(source, destination, &bytes), "{source} {}", payload.len());
                assert_eq!(bytes[8..], *payload);
            }
        }
    }

    #[test]
    fn refuses_what_is_no_datagram() {
        assert!(datagram("10.0.0.1:53", "10.0.0.2:1", &vec![0; MAX_PAYLOAD]).is_some());
        assert!(datagram("10.0.0.1:53", "10.0.0.2:1", &vec![0; MAX_PAYLOAD + 1]).is_none());
        assert!(datagram("10.0.0.1:53", "[::1]:1", b"").is_none());
        let any = "10.0.0.1:53".parse().unwrap();
        assert!(!complete(&mut [0; 7], any, any));
    }
}
