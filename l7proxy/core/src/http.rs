//! HTTP requests against the rules for them.
//!
//! Expressions are anchored to the whole text and bounded in size, and take time linear in it. All
//! rules are held against the request as it came; the edits of all that match are then made. What
//! is judged is what is sent on: whoever asks has taken out the headers of the hop before.

use std::sync::Arc;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use model::{HeaderCondition, HeaderMatch, HeaderValue as Wanted, HttpRule, Mismatch};
use regex::bytes::{Regex, RegexBuilder};
use thiserror::Error;

mod target;

pub use target::{Target, check_path};

/// The most memory that a compiled expression may take, in bytes.
const MAX_EXPRESSION: usize = 1 << 20;
/// Headers that frame a message or choose who gets it: no rule edits them.
const FRAMING: [HeaderName; 8] = [
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::EXPECT,
    header::HOST,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// What is judged of a request.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// The method.
    pub method: &'a str,
    /// The path with its query.
    pub path: &'a str,
    /// The host, with the port where one was sent.
    pub host: &'a str,
    /// The header fields.
    pub headers: &'a HeaderMap,
}

/// A change that a rule makes to a request it allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Edit {
    /// Only to be recorded.
    Log(HeaderName),
    /// One more value.
    Add(HeaderName, HeaderValue),
    /// No value.
    Delete(HeaderName),
    /// This value alone.
    Replace(HeaderName, HeaderValue),
}

/// Why a rule can match no request.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum HttpRuleError {
    /// The field's text is no regular expression, or one that grows too large.
    #[error("{field}: {problem}")]
    Expression {
        /// `method`, `path` or `host`.
        field: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// The text is no header's name.
    #[error("`{0}` is no header name")]
    Name(String),
    /// The header's value cannot be sent.
    #[error("the value of `{0}` has characters that stand in no header")]
    Value(String),
    /// The header frames the message.
    #[error("`{0}` frames the message and cannot be edited")]
    Framing(String),
    /// The header's Secret is not there.
    #[error("the Secret `{0}` is not there")]
    Secret(String),
}

/// One rule, ready to be held against requests.
#[derive(Debug)]
pub struct Matcher {
    method: Option<Regex>,
    path: Option<Regex>,
    host: Option<Regex>,
    headers: Vec<Condition>,
    matches: Vec<HeaderRule>,
}

#[derive(Debug)]
struct Condition {
    name: HeaderName,
    value: Option<HeaderValue>,
}

#[derive(Debug)]
struct HeaderRule {
    condition: Condition,
    mismatch: Mismatch,
}

impl Matcher {
    /// Compiles a rule.
    pub fn new(rule: &HttpRule) -> Result<Self, HttpRuleError> {
        Ok(Self {
            method: expression("method", rule.method.as_deref(), false)?,
            path: expression("path", rule.path.as_deref(), false)?,
            host: expression("host", rule.host.as_deref(), true)?,
            headers: rule.headers.iter().map(Condition::new).collect::<Result<_, _>>()?,
            matches: rule.header_matches.iter().map(HeaderRule::new).collect::<Result<_, _>>()?,
        })
    }

    /// The edits with which the rule allows the request; none if it does not.
    pub fn judge(&self, facts: &Facts<'_>) -> Option<Vec<Edit>> {
        let fits = |expression: &Option<Regex>, text: &str| {
            expression.as_ref().is_none_or(|expression| expression.is_match(text.as_bytes()))
        };
        let matches = fits(&self.method, facts.method)
            && fits(&self.path, facts.path)
            && fits(&self.host, facts.host)
            && self.headers.iter().all(|condition| condition.holds(facts.headers));
        if !matches {
            return None;
        }
        let mut edits = Vec::new();
        for rule in self.matches.iter().filter(|rule| !rule.condition.holds(facts.headers)) {
            edits.push(rule.edit()?);
        }
        Some(edits)
    }
}

impl Condition {
    fn new(condition: &HeaderCondition) -> Result<Self, HttpRuleError> {
        let value =
            condition.value.as_deref().map(|text| value(&condition.name, text)).transpose()?;
        Ok(Self { name: name(&condition.name)?, value })
    }

