//! The headers that are for one hop only.

use ::http::header::{self, HeaderMap, HeaderName, HeaderValue};

/// Headers of the hop, but for `Upgrade` and `Connection`.
const OF_THE_HOP: [HeaderName; 4] = [
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::TRANSFER_ENCODING,
    HeaderName::from_static("http2-settings"),
];
/// Headers that `Connection` may name, and which stay all the same: they are the message's.
const OF_THE_MESSAGE: [HeaderName; 3] = [header::HOST, header::CONTENT_LENGTH, header::TRAILER];

/// Whether a message asks, or agrees, to go on in WebSocket.
pub(super) fn is_websocket(headers: &HeaderMap) -> bool {
    let mut upgrades = headers.get_all(header::UPGRADE).iter();
    let websocket = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"websocket");
    let wanted = upgrades.next().is_some_and(websocket) && upgrades.next().is_none();
    wanted && named(headers).any(|name| name.eq_ignore_ascii_case("upgrade"))
}

/// Takes out what is for one hop, and what `Connection` says is. What asks for another protocol
/// than WebSocket goes too: nobody could judge what comes then.
pub(super) fn strip(headers: &mut HeaderMap) {
    let websocket = is_websocket(headers);
    let named: Vec<HeaderName> =
        named(headers).filter_map(|name| HeaderName::from_bytes(name.as_bytes()).ok()).collect();
    for name in named.iter().filter(|name| !OF_THE_MESSAGE.contains(name)).chain(&OF_THE_HOP) {
        if *name != header::UPGRADE {
            headers.remove(name);
        }
    }
    headers.remove(header::CONNECTION);
    let trailers = headers.get_all(header::TE).iter().any(|value| value == "trailers");
    headers.remove(header::TE);
    if trailers {
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
    }
    if websocket {
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    } else {
        headers.remove(header::UPGRADE);
    }
}

/// What `Connection` names.
fn named(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let values = headers.get_all(header::CONNECTION).iter();
    values.filter_map(|value| value.to_str().ok()).flat_map(|text| text.split(',')).map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stripped(fields: &[(&'static str, &'static str)]) -> Vec<String> {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, HeaderValue::from_static(value));
        }
        strip(&mut headers);
        let mut left: Vec<String> =
            headers.iter().map(|(name, v)| format!("{name}: {}", v.to_str().unwrap())).collect();
        left.sort();
        left
    }

    #[test]
    fn what_connection_names_goes_but_not_the_message() {
        let fields = [
            ("connection", "X-Hop, close, Host"),
            ("x-hop", "1"),
            ("keep-alive", "5"),
            ("host", "a"),
            ("accept", "b"),
        ];
        assert_eq!(stripped(&fields), ["accept: b", "host: a"]);
    }

    #[test]
    fn websocket_stays_and_other_protocols_go() {
        let upgrade = |to| [("connection", "Upgrade"), ("upgrade", to)];
        let kept = ["connection: upgrade", "upgrade: WebSocket"];
        assert_eq!(stripped(&upgrade("WebSocket")), kept);
        assert_eq!(stripped(&upgrade("h2c")), Vec::<String>::new());
        assert_eq!(stripped(&upgrade("websocket, h2c")), Vec::<String>::new());
        assert_eq!(stripped(&[("upgrade", "websocket")]), Vec::<String>::new());
        let twice = [("connection", "upgrade"), ("upgrade", "websocket"), ("upgrade", "h2c")];
        assert_eq!(stripped(&twice), Vec::<String>::new());
    }

    #[test]
    fn trailers_may_still_be_asked_for() {
        assert_eq!(stripped(&[("te", "gzip"), ("connection", "te")]), Vec::<String>::new());
        assert_eq!(stripped(&[("te", "trailers")]), ["te: trailers"]);
    }
}
