//! One line of the journal: a digest, and what it says.

use sha2::{Digest, Sha256};

use crate::cluster::kind::Kind;
use crate::cluster::object::Name;

/// What the file begins with; the number is the layout's.
const MAGIC: &str = "fqdnd-cluster 1";
/// How many hexadecimal digits a digest has.
const DIGITS: usize = 16;

/// The first line: the layout, and the node whose file it is.
pub(super) fn header(node: &str) -> String {
    format!("{MAGIC} {}", node.replace(['\n', '\r'], " "))
}

/// What a line says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Line<'a> {
    /// An object has this text.
    Put { kind: Kind, name: Name, text: &'a str },
    /// An object is gone.
    Gone { kind: Kind, name: Name },
    /// Every list was in the file whole once.
    Whole,
}

/// An object, in few bytes: half a digest, which no two objects share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key(u128);

impl Key {
    pub fn of(kind: Kind, name: &Name) -> Self {
        let digest = Sha256::digest(format!("{kind}\t{}", full(name)));
        let mut half = [0; 16];
        half.copy_from_slice(&digest[..16]);
        Self(u128::from_be_bytes(half))
    }
}

impl<'a> Line<'a> {
    /// The line with its end, and its digest.
    pub fn encode(&self) -> (String, u64) {
        let body = match self {
            Self::Put { kind, name, text } => format!("+\t{kind}\t{}\t{text}", full(name)),
            Self::Gone { kind, name } => format!("-\t{kind}\t{}", full(name)),
            Self::Whole => "=".to_owned(),
        };
        let digest = digest(body.as_bytes());
        (format!("{digest:0DIGITS$x} {body}\n"), digest)
    }

    /// Reads a line without its end; none if it is not as one was written.
    pub fn decode(bytes: &'a [u8]) -> Option<(Self, u64)> {
        let (stated, body) = bytes.split_at_checked(DIGITS)?;
        let body = body.strip_prefix(b" ")?;
        let digest = digest(body);
        if stated != format!("{digest:0DIGITS$x}").as_bytes() {
            return None;
        }
        let mut parts = str::from_utf8(body).ok()?.splitn(4, '\t');
        let line = match parts.next()? {
            "=" => Self::Whole,
            "+" => {
                let (kind, name) = (kind(parts.next()?)?, name(parts.next()?)?);
                Self::Put { kind, name, text: parts.next()? }
            }
            "-" => Self::Gone { kind: kind(parts.next()?)?, name: name(parts.next()?)? },
            _ => return None,
        };
        parts.next().is_none().then_some((line, digest))
    }
}

fn digest(body: &[u8]) -> u64 {
    let digest = Sha256::digest(body);
    let mut first = [0; 8];
    first.copy_from_slice(&digest[..8]);
    u64::from_be_bytes(first)
}

fn full(name: &Name) -> String {
    format!("{}/{}", name.namespace.as_deref().unwrap_or_default(), name.name)
}

fn kind(text: &str) -> Option<Kind> {
    Kind::ALL.into_iter().find(|kind| kind.as_str() == text)
}

fn name(text: &str) -> Option<Name> {
    let (namespace, name) = text.split_once('/')?;
    let namespace = (!namespace.is_empty()).then(|| namespace.to_owned());
    Some(Name { namespace, name: name.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_reads_back_as_it_was_written_and_no_other_does() {
        let pod = Name { namespace: Some("n".into()), name: "a".into() };
        let node = Name { namespace: None, name: "here".into() };
        for line in [
            Line::Put { kind: Kind::LocalPods, name: pod.clone(), text: "{\"a\":\t1}" },
            Line::Gone { kind: Kind::Nodes, name: node },
            Line::Whole,
        ] {
            let (text, digest) = line.encode();
            let bytes = text.trim_end().as_bytes();
            assert_eq!(Line::decode(bytes), Some((line, digest)));
            for at in 0..bytes.len() {
                let mut changed = bytes.to_vec();
                changed[at] ^= 1;
                assert_eq!(Line::decode(&changed), None, "byte {at} of {text}");
                assert_eq!(Line::decode(&bytes[..at]), None, "{at} bytes of {text}");
            }
        }
        assert_ne!(Key::of(Kind::LocalPods, &pod), Key::of(Kind::RemotePods, &pod));
    }
}
