//! The items of `rules.http`.

use regex_syntax::ast::parse::Parser;

use crate::spec::fields::{At, Check, Fields};
use crate::spec::tls;

const MISMATCHES: &[&str] = &["ADD", "DELETE", "LOG", "REPLACE"];

/// Checks an item.
pub(super) fn check(check: &mut Check, at: &At<'_>) {
    let Some(fields) = check.fields(at, &["headerMatches", "headers", "host", "method", "path"])
    else {
        return;
    };
    expressions(check, &fields);
    let headers = check.present(&fields, "headers").and_then(|list| check.list(&list));
    for header in headers.into_iter().flatten() {
        check.text(&header);
    }
    let matches = check.present(&fields, "headerMatches").and_then(|list| check.list(&list));
    for item in matches.into_iter().flatten() {
        header_match(check, &item);
    }
}

fn expressions(check: &mut Check, fields: &Fields<'_>) {
    for key in ["method", "path"] {
        let Some((at, text)) = check.optional_text(fields, key) else { continue };
        match (Parser::new().parse(text), meant(text)) {
            (Err(error), meant) => {
                let meant = meant.map(|meant| format!("; for any text write `{meant}`"));
                let (kind, meant) = (error.kind(), meant.unwrap_or_default());
                check.problem(&at, format!("`{text}` is no regular expression: {kind}{meant}"));
            }
            (Ok(_), Some(meant)) if key == "path" => warn_of_glob(check, &at, text, &meant),
            (Ok(_), _) => {}
        }
    }
    // Cilium does not check the host.
    let Some((at, text)) = check.optional_text(fields, "host") else { return };
    match (Parser::new().parse(text), meant(text)) {
        (_, Some(meant)) => warn_of_glob(check, &at, text, &meant),
        (Err(error), None) => {
            let kind = error.kind();
            check.warn(
                &at,
                format!("`{text}` is no regular expression, so nothing fits it: {kind}"),
            );
        }
        (Ok(_), None) => {}
    }
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

fn header_match(check: &mut Check, at: &At<'_>) {
    let Some(fields) = check.fields(at, &["mismatch", "name", "secret", "value"]) else { return };
    check.required_text(&fields, "name");
    check.optional_text(&fields, "value");
    if let Some(mismatch) = check.present(&fields, "mismatch") {
        check.one_of(&mismatch, MISMATCHES);
    }
    if let Some(secret) = check.present(&fields, "secret") {
        tls::secret(check, &secret);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proposes_what_a_glob_means() {
        assert_eq!(meant("/v1/*").as_deref(), Some("/v1/.*"));
        assert_eq!(meant("*.example.com").as_deref(), Some(".*.example.com"));
        assert_eq!(meant("/v1/.*"), None);
        assert_eq!(meant("/v1/a*"), None);
    }
}
