//! Rules as tests write them.

use model::{
    HttpRule, KafkaRule, KeyPair, L7Rule, L7Rules, Originate, Pattern, Requests, ServerNames,
    Terminate,
};

/// The rules of these alternatives.
pub fn rules(alternatives: impl IntoIterator<Item = L7Rule>) -> L7Rules {
    L7Rules(alternatives.into_iter().collect())
}

pub fn rule(requests: Requests) -> L7Rule {
    L7Rule { server_names: None, terminate: None, originate: None, requests }
}

/// Requests with this method for this path.
pub fn request(method: &str, path: &str) -> HttpRule {
    HttpRule { method: Some(method.into()), path: Some(path.into()), ..HttpRule::default() }
}

/// Only these requests.
pub fn http(requests: impl IntoIterator<Item = HttpRule>) -> L7Rules {
    rules([rule(Requests::Http(requests.into_iter().collect()))])
}

/// `GET` of what lies under `/ok`.
pub fn ok() -> L7Rules {
    http([request("GET|POST", "/ok.*")])
}

pub fn kafka(requests: impl IntoIterator<Item = KafkaRule>) -> L7Rules {
    rules([rule(Requests::Kafka(requests.into_iter().collect()))])
}

/// Anything in TLS for these names.
pub fn names(patterns: &[&str]) -> L7Rule {
    let patterns = patterns.iter().map(|pattern| Pattern::match_pattern(pattern).unwrap());
    L7Rule { server_names: Some(ServerNames(patterns.collect())), ..rule(Requests::Any) }
}

/// These requests, in TLS that ends at the proxy with certificates of this issuer.
pub fn intercepted(issuer: &KeyPair, trusted: &str, requests: Requests) -> L7Rule {
    L7Rule {
        terminate: Some(Terminate::Issuer(issuer.clone())),
        originate: Some(Originate::Trusting { trusted: trusted.to_owned(), client: None }),
        ..rule(requests)
    }
}
