//! The two bits of a packet's mark that are ours, and what their values mean.
//!
//! `redirect` is set by the program on a pod's veth: the packet is for a local proxy socket.
//! `answer` is set by the proxy on what it sends to pods in a server's name. Both together are on
//! what the L7 proxy sends to a destination by a pod's own address. A packet with neither is none
//! of our business; the proxy's own queries to servers are such packets, so that service
//! addresses are translated for them as for everybody.

use std::fmt;

/// kube-proxy's own bits, "masquerade" and "drop".
const KUBE_PROXY: u32 = 0xc000;

/// Why a mask cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MarkError {
    /// Not two bits.
    #[error("the mark mask {0:#x} has {count} bits, and must have two", count = .0.count_ones())]
    NotTwoBits(u32),
    /// In kube-proxy's way.
    #[error("the mark mask {0:#x} overlaps kube-proxy's bits {KUBE_PROXY:#x}")]
    KubeProxys(u32),
}

/// Two bits of the mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Marks {
    mask: u32,
}

impl Marks {
    /// The marks in a mask of two bits, the higher for `redirect`, the lower for `answer`.
    pub const fn new(mask: u32) -> Result<Self, MarkError> {
        if mask.count_ones() != 2 {
            return Err(MarkError::NotTwoBits(mask));
        }
        if mask & KUBE_PROXY != 0 {
            return Err(MarkError::KubeProxys(mask));
        }
        Ok(Self { mask })
    }

    /// Both bits.
    pub const fn mask(self) -> u32 {
        self.mask
    }

    /// What marks a packet that is on its way to a proxy's socket.
    pub const fn redirect(self) -> u32 {
        1 << (31 - self.mask.leading_zeros())
    }

    /// What marks a proxy's packet to a pod.
    pub const fn answer(self) -> u32 {
        1 << self.mask.trailing_zeros()
    }

    /// What marks a proxy's packet to a destination that has a pod's address.
    pub const fn upstream(self) -> u32 {
        self.mask
    }
}

impl Default for Marks {
    /// Clear of kube-proxy's, Cilium's (0xf00) and Calico's (0xffff0000) bits.
    fn default() -> Self {
        Self { mask: 0x3000 }
    }
}

impl fmt::Display for Marks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.mask)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_higher_bit_redirects_and_the_lower_answers() {
        let marks = Marks::default();
        assert_eq!((marks.mask(), marks.redirect(), marks.answer()), (0x3000, 0x2000, 0x1000));
        let marks = Marks::new(0x8000_0001).unwrap();
        assert_eq!((marks.redirect(), marks.answer()), (0x8000_0000, 1));
    }

    #[test]
    fn a_mask_has_two_bits_and_none_of_kube_proxys() {
        for mask in [0, 1, 7, u32::MAX] {
            assert_eq!(Marks::new(mask), Err(MarkError::NotTwoBits(mask)));
        }
        for mask in [0xc000, 0x4001, 0x18000] {
            assert_eq!(Marks::new(mask), Err(MarkError::KubeProxys(mask)));
        }
    }
}
