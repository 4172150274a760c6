//! The items of `rules.http`.

use model::{HeaderCondition, HeaderMatch, HeaderValue, Hidden, HttpRule, Mismatch};

use crate::rule::{HeaderSecret, SecretKey};
use crate::spec::fields::{At, Check, Fields};
use crate::spec::{expression, tls};

const MISMATCHES: &[&str] = &["ADD", "DELETE", "LOG", "REPLACE"];

/// Reads an item, the `number`th, and adds the secrets that it names.
pub(super) fn read(
    check: &mut Check,
    at: &At<'_>,
    number: usize,
    secrets: &mut Vec<HeaderSecret>,
) -> Option<HttpRule> {
    let fields = check.fields(at, &["headerMatches", "headers", "host", "method", "path"])?;
    let (method, path) = (expression(check, &fields, "method"), expression(check, &fields, "path"));
    let host = host(check, &fields);
    let mut rule = HttpRule { method, path, host, ..HttpRule::default() };
    let headers = check.present(&fields, "headers").and_then(|list| check.list(&list));
    for header in headers.into_iter().flatten() {
        rule.headers.extend(check.text(&header).map(condition));
    }
    let matches = check.present(&fields, "headerMatches").and_then(|list| check.list(&list));
    for item in matches.into_iter().flatten() {
        let Some((header, secret)) = header_match(check, &item) else { continue };
        let own = rule.header_matches.len();
        secrets.extend(secret.map(|secret| HeaderSecret { rule: number, header: own, secret }));
        rule.header_matches.push(header);
    }
    Some(rule)
}

/// An item of `headers`: a name, or a name and a value behind it, perhaps with a colon between.
fn condition(text: &str) -> HeaderCondition {
    match text.split_once(' ') {
        Some((name, value)) => {
            let name = name.trim_end_matches(':').to_ascii_lowercase();
            HeaderCondition { name, value: Some(value.to_owned()) }
        }
        None => HeaderCondition { name: text.to_ascii_lowercase(), value: None },
    }
}

/// An expression that must be one, as the proxy reads it; an empty one is as absent.
fn expression(check: &mut Check, fields: &Fields<'_>, key: &str) -> Option<String> {
    let (at, text) = written(check, fields, key)?;
    match (expression::translate(text), meant(text)) {
        (Err(error), meant) => {
            let meant = meant.map(|meant| format!("; for any text write `{meant}`"));
            let meant = meant.unwrap_or_default();
            check.problem(&at, format!("`{text}` is no regular expression: {error}{meant}"));
            None
        }
        (Ok(expression), meant) => {
            if let Some(meant) = meant.filter(|_| key == "path") {
                warn_of_glob(check, &at, text, &meant);
            }
            Some(expression)
        }
    }
}

/// The host, which Cilium does not check: what is no expression fits nothing.
fn host(check: &mut Check, fields: &Fields<'_>) -> Option<String> {
    let (at, text) = written(check, fields, "host")?;
    let expression = expression::translate(text);
    match (&expression, meant(text)) {
        (_, Some(meant)) => warn_of_glob(check, &at, text, &meant),
        (Err(error), None) => {
            let message = "is no regular expression, so nothing fits it";
            check.warn(&at, format!("`{text}` {message}: {error}"));
        }
        (Ok(_), None) => {}
    }
    Some(expression.unwrap_or_else(|_| text.to_owned()))
}

fn written<'n>(check: &mut Check, fields: &Fields<'n>, key: &str) -> Option<(At<'n>, &'n str)> {
    check.optional_text(fields, key).filter(|(_, text)| !text.is_empty())
}

fn warn_of_glob(check: &mut Check, at: &At<'_>, text: &str, meant: &str) {
    let message = format!(
        "`{text}` reads like a file pattern, and is a regular expression: its `*` repeats what \
         stands before it; for any text write `{meant}`"
    );
    check.warn(at, message);
}

/// What was perhaps meant by a text whose stars stand at the beginning or after a slash, where a
/// regular expression hardly has them.
fn meant(text: &str) -> Option<String> {
    let mut meant = String::with_capacity(text.len() + 2);
    let mut before = None;
    let mut found = false;
    for c in text.chars() {
        if c == '*' && matches!(before, None | Some('/')) {
            meant.push('.');
            found = true;
        }
        meant.push(c);
        before = Some(c);
    }
    found.then_some(meant)
}

fn header_match(check: &mut Check, at: &At<'_>) -> Option<(HeaderMatch, Option<SecretKey>)> {
    let fields = check.fields(at, &["mismatch", "name", "secret", "value"])?;
    let name = check.required_text(&fields, "name");
    let value = check.optional_text(&fields, "value").filter(|(_, value)| !value.is_empty());
    let mismatch = check.present(&fields, "mismatch");
    let mismatch = mismatch.and_then(|at| check.one_of(&at, MISMATCHES));
    let secret = check.present(&fields, "secret");
    let secret = secret.and_then(|at| tls::secret(check, &at));
    // A value beside a secret is what counts while the secret is not there.
    let value = match (value, &secret) {
        (Some((_, value)), _) => HeaderValue::Exactly(Hidden(value.to_owned())),
        (None, Some(secret)) => HeaderValue::Unavailable(secret.to_string()),
        (None, None) => HeaderValue::Present,
    };
    let mismatch = match mismatch {
        Some("ADD") => Mismatch::Add,
        Some("DELETE") => Mismatch::Delete,
        Some("LOG") => Mismatch::Log,
        Some("REPLACE") => Mismatch::Replace,
        Some(_) | None => Mismatch::Fail,
    };
    let name = name?.1.to_ascii_lowercase();
    Some((HeaderMatch { name, value, mismatch }, secret))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_a_name_or_a_name_and_a_value() {
        let read = |text: &str| (condition(text).name, condition(text).value);
        assert_eq!(read("X-Token"), ("x-token".to_owned(), None));
        assert_eq!(read("X-Key: a b"), ("x-key".to_owned(), Some("a b".to_owned())));
        assert_eq!(read("X-Key true"), ("x-key".to_owned(), Some("true".to_owned())));
    }

    #[test]
    fn proposes_what_a_glob_means() {
        assert_eq!(meant("/v1/*").as_deref(), Some("/v1/.*"));
        assert_eq!(meant("*.example.com").as_deref(), Some(".*.example.com"));
        assert_eq!(meant("/v1/.*"), None);
        assert_eq!(meant("/v1/a*"), None);
    }
}
