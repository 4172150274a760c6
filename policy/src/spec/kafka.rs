//! The items of `rules.kafka`.

use crate::spec::fields::{At, Check};

/// The longest topic, in bytes.
const MAX_TOPIC: usize = 249;
/// The requests of Kafka's protocol by the names that Cilium knows.
const API_KEYS: &[&str] = &[
    "addoffsetstotxn",
    "addpartitionstotxn",
    "alterconfigs",
    "apiversions",
    "controlledshutdown",
    "createacls",
    "createtopics",
    "deleteacls",
    "deleterecords",
    "deletetopics",
    "describeacls",
    "describeconfigs",
    "describegroups",
    "endtxn",
    "fetch",
    "findcoordinator",
    "heartbeat",
    "initproducerid",
    "joingroup",
    "leaderandisr",
    "leavegroup",
    "listgroups",
    "metadata",
    "offsetcommit",
    "offsetfetch",
    "offsetforleaderepoch",
    "offsets",
    "produce",
    "saslhandshake",
    "stopreplica",
    "syncgroup",
    "txnoffsetcommit",
    "updatemetadata",
    "writetxnmarkers",
];

/// Checks an item.
pub(super) fn check(check: &mut Check, at: &At<'_>) {
    let known = ["apiKey", "apiVersion", "clientID", "role", "topic"];
    let Some(fields) = check.fields(at, &known) else { return };
    check.optional_text(&fields, "clientID");
    let key = check.optional_text(&fields, "apiKey").filter(|(_, key)| !key.is_empty());
    let role = check.optional_text(&fields, "role").filter(|(_, role)| !role.is_empty());
    match (key, role) {
        (Some(_), Some((role, _))) => {
            check.problem(&role, "must not stand beside apiKey: write an item for each");
        }
        (Some((at, key)), None) if !API_KEYS.contains(&&*key.to_ascii_lowercase()) => {
            check.one_of(&at, API_KEYS);
        }
        (None, Some((role, _))) => drop(check.one_of(&role, &["consume", "produce"])),
        (Some(_) | None, None) => {}
    }
    if let Some((at, version)) = check.optional_text(&fields, "apiVersion") {
        let valid = version.parse::<i16>().is_ok_and(|version| version >= 0);
        if !version.is_empty() && !valid {
            check.problem(&at, format!("`{version}` is no version from 0 to {}", i16::MAX));
        }
    }
    if let Some((at, topic)) = check.optional_text(&fields, "topic") {
        check_topic(check, &at, topic);
    }
}

fn check_topic(check: &mut Check, at: &At<'_>, topic: &str) {
    if topic.len() > MAX_TOPIC {
        check.problem(at, format!("has {} bytes, at most {MAX_TOPIC} are allowed", topic.len()));
    }
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    if !topic.bytes().all(legal) {
        check.problem(at, format!("`{topic}` is no topic: letters, digits, `.`, `_` and `-`"));
    }
}
