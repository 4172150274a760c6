//! The list of versions that a broker offers, cut to what can be judged.
//!
//! Newer versions of Fetch and others name topics by numbers, and kinds that are not known may name
//! them anywhere. A client that does not see them falls back to what can be read.

use super::layout::Api;
use super::wire::{Reader, Writer};
use super::{API_VERSIONS, Malformed};

/// The longest answer to ApiVersions that is read.
pub(super) const MAX_ANSWER: usize = 64 * 1024;

/// Cuts an answer to ApiVersions, without the length before it; the result has its length.
pub(super) fn cap(answer: &[u8], version: i16) -> Result<Vec<u8>, Malformed> {
    let flexible_from = Api::of(API_VERSIONS).map_or(i16::MAX, |api| api.flexible);
    let mut reader = Reader::new(answer);
    let mut writer = Writer::default();
    writer.put(&[0; 4]);
    writer.put(reader.take(4)?);
    let error = reader.i16()?;
    writer.put(&error.to_be_bytes());
    // A broker that does not know the version asked for answers in version 0.
    let flexible = error == 0 && version >= flexible_from;
    (reader.flexible, writer.flexible) = (flexible, flexible);
    let mut kept = Vec::new();
    for _ in 0..reader.count()?.unwrap_or(0) {
        let (key, oldest, newest) = (reader.i16()?, reader.i16()?, reader.i16()?);
        reader.tags()?;
        let Some(api) = Api::of(key) else { continue };
        let newest = if api.layout.is_empty() { newest } else { newest.min(api.newest) };
        if oldest <= newest {
            kept.push([key, oldest, newest]);
        }
    }
    writer.count(kept.len());
    for numbers in kept {
        numbers.iter().for_each(|number| writer.put(&number.to_be_bytes()));
        writer.tags();
    }
    let rest = reader.take(answer.len() - reader.position())?;
    writer.put(rest);
    let mut bytes = writer.bytes;
    let length = u32::try_from(bytes.len() - 4).map_err(|_| Malformed)?;
    bytes[..4].copy_from_slice(&length.to_be_bytes());
    Ok(bytes)
}
