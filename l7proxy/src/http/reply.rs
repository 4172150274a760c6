//! The proxy's own answers.

use ::http::{HeaderValue, Response, StatusCode, header};
use bytes::Bytes;
use http_body_util::{Either, Full};
use l7proxy_core::Reason;

use super::body::Tracked;

/// An answer's body: the proxy's own, or the destination's.
pub(super) type Reply = Either<Full<Bytes>, Tracked>;

/// The answer to a request that is refused.
pub(super) fn refusal(reason: Reason) -> Response<Reply> {
    let status = status(reason);
    let text = match status {
        StatusCode::FORBIDDEN => Bytes::from_static(b"Access denied\r\n"),
        _ => Bytes::from(format!("{reason}\r\n")),
    };
    let mut response = Response::new(Either::Left(Full::new(text)));
    *response.status_mut() = status;
    let kind = HeaderValue::from_static("text/plain");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

/// The status that fits a reason best.
pub(super) const fn status(reason: Reason) -> StatusCode {
    match reason {
        Reason::MalformedRequest
        | Reason::AmbiguousLength
        | Reason::MalformedChunk
        | Reason::AmbiguousHost
        | Reason::AmbiguousPath => StatusCode::BAD_REQUEST,
        Reason::HeadTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
        Reason::ConnectMethod => StatusCode::METHOD_NOT_ALLOWED,
        Reason::HostIsNotServerName => StatusCode::MISDIRECTED_REQUEST,
        Reason::SlowClient => StatusCode::REQUEST_TIMEOUT,
        Reason::UpstreamUnreachable
        | Reason::UpstreamUntrusted
        | Reason::UpstreamFailed
        | Reason::ServerNameMissing
        | Reason::ServerNameOdd => StatusCode::BAD_GATEWAY,
        Reason::NoJudgement
        | Reason::OverConnections
        | Reason::OverEndpointConnections
        | Reason::OverRequests => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::FORBIDDEN,
    }
}
