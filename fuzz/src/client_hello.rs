//! ClientHellos, read beside tls-parser.

use l7proxy_core::hello::Hello;
use tls_parser::{
    SNIType, TlsExtension, TlsMessage, TlsMessageHandshake, parse_tls_extensions,
    parse_tls_message_handshake,
};

/// Reads the bytes as a stream, and as the extensions of a ClientHello in records of a size that
/// the first byte says.
pub fn check(data: &[u8]) {
    // Any bytes have an outcome.
    let _ = Hello::read(data);
    let Some((size, extensions)) = data.split_first() else { return };
    if extensions.len() > 4096 {
        return;
    }
    let message = message(extensions);
    let stream = records(&message, 1 + usize::from(*size));
    let Ok(Some(hello)) = Hello::read(&stream) else { return };
    for end in 0..stream.len() {
        assert_eq!(Hello::read(&stream[..end]), Ok(None), "decided too early");
    }
    let Ok(name) = &hello.server_name else { return };
    assert_eq!(name_beside(&message).as_deref(), Some(name), "another name");
}

/// The only name that tls-parser finds.
fn name_beside(message: &[u8]) -> Option<Box<model::Name>> {
    let (_, TlsMessage::Handshake(TlsMessageHandshake::ClientHello(hello))) =
        parse_tls_message_handshake(message).ok()?
    else {
        return None;
    };
    let (_, extensions) = parse_tls_extensions(hello.ext?).ok()?;
    let mut names = extensions.into_iter().filter_map(|extension| match extension {
        TlsExtension::SNI(names) => Some(names),
        _ => None,
    });
    let (Some(list), None) = (names.next(), names.next()) else { return None };
    let [(SNIType::HostName, name)] = list[..] else { return None };
    str::from_utf8(name).ok()?.parse().ok().map(Box::new)
}

fn message(extensions: &[u8]) -> Vec<u8> {
    let mut body = vec![3, 3];
    body.extend([7; 32]);
    body.extend([0, 0, 2, 0x13, 1, 1, 0]);
    body.extend(u16::try_from(extensions.len()).unwrap_or(0).to_be_bytes());
    body.extend(extensions);
    let length = u32::try_from(body.len()).unwrap_or(0).to_be_bytes();
    [&[1], &length[1..], &body].concat()
}

fn records(message: &[u8], size: usize) -> Vec<u8> {
    let record = |part: &[u8]| {
        let length = u16::try_from(part.len()).unwrap_or(0).to_be_bytes();
        [&[22, 3, 1], &length[..], part].concat()
    };
    message.chunks(size).flat_map(record).collect()
}
