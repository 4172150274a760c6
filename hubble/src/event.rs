//! The numbers by which Cilium tells where a flow originated.

use flows::EventKind;

/// A dropped packet.
pub const DROP: i32 = 1;
/// A packet seen at some point of the datapath.
pub const TRACE: i32 = 4;
/// A packet's verdict.
pub const POLICY_VERDICT: i32 = 5;
/// A proxy's record.
pub const L7: i32 = 129;

/// The number that stands for a kind of event.
pub const fn number(kind: EventKind) -> i32 {
    match kind {
        EventKind::Drop => DROP,
        EventKind::PolicyVerdict => POLICY_VERDICT,
        EventKind::L7 => L7,
    }
}

/// The kind of event for which a number stands, if flows of it are recorded here.
pub const fn kind(number: i32) -> Option<EventKind> {
    match number {
        DROP => Some(EventKind::Drop),
        POLICY_VERDICT => Some(EventKind::PolicyVerdict),
        L7 => Some(EventKind::L7),
        _ => None,
    }
}
