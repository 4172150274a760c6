//! What stands around the rules of a port: server names, TLS contexts, a listener.

use model::{Pattern, ServerNames};

use crate::rule::{SecretKey, TlsContext, Unenforced};
use crate::spec::fields::{At, Check, Fields};

/// The longest server name, in characters.
const MAX_NAME: usize = 255;
const KINDS: &[&str] = &["CiliumClusterwideEnvoyConfig", "CiliumEnvoyConfig"];

/// What stands around the rules of a port.
#[derive(Default)]
pub(super) struct Around {
    pub(super) listener: bool,
    pub(super) server_names: Option<ServerNames>,
    pub(super) terminating: Option<TlsContext>,
    pub(super) originating: Option<TlsContext>,
}

impl Around {
    /// The first field that is not enforced.
    pub(super) fn unenforced(&self) -> Option<Unenforced> {
        if self.listener {
            return Some(Unenforced::Listener);
        }
        if self.terminating.is_some() || self.originating.is_some() {
            return Some(Unenforced::Tls);
        }
        self.server_names.as_ref().map(|_| Unenforced::ServerNames)
    }
}

/// Reads the fields of an item of `toPorts` around its rules.
pub(super) fn read(check: &mut Check, fields: &Fields<'_>, has_rules: bool) -> Around {
    let listener = check.present(fields, "listener");
    let terminating = check.present(fields, "terminatingTLS");
    let originating = check.present(fields, "originatingTLS");
    let server_names = check.present(fields, "serverNames");
    let server_names = server_names.and_then(|names| read_server_names(check, &names));
    if let Some(listener) = &listener {
        check_listener(check, listener);
        if has_rules {
            check.problem(listener, "must not stand beside rules");
        }
    }
    if server_names.is_some() && has_rules && terminating.is_none() {
        let message = "must not stand beside rules unless terminatingTLS is there";
        check.problem(fields.at("serverNames"), message);
    }
    Around {
        listener: listener.is_some(),
        server_names,
        terminating: terminating.and_then(|context| tls_context(check, &context)),
        originating: originating.and_then(|context| tls_context(check, &context)),
    }
}

/// Reads `serverNames`.
fn read_server_names(check: &mut Check, at: &At<'_>) -> Option<ServerNames> {
    let items = check.list(at)?;
    if items.is_empty() {
        check.problem(at, "must not be empty: leave the field out where any name will do");
    }
    let names = items.iter().filter_map(|item| server_name(check, item));
    Some(ServerNames(names.collect()))
}

fn server_name(check: &mut Check, item: &At<'_>) -> Option<Pattern> {
    let name = check.text(item)?;
    let rest = name.strip_prefix("**.").or_else(|| name.strip_prefix("*.")).unwrap_or(name);
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let labels = rest.strip_suffix('.').unwrap_or(rest);
    let well_formed = labels.split('.').all(|label| !label.is_empty() && label.bytes().all(legal));
    if name.is_empty() {
        check.problem(item, "must not be empty");
        return None;
    }
    let pattern = Pattern::match_pattern(name).ok();
    if name.len() > MAX_NAME || !well_formed || pattern.is_none() {
        let message = format!(
            "`{name}` is no server name: labels of letters, digits, `-` and `_`, perhaps with \
             `*.` or `**.` before"
        );
        check.problem(item, message);
        return None;
    }
    pattern
}

fn tls_context(check: &mut Check, at: &At<'_>) -> Option<TlsContext> {
    let known = ["certificate", "privateKey", "secret", "trustedCA"];
    let fields = check.fields(at, &known)?;
    let mut own = |key| {
        let text = check.optional_text(&fields, key).map(|(_, text)| text.to_owned());
        text.filter(|text| !text.is_empty())
    };
    let (certificate, private_key, trusted_ca) =
        (own("certificate"), own("privateKey"), own("trustedCA"));
    let Some(at) = check.present(&fields, "secret") else {
        check.problem(at, "secret must be set");
        return None;
    };
    let secret = secret(check, &at)?;
    Some(TlsContext { secret, certificate, private_key, trusted_ca })
}

/// Reads the reference to a secret.
pub(super) fn secret(check: &mut Check, at: &At<'_>) -> Option<SecretKey> {
    let fields = check.fields(at, &["name", "namespace"])?;
    let name = check.required_text(&fields, "name");
    let namespace = check.optional_text(&fields, "namespace").map(|(_, own)| own.to_owned());
    let namespace = namespace.filter(|namespace| !namespace.is_empty());
    let asked_in = check.namespace.clone();
    let namespace = namespace.or_else(|| asked_in.clone());
    Some(SecretKey { namespace, name: name?.1.to_owned(), asked_in })
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
