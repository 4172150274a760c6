//! A server whose answer depends on the first label that it is asked for.
//!
//! | label | over UDP | over TCP |
//! |---|---|---|
//! | `silent` | none | none |
//! | `lossy` | none at first, then as usual | as usual |
//! | `slow` | as usual, a little later | as usual, a little later |
//! | `forged` | three forgeries, then as usual | as usual |
//! | `garbage` | cannot be read | cannot be read |
//! | `cut` | ends within a record, TC set | as usual |
//! | `hangup` | as usual | the connection is closed |
//! | `big` | 4 KiB of text | 4 KiB of text |
//! | others | an address, with a TTL of a day | the same |

use std::io::{Read, Write};
use std::net::{Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::str::FromStr;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use hickory_proto::op::{Message, MessageType};
use hickory_proto::rr::rdata::{A, AAAA, TXT};
use hickory_proto::rr::{Name, RData, Record, RecordType};

use super::lab::Namespace;

/// How long a slow answer takes.
pub const SLOW: Duration = Duration::from_secs(2);

/// The names that the server was asked for.
#[derive(Clone, Default)]
pub struct Asked(Arc<Mutex<Vec<String>>>);

impl Asked {
    pub fn names(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }

    fn note(&self, query: &Message) -> usize {
        let name = query.queries[0].name().to_string();
        let mut names = self.0.lock().unwrap();
        names.push(name.clone());
        names.iter().filter(|other| **other == name).count()
    }
}

/// Starts the server in a namespace. Its threads end with the test's process.
pub fn start(namespace: &Namespace) -> Asked {
    let asked = Asked::default();
    let shared = asked.clone();
    namespace.run(move || {
        for address in ["192.0.2.53:53", "[2001:db8::53]:53"] {
            let socket = UdpSocket::bind(address).unwrap();
            let listener = TcpListener::bind(address).unwrap();
            let (udp, tcp) = (shared.clone(), shared.clone());
            thread::spawn(move || serve_udp(&socket, &udp));
            thread::spawn(move || {
                for stream in listener.incoming().flatten() {
                    let asked = tcp.clone();
                    thread::spawn(move || serve_tcp(stream, &asked));
                }
            });
        }
    });
    asked
}

fn serve_udp(socket: &UdpSocket, asked: &Asked) {
    let mut buffer = [0; 65_535];
    loop {
        let (length, client) = socket.recv_from(&mut buffer).unwrap();
        let query = Message::from_vec(&buffer[..length]).unwrap();
        let times = asked.note(&query);
        let answer = answer(&query);
        let send = |bytes: &[u8]| drop(socket.send_to(bytes, client));
        match label(&query).as_str() {
            "silent" => {}
            "lossy" if times == 1 => {}
            "slow" => send_later(socket.try_clone().unwrap(), answer, client),
            "forged" => {
                forge(socket, &answer, client);
                send(&answer);
            }
            "garbage" => send(&damaged(&answer, 0x8180)),
            "cut" => send(&damaged(&answer, 0x8380)),
            _ => send(&answer),
        }
    }
}

fn send_later(socket: UdpSocket, answer: Vec<u8>, client: SocketAddr) {
    thread::spawn(move || {
        thread::sleep(SLOW);
        socket.send_to(&answer, client).unwrap();
    });
}

/// Sends the answer with a wrong ID, with the question in another case, and from another port.
fn forge(socket: &UdpSocket, answer: &[u8], client: SocketAddr) {
    let mut wrong_id = answer.to_vec();
    wrong_id[0] ^= 1;
    socket.send_to(&wrong_id, client).unwrap();
    let mut wrong_case = answer.to_vec();
    wrong_case[13] ^= 0x20;
    socket.send_to(&wrong_case, client).unwrap();
    let address = socket.local_addr().unwrap().ip();
    UdpSocket::bind((address, 0)).unwrap().send_to(answer, client).unwrap();
}

/// The answer without its last bytes.
fn damaged(answer: &[u8], flags: u16) -> Vec<u8> {
    let mut bytes = answer[..answer.len() - 2].to_vec();
    bytes[2..4].copy_from_slice(&flags.to_be_bytes());
    bytes
}

fn serve_tcp(mut stream: TcpStream, asked: &Asked) {
    while let Some(bytes) = read_framed(&mut stream) {
        let query = Message::from_vec(&bytes).unwrap();
        asked.note(&query);
        let answer = answer(&query);
        match label(&query).as_str() {
            "silent" => {}
            "hangup" => return,
            "garbage" => write_framed(&mut stream, &damaged(&answer, 0x8180)),
            "slow" => {
                let mut stream = stream.try_clone().unwrap();
                thread::spawn(move || {
                    thread::sleep(SLOW);
                    write_framed(&mut stream, &answer);
                });
            }
            _ => write_framed(&mut stream, &answer),
        }
    }
}

pub fn read_framed(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut length = [0; 2];
    stream.read_exact(&mut length).ok()?;
    let mut bytes = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut bytes).ok()?;
    Some(bytes)
}

pub fn write_framed(stream: &mut TcpStream, message: &[u8]) {
    let mut bytes = (message.len() as u16).to_be_bytes().to_vec();
    bytes.extend(message);
    // A client that has gone away is no failure of the server.
    let _ = stream.write_all(&bytes);
}

fn label(query: &Message) -> String {
    let name = query.queries[0].name();
    let first = name.iter().next().unwrap_or_default();
    String::from_utf8_lossy(first).to_lowercase()
}

fn answer(query: &Message) -> Vec<u8> {
    let mut answer = query.clone();
    answer.metadata.message_type = MessageType::Response;
    let name = query.queries[0].name().clone();
    let day = 86_400;
    let data = match (label(query).as_str(), query.queries[0].query_type()) {
        ("big", _) => RData::TXT(TXT::new(vec!["x".repeat(255); 16])),
        (_, RecordType::AAAA) => RData::AAAA(AAAA(Ipv6Addr::from_str("2001:db8:1::1").unwrap())),
        (_, RecordType::A) => RData::A(A::new(198, 51, 100, 1)),
        (_, _) => return answer.to_vec().unwrap(),
    };
    // Not one of the question's, and not to be learned.
    let stray = Name::from_str("stray.test.").unwrap();
    answer.add_answer(Record::from_rdata(stray, day, RData::A(A::new(203, 0, 113, 9))));
    answer.add_answer(Record::from_rdata(name, day, data));
    answer.to_vec().unwrap()
}
