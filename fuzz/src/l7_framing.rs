//! The framing of HTTP/1: what the screen lets through, httparse cuts into the same requests.

use l7proxy_core::Reason;
use l7proxy_core::screen::{HeadLimits, Screen};

/// What the bytes from 0xe0 on stand for, so that whole requests come about.
const WORDS: [&[u8]; 20] = [
    b"GET / HTTP/1.1\r\nHost: a\r\n",
    b"POST /b HTTP/1.0\r\n",
    b"Host: b\r\n",
    b"Content-Length: 3\r\n",
    b"Content-Length:",
    b"Transfer-Encoding: chunked\r\n",
    b"Transfer-Encoding:",
    b"Upgrade: websocket\r\n",
    b"A: b\r\n",
    b"\r\n",
    b"\r\n\r\n",
    b"abc",
    b"3\r\nabc\r\n",
    b"0\r\n\r\n",
    b"0\r\n",
    b" HTTP/1.1\r\n",
    b"chunked",
    b"\n",
    b"\t",
    b": ",
];

const LIMITS: HeadLimits = HeadLimits { bytes: 600, fields: 16 };

/// Shows the stream whole, and in pieces of the sizes that the first bytes say.
pub fn check(data: &[u8]) {
    let (sizes, words) = data.split_at(data.len().min(4));
    let word = |byte: &u8| match byte.checked_sub(0xe0).map(usize::from) {
        Some(index) if index < WORDS.len() => WORDS[index].to_vec(),
        Some(_) | None => vec![*byte],
    };
    let stream: Vec<u8> = words.iter().flat_map(word).collect();
    let whole = screened(&stream, &[]);
    let pieces = screened(&stream, sizes);
    // Of several faults in one head, that is told which is seen first.
    assert_eq!((pieces.0, pieces.1.is_some()), (whole.0, whole.1.is_some()), "pieces matter");
    let mut rest = &stream[..whole.0];
    while !rest.is_empty() && !is_upgrade(rest) {
        let Some(after) = request(rest) else { return };
        rest = after;
    }
}

/// How much of a stream goes on, and the fault behind it.
fn screened(stream: &[u8], sizes: &[u8]) -> (usize, Option<Reason>) {
    let mut screen = Screen::new(LIMITS);
    let (mut from, mut to, mut turn) = (0, 0, 0);
    loop {
        let unseen = usize::try_from(screen.unseen()).unwrap_or(usize::MAX).min(to - from);
        if unseen > 0 {
            screen.skip(unseen as u64);
            from += unseen;
            continue;
        }
        match screen.pass(&stream[from..to]) {
            Err(reason) => return (from, Some(reason)),
            Ok(0) if to == stream.len() => return (from, None),
            Ok(count) => from += count,
        }
        let size = sizes.get(turn % sizes.len().max(1)).map_or(usize::MAX, |n| 1 + usize::from(*n));
        (to, turn) = (to.saturating_add(size).min(stream.len()), turn + 1);
    }
}

/// Reads one request, and gives what follows it; nothing where its body is not all there.
fn request(stream: &[u8]) -> Option<&[u8]> {
    let mut headers = [httparse::EMPTY_HEADER; 17];
    let mut request = httparse::Request::new(&mut headers);
    let length = match request.parse(stream) {
        Ok(httparse::Status::Complete(length)) => length,
        other => panic!("the head {:?} is {other:?}", String::from_utf8_lossy(stream)),
    };
    let values = |name: &str| -> Vec<Vec<u8>> {
        let named = request.headers.iter().filter(|field| field.name.eq_ignore_ascii_case(name));
        named.map(|field| field.value.to_vec()).collect()
    };
    let (lengths, codings) = (values("content-length"), values("transfer-encoding"));
    assert!(lengths.len() + codings.len() <= 1, "two framings");
    assert!(values("host").len() <= 1, "two hosts");
    let body = &stream[length..];
    if !codings.is_empty() {
        return chunks(body);
    }
    let length = lengths.first().map_or(0, |text| {
        str::from_utf8(text).expect("a number").parse::<usize>().expect("a number")
    });
    body.get(length..)
}

fn is_upgrade(stream: &[u8]) -> bool {
    let mut headers = [httparse::EMPTY_HEADER; 17];
    let mut request = httparse::Request::new(&mut headers);
    // What cannot be parsed is told by `request`.
    let _ = request.parse(stream);
    let websocket = |field: &httparse::Header<'_>| {
        field.name.eq_ignore_ascii_case("upgrade") && field.value.eq_ignore_ascii_case(b"websocket")
    };
    request.headers.iter().any(websocket)
}

fn chunks(mut stream: &[u8]) -> Option<&[u8]> {
    loop {
        let (size, length) = match httparse::parse_chunk_size(stream) {
            Ok(httparse::Status::Complete((at, size))) => (size, at),
            Ok(httparse::Status::Partial) => return None,
            Err(error) => panic!("a chunk's size that is none: {error}"),
        };
        stream = &stream[length..];
        if size == 0 {
            let mut headers = [httparse::EMPTY_HEADER; 17];
            return match httparse::parse_headers(stream, &mut headers) {
                Ok(httparse::Status::Complete((at, _))) => Some(&stream[at..]),
                Ok(httparse::Status::Partial) => None,
                Err(error) => panic!("trailers that are none: {error}"),
            };
        }
        stream = stream.get(usize::try_from(size).ok()?..)?;
        match stream {
            [b'\r', b'\n', rest @ ..] => stream = rest,
            [] | [b'\r'] => return None,
            _ => panic!("a chunk without an end"),
        }
    }
}
