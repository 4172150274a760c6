//! Name patterns: the `matchName` and `matchPattern` of a policy.
//!
//! A pattern is compared with lower-case absolute names. `*` stands for zero or more characters of
//! one label, never for a dot; `**.` at the start stands for one or more whole labels; stars alone
//! match every name, the root too. As Cilium's `pkg/fqdn/matchpattern`, but that an empty label is
//! never matched: a name that can be asked has none.

use std::fmt;

use thiserror::Error;

use crate::{Name, NameRef};

/// A checked pattern.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pattern {
    text: String,
    kind: PatternKind,
}

/// What a pattern matches.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PatternKind {
    /// Every name, the root too.
    All,
    /// One name.
    Exact(Name),
    /// One label for each glob, after one or more labels of any text where `deep` is set.
    Labels {
        /// Whether the pattern began with `**.`.
        deep: bool,
        /// The globs, the leftmost first; not empty.
        globs: Vec<LabelGlob>,
    },
    /// A label is longer than any label can be, so no name matches.
    Nothing,
}

/// A pattern for one label: literal parts with any characters between them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LabelGlob(
    /// The literal parts, in lower case: one if there was no star, one more than stars otherwise.
    Vec<Box<str>>,
);

/// Why a text is no `matchName` or `matchPattern`.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PatternError {
    /// Nothing is there.
    #[error("must not be empty")]
    Empty,
    /// The text is over 255 characters.
    #[error("has {0} characters, at most 255 are allowed")]
    TooLong(usize),
    /// A character that stands in no name.
    #[error("`{0}` is not allowed; use letters, digits, `-`, `_` and `.`{1}")]
    Character(char, &'static str),
    /// It begins with a dot, or two stand together.
    #[error("has an empty label: it must not begin with a dot nor have two in a row")]
    EmptyLabel,
}

impl Pattern {
    /// The longest pattern, in characters.
    pub const MAX_LEN: usize = 255;

    /// Reads a `matchName`: a name without stars.
    pub fn match_name(text: &str) -> Result<Self, PatternError> {
        check(text, "", |byte| is_label_byte(byte) || byte == b'.')?;
        Ok(Self::build(text))
    }

    /// Reads a `matchPattern`: a name whose labels may have stars.
    pub fn match_pattern(text: &str) -> Result<Self, PatternError> {
        check(text, ", and `*` for any part of a label", |byte| {
            is_label_byte(byte) || byte == b'.' || byte == b'*'
        })?;
        Ok(Self::build(text))
    }

    fn build(text: &str) -> Self {
        let text = text.to_ascii_lowercase();
        let body = text.strip_suffix('.').unwrap_or(&text);
        let kind = kind(body);
        Self { text: body.to_owned(), kind }
    }

    /// What the pattern matches.
    pub const fn kind(&self) -> &PatternKind {
        &self.kind
    }

    /// The pattern in lower case, without a trailing dot.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether `name` is matched.
    pub fn matches(&self, name: NameRef<'_>) -> bool {
        match &self.kind {
            PatternKind::All => true,
            PatternKind::Nothing => false,
            PatternKind::Exact(exact) => exact.as_ref() == name,
            PatternKind::Labels { deep, globs } => {
                let count = name.labels().count();
                let Some(extra) = count.checked_sub(globs.len()) else { return false };
                if (*deep && extra == 0) || (!*deep && extra != 0) {
                    return false;
                }
                let mut labels = name.labels();
                labels.by_ref().take(extra).all(is_plain_label)
                    && globs.iter().zip(labels).all(|(glob, label)| glob.matches(label))
            }
        }
    }
}

fn check(text: &str, also: &'static str, allowed: impl Fn(u8) -> bool) -> Result<(), PatternError> {
    if text.is_empty() {
        return Err(PatternError::Empty);
    }
    let length = text.chars().count();
    if length > Pattern::MAX_LEN {
        return Err(PatternError::TooLong(length));
    }
    if let Some(other) = text.chars().find(|c| !u8::try_from(*c).is_ok_and(&allowed)) {
        return Err(PatternError::Character(other, also));
    }
    if text.starts_with('.') || text.contains("..") {
        return Err(PatternError::EmptyLabel);
    }
    Ok(())
}

fn kind(body: &str) -> PatternKind {
    if body.bytes().all(|byte| byte == b'*') {
        return PatternKind::All;
    }
    let mut labels = body.split('.').peekable();
    let first = labels.peek().copied().unwrap_or_default();
    let deep = first.len() > 1 && first.bytes().all(|byte| byte == b'*');
    if deep {
        labels.next();
    }
    let globs: Vec<LabelGlob> = labels.map(LabelGlob::new).collect();
    if !deep && globs.iter().all(|glob| glob.0.len() == 1) {
        return match body.parse() {
            Ok(name) => PatternKind::Exact(name),
            Err(_) => PatternKind::Nothing,
        };
    }
    if globs.iter().any(|glob| glob.literal_len() > 63) {
        return PatternKind::Nothing;
    }
    PatternKind::Labels { deep, globs }
}

/// Whether `byte` may stand in a label that a star matches.
fn is_label_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_'
}

/// Whether a star alone would match `label`.
fn is_plain_label(label: &[u8]) -> bool {
    label.iter().copied().all(is_label_byte)
}

impl LabelGlob {
    fn new(text: &str) -> Self {
        let mut parts: Vec<Box<str>> = Vec::new();
        let mut rest = text;
        while let Some((part, tail)) = rest.split_once('*') {
            parts.push(part.into());
            rest = tail.trim_start_matches('*');
        }
        parts.push(rest.into());
        Self(parts)
    }

    /// The literal text before the first star; the whole text where there is no star.
    pub fn prefix(&self) -> &str {
        self.0.first().map_or("", |part| part)
    }

    /// The literal text after the last star; none where there is no star.
    pub fn suffix(&self) -> Option<&str> {
        (self.0.len() > 1).then(|| self.0.last().map_or("", |part| part))
    }

    /// The text, if there is no star.
    pub fn literal(&self) -> Option<&str> {
        (self.0.len() == 1).then(|| self.prefix())
    }

    /// Whether this is a star alone.
    pub fn is_star(&self) -> bool {
        self.0.len() == 2 && self.literal_len() == 0
    }

    fn literal_len(&self) -> usize {
        self.0.iter().map(|part| part.len()).sum()
    }

    /// Whether a label in lower case is matched.
    pub fn matches(&self, label: &[u8]) -> bool {
        let Some(suffix) = self.suffix() else { return label == self.prefix().as_bytes() };
        if !is_plain_label(label) || label.len() < self.literal_len() {
            return false;
        }
        let Some(rest) = label.strip_prefix(self.prefix().as_bytes()) else { return false };
        let Some(rest) = rest.strip_suffix(suffix.as_bytes()) else { return false };
        let middle = &self.0[1..self.0.len() - 1];
        middle.iter().try_fold(rest, |rest, part| after(rest, part.as_bytes())).is_some()
    }
}

/// What of `text` comes after the first place where `part`, which is not empty, stands.
fn after<'a>(text: &'a [u8], part: &[u8]) -> Option<&'a [u8]> {
    let at = text.windows(part.len()).position(|window| window == part)?;
    Some(&text[at + part.len()..])
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests;
