//! What a daemon says of itself, in the few words that tests compare and wait for.
//!
//! An endpoint that is not there is `absent`, and a count that was never raised is 0: neither is
//! an error, because tests wait for both.

use std::net::IpAddr;

use serde_json::Value;

use crate::daemon::Daemon;

impl Daemon {
    /// How an endpoint is enforced: `open`, `enforced`, `denied (REASON)` or `absent`.
    ///
    /// # Panics
    /// The daemon does not answer.
    pub fn enforcement(&self, path: &str) -> String {
        let list = self.ctl_json(&["endpoint", "list"]).unwrap_or_else(|error| panic!("{error}"));
        let mut endpoints = list.as_array().into_iter().flatten();
        let Some(endpoint) = endpoints.find(|endpoint| path_of(endpoint) == path) else {
            return "absent".to_owned();
        };
        let word = endpoint["enforcement"].as_str().unwrap_or_default();
        match endpoint["reason"].as_str() {
            Some(reason) => format!("{word} ({reason})"),
            None => word.to_owned(),
        }
    }

    /// How many of an endpoint's packets were dropped for this reason.
    ///
    /// # Panics
    /// The daemon does not answer, or knows no such endpoint.
    pub fn dropped(&self, path: &str, reason: &str) -> u64 {
        self.drops(path).get(reason).copied().unwrap_or(0)
    }

    /// The addresses that an endpoint has learned for one name, in order.
    ///
    /// # Panics
    /// The daemon does not answer, or knows no such endpoint.
    pub fn learned_for(&self, path: &str, name: &str) -> Vec<IpAddr> {
        let learned = self.learned(path).into_iter();
        learned.filter(|(own, _)| own == name).map(|(_, address)| address).collect()
    }

    /// What is wrong, as `FILE:LINE:COLUMN: FIELD: MESSAGE` without directories; what stands in no
    /// file is its message alone.
    ///
    /// # Panics
    /// The daemon does not answer.
    pub fn problems(&self) -> Vec<String> {
        let status = self.ctl_json(&["status"]).unwrap_or_else(|error| panic!("{error}"));
        status["problems"].as_array().into_iter().flatten().map(told).collect()
    }
}

fn path_of(endpoint: &Value) -> String {
    let text = |key: &str| endpoint[key].as_str().unwrap_or_default();
    format!("{}/{}", text("namespace"), text("name"))
}

fn told(problem: &Value) -> String {
    let text = |key: &str| problem[key].as_str().unwrap_or_default();
    let file = text("file").rsplit('/').next().unwrap_or_default();
    if file.is_empty() {
        return text("message").to_owned();
    }
    let (line, column, field) = (&problem["line"], &problem["column"], text("field"));
    format!("{file}:{line}:{column}: {field}: {}", text("message"))
}
