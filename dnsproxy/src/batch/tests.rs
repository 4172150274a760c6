use std::net::UdpSocket;
use std::os::fd::AsFd;

use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::{Ipv4OrigDstAddr, Ipv6OrigDstAddr};

use super::*;

fn socket(address: &str) -> (UdpSocket, SocketAddr) {
    let socket = UdpSocket::bind(address).unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

#[test]
fn many_datagrams_arrive_with_their_ends_and_bytes() {
    for (address, v6) in [("127.0.0.1:0", false), ("[::1]:0", true)] {
        let (sender, from) = socket(address);
        let (receiver, to) = socket(address);
        if v6 {
            setsockopt(&receiver, Ipv6OrigDstAddr, &true).unwrap();
        } else {
            setsockopt(&receiver, Ipv4OrigDstAddr, &true).unwrap();
        }
        let mut outbox = Outbox::new();
        for index in 0..100u8 {
            outbox.push(Some(to), Some(from.ip()), |bytes| {
                bytes.extend(vec![index; usize::from(index)]);
            });
        }
        outbox.flush(sender.as_fd(), |index, error| panic!("{index}: {error}"));
        assert!(outbox.departures.is_empty());
        let mut inbox = Inbox::new();
        let mut seen = 0;
        while seen < 100 {
            for index in 0..inbox.receive(receiver.as_fd()).unwrap() {
                let (arrival, bytes) = inbox.arrival(index);
                assert_eq!((arrival.from, arrival.to), (from, Some(to)));
                assert_eq!(bytes, vec![seen; usize::from(seen)]);
                seen += 1;
            }
        }
        let empty = inbox.receive(receiver.as_fd()).unwrap_err();
        assert_eq!(empty.kind(), io::ErrorKind::WouldBlock);
    }
}

#[test]
fn a_datagram_that_cannot_be_sent_does_not_hold_up_the_others() {
    let (sender, _) = socket("127.0.0.1:0");
    let (receiver, to) = socket("127.0.0.1:0");
    let mut outbox = Outbox::new();
    outbox.push(Some(to), None, |bytes| bytes.push(1));
    outbox.push(Some("[::1]:9".parse().unwrap()), None, |bytes| bytes.push(2));
    outbox.push(Some(to), None, |bytes| bytes.extend([3; 65_508]));
    outbox.push(Some(to), None, |bytes| bytes.push(4));
    let mut failed = Vec::new();
    outbox.flush(sender.as_fd(), |index, _| failed.push(index));
    assert_eq!(failed, [1, 2]);
    let mut inbox = Inbox::new();
    assert_eq!(inbox.receive(receiver.as_fd()).unwrap(), 2);
    assert_eq!((inbox.arrival(0).1[0], inbox.arrival(1).1[0]), (1, 4));
}

#[test]
fn there_is_room_for_a_batch_once_many_come_and_for_few_while_few_do() {
    let (sender, _) = socket("127.0.0.1:0");
    let (receiver, to) = socket("127.0.0.1:0");
    let mut outbox = Outbox::new();
    for _ in 0..150 {
        outbox.push(Some(to), None, |bytes| bytes.push(0));
    }
    outbox.flush(sender.as_fd(), |index, error| panic!("{index}: {error}"));
    let mut inbox = Inbox::new();
    let counts: Vec<usize> = std::iter::from_fn(|| inbox.receive(receiver.as_fd()).ok()).collect();
    assert_eq!(counts, [4, 8, 16, 32, 64, 26]);
    assert_eq!(inbox.room, 52);
}

#[test]
fn a_connected_socket_sends_on_although_an_earlier_datagram_was_refused() {
    let (sender, _) = socket("127.0.0.1:0");
    let (refusing, to) = socket("127.0.0.1:0");
    drop(refusing);
    sender.connect(to).unwrap();
    let mut outbox = Outbox::new();
    let mut push_and_flush = |byte| {
        outbox.push(None, None, |bytes| bytes.push(byte));
        outbox.flush(sender.as_fd(), |index, error| panic!("{index}: {error}"));
    };
    // Nobody is there, and on loopback the kernel says so at once: the next call fails with it.
    push_and_flush(1);
    let receiver = UdpSocket::bind(to).unwrap();
    push_and_flush(2);
    let mut inbox = Inbox::new();
    assert_eq!(inbox.receive(receiver.as_fd()).unwrap(), 1);
    assert_eq!(inbox.arrival(0).1, [2]);
}

#[test]
fn the_datagram_added_last_can_be_changed_and_taken_out() {
    let mut outbox = Outbox::new();
    let to = "127.0.0.1:9".parse().unwrap();
    assert_eq!(outbox.last_mut(), []);
    outbox.push(Some(to), None, |bytes| bytes.extend([1, 2]));
    outbox.push(Some(to), None, |bytes| bytes.extend([3]));
    outbox.last_mut()[0] = 9;
    assert_eq!(outbox.payload, [1, 2, 9]);
    outbox.discard_last();
    assert_eq!((&outbox.payload[..], outbox.departures.len()), (&[1, 2][..], 1));
}
