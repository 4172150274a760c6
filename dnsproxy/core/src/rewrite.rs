//! The few bytes of a message that the proxy changes: its ID and TTLs that are too long.

use crate::wire::{Record, kind};

/// Writes a message's ID. A message shorter than an ID stays as it is.
pub fn set_id(message: &mut [u8], id: u16) {
    if let Some(bytes) = message.first_chunk_mut() {
        *bytes = id.to_be_bytes();
    }
}

/// Appends a message to a TCP stream's buffer with its length before it. Says whether it fitted
/// into the two bytes of the length.
pub fn write_framed(message: &[u8], stream: &mut Vec<u8>) -> bool {
    let Ok(length) = u16::try_from(message.len()) else { return false };
    stream.extend_from_slice(&length.to_be_bytes());
    stream.extend_from_slice(message);
    true
}

/// A TTL as it counts: a value with its highest bit set means zero (RFC 2181, 8).
pub(crate) const fn effective_ttl(ttl: u32) -> u32 {
    if ttl > i32::MAX as u32 { 0 } else { ttl }
}

/// Lowers the TTL of a record to `max`. The OPT record, whose TTL is no time, and a signature's
/// are left alone.
pub(crate) fn cap_ttl(record: &Record, message: &mut [u8], max: u32) {
    let capped = effective_ttl(record.ttl).min(max);
    if capped == record.ttl || matches!(record.kind, kind::OPT | kind::TSIG) {
        return;
    }
    message[record.ttl_at..record.ttl_at + 4].copy_from_slice(&capped.to_be_bytes());
}
