//! DNS messages written octet by octet, and a TCP connection that sends them as it is told: in
//! pieces, several at once, or cut short.

use std::{
    io::{self, Read, Write},
    net::{IpAddr, TcpStream},
    time::Duration,
};

use hickory_proto::op::Message;

use crate::namespace::Namespace;

const TIMEOUT: Duration = Duration::from_secs(15);

/// A query with one question, as the wire has it.
pub fn query(id: u16, name: &str, kind: u16, class: u16) -> Vec<u8> {
    let header = [id, 0x0100, 1, 0, 0, 0].map(u16::to_be_bytes).concat();
    [header, question(name, kind, class)].concat()
}

/// One question, as the wire has it.
pub fn question(name: &str, kind: u16, class: u16) -> Vec<u8> {
    let mut octets = Vec::new();
    for label in name.split('.').filter(|label| !label.is_empty()) {
        // What is longer than a label can be is cut: the length's octet means something else.
        let label = &label.as_bytes()[..label.len().min(63)];
        octets.push(label.len() as u8);
        octets.extend(label);
    }
    octets.push(0);
    octets.extend(kind.to_be_bytes());
    octets.extend(class.to_be_bytes());
    octets
}

/// A TCP connection to a DNS server.
#[derive(Debug)]
pub struct DnsStream(TcpStream);

impl DnsStream {
    /// Connects from inside `namespace`.
    pub fn connect(namespace: &Namespace, server: IpAddr) -> io::Result<DnsStream> {
        let connect = || TcpStream::connect_timeout(&(server, 53).into(), TIMEOUT);
        let stream = namespace.run(connect).map_err(io::Error::other)??;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        Ok(DnsStream(stream))
    }

    /// Sends octets as they are.
    pub fn send(&mut self, octets: &[u8]) -> io::Result<()> {
        self.0.write_all(octets)
    }

    /// Receives one message.
    pub fn receive(&mut self) -> io::Result<Message> {
        let mut length = [0; 2];
        self.0.read_exact(&mut length)?;
        let mut message = vec![0; usize::from(u16::from_be_bytes(length))];
        self.0.read_exact(&mut message)?;
        Message::from_vec(&message).map_err(io::Error::other)
    }

    /// Sends a message and receives the next one.
    pub fn exchange(&mut self, message: &[u8]) -> io::Result<Message> {
        self.send(&framed(message))?;
        self.receive()
    }
}

/// A message with its length before it, as TCP carries it.
pub fn framed(message: &[u8]) -> Vec<u8> {
    [&(message.len() as u16).to_be_bytes(), message].concat()
}
