//! What a request is for: host and path, where they can be read in one way only.

use http::uri::{Authority, Uri};
use http::{HeaderMap, Method, header};

use crate::Reason;

/// Where a request goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The host as it was sent, with its port; empty where HTTP/1.0 sent none.
    pub host: String,
    /// The path with its query; `*` for a server-wide OPTIONS.
    pub path: String,
}

impl Target {
    /// Reads host and path out of a request.
    ///
    /// Where both a target's authority and Host are there, they must be the same.
    pub fn read(method: &Method, uri: &Uri, headers: &HeaderMap) -> Result<Self, Reason> {
        if method == Method::CONNECT {
            return Err(Reason::ConnectMethod);
        }
        if uri.scheme_str().is_some_and(|scheme| scheme != "http" && scheme != "https") {
            return Err(Reason::MalformedRequest);
        }
        let mut hosts = headers.get_all(header::HOST).iter();
        let host = match (hosts.next(), hosts.next()) {
            (None, _) => None,
            (Some(host), None) => Some(host.to_str().map_err(|_| Reason::AmbiguousHost)?),
            (Some(_), Some(_)) => return Err(Reason::AmbiguousHost),
        };
        let host = match (uri.authority().map(Authority::as_str), host) {
            (Some(authority), Some(host)) if !authority.eq_ignore_ascii_case(host) => {
                return Err(Reason::AmbiguousHost);
            }
            (authority, host) => authority.or(host).unwrap_or_default(),
        };
        if !host.is_empty() && !is_host(host) {
            return Err(Reason::AmbiguousHost);
        }
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        if path != "*" || method != Method::OPTIONS {
            check_path(path)?;
        }
        Ok(Self { host: host.to_owned(), path: path.to_owned() })
    }

    /// The host without its port and its last dot, in lower case.
    pub fn host_name(&self) -> String {
        let name = match self.host.rsplit_once(':') {
            Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
            _ => &self.host,
        };
        name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
    }
}

/// A name, an IPv4 address or a bracketed IPv6 address, perhaps with a port; no user, no escapes.
fn is_host(text: &str) -> bool {
    let (name, port) = match text.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => (name, Some(port)),
        _ => (text, None),
    };
    let port_is_one = port.is_none_or(|port| port.parse::<u16>().is_ok() && !port.starts_with('+'));
    let name_is_one = match name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => {
            let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
            !name.is_empty() && name.bytes().all(legal)
        }
    };
    port_is_one && name_is_one
}

/// Whether a path means the same to whoever reads it: no dot segments, written out or escaped, no
/// fragment, no backslash, and every escape one.
pub fn check_path(path_and_query: &str) -> Result<(), Reason> {
    if !path_and_query.starts_with('/') {
        return Err(Reason::AmbiguousPath);
    }
    let path = path_and_query.split('?').next().unwrap_or_default();
    let bytes = path.as_bytes();
    for (index, byte) in bytes.iter().enumerate() {
        let escaped = || bytes.get(index + 1..index + 3);
        let fine = match byte {
            b'%' => escaped().is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit)),
            b'\\' | b'#' => false,
            other => other.is_ascii_graphic(),
        };
        if !fine {
            return Err(Reason::AmbiguousPath);
        }
    }
    let query_is_fine = path_and_query.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#');
    let has_dots = path.split('/').any(is_dot_segment);
    if query_is_fine && !has_dots { Ok(()) } else { Err(Reason::AmbiguousPath) }
}

/// `.` or `..`, each dot perhaps escaped, and a `;parameter` perhaps behind them.
fn is_dot_segment(segment: &str) -> bool {
    let mut rest = segment.split(';').next().unwrap_or_default();
    let mut dots = 0;
    loop {
        let escaped = rest.get(..3).is_some_and(|start| start.eq_ignore_ascii_case("%2e"));
        rest = match rest.strip_prefix('.') {
            Some(rest) => rest,
            None if escaped => &rest[3..],
            None => break,
        };
        dots += 1;
    }
    rest.is_empty() && matches!(dots, 1 | 2)
}
