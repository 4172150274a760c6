//! Who may ask: those who came to the loopback and know it.
//!
//! A page of somebody else's, open in a browser on this machine, can make that browser ask here. By
//! a name of its own that it has pointed at the loopback it would even get to read the answer, so
//! requests have to name the loopback themselves. What data there is goes to this page alone.

use axum::extract::Request;
use axum::http::uri::Authority;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::admin::Failure;

/// What goes with every answer.
const HEADERS: [(HeaderName, &str); 7] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src \
         'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
         require-trusted-types-for 'script'; trusted-types 'none'",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::CACHE_CONTROL, "no-store"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];

/// Lets requests pass that name the loopback.
pub(super) async fn local(request: Request, next: Next) -> Response {
    let mut response = if names_loopback(&request) {
        next.run(request).await
    } else {
        let message = "the page answers to localhost, 127.0.0.1 and [::1] alone";
        Failure(StatusCode::MISDIRECTED_REQUEST, message.into()).into_response()
    };
    for (name, value) in HEADERS {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

/// Lets requests pass that no other site has made a browser send. A browser says so by itself;
/// whoever is none may ask.
pub(super) async fn same_origin(request: Request, next: Next) -> Response {
    match request.headers().get("sec-fetch-site").map(HeaderValue::as_bytes) {
        None | Some(b"same-origin" | b"none") => next.run(request).await,
        Some(_) => {
            let message = "another site made the browser ask";
            Failure(StatusCode::FORBIDDEN, message.into()).into_response()
        }
    }
}

fn names_loopback(request: &Request) -> bool {
    let mut hosts = request.headers().get_all(header::HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else { return false };
    let authority = host.to_str().ok().and_then(|host| host.parse::<Authority>().ok());
    let meant = request.uri().authority();
    authority.is_some_and(|own| is_loopback(&own)) && meant.is_none_or(is_loopback)
}

/// Whatever the port: a tunnel may end at another.
fn is_loopback(authority: &Authority) -> bool {
    let host = authority.host();
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost")
        || address.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    fn admits(target: &str, hosts: &[&str]) -> bool {
        let mut request = Request::builder().uri(target);
        for host in hosts {
            request = request.header(header::HOST, *host);
        }
        names_loopback(&request.body(Body::empty()).unwrap())
    }

    #[test]
    fn the_loopback_is_named_by_its_name_or_address_with_any_port() {
        for host in ["localhost", "LOCALHOST:8080", "127.0.0.1:9966", "127.9.9.9", "[::1]:9966"] {
            assert!(admits("/", &[host]), "{host}");
        }
    }

    #[test]
    fn a_name_that_was_pointed_at_the_loopback_is_not_answered() {
        for host in [
            "rebind.example:9966",
            "127.0.0.1.example",
            "localhost.example",
            "10.0.0.1",
            "[2001:db8::1]",
            "",
            "user@",
            "a b",
        ] {
            assert!(!admits("/", &[host]), "{host}");
        }
    }

    #[test]
    fn a_request_names_one_host_and_means_it() {
        assert!(!admits("/", &[]));
        assert!(!admits("/", &["localhost", "localhost"]));
        assert!(!admits("http://rebind.example/", &["localhost"]));
        assert!(admits("http://localhost/", &["localhost"]));
    }
}
