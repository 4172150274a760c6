use proptest::prelude::*;

use super::*;

/// Shows a stream in pieces of one size: what went on, and the fault behind it.
fn screened(stream: &[u8], piece: usize) -> (usize, Option<Reason>) {
    let mut screen = Screen::new(HeadLimits { bytes: 512, fields: 8 });
    let (mut from, mut to) = (0, 0);
    loop {
        match screen.pass(&stream[from..to]) {
            Err(reason) => return (from, Some(reason)),
            Ok(0) if to == stream.len() => return (from, None),
            Ok(count) => from += count,
        }
        to = (to + piece).min(stream.len());
    }
}

fn refused(stream: &str, reason: Reason) {
    for piece in [1, 2, 3, 7, 1000] {
        assert_eq!(screened(stream.as_bytes(), piece).1, Some(reason), "{stream:?} by {piece}");
    }
}

fn passes(stream: &str) {
    for piece in [1, 2, 3, 7, 1000] {
        assert_eq!(screened(stream.as_bytes(), piece), (stream.len(), None), "{stream:?}");
    }
}

fn with(fields: &str) -> String {
    format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n")
}

#[test]
fn requests_pass_one_after_another() {
    passes("GET / HTTP/1.1\r\nHost: a\r\n\r\nGET /b HTTP/1.1\r\nhost:a\r\n\r\n");
    passes(&format!("{}hello{}", with("Content-Length: 5\r\n"), with("")));
    passes(&format!(
        "{}5\r\nhello\r\n0\r\n\r\n{}",
        with("Transfer-Encoding: chunked\r\n"),
        with("")
    ));
    passes(&format!("{}1\r\na\r\n0\r\nX-Sum: 1\r\n\r\n", with("Transfer-Encoding: Chunked\r\n")));
    passes("GET / HTTP/1.0\r\n\r\n");
    passes("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n");
    passes("GET http://a/ HTTP/1.1\r\nHost: a\r\n\r\n");
}

#[test]
fn two_ways_to_read_a_length_are_refused() {
    for fields in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        "Content-Length: 5\r\nContent-Length: 5\r\n",
        "Content-Length: 5\r\nContent-Length: 6\r\n",
        "Content-Length: 5, 5\r\n",
        "Content-Length: +5\r\n",
        "Content-Length: -1\r\n",
        "Content-Length: 0x5\r\n",
        "Content-Length:\r\n",
        "Content-Length: 99999999999999999999\r\n",
        "Transfer-Encoding: xchunked\r\n",
        "Transfer-Encoding: chunked, identity\r\n",
        "Transfer-Encoding: gzip, chunked\r\n",
        "Transfer-Encoding: identity\r\n",
        "Transfer-Encoding: \"chunked\"\r\n",
        "Transfer-Encoding:\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "Upgrade: websocket\r\nContent-Length: 5\r\n",
    ] {
        refused(&with(fields), Reason::AmbiguousLength);
    }
    let old = "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    refused(old, Reason::AmbiguousLength);
}

#[test]
fn odd_lines_are_refused() {
    for fields in [
        "Transfer-Encoding : chunked\r\n",
        " Content-Length: 5\r\n",
        "A: b\r\n folded\r\n",
        "A: b\r\n\tfolded\r\n",
        "A\r\n",
        ": b\r\n",
        "A b: c\r\n",
        "A: b\rContent-Length: 5\r\n",
        "A: b\nContent-Length: 5\r\n",
        "A: b\0\r\n",
        "A: \x7f\r\n",
        "Ü: b\r\n",
    ] {
        refused(&with(fields), Reason::MalformedRequest);
    }
    for stream in [
        "\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        " GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1 \r\nHost: a\r\n\r\n",
        "GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.2\r\nHost: a\r\n\r\n",
        "GET / http/1.1\r\nHost: a\r\n\r\n",
        "GET /\r\n\r\n",
        "GET / HTTP/2.0\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\nHost: a\n\n",
        "G(T / HTTP/1.1\r\nHost: a\r\n\r\n",
    ] {
        refused(stream, Reason::MalformedRequest);
    }
    refused("GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n", Reason::AmbiguousPath);
    refused("GET /\u{e4} HTTP/1.1\r\nHost: a\r\n\r\n", Reason::AmbiguousPath);
}

