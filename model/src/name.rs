//! Domain names in one canonical form: wire format, lower case, uncompressed.
//!
//! A name is at most 255 bytes: labels of 1 to 63 bytes, each behind its length, then a zero byte
//! (RFC 1035, 3.1). Case is folded for ASCII only (RFC 4343), so two names are the same exactly
//! when their bytes are.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// A name that owns its bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Box<[u8]>);

/// A borrowed name.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NameRef<'a>(&'a [u8]);

/// A name on the stack, built label by label.
#[derive(Clone)]
pub struct NameBuf {
    bytes: [u8; Name::MAX_LEN],
    /// The bytes in use, without the root's zero byte.
    len: usize,
}

/// Why bytes or a text are no name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum NameError {
    /// The text is empty; the root is written `.`.
    #[error("a name must not be empty")]
    Empty,
    /// Two dots stand together, or one at the start.
    #[error("a name must not have an empty label")]
    EmptyLabel,
    /// A label has over 63 bytes.
    #[error("a label must not be longer than 63 bytes")]
    LabelTooLong,
    /// The name has over 255 bytes.
    #[error("a name must not be longer than 255 bytes")]
    TooLong,
    /// A backslash is not followed by a character or three digits up to 255.
    #[error("a backslash must be followed by a character or by three digits up to 255")]
    Escape,
    /// The bytes are not one whole name in wire format.
    #[error("not a name in wire format")]
    Wire,
}

impl Name {
    /// The longest name, in bytes of wire format.
    pub const MAX_LEN: usize = 255;

    /// The same name, borrowed.
    pub fn as_ref(&self) -> NameRef<'_> {
        NameRef(&self.0)
    }
}

impl<'a> NameRef<'a> {
    /// A name that stands in `bytes` in wire format, in lower case and with nothing behind it.
    pub fn from_wire(bytes: &'a [u8]) -> Result<Self, NameError> {
        let mut rest = bytes;
        while let [length @ 1..=63, tail @ ..] = rest {
            let (label, tail) =
                tail.split_at_checked(usize::from(*length)).ok_or(NameError::Wire)?;
            if label.iter().any(u8::is_ascii_uppercase) {
                return Err(NameError::Wire);
            }
            rest = tail;
        }
        if rest == [0] && bytes.len() <= Name::MAX_LEN {
            Ok(Self(bytes))
        } else {
            Err(NameError::Wire)
        }
    }

    /// The bytes in wire format, the root's zero byte included.
    pub const fn as_wire(self) -> &'a [u8] {
        self.0
    }

    /// Whether this is the root.
    pub const fn is_root(self) -> bool {
        self.0.len() == 1
    }

    /// The labels, the leftmost first; none for the root.
    pub fn labels(self) -> impl Iterator<Item = &'a [u8]> + Clone {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            let (length, tail) = rest.split_first()?;
            let (label, tail) = tail.split_at_checked(usize::from(*length))?;
            rest = tail;
            (!label.is_empty()).then_some(label)
        })
    }

    /// Whether this name is `ancestor` or lies under it.
    pub fn is_under(self, ancestor: NameRef<'_>) -> bool {
        let mut rest = self.0;
        while rest.len() > ancestor.0.len() {
            rest = &rest[usize::from(rest[0]) + 1..];
        }
        rest == ancestor.0
    }

    /// A copy that owns its bytes.
    pub fn to_name(self) -> Name {
        Name(self.0.into())
    }
}

impl NameBuf {
    /// The root.
    pub const fn new() -> Self {
        Self { bytes: [0; Name::MAX_LEN], len: 0 }
    }

    /// Makes this the root again.
    pub const fn clear(&mut self) {
        self.len = 0;
    }

    /// Adds a label on the right, in lower case.
    pub fn push(&mut self, label: &[u8]) -> Result<(), NameError> {
        let length = match u8::try_from(label.len()) {
            Ok(0) => return Err(NameError::EmptyLabel),
            Ok(length @ 1..=63) => length,
            _ => return Err(NameError::LabelTooLong),
        };
        let end = self.len + 1 + label.len();
        if end >= Name::MAX_LEN {
            return Err(NameError::TooLong);
        }
        self.bytes[self.len] = length;
        let target = &mut self.bytes[self.len + 1..end];
        target.copy_from_slice(label);
        target.make_ascii_lowercase();
        self.bytes[end] = 0;
        self.len = end;
        Ok(())
    }

    /// The name as built so far.
    pub fn as_ref(&self) -> NameRef<'_> {
        if self.len == 0 { NameRef(&[0]) } else { NameRef(&self.bytes[..=self.len]) }
    }
}

impl Default for NameBuf {
    fn default() -> Self {
        Self::new()
    }
}

