//! What stands around the rules of a port: server names, TLS contexts, a listener.

use crate::rule::Unenforced;
use crate::spec::fields::{At, Check, Fields};

/// The longest server name, in characters.
const MAX_NAME: usize = 255;
const KINDS: &[&str] = &["CiliumClusterwideEnvoyConfig", "CiliumEnvoyConfig"];

/// Checks the fields of an item of `toPorts`, and tells the first that is not enforced.
pub(super) fn read(
    check: &mut Check,
    fields: &Fields<'_>,
    rules: Option<&At<'_>>,
) -> Option<Unenforced> {
    let listener = check.present(fields, "listener");
    let terminating = check.present(fields, "terminatingTLS");
    let originating = check.present(fields, "originatingTLS");
    let names = check.present(fields, "serverNames").and_then(|names| server_names(check, &names));
    if let Some(listener) = &listener {
        check_listener(check, listener);
        if rules.is_some() {
            check.problem(listener, "must not stand beside rules");
        }
    }
    for context in terminating.iter().chain(&originating) {
        tls_context(check, context);
    }
    let named = names.is_some_and(|count| count > 0);
    if named && rules.is_some() && terminating.is_none() {
        let message = "must not stand beside rules unless terminatingTLS is there";
        check.problem(fields.at("serverNames"), message);
    }
    match (listener, terminating.or(originating)) {
        (Some(_), _) => Some(Unenforced::Listener),
        (None, Some(_)) => Some(Unenforced::Tls),
        (None, None) => named.then_some(Unenforced::ServerNames),
    }
}

/// Checks `serverNames`, and tells how many there are.
fn server_names(check: &mut Check, at: &At<'_>) -> Option<usize> {
    let items = check.list(at)?;
    for item in &items {
        let Some(name) = check.text(item) else { continue };
        let rest = name.strip_prefix("**.").or_else(|| name.strip_prefix("*.")).unwrap_or(name);
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        let labels = rest.strip_suffix('.').unwrap_or(rest);
        let well_formed =
            labels.split('.').all(|label| !label.is_empty() && label.bytes().all(legal));
        if name.is_empty() {
            check.problem(item, "must not be empty");
        } else if name.len() > MAX_NAME || !well_formed {
            let message = format!(
                "`{name}` is no server name: labels of letters, digits, `-` and `_`, perhaps with \
                 `*.` or `**.` before"
            );
            check.problem(item, message);
        }
    }
    Some(items.len())
}

fn tls_context(check: &mut Check, at: &At<'_>) {
    let known = ["certificate", "privateKey", "secret", "trustedCA"];
    let Some(fields) = check.fields(at, &known) else { return };
    for key in ["certificate", "privateKey", "trustedCA"] {
        check.optional_text(&fields, key);
    }
    match check.present(&fields, "secret") {
        Some(at) => secret(check, &at),
        None => check.problem(at, "secret must be set"),
    }
}

/// Checks the reference to a secret.
pub(super) fn secret(check: &mut Check, at: &At<'_>) {
    let Some(fields) = check.fields(at, &["name", "namespace"]) else { return };
    check.required_text(&fields, "name");
    check.optional_text(&fields, "namespace");
}

fn check_listener(check: &mut Check, at: &At<'_>) {
    let Some(fields) = check.fields(at, &["envoyConfig", "name", "priority"]) else { return };
    check.required_text(&fields, "name");
    match check.present(&fields, "envoyConfig") {
        None => check.problem(at, "envoyConfig must be set"),
        Some(config) => {
            let Some(own) = check.fields(&config, &["kind", "name"]) else { return };
            check.required_text(&own, "name");
            if let Some(kind) = check.present(&own, "kind") {
                check.one_of(&kind, KINDS);
            }
        }
    }
    let Some(priority) = check.present(&fields, "priority") else { return };
    match check.integer(&priority) {
        Some(1..=100) | None => {}
        Some(number) => check.problem(&priority, format!("{number} is no priority from 1 to 100")),
    }
}
