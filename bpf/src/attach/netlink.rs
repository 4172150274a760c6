//! As much of rtnetlink as traffic control needs.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use model::Interface;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, setsockopt, socket,
    sockopt::ReceiveTimeout,
};
use nix::sys::time::TimeVal;

/// Request flag: make it if it is not there.
pub const CREATE: u16 = libc::NLM_F_CREATE as u16;
/// Request flag: fail if it is there.
pub const EXCLUSIVE: u16 = libc::NLM_F_EXCL as u16;
/// Request flag: tell all.
pub const DUMP: u16 = libc::NLM_F_DUMP as u16;

/// A bit beside an attribute's kind.
const NESTED: u16 = libc::NLA_F_NESTED as u16;
const HEADER: usize = 16;
const TC_HEADER: usize = 20;
/// No answer takes longer, unless something is very wrong.
const PATIENCE_SECONDS: i64 = 5;

/// The header of traffic control messages, `struct tcmsg`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TrafficControl {
    /// On which interface.
    pub interface: Interface,
    /// The object's handle.
    pub handle: u32,
    /// Whose child it is.
    pub parent: u32,
    /// For filters: the priority and the protocol.
    pub info: u32,
}

/// A request under construction.
#[derive(Debug)]
pub struct Message(Vec<u8>);

impl Message {
    /// A request of a type with more flags than every request has.
    pub fn new(kind: u16, flags: u16, place: TrafficControl) -> Self {
        let flags = flags | (libc::NLM_F_REQUEST | libc::NLM_F_ACK) as u16;
        let mut bytes = Vec::with_capacity(256);
        bytes.extend(0u32.to_ne_bytes());
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(flags.to_ne_bytes());
        bytes.extend(1u32.to_ne_bytes());
        bytes.extend(0u32.to_ne_bytes());
        // The family, unspecified, and padding.
        bytes.extend([0; 4]);
        bytes.extend(place.interface.0.to_ne_bytes());
        bytes.extend(place.handle.to_ne_bytes());
        bytes.extend(place.parent.to_ne_bytes());
        bytes.extend(place.info.to_ne_bytes());
        Self(bytes)
    }

    /// Adds an attribute.
    pub fn attribute(&mut self, kind: u16, value: &[u8]) {
        self.nested(kind, |message| message.0.extend(value));
    }

