//! The layouts that the kernel's programs and the daemon share, as Rust has them.
//!
//! `programs/abi.h` says the same in C. Both sides assert every size and offset, so neither can
//! change alone. Integers are in the machine's byte order but for ports, which stand as they do on
//! the wire (the `be` in their names), because tries compare bytes. Addresses have 16 bytes; IPv4
//! stands in its v4-mapped form. All padding is zero. The pin directory's [`VERSION`] changes with
//! any of this.
#![forbid(unsafe_code)]

use std::mem::{offset_of, size_of};

/// The version of everything here: the directory under the pin path.
pub const VERSION: &str = "v4";
/// How many workers the settings hold.
pub const MAX_WORKERS: usize = 64;
/// How many drop reasons the counters hold; reasons count from 1.
pub const DROP_REASONS: usize = 32;
/// A value of `rows`: the part that is a verdict number, 0 for none.
pub const ROW_VERDICT: u32 = 0xff;
/// A value of `rows`: an audited deny rule covers the packet.
pub const AUDITED_DENY_RULE: u32 = 1 << 8;
/// A value of `rows`, on those for every destination: default deny is audited.
pub const AUDITED_DEFAULT_DENY: u32 = 1 << 9;
/// How many elements `endpoints` has: a power of two.
pub const ENDPOINT_PLACES: u32 = 16_384;
/// In how many of them, one after another, an interface's may stand.
pub const ENDPOINT_PROBES: u32 = 8;
/// How many kinds of events have a budget: [`EVENT_DROP`] and [`EVENT_FLOW`].
pub const EVENT_KINDS: usize = 2;
/// The kind of events that tell of drops.
pub const EVENT_DROP: usize = 0;
/// The kind of events that tell of flows' first packets, and of audited ones.
pub const EVENT_FLOW: usize = 1;
/// Added to a v4 prefix's length: the bits of `::ffff:0:0/96`.
pub const V4_BITS: u32 = 96;

/// An address, v4-mapped where it is IPv4.
pub type Address = [u8; 16];

/// A value that crosses into the kernel: integers without hidden padding, so every pattern of
/// bytes is one. Nothing outside this crate can claim to be.
pub trait Layout: sealed::Sealed + Copy + Default + Send + Sync + 'static {}

mod sealed {
    /// Keeps [`super::Layout`] to this crate.
    pub trait Sealed {}
}

impl sealed::Sealed for u32 {}
impl Layout for u32 {}
impl sealed::Sealed for u64 {}
impl Layout for u64 {}

