//! One entry as bytes: a header that tells what is missing or was changed, the file's path, and
//! the text.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use policy::Document;
use sha2::{Digest, Sha256};
use thiserror::Error;

/// What every entry begins with; the number is the layout's.
const MAGIC: &str = "fqdnd-last-good 1";
/// PATH_MAX, less the closing zero.
const MAX_PATH: usize = 4095;
/// More than the header's lines ever have.
const MAX_HEADER: usize = 256;

/// What a file has in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub file: Arc<Path>,
    /// When all of the file could be read last, in whole seconds; none where it never could.
    pub last_good: Option<SystemTime>,
    /// How many objects the text gives. Another reader that finds fewer has lost some.
    pub objects: usize,
    pub text: String,
}

/// Why bytes are no entry.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(crate) enum EntryError {
    #[error("does not begin with `{MAGIC}`")]
    Magic,
    #[error("is longer than any entry")]
    TooLong,
    #[error("is not what was written: its digest is another")]
    Digest,
    #[error("its header is cut short or out of order")]
    Header,
    #[error("stands under another file's name")]
    Name,
    #[error("its text is not UTF-8")]
    Text,
}

impl Entry {
    /// The longest entry, in bytes.
    pub const MAX_LEN: usize = MAX_HEADER + MAX_PATH + Document::MAX_FILE_LEN;

    /// The entry as bytes.
    pub fn encode(&self) -> Vec<u8> {
        let since = |time: SystemTime| time.duration_since(SystemTime::UNIX_EPOCH).ok();
        let seconds = self.last_good.map(|time| since(time).unwrap_or_default().as_secs());
        let seconds = seconds.map_or_else(|| "never".to_owned(), |seconds| seconds.to_string());
        let path = self.file.as_os_str().as_bytes();
        let mut rest = format!("{seconds} {} {}\n", self.objects, path.len()).into_bytes();
        rest.extend_from_slice(path);
        rest.push(b'\n');
        rest.extend_from_slice(self.text.as_bytes());
        let mut bytes = format!("{MAGIC}\n{}\n", digest(&rest)).into_bytes();
        bytes.append(&mut rest);
        bytes
    }

    /// Reads an entry back.
    pub fn decode(bytes: &[u8]) -> Result<Self, EntryError> {
        if bytes.len() > Self::MAX_LEN {
            return Err(EntryError::TooLong);
        }
        let (magic, rest) = line(bytes).ok_or(EntryError::Magic)?;
        if magic != MAGIC {
            return Err(EntryError::Magic);
        }
        let (expected, rest) = line(rest).ok_or(EntryError::Header)?;
        if expected != digest(rest) {
            return Err(EntryError::Digest);
        }
        let (header, rest) = line(rest).ok_or(EntryError::Header)?;
        let (last_good, objects, path_len) = fields(header).ok_or(EntryError::Header)?;
        let (path, rest) = rest.split_at_checked(path_len).ok_or(EntryError::Header)?;
        let text = rest.strip_prefix(b"\n").ok_or(EntryError::Header)?;
        let text = str::from_utf8(text).map_err(|_| EntryError::Text)?;
        let file = PathBuf::from(OsString::from_vec(path.to_vec())).into();
        Ok(Self { file, last_good, objects, text: text.to_owned() })
    }
}

fn line(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let end = bytes.iter().take(MAX_HEADER).position(|byte| *byte == b'\n')?;
    Some((str::from_utf8(&bytes[..end]).ok()?, &bytes[end + 1..]))
}

fn fields(header: &str) -> Option<(Option<SystemTime>, usize, usize)> {
    let mut words = header.split(' ');
    let last_good = match words.next()? {
        "never" => None,
        seconds => {
            let since = Duration::from_secs(seconds.parse().ok()?);
            Some(SystemTime::UNIX_EPOCH.checked_add(since)?)
        }
    };
    let fields = (last_good, words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    words.next().is_none().then_some(fields)
}

/// The first half of a SHA-256, in hexadecimal digits.
pub(super) fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes)[..16].iter().map(|byte| format!("{byte:02x}")).collect()
}
