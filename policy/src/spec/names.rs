//! `matchName` and `matchPattern`, and what is worth a warning in them.

use model::{Pattern, PatternKind};

use crate::spec::fields::{At, Check};

/// Names under which strangers get names of their own: a star there trusts all of them. Each
/// stands for a public suffix of more than one label; top-level domains are known by their shape.
const SHARED_SUFFIXES: &[&str] = &[
    "ac.uk",
    "amazonaws.com",
    "appspot.com",
    "azureedge.net",
    "azurewebsites.net",
    "blob.core.windows.net",
    "blogspot.com",
    "cloudapp.net",
    "cloudfront.net",
    "co.in",
    "co.jp",
    "co.kr",
    "co.nz",
    "co.uk",
    "co.za",
    "com.ar",
    "com.au",
    "com.br",
    "com.cn",
    "com.mx",
    "com.sg",
    "com.tr",
    "com.tw",
    "firebaseapp.com",
    "fly.dev",
    "github.io",
    "gitlab.io",
    "gov.uk",
    "herokuapp.com",
    "ne.jp",
    "netlify.app",
    "ngrok.io",
    "org.au",
    "org.uk",
    "or.jp",
    "pages.dev",
    "run.app",
    "s3.amazonaws.com",
    "vercel.app",
    "web.app",
    "workers.dev",
];
/// Single labels that no registry gives out names under.
const PRIVATE: &[&str] = &[
    "arpa",
    "cluster",
    "corp",
    "example",
    "home",
    "internal",
    "intranet",
    "invalid",
    "lan",
    "local",
    "localdomain",
    "localhost",
    "test",
    "svc",
];

/// An item of `toFQDNs`.
pub(super) fn selector(check: &mut Check, at: &At<'_>) -> Option<Pattern> {
    let pattern = read(check, at)?;
    if let Some(suffix) = wild_suffix(&pattern) {
        let message = match suffix {
            "" => "matches every name, so every address that any name resolves to".to_owned(),
            _ => format!("matches names of many owners: anybody may get one under `{suffix}`"),
        };
        check.warn(at, message);
    }
    Some(pattern)
}

/// An item with a `matchName` or a `matchPattern`.
pub(super) fn read(check: &mut Check, at: &At<'_>) -> Option<Pattern> {
    let fields = check.fields(at, &["matchName", "matchPattern"])?;
    let (name, pattern) =
        (check.present(&fields, "matchName"), check.present(&fields, "matchPattern"));
    let (at, read): (_, fn(&str) -> _) = match (name, pattern) {
        (Some(name), None) => (name, Pattern::match_name),
        (None, Some(pattern)) => (pattern, Pattern::match_pattern),
        (Some(_), Some(pattern)) => {
            check.problem(&pattern, "must not stand beside matchName: write an item for each");
            return None;
        }
        (None, None) => {
            check.problem(at, "one of matchName and matchPattern must be set");
            return None;
        }
    };
    let text = check.text(&at)?;
    match read(text) {
        Ok(pattern) => {
            if at.is_field("matchPattern") && !text.contains('*') {
                check.warn(&at, "has no `*`, so it matches this one name: matchName would say so");
            }
            if *pattern.kind() == PatternKind::Nothing {
                check
                    .warn(&at, "has a label that is longer than any may be, so it matches nothing");
            }
            Some(pattern)
        }
        Err(error) => {
            check.problem(&at, error.to_string());
            None
        }
    }
}

/// The suffix that strangers share and under which the pattern leaves the next label open; empty
/// for a pattern that matches everything.
fn wild_suffix(pattern: &Pattern) -> Option<&str> {
    match pattern.kind() {
        PatternKind::All => return Some(""),
        PatternKind::Exact(_) | PatternKind::Nothing => return None,
        PatternKind::Labels { .. } => {}
    }
    let labels: Vec<&str> = pattern.as_str().split('.').collect();
    let last_wild = labels.iter().rposition(|label| label.contains('*'))?;
    let open = labels[last_wild].bytes().all(|byte| byte == b'*');
    let length: usize = labels[..=last_wild].iter().map(|label| label.len() + 1).sum();
    let suffix = pattern.as_str().get(length..)?;
    let is_top = !suffix.contains('.') && !PRIVATE.contains(&suffix);
    (open && (is_top || SHARED_SUFFIXES.contains(&suffix))).then_some(suffix)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_patterns_that_trust_strangers() {
        let suffix =
            |text: &str| wild_suffix(&Pattern::match_pattern(text).unwrap()).map(str::to_owned);
        for (pattern, shared) in [
            ("*", Some("")),
            ("**.", Some("")),
            ("*.com", Some("com")),
            ("**.com", Some("com")),
            ("*.co.uk", Some("co.uk")),
            ("*.s3.amazonaws.com", Some("s3.amazonaws.com")),
            ("*.*.com", Some("com")),
            ("api.*.com", Some("com")),
            ("*.example.com", None),
            ("a*.com", None),
            ("*.svc.cluster.local", None),
            ("*.local", None),
            ("example.com", None),
        ] {
            assert_eq!(suffix(pattern).as_deref(), shared, "{pattern}");
        }
    }
}
