//! A DNS server that does what no server should: its names say what.
//!
//! | first label | what comes of a question |
//! |---|---|
//! | `slow` | the answer, after 200 ms |
//! | `silent` | nothing |
//! | `late` | the answer, after [`OddServer::LATE`] |
//! | `twice` | the answer, and at once another one with another address |
//! | `refusing` | REFUSED |
//! | `failing` | SERVFAIL |
//! | `truncating` | over UDP no answer but the TC bit, over TCP the answer |
//! | `garbage` | a response whose answer section is noise |
//! | `cut` | the answer without its last octets |
//! | any other | the answer |
//!
//! The answer is [`OddServer::ADDRESS`]. Questions that are not heard out in time are not answered:
//! connections and waiting answers are bounded.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, UdpSocket},
    sync::Semaphore,
    task::JoinSet,
    time::{sleep, timeout},
};

use crate::{
    background::{Background, Ready, Stop},
    namespace::Namespace,
};

const PORT: u16 = 53;
const WAITING: usize = 1_024;
const HEADER: usize = 12;
const PATIENCE: Duration = Duration::from_secs(10);

/// A running server; dropping it stops it.
#[derive(Debug)]
pub struct OddServer {
    _background: Background,
}

impl OddServer {
    /// What its names lead to.
    pub const ADDRESS: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 10);
    /// What a second answer to the same question says.
    pub const SECOND: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 11);
    /// How late its late answers are.
    pub const LATE: Duration = Duration::from_secs(4);

    /// Starts it inside `namespace`, on port 53 of `address`.
    pub fn start(namespace: &Namespace, address: IpAddr) -> io::Result<OddServer> {
        let background = Background::start(namespace, "odd dns", move |ready, stop| {
            serve((address, PORT).into(), ready, stop)
        });
        background.map(|background| OddServer { _background: background })
    }
}

async fn serve(address: SocketAddr, ready: Ready, stop: Stop) -> io::Result<()> {
    let socket = Arc::new(UdpSocket::bind(address).await?);
    let listener = TcpListener::bind(address).await?;
    let slots = Arc::new(Semaphore::new(WAITING));
    let mut tasks = JoinSet::new();
    tasks.spawn(datagrams(socket, Arc::clone(&slots)));
    tasks.spawn(connections(listener, slots));
    ready.say();
    stop.wait().await;
    tasks.shutdown().await;
    Ok(())
}

async fn datagrams(socket: Arc<UdpSocket>, slots: Arc<Semaphore>) {
    let mut buffer = [0; 4_096];
    loop {
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
        let Ok((length, peer)) = socket.recv_from(&mut buffer).await else { continue };
        let Some(question) = Question::read(&buffer[..length]) else { continue };
        let socket = Arc::clone(&socket);
        tokio::spawn(async move {
            sleep(question.delay()).await;
            for answer in question.answers(false) {
                // What cannot be sent is as lost as what the network loses.
                let _ = socket.send_to(&answer, peer).await;
            }
            drop(slot);
        });
    }
}

async fn connections(listener: TcpListener, slots: Arc<Semaphore>) {
    loop {
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
        let Ok((stream, _)) = listener.accept().await else { continue };
        tokio::spawn(async move {
            // However it ends, the client sees it.
            let _ = timeout(PATIENCE, connection(stream)).await;
            drop(slot);
        });
    }
}

async fn connection(mut stream: TcpStream) -> io::Result<()> {
    loop {
        let mut message = vec![0; usize::from(stream.read_u16().await?)];
        stream.read_exact(&mut message).await?;
        let Some(question) = Question::read(&message) else { continue };
        sleep(question.delay()).await;
        for answer in question.answers(true) {
            let length = u16::try_from(answer.len()).map_err(io::Error::other)?;
            stream.write_all(&[&length.to_be_bytes(), &answer[..]].concat()).await?;
        }
    }
}

/// A question, as far as an odd server cares for it.
struct Question {
    id: [u8; 2],
    /// Name, type and class as they came.
    octets: Vec<u8>,
    label: String,
}

impl Question {
    fn read(message: &[u8]) -> Option<Question> {
        let id = [*message.first()?, *message.get(1)?];
        let body = message.get(HEADER..)?;
        let mut at = 0;
        while *body.get(at)? != 0 {
            at += 1 + usize::from(body[at]);
        }
        let label = body.get(1..1 + usize::from(body[0]))?;
        let label = String::from_utf8_lossy(label).to_ascii_lowercase();
        Some(Question { id, octets: body.get(..at + 5)?.to_vec(), label })
    }

    fn delay(&self) -> Duration {
        match self.label.as_str() {
            "slow" => Duration::from_millis(200),
            "late" => OddServer::LATE,
            _ => Duration::ZERO,
        }
    }

    fn answers(&self, tcp: bool) -> Vec<Vec<u8>> {
        let whole = self.answer(OddServer::ADDRESS);
        match self.label.as_str() {
            "silent" => Vec::new(),
            "twice" => vec![whole, self.answer(OddServer::SECOND)],
            "refusing" => vec![self.response(0x8185, 0, &[])],
            "failing" => vec![self.response(0x8182, 0, &[])],
            "truncating" if !tcp => vec![self.response(0x8380, 0, &[])],
            "garbage" => vec![self.response(0x8180, 3, &[0xc0, 0xff, 0x3f, 0x00, 0xff, 0x07])],
            "cut" => vec![whole[..whole.len() - 3].to_vec()],
            _ => vec![whole],
        }
    }

    fn answer(&self, address: Ipv4Addr) -> Vec<u8> {
        // The name is the question's; type A, class IN, a TTL of 60.
        let head = [0xc0, 0x0c, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4];
        self.response(0x8180, 1, &[&head[..], &address.octets()].concat())
    }

    fn response(&self, flags: u16, answers: u16, records: &[u8]) -> Vec<u8> {
        let counts = [flags, 1, answers, 0, 0].map(u16::to_be_bytes).concat();
        [&self.id[..], &counts, &self.octets, records].concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dns_wire::query;

    #[test]
    fn a_question_is_told_by_its_first_label() {
        let question = Question::read(&query(7, "twice.odd.example", 1, 1)).unwrap();
        assert_eq!((question.id, question.label.as_str()), ([0, 7], "twice"));
        let answers = question.answers(false);
        assert_eq!(answers.len(), 2);
        assert!(answers[0].ends_with(&[203, 0, 113, 10]));
        assert!(answers[1].ends_with(&[203, 0, 113, 11]));
        assert!(Question::read(&[0; 12]).is_none());
    }
}