    /// Several fields of one name count as one whose values stand behind commas.
    fn holds(&self, headers: &HeaderMap) -> bool {
        let mut values = headers.get_all(&self.name).iter();
        match (&self.value, values.next()) {
            (None, first) => first.is_some(),
            (Some(_), None) => false,
            (Some(wanted), Some(first)) => {
                let mut rest =
                    Some(wanted.as_bytes()).and_then(|w| w.strip_prefix(first.as_bytes()));
                for value in values {
                    rest = rest
                        .and_then(|rest| rest.strip_prefix(b","))
                        .and_then(|rest| rest.strip_prefix(value.as_bytes()));
                }
                rest == Some(b"")
            }
        }
    }
}

impl HeaderRule {
    fn new(rule: &HeaderMatch) -> Result<Self, HttpRuleError> {
        let name = name(&rule.name)?;
        let edits = matches!(rule.mismatch, Mismatch::Add | Mismatch::Delete | Mismatch::Replace);
        if edits && FRAMING.contains(&name) {
            return Err(HttpRuleError::Framing(rule.name.clone()));
        }
        let value = match &rule.value {
            Wanted::Present => None,
            Wanted::Exactly(text) => Some(value(&rule.name, &text.0)?),
            Wanted::Unavailable(secret) => return Err(HttpRuleError::Secret(secret.clone())),
        };
        Ok(Self { condition: Condition { name, value }, mismatch: rule.mismatch })
    }

    /// What is done about a request that does not fulfil the condition.
    fn edit(&self) -> Option<Edit> {
        let name = self.condition.name.clone();
        let value = || self.condition.value.clone().unwrap_or(HeaderValue::from_static(""));
        match self.mismatch {
            Mismatch::Fail => None,
            Mismatch::Log => Some(Edit::Log(name)),
            Mismatch::Add => Some(Edit::Add(name, value())),
            Mismatch::Delete => Some(Edit::Delete(name)),
            Mismatch::Replace => Some(Edit::Replace(name, value())),
        }
    }
}

impl Edit {
    /// The header that it is about.
    pub const fn name(&self) -> &HeaderName {
        match self {
            Self::Log(name) | Self::Add(name, _) | Self::Delete(name) | Self::Replace(name, _) => {
                name
            }
        }
    }

    /// Makes the change.
    pub fn apply(self, headers: &mut HeaderMap) {
        match self {
            Self::Log(_) => {}
            Self::Add(name, value) => drop(headers.append(name, value)),
            Self::Delete(name) => drop(headers.remove(name)),
            Self::Replace(name, value) => drop(headers.insert(name, value)),
        }
    }
}

/// Holds all rules against a request: the edits of those that match, none where no rule does.
pub fn judge<'a>(
    matchers: impl Iterator<Item = &'a Arc<Matcher>>,
    facts: &Facts<'_>,
) -> Option<Vec<Edit>> {
    matchers.filter_map(|matcher| matcher.judge(facts)).reduce(|mut all, edits| {
        all.extend(edits);
        all
    })
}

fn expression(
    field: &'static str,
    source: Option<&str>,
    any_case: bool,
) -> Result<Option<Regex>, HttpRuleError> {
    // As in Cilium, an empty expression is one that is not there.
    let Some(source) = source.filter(|source| !source.is_empty()) else { return Ok(None) };
    let failed =
        |error: regex::Error| HttpRuleError::Expression { field, problem: error.to_string() };
    // By itself first: `a)|(b` is none, though it would be one between the anchors.
    let build = |source: &str| {
        RegexBuilder::new(source)
            .case_insensitive(any_case)
            .size_limit(MAX_EXPRESSION)
            .dfa_size_limit(MAX_EXPRESSION)
            .build()
            .map_err(failed)
    };
    build(source)?;
    build(&format!(r"\A(?:{source})\z")).map(Some)
}

fn name(text: &str) -> Result<HeaderName, HttpRuleError> {
    HeaderName::from_bytes(text.as_bytes()).map_err(|_| HttpRuleError::Name(text.to_owned()))
}

fn value(name: &str, text: &str) -> Result<HeaderValue, HttpRuleError> {
    let mut value =
        HeaderValue::from_str(text).map_err(|_| HttpRuleError::Value(name.to_owned()))?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests;
