//! Where things are asked for: the socket, the paths and their arguments.

use std::fmt::{self, Write};

use crate::{CacheQuery, CleanQuery, EndpointRef};

/// Where the daemon listens unless it is told otherwise.
pub const DEFAULT_SOCKET: &str = "/run/fqdnd/fqdnd.sock";

/// `GET`: the daemon's [`Health`](crate::Health), from its start on.
pub const HEALTH: &str = "/v1/health";
/// `GET`: a [`Status`](crate::Status).
pub const STATUS: &str = "/v1/status";
/// `GET`: [`Endpoint`](crate::Endpoint)s.
pub const ENDPOINTS: &str = "/v1/endpoints";
/// `GET` with a [`CacheQuery`]: [`CacheEntry`](crate::CacheEntry)s.
/// `DELETE` with a [`CleanQuery`]: [`Cleaned`](crate::Cleaned).
pub const CACHE: &str = "/v1/cache";
/// `GET`: [`NameEntry`](crate::NameEntry)s.
pub const NAMES: &str = "/v1/names";
/// `GET`: [`Policy`](crate::Policy) objects.
pub const POLICIES: &str = "/v1/policies";
/// `GET`: [`Selector`](crate::Selector)s.
pub const SELECTORS: &str = "/v1/selectors";
/// `GET`: [`Identity`](crate::Identity) objects.
pub const IDENTITIES: &str = "/v1/identities";
/// `GET`: [`Service`](crate::Service)s.
pub const SERVICES: &str = "/v1/services";
/// `POST` of an [`ExplainQuery`](crate::ExplainQuery): an [`Explanation`](crate::Explanation).
pub const EXPLAIN: &str = "/v1/explain";
/// `GET`: [`MapInfo`](crate::MapInfo)s.
pub const MAPS: &str = "/v1/maps";
/// `GET`: [`MapRow`](crate::MapRow)s. A route with the map's name as its last part; a client
/// builds it with [`map`].
pub const MAP: &str = "/v1/maps/{name}";

/// The path of one map's entries.
pub fn map(name: &str) -> String {
    format!("{MAPS}/{}", Encoded(name))
}

/// The path and arguments that list what `query` selects.
pub fn cache(query: &CacheQuery) -> String {
    with_arguments(
        CACHE,
        [
            ("endpoint", query.endpoint.as_ref().map(EndpointRef::to_string)),
            ("pattern", query.pattern.clone()),
        ],
    )
}

/// The path and arguments that forget what `query` selects.
pub fn clean(query: &CleanQuery) -> String {
    with_arguments(CACHE, [("pattern", query.pattern.clone())])
}

fn with_arguments<const N: usize>(path: &str, arguments: [(&str, Option<String>); N]) -> String {
    let mut target = path.to_owned();
    let mut separator = "?";
    for (key, value) in arguments {
        let Some(value) = value else { continue };
        target.extend([separator, key, "=", &Encoded(&value).to_string()]);
        separator = "&";
    }
    target
}

/// A text in which everything but RFC 3986's unreserved characters is percent-encoded.
struct Encoded<'a>(&'a str);

impl fmt::Display for Encoded<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.bytes().try_for_each(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                f.write_char(char::from(byte))
            }
            _ => write!(f, "%{byte:02X}"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_encoded_and_absent_ones_left_out() {
        assert_eq!(cache(&CacheQuery::default()), "/v1/cache");
        let query = CacheQuery {
            endpoint: Some("prod/web".parse().unwrap()),
            pattern: Some("*.a&b é".into()),
        };
        assert_eq!(cache(&query), "/v1/cache?endpoint=prod%2Fweb&pattern=%2A.a%26b%20%C3%A9");
        assert_eq!(map("../x"), "/v1/maps/..%2Fx");
    }
}