impl Borrow<[u8]> for Name {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

impl FromStr for NameBuf {
    type Err = NameError;

    /// Reads the text form of RFC 1035, 5.1, with or without the trailing dot.
    fn from_str(text: &str) -> Result<Self, NameError> {
        let mut name = Self::new();
        if text == "." {
            return Ok(name);
        }
        let mut bytes = text.bytes();
        let mut label = ([0u8; 63], 0);
        let mut dotted = true;
        while let Some(byte) = bytes.next() {
            dotted = byte == b'.';
            if dotted {
                name.push(&label.0[..label.1])?;
                label.1 = 0;
                continue;
            }
            let byte = if byte == b'\\' { unescape(&mut bytes)? } else { byte };
            *label.0.get_mut(label.1).ok_or(NameError::LabelTooLong)? = byte;
            label.1 += 1;
        }
        if !dotted {
            name.push(&label.0[..label.1])?;
        }
        if name.len == 0 { Err(NameError::Empty) } else { Ok(name) }
    }
}

fn unescape(bytes: &mut std::str::Bytes<'_>) -> Result<u8, NameError> {
    let first = bytes.next().ok_or(NameError::Escape)?;
    if !first.is_ascii_digit() {
        return Ok(first);
    }
    let mut digit = || bytes.next().filter(u8::is_ascii_digit).ok_or(NameError::Escape);
    let digits = [first, digit()?, digit()?];
    let value = digits.iter().fold(0u16, |value, digit| value * 10 + u16::from(digit - b'0'));
    u8::try_from(value).map_err(|_| NameError::Escape)
}

impl FromStr for Name {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        Ok(text.parse::<NameBuf>()?.as_ref().to_name())
    }
}

impl fmt::Display for NameRef<'_> {
    /// Writes the text form with its trailing dot; bytes that a host name never has as `\DDD`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_root() {
            return f.write_str(".");
        }
        for label in self.labels() {
            for &byte in label {
                match byte {
                    b'.' | b'\\' => write!(f, "\\{}", char::from(byte))?,
                    b'!'..=b'~' => write!(f, "{}", char::from(byte))?,
                    _ => write!(f, "\\{byte:03}")?,
                }
            }
            f.write_str(".")?;
        }
        Ok(())
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_ref().fmt(f)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Name({self})")
    }
}

impl fmt::Debug for NameRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NameRef({self})")
    }
}

impl fmt::Debug for NameBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NameBuf({})", self.as_ref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        text.parse().unwrap()
    }

    #[test]
    fn folds_case_and_adds_the_trailing_dot() {
        assert_eq!(name("WWW.Example.COM"), name("www.example.com."));
        assert_eq!(name("WWW.Example.COM").to_string(), "www.example.com.");
        assert_eq!(name(".").as_ref().as_wire(), [0]);
        assert_eq!(name("a.b").as_ref().as_wire(), b"\x01a\x01b\0");
    }

    #[test]
    fn escapes_what_a_host_name_never_has() {
        assert_eq!(name("a\\.b\\032c\\\\.d").to_string(), "a\\.b\\032c\\\\.d.");
        assert_eq!(name("a\\.b\\032c").as_ref().labels().collect::<Vec<_>>(), [b"a.b c"]);
    }

    #[test]
    fn refuses_what_is_no_name() {
        let error = |text: &str| text.parse::<Name>().unwrap_err();
        assert_eq!(error(""), NameError::Empty);
        assert_eq!(error(".a"), NameError::EmptyLabel);
        assert_eq!(error("a..b"), NameError::EmptyLabel);
        assert_eq!(error(&"a".repeat(64)), NameError::LabelTooLong);
        assert_eq!(error(&"a.".repeat(128)), NameError::TooLong);
        assert_eq!(error("a\\25"), NameError::Escape);
        assert_eq!(error("a\\256"), NameError::Escape);
        assert!("a.".repeat(127).parse::<Name>().is_ok());
    }

    #[test]
    fn reads_wire_format_only_whole_and_in_lower_case() {
        assert!(NameRef::from_wire(b"\x01a\0").is_ok());
        for bytes in [&b"\x01A\0"[..], b"\x01a", b"\x01a\0\0", b"", b"\xc0\x0c", b"\x05a\0"] {
            assert_eq!(NameRef::from_wire(bytes), Err(NameError::Wire), "{bytes:?}");
        }
    }

    #[test]
    fn knows_its_ancestors() {
        let under =
            |child: &str, ancestor: &str| name(child).as_ref().is_under(name(ancestor).as_ref());
        assert!(under("a.cluster.local", "cluster.local"));
        assert!(under("cluster.local", "cluster.local") && under("a", "."));
        assert!(!under("xcluster.local", "cluster.local") && !under("local", "cluster.local"));
    }
}
