//! Resolved names and their addresses.

use std::net::IpAddr;

use model::EndpointName;
use serde::{Deserialize, Serialize};

use crate::EndpointRef;

/// One address that an endpoint has resolved; [`CACHE`](crate::path::CACHE) answers with a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CacheEntry {
    /// Who asked: nobody else gains the address.
    pub endpoint: EndpointName,
    /// The name in the question.
    pub name: String,
    /// The address in the answer.
    pub address: IpAddr,
    /// When the address opens no new connection any more; negative where that is past.
    pub expires_in_seconds: i64,
    /// The answer's TTL, where it is still known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl: Option<u32>,
    /// Whether a living connection keeps it beyond its time.
    pub kept_alive: bool,
    /// Whether it is in the kernel's maps.
    pub enforced: bool,
}

/// What [`CACHE`](crate::path::CACHE) lists: all that every given argument selects.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CacheQuery {
    /// Only what this endpoint resolved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<EndpointRef>,
    /// Only names that this `matchPattern` matches.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pattern: Option<String>,
}

/// What a `DELETE` of [`CACHE`](crate::path::CACHE) forgets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CleanQuery {
    /// Only names that this `matchPattern` matches.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pattern: Option<String>,
}

/// The answer to a `DELETE` of [`CACHE`](crate::path::CACHE).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Cleaned {
    /// How many entries were forgotten.
    pub count: u64,
}

/// A resolved name and the selectors it falls under; [`NAMES`](crate::path::NAMES) answers with a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NameEntry {
    /// The name.
    pub name: String,
    /// Who resolved it.
    pub endpoints: Vec<EndpointName>,
    /// The `matchName` and `matchPattern` texts that match it in their policies.
    pub selectors: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_this_json() {
        let entry = CacheEntry {
            endpoint: EndpointName { namespace: "prod".into(), name: "web".into() },
            name: "www.example.com.".into(),
            address: "192.0.2.1".parse().unwrap(),
            expires_in_seconds: -3,
            ttl: None,
            kept_alive: true,
            enforced: true,
        };
        assert_eq!(
            serde_json::to_value(&entry).unwrap(),
            serde_json::json!({
                "endpoint": {"namespace": "prod", "name": "web"},
                "name": "www.example.com.",
                "address": "192.0.2.1",
                "expiresInSeconds": -3,
                "keptAlive": true,
                "enforced": true,
            })
        );
    }

    #[test]
    fn a_misspelt_argument_is_refused() {
        let query = |text| serde_json::from_str::<CleanQuery>(text).map_err(|e| e.to_string());
        assert_eq!(query("{}"), Ok(CleanQuery::default()));
        assert!(query(r#"{"patern": "*.a"}"#).unwrap_err().contains("unknown field `patern`"));
    }
}
