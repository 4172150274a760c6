//! A stub resolver for tests and load: one question, one socket, one answer.
//!
//! It does nothing behind the caller's back: no retry, no fall back from UDP to TCP, no search
//! list, no cache. An answer counts only with the ID and the question that were sent.

use std::{
    io::{self, Read, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket},
    time::Duration,
};

use hickory_proto::{
    ProtoError,
    op::{Edns, Message, Query, ResponseCode},
    rr::{Name, RData, RecordType},
    serialize::binary::DecodeError,
};

const TIMEOUT: Duration = Duration::from_secs(15);
const ADVERTISED: u16 = 1232;

/// Why there was no answer.
#[derive(Debug, thiserror::Error)]
pub enum DnsError {
    /// The socket failed, or nothing came in time.
    #[error("ask {server} about {name}: {source}")]
    Socket {
        /// The server that was asked.
        server: SocketAddr,
        /// The name that was asked for.
        name: String,
        /// The system's reason.
        source: io::Error,
    },
    /// The question could not be written.
    #[error("encode a question: {0}")]
    Encode(#[from] ProtoError),
    /// The answer could not be read.
    #[error("decode an answer: {0}")]
    Decode(#[from] DecodeError),
    /// The answer is to another question.
    #[error("the answer about {0} is to another question")]
    Foreign(String),
}

/// An answer as it came.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The response code.
    pub code: ResponseCode,
    /// Whether the server cut it short.
    pub truncated: bool,
    /// The addresses in the answer section, in their order.
    pub addresses: Vec<IpAddr>,
    /// The smallest TTL in the answer section.
    pub ttl: Option<u32>,
    /// Its octets.
    pub size: usize,
}

/// Asks one server over one transport.
#[derive(Clone, Copy, Debug)]
pub struct Resolver {
    server: SocketAddr,
    tcp: bool,
    timeout: Duration,
}

impl Resolver {
    /// A resolver that asks port 53 of `server` over UDP.
    pub fn new(server: IpAddr) -> Resolver {
        Resolver { server: SocketAddr::new(server, 53), tcp: false, timeout: TIMEOUT }
    }

    /// The same over TCP.
    #[must_use]
    pub fn over_tcp(self, tcp: bool) -> Resolver {
        Resolver { tcp, ..self }
    }

    /// The same with another patience than 15 s.
    #[must_use]
    pub fn with_timeout(self, timeout: Duration) -> Resolver {
        Resolver { timeout, ..self }
    }

    /// Asks for `kind` at `name` from the namespace that the caller is in.
    pub fn ask(&self, name: &str, kind: RecordType) -> Result<Answer, DnsError> {
        let asked = question(name, kind)?;
        let octets = asked.to_vec()?;
        let exchanged = if self.tcp { self.by_tcp(&octets) } else { self.by_udp(&octets) };
        let octets = exchanged.map_err(|source| DnsError::Socket {
            server: self.server,
            name: name.to_owned(),
            source,
        })?;
        let answer = Message::from_vec(&octets)?;
        if answer.id != asked.id || answer.queries != asked.queries {
            return Err(DnsError::Foreign(name.to_owned()));
        }
        Ok(read(&answer, octets.len()))
    }

    fn by_udp(&self, octets: &[u8]) -> io::Result<Vec<u8>> {
        let any = match self.server {
            SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        };
        let socket = UdpSocket::bind((any, 0))?;
        socket.set_read_timeout(Some(self.timeout))?;
        socket.connect(self.server)?;
        socket.send(octets)?;
        let mut answer = vec![0; usize::from(u16::MAX)];
        let length = socket.recv(&mut answer)?;
        answer.truncate(length);
        Ok(answer)
    }

    fn by_tcp(&self, octets: &[u8]) -> io::Result<Vec<u8>> {
        let mut stream = TcpStream::connect_timeout(&self.server, self.timeout)?;
        stream.set_read_timeout(Some(self.timeout))?;
        let length = u16::try_from(octets.len()).map_err(io::Error::other)?;
        stream.write_all(&[&length.to_be_bytes(), octets].concat())?;
        let mut length = [0; 2];
        stream.read_exact(&mut length)?;
        let mut answer = vec![0; usize::from(u16::from_be_bytes(length))];
        stream.read_exact(&mut answer)?;
        Ok(answer)
    }
}

fn question(name: &str, kind: RecordType) -> Result<Message, ProtoError> {
    let mut name = Name::from_ascii(name)?;
    name.set_fqdn(true);
    let mut message = Message::query();
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(name, kind));
    let mut edns = Edns::new();
    edns.set_max_payload(ADVERTISED);
    message.set_edns(edns);
    Ok(message)
}

fn read(message: &Message, size: usize) -> Answer {
    let address = |data: &RData| match data {
        RData::A(address) => Some(IpAddr::V4(address.0)),
        RData::AAAA(address) => Some(IpAddr::V6(address.0)),
        _ => None,
    };
    Answer {
        code: message.response_code,
        truncated: message.truncation,
        addresses: message.answers.iter().filter_map(|record| address(&record.data)).collect(),
        ttl: message.answers.iter().map(|record| record.ttl).min(),
        size,
    }
}
