//! The server behind all proxies: it answers every question at once, in batches.
//!
//! The addresses follow from the number in the name's first label, so that a name always has the
//! same two, and different numbers have different ones as long as they are near each other.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use anyhow::{Context, Result};
use integration::Namespace;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::batch::{Batch, SIZE, To};
use super::sockets;

/// The addresses lie in here (RFC 2544: for benchmarks).
const ADDRESSES: u32 = Ipv4Addr::new(198, 18, 0, 0).to_bits();
const ADDRESS_COUNT: u32 = 1 << 17;
/// The TTL of the answers, in seconds.
const TTL: u32 = 30;
/// How often it looks whether it is to stop, in milliseconds.
const LOOK: u16 = 50;

/// The bytes of a header, and of what it adds for an address.
const HEADER: usize = 12;
const RECORD: usize = 16;

/// A running responder; dropping it stops it.
pub struct Responder {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<std::io::Result<Result<()>>>>,
}

impl Responder {
    /// Starts it inside `namespace`.
    pub fn start(namespace: &Namespace, address: SocketAddrV4) -> Result<Self> {
        let socket = namespace.run(|| sockets::bound(address))??;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let serve = move || -> Result<()> {
            let mut batch = Batch::new();
            while !stopped.load(Ordering::Relaxed) {
                let mut fds = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
                poll(&mut fds, PollTimeout::from(LOOK))?;
                for index in 0..batch.receive(&socket)? {
                    let (bytes, length) = batch.datagram(index);
                    *length = answer(bytes, *length);
                }
                batch.send(&socket, To::Peers)?;
            }
            Ok(())
        };
        let thread = namespace.spawn("responder", serve).context("start the responder")?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take()
            && let Ok(Ok(Err(error))) = thread.join()
        {
            eprintln!("the responder: {error:#}");
        }
    }
}

/// Makes an answer with two addresses of a query; whatever else comes is sent back as it is.
fn answer(bytes: &mut [u8; SIZE], length: usize) -> usize {
    let Some(end) = question_end(&bytes[..length]) else { return length };
    let first = number(&bytes[HEADER + 1..end]).wrapping_mul(2);
    // A response to a recursive query, one question, two answers, and no OPT record.
    bytes[2..HEADER].copy_from_slice(&[0x81, 0x80, 0, 1, 0, 2, 0, 0, 0, 0]);
    for (place, number) in [first, first.wrapping_add(1)].into_iter().enumerate() {
        let record = &mut bytes[end + place * RECORD..][..RECORD];
        record[..6].copy_from_slice(&[0xc0, 0x0c, 0, 1, 0, 1]);
        record[6..10].copy_from_slice(&TTL.to_be_bytes());
        record[10..12].copy_from_slice(&4u16.to_be_bytes());
        record[12..].copy_from_slice(&(ADDRESSES + number % ADDRESS_COUNT).to_be_bytes());
    }
    end + 2 * RECORD
}

/// Where the question of a query ends.
fn question_end(query: &[u8]) -> Option<usize> {
    let mut at = HEADER;
    loop {
        match *query.get(at)? {
            0 => break,
            label => at += 1 + usize::from(label & 0x3f),
        }
    }
    let end = at + 5;
    (end <= query.len() && end + 2 * RECORD <= SIZE).then_some(end)
}

/// The number that the digits of a name's start make.
fn number(name: &[u8]) -> u32 {
    let digits = name.iter().skip_while(|octet| !octet.is_ascii_digit());
    let digits = digits.take_while(|octet| octet.is_ascii_digit());
    digits
        .fold(0, |number: u32, octet| number.wrapping_mul(10).wrapping_add(u32::from(octet - b'0')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_holds_the_two_addresses_of_its_number() {
        let query = b"\0\x07\x01\0\0\x01\0\0\0\0\0\0\x03h10\x03net\0\0\x01\0\x01";
        let mut bytes = [0; SIZE];
        bytes[..query.len()].copy_from_slice(query);
        let length = answer(&mut bytes, query.len());
        let expected = b"\0\x07\x81\x80\0\x01\0\x02\0\0\0\0\x03h10\x03net\0\0\x01\0\x01\
            \xc0\x0c\0\x01\0\x01\0\0\0\x1e\0\x04\xc6\x12\0\x14\
            \xc0\x0c\0\x01\0\x01\0\0\0\x1e\0\x04\xc6\x12\0\x15";
        assert_eq!(bytes[..length], expected[..]);
    }

    #[test]
    fn what_is_no_query_is_left_alone() {
        assert_eq!(answer(&mut [0x40; SIZE], 20), 20);
    }
}
