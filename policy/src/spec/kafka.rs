//! The items of `rules.kafka`.

use std::collections::BTreeSet;

use model::{KAFKA_REQUESTS, KafkaRule};

use crate::spec::fields::{At, Check};

/// The longest topic, in bytes.
const MAX_TOPIC: usize = 249;
/// What roles stand for.
const ROLES: [(&str, &[i16]); 2] =
    [("consume", &[1, 2, 3, 8, 9, 10, 11, 12, 13, 14, 18]), ("produce", &[0, 3, 18])];

/// Reads an item.
pub(super) fn read(check: &mut Check, at: &At<'_>) -> Option<KafkaRule> {
    let known = ["apiKey", "apiVersion", "clientID", "role", "topic"];
    let fields = check.fields(at, &known)?;
    let client_id = text(check.optional_text(&fields, "clientID"));
    let key = check.optional_text(&fields, "apiKey").filter(|(_, key)| !key.is_empty());
    let role = check.optional_text(&fields, "role");
    let api_keys = match (key, role) {
        (Some(_), Some((role, _))) => {
            check.problem(&role, "must not stand beside apiKey: write an item for each");
            return None;
        }
        (Some((at, key)), None) => api_key(check, &at, key)?,
        (None, Some((role, _))) => {
            let role = check.one_of(&role, &ROLES.map(|(name, _)| name))?;
            let found = ROLES.iter().find(|(name, _)| *name == role)?;
            found.1.iter().copied().collect()
        }
        (None, None) => BTreeSet::new(),
    };
    let version = check.optional_text(&fields, "apiVersion");
    let version = version.filter(|(_, version)| !version.is_empty());
    let api_version = match version {
        Some((at, version)) => Some(api_version(check, &at, version)?),
        None => None,
    };
    let topic = check.optional_text(&fields, "topic");
    if let Some((at, topic)) = &topic {
        check_topic(check, at, topic);
    }
    Some(KafkaRule { api_keys, api_version, client_id, topic: text(topic) })
}

fn text(found: Option<(At<'_>, &str)>) -> Option<String> {
    found.map(|(_, text)| text.to_owned()).filter(|text| !text.is_empty())
}

fn api_key(check: &mut Check, at: &At<'_>, key: &str) -> Option<BTreeSet<i16>> {
    let lower = key.to_ascii_lowercase();
    let Some(number) = KAFKA_REQUESTS.iter().position(|known| *known == lower) else {
        let mut known = KAFKA_REQUESTS;
        known.sort_unstable();
        check.one_of(at, &known);
        return None;
    };
    Some(i16::try_from(number).into_iter().collect())
}

fn api_version(check: &mut Check, at: &At<'_>, version: &str) -> Option<i16> {
    let number = version.parse().ok().filter(|version| *version >= 0);
    if number.is_none() {
        check.problem(at, format!("`{version}` is no version from 0 to {}", i16::MAX));
    }
    number
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