macro_rules! layout {
    ($(#[$doc:meta])* $name:ident : $size:literal {
        $($(#[$field_doc:meta])* $offset:literal $field:ident : $type:ty,)*
    }) => {
        $(#[$doc])*
        #[repr(C)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct $name {
            $($(#[$field_doc])* pub $field: $type,)*
        }

        const _: () = {
            assert!(size_of::<$name>() == $size);
            $(assert!(offset_of!($name, $field) == $offset);)*
            // No hidden padding: the fields' sizes add up.
            assert!(0 $(+ size_of::<$type>())* == $size);
        };

        impl Default for $name {
            fn default() -> Self {
                Self { $($field: zero::<$type>(),)* }
            }
        }

        impl sealed::Sealed for $name {}
        impl Layout for $name {}
    };
}

/// The default of a field; arrays too long for `Default` included.
fn zero<T: Zero>() -> T {
    T::ZERO
}

/// A type with an all-zero value.
trait Zero: Copy {
    /// That value.
    const ZERO: Self;
}

macro_rules! zero {
    ($($type:ty),*) => { $(impl Zero for $type { const ZERO: Self = 0; })* };
}
zero!(u8, u16, u32, u64);

impl<T: Zero, const N: usize> Zero for [T; N] {
    const ZERO: Self = [T::ZERO; N];
}

layout! {
    /// The one element of `settings`.
    Settings: 464 {
        /// How long an established TCP or SCTP flow may be silent.
        0 tcp_idle_ns: u64,
        /// How long a TCP flow may be silent before its first reply and after a FIN or RST.
        8 handshake_idle_ns: u64,
        /// How long any other flow may be silent.
        16 udp_idle_ns: u64,
        /// A flow that was seen within so many of the kernel's ticks need not be looked at closer:
        /// a second's, or 0 where some flows may not be silent for long.
        24 fresh_jiffies: u64,
        /// One event of each kind is earned in this time.
        32 event_interval_ns: [u64; EVENT_KINDS],
        /// How many events of each kind may come at once; 0: the kind is off.
        48 event_burst: [u32; EVENT_KINDS],
        /// The bits of the packet mark that are ours.
        56 mark_mask: u32,
        /// Within the mask: a packet to the proxy.
        60 mark_redirect: u32,
        /// Within the mask: a packet of the proxy's.
        64 mark_answer: u32,
        /// How many of `udp_ports_be` are in use.
        68 udp_workers: u32,
        /// How many of `tcp_ports_be` are in use.
        72 tcp_workers: u32,
        /// The proxy's UDP ports on the loopback address of either family.
        76 udp_ports_be: [u16; MAX_WORKERS],
        /// The proxy's TCP ports likewise.
        204 tcp_ports_be: [u16; MAX_WORKERS],
        /// How many of `l7_ports_be` are in use.
        332 l7_listeners: u32,
        /// The L7 proxy's TCP ports likewise.
        336 l7_ports_be: [u16; MAX_WORKERS],
    }
}

/// [`Endpoint::enforcement`]: the element is empty; nothing passes.
pub const ENFORCEMENT_NONE: u32 = 0;
/// [`Endpoint::enforcement`]: everything passes. Verdict tables have the numbers below.
pub const ENFORCEMENT_OPEN: u32 = 0xffff_fe00;
/// [`Endpoint::enforcement`]: everything is dropped; the lowest byte is the reason.
pub const ENFORCEMENT_CLOSED: u32 = 0xffff_ff00;

layout! {
    /// An element of `endpoints`. How packets are judged and the generation are read as one 8-byte
    /// word, so that no reader sees the one without the other; interface and slot likewise.
    ///
    /// An interface's is one of the [`ENDPOINT_PROBES`] from the remainder of its index on. Before
    /// it becomes another interface's or another endpoint's it is emptied, and the programs that
    /// may have seen it have ended.
    Endpoint: 24 {
        /// [`ENFORCEMENT_NONE`], [`ENFORCEMENT_OPEN`], [`ENFORCEMENT_CLOSED`] with a reason, else
        /// a verdict table.
        0 enforcement: u32,
        /// Flows judged under another generation are judged again.
        4 generation: u32,
        /// The endpoint's number.
        8 endpoint: u32,
        /// The interface index of the bridge whose port this is, or 0.
        12 bridge: u32,
        /// The interface index, 0 if the element is empty.
        16 interface: u32,
        /// Where the endpoint's flow tables stand in `flows4` and `flows6`: outbound at twice the
        /// slot, inbound behind it; and of its budget in `budgets`. From 1 on.
        20 slot: u32,
    }
}

layout! {
    /// A key of `sources` and `leases` (tries): 32 bits and those of the address.
    EndpointAddress: 24 {
        /// How many bits count.
        0 bits: u32,
        /// The endpoint's number.
        4 endpoint: u32,
        /// The address.
        8 address: Address,
    }
}

layout! {
    /// A key of `prefixes` (a trie).
    AddressPrefix: 20 {
        /// How many bits count.
        0 bits: u32,
        /// The address.
        4 address: Address,
    }
}

layout! {
    /// A value of `prefixes`.
    PrefixEntry: 8 {
        /// The destination's identity.
        0 identity: u32,
        /// The key's `bits`: an IPv6 prefix that covers `::ffff:0:0/96` says nothing of IPv4.
        4 bits: u32,
    }
}

layout! {
    /// A key of `frontends`.
    Frontend: 20 {
        /// Where clients meet the service.
        0 address: Address,
        /// The port, in network byte order.
        16 port_be: u16,
        /// The protocol.
        18 protocol: u8,
        /// Zero.
        19 pad: u8,
    }
}

layout! {
    /// A key of `rows` (a trie): 64 bits, then none, 8 (protocol) or 17 to 32 (protocol, port).
    Row: 16 {
        /// How many bits count.
        0 bits: u32,
        /// The verdict table.
        4 table: u32,
        /// The destination's identity, 0 for all.
        8 identity: u32,
        /// The protocol.
        12 protocol: u8,
        /// Zero.
        13 pad: u8,
        /// The port, in network byte order; for ICMP the message's type.
        14 port_be: u16,
    }
}

layout! {
    /// A value of `leases`.
    Lease: 24 {
        /// From then on it opens no new flow.
        0 expires_ns: u64,
        /// The identities of the address's name sets; 0 for none.
        8 sets: [u32; 2],
        /// The name's number, 0 where several names share the address.
        16 name: u32,
        /// Zero.
        20 pad: u32,
    }
}

layout! {
    /// A key of `shared`.
    Shared: 24 {
        /// The endpoint's number.
        0 endpoint: u32,
        /// The name's number.
        4 name: u32,
        /// The address.
        8 address: Address,
    }
}

layout! {
    /// A key of `names` ({endpoint, name}) and of `numbers` ({kind, number}).
    Pair: 8 {
        /// The endpoint, or the kind of number.
        0 first: u32,
        /// The number.
        4 second: u32,
    }
}

layout! {
    /// A value of `names`.
    Name: 256 {
        /// How many bytes of `wire` are the name.
        0 length: u8,
        /// The name in wire format, then zeros.
        1 wire: [u8; 255],
    }
}

layout! {
    /// A value of `numbers`.
    Digest: 16 {
        /// The start of a hash of what the number means.
        0 bytes: [u8; 16],
    }
}

layout! {
    /// A key of an endpoint's flow tables for IPv4.
    FlowKey4: 16 {
        /// The endpoint's own address.
        0 local: [u8; 4],
        /// The other side's.
        4 remote: [u8; 4],
        /// The endpoint's port; for ICMP the echo's identifier.
        8 local_port_be: u16,
        /// The other side's port; 0 for ICMP.
        10 remote_port_be: u16,
        /// The protocol.
        12 protocol: u8,
        /// Zero.
        13 pad: [u8; 3],
    }
}

layout! {
    /// A key of an endpoint's flow tables for IPv6.
    FlowKey6: 40 {
        /// The endpoint's own address.
        0 local: Address,
        /// The other side's.
        16 remote: Address,
        /// The endpoint's port; for ICMP the echo's identifier.
        32 local_port_be: u16,
        /// The other side's port; 0 for ICMP.
        34 remote_port_be: u16,
        /// The protocol.
        36 protocol: u8,
        /// Zero.
        37 pad: [u8; 3],
    }
}

/// [`Flow::bits`]: the part that is a verdict number.
pub const FLOW_VERDICT: u32 = 0xff;
/// [`Flow::bits`]: the other side has answered.
pub const FLOW_REPLIED: u32 = 1 << 8;
/// [`Flow::bits`]: the endpoint has sent a FIN.
pub const FLOW_FIN_LOCAL: u32 = 1 << 9;
/// [`Flow::bits`]: the other side has sent a FIN.
pub const FLOW_FIN_REMOTE: u32 = 1 << 10;
/// [`Flow::bits`]: either side has sent a RST.
pub const FLOW_RESET: u32 = 1 << 11;
/// [`Flow::bits`]: the reason for which it would have been dropped, were no policy audited; 0 for
/// none.
pub const FLOW_AUDITED: u32 = 0xff << FLOW_AUDITED_SHIFT;
/// How far to the left of a reason's number [`FLOW_AUDITED`] is.
pub const FLOW_AUDITED_SHIFT: u32 = 16;

layout! {
    /// A value of an endpoint's flow tables.
    Flow: 24 {
        /// When it was last seen, to a second.
        0 seen_ns: u64,
        /// The same in the kernel's ticks, which cost nothing to read.
        8 seen_jiffies: u64,
        /// The generation it was judged under.
        16 generation: u32,
        /// The verdict and what was seen of the flow's life.
        20 bits: u32,
    }
}

layout! {
    /// A key of `fragments`.
    Fragment: 44 {
        /// The endpoint's number.
        0 endpoint: u32,
        /// The datagram's identification.
        4 identification: u32,
        /// Where it comes from.
        8 source: Address,
        /// Where it goes.
        24 destination: Address,
        /// The protocol.
        40 protocol: u8,
        /// Zero.
        41 pad: [u8; 3],
    }
}

layout! {
    /// A value of `fragments`.
    FragmentEntry: 16 {
        /// When its first fragment was seen.
        0 seen_ns: u64,
        /// What was said of the first fragment.
        8 verdict: u32,
        /// Zero.
        12 pad: u32,
    }
}

layout! {
    /// A value of `counters`, by endpoint and CPU. Endpoint 0 stands for unknown interfaces.
    Counters: 608 {
        /// Packets dropped, by reason.
        0 drops: [u64; DROP_REASONS],
        /// Packets that passed and would have been dropped for a reason, were no policy audited:
        /// flows' first, and each that belongs to no flow or went past its proxy.
        256 audits: [u64; DROP_REASONS],
        /// Flows put into the outbound and the inbound table.
        512 inserted: [u64; 2],
        /// Flows taken out of them by the programs.
        528 removed: [u64; 2],
        /// First packets that passed, outbound and inbound.
        544 begun: [u64; 2],
        /// First packets that went to the DNS proxy.
        560 redirected: u64,
        /// First packets that went to the L7 proxy.
        568 inspected: u64,
        /// Events of each kind not written because of the endpoint's budget.
        576 events_suppressed: [u64; EVENT_KINDS],
        /// Events of each kind not written because the ring was full.
        592 events_lost: [u64; EVENT_KINDS],
    }
}

layout! {
    /// A value of `budgets`, by slot; slot 0 stands for unknown interfaces.
    Budget: 16 {
        /// When the endpoint will again have its whole burst of events, of each kind.
        0 full_at_ns: [u64; EVENT_KINDS],
    }
}

/// [`Event::flags`]: addresses and protocol were read.
pub const EVENT_PARSED: u8 = 1 << 0;
/// [`Event::flags`]: the transport header was read too.
pub const EVENT_TRANSPORT: u8 = 1 << 1;
/// [`Event::flags`]: the destination is a service's port, whose identity this is.
pub const EVENT_FRONTEND: u8 = 1 << 2;
/// [`Event::flags`]: the flow lived before, under another verdict.
pub const EVENT_AGAIN: u8 = 1 << 3;

/// [`Event::outcome`]: the packet passed.
pub const OUTCOME_FORWARDED: u8 = 1;
/// [`Event::outcome`]: it went to the DNS proxy.
pub const OUTCOME_REDIRECTED: u8 = 2;
/// [`Event::outcome`]: it was dropped.
pub const OUTCOME_DROPPED: u8 = 3;
/// [`Event::outcome`]: it went to the L7 proxy.
pub const OUTCOME_INSPECTED: u8 = 4;
/// [`Event::outcome`]: it went on, and would have been dropped, were no policy audited.
pub const OUTCOME_AUDITED: u8 = 5;

layout! {
    /// A record of `events`.
    Event: 72 {
        /// When.
        0 time_ns: u64,
        /// The endpoint's number, 0 if unknown.
        8 endpoint: u32,
        /// The interface index.
        12 interface: u32,
        /// The frame's length.
        16 length: u32,
        /// The destination's identity, 0 if it was not judged.
        20 identity: u32,
        /// The verdict table that the endpoint is under, 0 for none.
        24 table: u32,
        /// The source port, in network byte order; 0 where there is none.
        28 source_port_be: u16,
        /// The destination port, in network byte order; 0 where there is none.
        30 destination_port_be: u16,
        /// Where it came from.
        32 source: Address,
        /// Where it was going.
        48 destination: Address,
        /// The protocol.
        64 protocol: u8,
        /// What became of it.
        65 outcome: u8,
        /// Why it was dropped, or would have been; 0 if neither.
        66 reason: u8,
        /// 0 if the endpoint sent it, 1 if it reached the endpoint.
        67 direction: u8,
        /// What else is known.
        68 flags: u8,
        /// TCP's flags, FIN to CWR.
        69 tcp_flags: u8,
        /// ICMP's type.
        70 icmp_type: u8,
        /// ICMP's code.
        71 icmp_code: u8,
    }
}