#[test]
fn a_request_has_one_host() {
    refused("GET / HTTP/1.1\r\n\r\n", Reason::AmbiguousHost);
    refused(&with("Host: a\r\n"), Reason::AmbiguousHost);
    refused(&with("hOST: b\r\n"), Reason::AmbiguousHost);
}

#[test]
fn tunnels_are_refused() {
    refused("CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n", Reason::ConnectMethod);
}

#[test]
fn odd_chunks_are_refused() {
    for body in [
        "5;ext=1\r\nhello\r\n0\r\n\r\n",
        "5 \r\nhello\r\n0\r\n\r\n",
        " 5\r\nhello\r\n0\r\n\r\n",
        "0x5\r\nhello\r\n0\r\n\r\n",
        "+5\r\nhello\r\n0\r\n\r\n",
        "5\nhello\r\n0\r\n\r\n",
        "5\r\nhelloo\r\n0\r\n\r\n",
        "5\r\nhello\n0\r\n\r\n",
        "\r\n",
        "g\r\n",
        "FFFFFFFFFFFFFFFFF\r\n",
        "0000000000000000\r\n\r\n",
        "0\r\nContent-Length: 5\r\n\r\n",
        "0\r\nHost: b\r\n\r\n",
    ] {
        let stream = format!("{}{body}", with("Transfer-Encoding: chunked\r\n"));
        refused(&stream, Reason::MalformedChunk);
    }
    let stream = format!("{}0\r\nbroken\r\n\r\n", with("Transfer-Encoding: chunked\r\n"));
    refused(&stream, Reason::MalformedRequest);
}

#[test]
fn large_heads_are_refused() {
    refused(&with(&format!("A: {}\r\n", "b".repeat(600))), Reason::HeadTooLarge);
    refused(&with(&"A: b\r\n".repeat(9)), Reason::HeadTooLarge);
    refused(&format!("GET /{}", "a".repeat(600)), Reason::HeadTooLarge);
    let trailers = "A: b\r\n".repeat(100);
    let stream = format!("{}0\r\n{trailers}\r\n", with("Transfer-Encoding: chunked\r\n"));
    refused(&stream, Reason::HeadTooLarge);
}

#[test]
fn what_stands_before_a_fault_goes_on() {
    let fine = with("");
    let stream = format!("{fine}broken\n\n");
    assert_eq!(screened(stream.as_bytes(), 1000), (fine.len(), Some(Reason::MalformedRequest)));
}

#[test]
fn nothing_follows_a_change_of_protocol_until_it_is_answered() {
    let request = with("Connection: upgrade\r\nUpgrade: websocket\r\n");
    let stream = format!("{request}\x01\x02");
    let mut screen = Screen::new(HeadLimits::default());
    assert_eq!(screen.pass(stream.as_bytes()), Ok(request.len()));
    assert_eq!(screen.pass(b"\x01\x02"), Ok(0));
    screen.open();
    assert_eq!(screen.pass(b"\x01\x02"), Ok(2));
}

#[test]
fn requests_follow_a_change_of_protocol_that_was_not_made() {
    let request = with("Connection: upgrade\r\nUpgrade: websocket\r\n");
    let mut screen = Screen::new(HeadLimits::default());
    assert_eq!(screen.pass(request.as_bytes()), Ok(request.len()));
    screen.resume();
    assert_eq!(screen.pass(b"\x01\x02"), Err(Reason::MalformedRequest));
    assert_eq!(screen.pass(with("").as_bytes()), Err(Reason::MalformedRequest));
}

proptest! {
    #[test]
    fn the_pieces_of_a_stream_do_not_matter(
        parts in prop::collection::vec(
            prop::sample::select(vec![
                "GET / HTTP/1.1\r\nHost: a\r\n\r\n", "Host: a\r\n", "\r\n", "POST / HTTP/1.1\r\n",
                "Transfer-Encoding: chunked\r\n", "Content-Length: 3\r\n", "3\r\nabc\r\n", "0\r\n",
                "abc", "\n", " ", "A: b\r\n",
            ]),
            0..12,
        ),
        piece in 1..40_usize,
    ) {
        let stream = parts.concat();
        prop_assert_eq!(screened(stream.as_bytes(), piece), screened(stream.as_bytes(), 10_000));
    }
}
