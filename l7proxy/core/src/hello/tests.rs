use std::sync::Arc;

use proptest::prelude::*;
use rustls::{ClientConfig, ClientConnection, RootCertStore};

use super::*;

/// What rustls says to a server of this name.
fn real(name: &str) -> Vec<u8> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider);
    let mut config = builder
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let name = name.to_owned().try_into().unwrap();
    let mut connection = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut bytes = Vec::new();
    connection.write_tls(&mut bytes).unwrap();
    bytes
}

fn extension(kind: u16, data: &[u8]) -> Vec<u8> {
    let length = u16::try_from(data.len()).unwrap();
    [&kind.to_be_bytes()[..], &length.to_be_bytes(), data].concat()
}

fn names(names: &[(u8, &[u8])]) -> Vec<u8> {
    let mut list = Vec::new();
    for (kind, name) in names {
        list.push(*kind);
        list.extend(u16::try_from(name.len()).unwrap().to_be_bytes());
        list.extend(*name);
    }
    let mut data = u16::try_from(list.len()).unwrap().to_be_bytes().to_vec();
    data.extend(list);
    extension(SERVER_NAME, &data)
}

/// A handshake message with these extensions.
fn message(extensions: &[u8]) -> Vec<u8> {
    let mut body = vec![3, 3];
    body.extend([7; 32]);
    body.extend([0, 0, 2, 0x13, 1, 1, 0]);
    body.extend(u16::try_from(extensions.len()).unwrap().to_be_bytes());
    body.extend(extensions);
    let length = u32::try_from(body.len()).unwrap().to_be_bytes();
    [&[CLIENT_HELLO], &length[1..], &body].concat()
}

/// The message in records of at most this size.
fn records(message: &[u8], size: usize) -> Vec<u8> {
    let record = |part: &[u8]| {
        let length = u16::try_from(part.len()).unwrap().to_be_bytes();
        [&[HANDSHAKE, 3, 1], &length[..], part].concat()
    };
    message.chunks(size).flat_map(record).collect()
}

fn read_name(extensions: &[u8]) -> Result<Name, Reason> {
    Hello::read(&records(&message(extensions), 1 << 14)).unwrap().unwrap().server_name
}

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

#[test]
fn reads_what_a_real_client_says() {
    let hello = Hello::read(&real("API.example.com")).unwrap().unwrap();
    assert_eq!(hello.server_name, Ok(name("api.example.com")));
    assert_eq!(hello.alpn, [b"h2".to_vec(), b"http/1.1".to_vec()]);
}

#[test]
fn waits_for_the_whole_message() {
    let bytes = real("a.example");
    for end in 0..bytes.len() {
        assert_eq!(Hello::read(&bytes[..end]), Ok(None), "{end} bytes");
    }
}

#[test]
fn records_may_cut_the_message_anywhere() {
    let message = message(&names(&[(0, b"a.example")]));
    for size in 1..message.len() {
        let hello = Hello::read(&records(&message, size)).unwrap().unwrap();
        assert_eq!(hello.server_name, Ok(name("a.example")), "records of {size}");
    }
}

#[test]
fn a_name_that_is_not_one_is_odd() {
    for odd in [
        &b""[..],
        b"127.0.0.1",
        b"::1",
        b"a.example.",
        b"a..b",
        b"a b",
        b"a\0b",
        b".a",
        b"*.a",
        "\u{fc}.example".as_bytes(),
    ] {
        assert_eq!(read_name(&names(&[(0, odd)])), Err(Reason::ServerNameOdd), "{odd:?}");
    }
    assert_eq!(read_name(&names(&[(0, &[b'a'; 64])])), Err(Reason::ServerNameOdd));
}

#[test]
fn several_names_are_odd() {
    let two = names(&[(0, b"a"), (0, b"b")]);
    assert_eq!(read_name(&two), Err(Reason::ServerNameOdd));
    let twice = [names(&[(0, b"a")]), names(&[(0, b"a")])].concat();
    assert_eq!(read_name(&twice), Err(Reason::ServerNameOdd));
    assert_eq!(read_name(&names(&[(1, b"a")])), Err(Reason::ServerNameOdd));
    assert_eq!(read_name(&names(&[])), Err(Reason::ServerNameOdd));
    assert_eq!(read_name(&extension(SERVER_NAME, &[])), Err(Reason::ServerNameOdd));
}

#[test]
fn no_name_is_missing() {
    assert_eq!(read_name(&[]), Err(Reason::ServerNameMissing));
    assert_eq!(read_name(&extension(ALPN, &[0, 3, 2, b'h', b'2'])), Err(Reason::ServerNameMissing));
}

#[test]
fn a_hidden_name_is_never_taken_for_the_outer_one() {
    for kind in [ENCRYPTED_CLIENT_HELLO, ENCRYPTED_SERVER_NAME] {
        let hidden = [names(&[(0, b"front.example")]), extension(kind, &[0; 8])].concat();
        assert_eq!(read_name(&hidden), Err(Reason::EncryptedHello));
    }
}

#[test]
fn broken_messages_are_refused() {
    let whole = message(&names(&[(0, b"a.example")]));
    let broken = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut message = whole.clone();
        change(&mut message);
        Hello::read(&records(&message, 1 << 14))
    };
    let malformed = Err(Reason::MalformedHello);
    assert_eq!(broken(&|message| message[0] = 2), malformed, "another message");
    assert_eq!(broken(&|message| message[4] = 2), malformed, "another version");
    assert_eq!(broken(&|message| message[3] -= 1), malformed, "bytes behind the message");
    assert_eq!(broken(&|message| message[1] = 1), malformed, "far too long");
    assert_eq!(broken(&|message| message[38] = 33), malformed, "a long session id");
    assert_eq!(broken(&|message| message[46] += 1), malformed, "extensions past the end");
    assert_eq!(Hello::read(&[HANDSHAKE, 3, 1, 0, 0]), malformed, "an empty record");
    assert_eq!(Hello::read(&[HANDSHAKE, 2, 1]), malformed, "no TLS record");
    assert_eq!(Hello::read(&[HANDSHAKE, 3, 1, 0x40, 1]), malformed, "too long a record");
    let mut interleaved = records(&whole, 20);
    interleaved[25] = 21;
    assert_eq!(Hello::read(&interleaved), malformed, "an alert between the parts");
}

#[test]
fn a_hello_that_never_ends_is_given_up() {
    let mut stream = records(&[CLIENT_HELLO, 0, 0x3f, 0xff], 4);
    while stream.len() < MAX_HELLO {
        stream.extend([HANDSHAKE, 3, 1, 0, 1, 0]);
    }
    assert_eq!(Hello::read(&stream), Err(Reason::MalformedHello));
}

proptest! {
    #[test]
    fn any_bytes_have_one_outcome_however_many_are_there(
        flips in prop::collection::vec((0..300_usize, any::<u8>()), 0..4),
        size in 1..400_usize,
    ) {
        let mut message = message(&names(&[(0, b"a.example")]));
        for (index, value) in flips {
            let index = index % message.len();
            message[index] = value;
        }
        let stream = records(&message, size);
        // Once a prefix is decided, what follows changes nothing unless it was one message short.
        let whole = Hello::read(&stream);
        for end in 0..stream.len() {
            if let Ok(Some(hello)) = Hello::read(&stream[..end]) {
                prop_assert_eq!(Ok(Some(hello)), whole.clone());
                break;
            }
        }
    }
}
