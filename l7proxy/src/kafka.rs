//! Kafka, request by request.
//!
//! Requests are read whole, within a bound, before any byte of them goes on. Answers stream
//! through: of each only the length and the correlation are read.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use l7proxy_core::control::{Asked, MAX_TOPICS};
use l7proxy_core::kafka::pipeline::{Answer, Pipeline, Step};
use l7proxy_core::kafka::{MAX_REQUEST, MIN_REQUEST, Request, Scope};
use l7proxy_core::{Fate, Reason, Unmatched};
use tokio::io::{
    AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader, ReadHalf,
    WriteHalf, split,
};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

use crate::prefixed::Io;
use crate::session::Session;
use crate::splice::micros;
use crate::tls::Ends;

/// Serves a connection until it ends.
pub(crate) async fn serve(session: &Arc<Session>, io: Io, ends: Ends) -> Result<(), Reason> {
    let upstream = ends.connect(session, None).await?;
    let (client_reader, client_writer) = split(io);
    let (broker_reader, broker_writer) = split(upstream);
    let turns = Turns {
        pipeline: Mutex::new(Pipeline::new(session.destination)),
        own: Notify::new(),
        room: Notify::new(),
    };
    let requests =
        Requests { session, turns: &turns, reader: client_reader, writer: broker_writer };
    let answers =
        Answers { turns: &turns, reader: BufReader::new(broker_reader), writer: client_writer };
    tokio::select! {
        ended = requests.carry() => ended,
        ended = answers.carry() => ended,
        reason = session.refused() => Err(reason),
    }
}

/// Whose turn it is to answer.
struct Turns {
    pipeline: Mutex<Pipeline>,
    /// An answer of our own was put in.
    own: Notify,
    /// An answer went out.
    room: Notify,
}

impl Turns {
    fn lock(&self) -> MutexGuard<'_, Pipeline> {
        self.pipeline.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The way from the client to the broker.
struct Requests<'s> {
    session: &'s Arc<Session>,
    turns: &'s Turns,
    reader: ReadHalf<Io>,
    writer: WriteHalf<Io>,
}

impl Requests<'_> {
    async fn carry(mut self) -> Result<(), Reason> {
        loop {
            while !self.turns.lock().has_room() {
                self.turns.room.notified().await;
            }
            let Some(mut frame) = self.read().await? else {
                // The client says no more, and may still wait for answers.
                let _ = self.writer.shutdown().await;
                while !self.turns.lock().is_idle() {
                    self.turns.room.notified().await;
                }
                return Ok(());
            };
            let begun = Instant::now();
            let standing = self.session.standing().await?;
            let (request, mut breach) = read(&frame, standing.unmatched)?;
            breach = breach.or(standing.breach);
            let step = match standing.admitted.filter(|admitted| !admitted.allows_anything()) {
                Some(admitted) => {
                    let (rules, unmatched) = (admitted.kafka(), standing.unmatched);
                    self.turns.lock().request(&request, &mut frame, rules, unmatched)
                }
                None => {
                    let any = [model::KafkaRule::default()];
                    self.turns.lock().request(&request, &mut frame, any.iter(), standing.unmatched)
                }
            };
            let (fate, error) = match step {
                Step::Forward => (breach.into(), 0),
                Step::Audited(reason) => (Fate::Audited(breach.unwrap_or(reason)), 0),
                Step::Denied(reason) => (Fate::Refused(reason), request.denial()),
                Step::Close(reason) => (Fate::Refused(reason), 0),
            };
            self.session.record(asked(request, error), fate, micros(begun));
            match step {
                Step::Forward | Step::Audited(_) => self.forward(&frame).await?,
                Step::Denied(_) => self.turns.own.notify_one(),
                // It is recorded; the connection ends.
                Step::Close(_) => return Ok(()),
            }
        }
    }

    /// The next request, without its length; none where the client is done.
    async fn read(&mut self) -> Result<Option<Vec<u8>>, Reason> {
        let idle = self.session.shared.options.idle_time();
        let Ok(Ok(length)) = timeout(idle, self.reader.read_i32()).await else { return Ok(None) };
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        if !(MIN_REQUEST..=MAX_REQUEST).contains(&length) {
            return Err(Reason::MalformedKafka);
        }
        // Grows with what comes, not with what was announced.
        let mut frame = Vec::new();
        let mut body = (&mut self.reader).take(length as u64);
        let patience = self.session.shared.options.request_time();
        let read = timeout(patience, body.read_to_end(&mut frame)).await;
        match read.map_err(|_| Reason::SlowClient)? {
            Ok(count) if count == length => Ok(Some(frame)),
            Ok(_) | Err(_) => Ok(None),
        }
    }

    async fn forward(&mut self, frame: &[u8]) -> Result<(), Reason> {
        let length = u32::try_from(frame.len()).map_err(|_| Reason::MalformedKafka)?;
        let failed = |_| Reason::UpstreamFailed;
        self.writer.write_all(&length.to_be_bytes()).await.map_err(failed)?;
        self.writer.write_all(frame).await.map_err(failed)?;
        self.writer.flush().await.map_err(failed)
    }
}

