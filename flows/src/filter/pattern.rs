//! The texts by which filters name addresses, pods, names and nodes.

use model::Prefix;
use regex::{Regex, RegexBuilder};

use super::FilterError;

/// The namespace of a pod that is named without one.
const DEFAULT: &str = "default";
/// The name of the one cluster that flows here are of.
const CLUSTER: &str = "default";
/// How large a compiled expression may be, in bytes: a client writes it.
const REGEX_SIZE: usize = 256 * 1024;

/// A namespace, and the beginning of a name in it. An empty namespace stands for all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pod {
    namespace: String,
    start: String,
}

impl Pod {
    pub fn parse(text: &str) -> Result<Self, FilterError> {
        let (namespace, start) = text.split_once('/').unwrap_or((DEFAULT, text));
        if text.is_empty() {
            return Err(FilterError::Pod(text.to_owned()));
        }
        Ok(Self { namespace: namespace.to_owned(), start: start.to_owned() })
    }

    pub fn matches(&self, (namespace, name): (&str, &str)) -> bool {
        let is_somebody = !namespace.is_empty() || !name.is_empty();
        let is_there = self.namespace.is_empty() || self.namespace == namespace;
        is_somebody && is_there && name.starts_with(&self.start)
    }
}

/// An address stands for itself alone.
pub(super) fn prefix(text: &str) -> Result<Prefix, FilterError> {
    if text.contains('/') {
        return text.parse().map_err(|error| FilterError::Prefix(text.to_owned(), error));
    }
    let address = text.parse().map_err(|error| FilterError::Address(text.to_owned(), error));
    address.map(Prefix::host)
}

/// A name in which `*` stands for any characters of names.
pub(super) fn name(text: &str) -> Result<Regex, FilterError> {
    let pattern = globs(text).ok_or_else(|| FilterError::Name(text.to_owned()))?;
    regex(&format!("^{pattern}$"))
}

/// A node, after its cluster if that matters. Flows name nodes alone.
pub(super) fn node(text: &str) -> Result<Regex, FilterError> {
    let wrong = || FilterError::Node(text.to_owned());
    let (cluster, node) = text.split_once('/').unwrap_or(("", text));
    if text.is_empty() || node.contains('/') {
        return Err(wrong());
    }
    let anything = |text: &str| if text.is_empty() { "*".to_owned() } else { text.to_owned() };
    let cluster = name(&anything(cluster))?;
    let node = if cluster.is_match(CLUSTER) { globs(&anything(node)) } else { Some("$.".into()) };
    regex(&format!("^{}$", node.ok_or_else(wrong)?))
}

pub(super) fn regex(text: &str) -> Result<Regex, FilterError> {
    let built = RegexBuilder::new(text).size_limit(REGEX_SIZE).dfa_size_limit(REGEX_SIZE).build();
    built.map_err(|error| FilterError::Regex(text.to_owned(), error.to_string()))
}

/// The digits that a status code begins with, or all of them.
pub(super) fn status_code(text: &str) -> Result<String, FilterError> {
    let (digits, lengths) = match text.strip_suffix('+') {
        Some(start) => (start, 1..=2),
        None => (text, 3..=3),
    };
    let fits = lengths.contains(&digits.len())
        && digits.starts_with(['1', '2', '3', '4', '5'])
        && digits.bytes().all(|byte| byte.is_ascii_digit());
    if fits { Ok(digits.to_owned()) } else { Err(FilterError::StatusCode(text.to_owned())) }
}

/// An expression for a name with `*` in it; none if it is no name.
fn globs(text: &str) -> Option<String> {
    let text = text.trim().to_ascii_lowercase();
    let text = text.strip_suffix('.').unwrap_or(&text);
    if text.is_empty() {
        return None;
    }
    let mut pattern = String::new();
    for character in text.chars() {
        match character {
            '.' => pattern.push_str("[.]"),
            '*' => pattern.push_str("[-a-z0-9_.]*"),
            'a'..='z' | '0'..='9' | '-' | '_' => pattern.push(character),
            _ => return None,
        }
    }
    Some(pattern)
}