    /// Adds an attribute that holds what `fill` adds.
    pub fn nested(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) {
        let start = self.0.len();
        self.0.extend([0; 2]);
        self.0.extend(kind.to_ne_bytes());
        fill(self);
        let length = (self.0.len() - start) as u16;
        self.0[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        self.0.resize(self.0.len().next_multiple_of(4), 0);
    }

    fn finish(mut self) -> Vec<u8> {
        let length = self.0.len() as u32;
        self.0[..4].copy_from_slice(&length.to_ne_bytes());
        self.0
    }
}

/// Sends a request and waits until it is carried out.
pub fn request(message: Message) -> io::Result<()> {
    visit(message, |_, _| {})
}

/// Sends a request and reads the answers' headers.
pub fn dump(message: Message) -> io::Result<Vec<TrafficControl>> {
    let mut found = Vec::new();
    visit(message, |place, _| found.push(place))?;
    Ok(found)
}

/// Sends a request and visits the answers, each with its attributes.
pub fn visit(message: Message, mut answer: impl FnMut(TrafficControl, &[u8])) -> io::Result<()> {
    let socket = connect()?;
    send(socket.as_raw_fd(), &message.finish(), MsgFlags::empty())?;
    let mut buffer = vec![0; 1 << 16];
    loop {
        let length = recv(socket.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
        if read_answers(&buffer[..length], &mut answer)? {
            return Ok(());
        }
    }
}

/// The attributes in a row of them, up to one that is cut short.
pub fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let (header, _) = bytes.split_first_chunk::<4>()?;
        let length = usize::from(u16::from_ne_bytes([header[0], header[1]]));
        let kind = u16::from_ne_bytes([header[2], header[3]]) & !NESTED;
        let value = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

fn connect() -> io::Result<OwnedFd> {
    let socket = socket(
        AddressFamily::Netlink,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::NetlinkRoute,
    )?;
    setsockopt(&socket, ReceiveTimeout, &TimeVal::new(PATIENCE_SECONDS, 0))?;
    Ok(socket)
}

/// Reads the messages of one datagram; true if they are the last.
fn read_answers(
    mut bytes: &[u8],
    answer: &mut impl FnMut(TrafficControl, &[u8]),
) -> io::Result<bool> {
    while bytes.len() >= HEADER {
        let length = word(bytes, 0) as usize;
        let message = bytes.get(HEADER..length).ok_or_else(cut_short)?;
        match i32::from(u16::from_ne_bytes([bytes[4], bytes[5]])) {
            libc::NLMSG_DONE => return Ok(true),
            libc::NLMSG_ERROR if message.len() < 4 => return Err(cut_short()),
            libc::NLMSG_ERROR => {
                return match word(message, 0).cast_signed() {
                    0 => Ok(true),
                    code => Err(io::Error::from_raw_os_error(-code)),
                };
            }
            _ if message.len() >= TC_HEADER => {
                let place = TrafficControl {
                    interface: Interface(word(message, 4)),
                    handle: word(message, 8),
                    parent: word(message, 12),
                    info: word(message, 16),
                };
                answer(place, &message[TC_HEADER..]);
            }
            _ => {}
        }
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(false)
}

fn word(bytes: &[u8], offset: usize) -> u32 {
    let mut word = [0; 4];
    word.copy_from_slice(&bytes[offset..offset + 4]);
    u32::from_ne_bytes(word)
}

fn cut_short() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "a netlink answer is cut short")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(kind: i32, body: &[u8]) -> Vec<u8> {
        let mut bytes = ((HEADER + body.len()) as u32).to_ne_bytes().to_vec();
        bytes.extend((kind as u16).to_ne_bytes());
        bytes.extend([0; 10]);
        bytes.extend(body);
        bytes
    }

    #[test]
    fn attributes_are_padded_and_their_lengths_are_not() {
        let place = TrafficControl { interface: Interface(2), handle: 3, parent: 4, info: 5 };
        let mut message = Message::new(44, 0, place);
        message.nested(2, |options| options.attribute(7, b"ab\0"));
        let bytes = message.finish();
        assert_eq!(bytes.len(), HEADER + TC_HEADER + 12);
        assert_eq!(bytes[36..], [12, 0, 2, 0, 7, 0, 7, 0, b'a', b'b', 0, 0]);
    }

    #[test]
    fn an_error_ends_the_exchange_and_a_cut_answer_is_one() {
        let mut found = 0;
        let mut count = |_, _: &[u8]| found += 1;
        let refused = answer(libc::NLMSG_ERROR, &(-libc::ENODEV).to_ne_bytes());
        let error = read_answers(&refused, &mut count).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENODEV));
        let done = answer(libc::NLMSG_ERROR, &0i32.to_ne_bytes());
        assert!(read_answers(&done, &mut count).unwrap());
        let mut lying = answer(44, &[0; 20]);
        lying[0] = 200;
        assert!(read_answers(&lying, &mut count).is_err());
        assert!(!read_answers(&answer(44, &[0; 20]), &mut count).unwrap());
        assert_eq!(found, 1);
    }

    #[test]
    fn attributes_are_read_up_to_one_that_is_cut_short() {
        let bytes = [5, 0, 1, 0x80, 9, 0, 0, 0, 4, 0, 2, 0, 200, 0, 3, 0, 1];
        let found: Vec<_> = attributes(&bytes).collect();
        assert_eq!(found, [(1, &[9u8][..]), (2, &[][..])]);
        assert_eq!(attributes(&[0; 4]).count(), 0, "shorter than its own header");
    }
}