/// The way from the broker, and from ourselves, to the client.
struct Answers<'s> {
    turns: &'s Turns,
    reader: BufReader<ReadHalf<Io>>,
    writer: WriteHalf<Io>,
}

impl Answers<'_> {
    async fn carry(mut self) -> Result<(), Reason> {
        loop {
            self.own_answers().await?;
            tokio::select! {
                filled = self.reader.fill_buf() => match filled {
                    Ok([]) | Err(_) => return Ok(()),
                    Ok(_) => {}
                },
                () = self.turns.own.notified() => continue,
            }
            self.answer().await?;
            self.turns.lock().answered();
            self.turns.room.notify_one();
        }
    }

    /// Gives the client the answers of our own whose turn has come.
    async fn own_answers(&mut self) -> Result<(), Reason> {
        loop {
            let own = self.turns.lock().take_own();
            let Some(own) = own else { return Ok(()) };
            write(&mut self.writer, &own).await?;
            self.turns.room.notify_one();
        }
    }

    /// Carries one answer of the broker's.
    async fn answer(&mut self) -> Result<(), Reason> {
        let failed = |_| Reason::UpstreamFailed;
        let mut head = [0; 8];
        self.reader.read_exact(&mut head).await.map_err(failed)?;
        let (length, correlation) = head.split_at(4);
        let number = |bytes: &[u8]| u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        let (length, correlation) = (number(length), number(correlation).cast_signed());
        let how = self.turns.lock().answer(length, correlation)?;
        let rest = u64::from(length) - 4;
        match how {
            Answer::Pass => {
                write(&mut self.writer, &head).await?;
                pass(&mut self.reader, &mut self.writer, rest).await
            }
            Answer::Whole => {
                let mut answer = head[4..].to_vec();
                let read = (&mut self.reader).take(rest).read_to_end(&mut answer).await;
                if read.map_err(failed)? as u64 != rest {
                    return Err(Reason::UpstreamFailed);
                }
                let answer = self.turns.lock().rewrite(&answer)?;
                write(&mut self.writer, &answer).await
            }
        }
    }
}

async fn pass(
    reader: &mut (impl AsyncRead + Unpin),
    writer: &mut (impl AsyncWrite + Unpin),
    count: u64,
) -> Result<(), Reason> {
    let copied = tokio::io::copy(&mut reader.take(count), writer).await;
    match copied {
        Ok(copied) if copied == count => writer.flush().await.map_err(|_| Reason::UpstreamFailed),
        Ok(_) | Err(_) => Err(Reason::UpstreamFailed),
    }
}

async fn write(writer: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> Result<(), Reason> {
    let failed = |_| Reason::UpstreamFailed;
    writer.write_all(bytes).await.map_err(failed)?;
    writer.flush().await.map_err(failed)
}

/// Reads a request. One that is none goes on where that is only audited, with what is against it.
fn read(frame: &[u8], unmatched: Unmatched) -> Result<(Request, Option<Reason>), Reason> {
    let malformed = |_| Reason::MalformedKafka;
    match Request::read(frame).map_err(malformed) {
        Ok(request) => Ok((request, None)),
        Err(reason) => {
            let breach = unmatched.judge(reason)?;
            Ok((Request::read_head(frame).map_err(malformed)?, Some(breach)))
        }
    }
}

/// What is recorded of a request.
fn asked(request: Request, error: i16) -> Asked {
    let topics = match request.scope {
        Scope::Topics(topics) => topics,
        Scope::Everything | Scope::Unreadable => Vec::new(),
    };
    Asked::Kafka {
        api_key: request.api_key,
        api_version: request.api_version,
        correlation: request.correlation,
        client_id: request.client_id,
        topics: topics.into_iter().take(MAX_TOPICS).map(|topic| topic.name).collect(),
        error,
    }
}
