//! The connection to the daemon that knows the rules.
//!
//! It carries questions and records up, judgements and revisions down. When it ends, the proxy
//! ends: without the daemon nothing can be judged.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use l7proxy_core::Reason;
use l7proxy_core::control::{ControlError, FromProxy, Inbox, Judgement, ToProxy, encode};
use thiserror::Error;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, oneshot, watch};

use crate::access::Journal;

/// How often the daemon hears that the proxy is well.
const TALLY_EVERY: Duration = Duration::from_secs(1);
/// The most questions that wait for answers; a connection more is refused.
const MAX_QUESTIONS: usize = 4096;

type Answer = oneshot::Sender<Result<Judgement, Reason>>;

/// Asks the daemon.
#[derive(Debug)]
pub(crate) struct Control {
    questions: mpsc::Sender<FromProxy>,
    waiting: Mutex<HashMap<u64, Answer>>,
    next: AtomicU64,
    revision: watch::Sender<u64>,
    patience: Duration,
}

/// Why the connection to the daemon ended.
#[derive(Debug, Error)]
pub enum ControlEnded {
    /// The daemon closed it.
    #[error("the daemon closed the control connection")]
    Closed,
    /// It broke.
    #[error("the control connection broke: {0}")]
    Broken(#[from] std::io::Error),
    /// The daemon says what cannot be read.
    #[error(transparent)]
    Unreadable(#[from] ControlError),
}

/// The connection's ends, to be served.
pub(crate) struct Wire {
    pub stream: UnixStream,
    pub questions: mpsc::Receiver<FromProxy>,
    pub records: mpsc::Receiver<FromProxy>,
}

impl Control {
    /// A connection that waits so long for each answer, and what comes out of it to be sent.
    pub(crate) fn new(patience: Duration) -> (Arc<Self>, mpsc::Receiver<FromProxy>) {
        let (questions, outbox) = mpsc::channel(MAX_QUESTIONS);
        let control = Self {
            questions,
            waiting: Mutex::default(),
            next: AtomicU64::new(0),
            revision: watch::Sender::new(0),
            patience,
        };
        (Arc::new(control), outbox)
    }

    /// What may be said on a connection.
    pub(crate) async fn ask(
        &self,
        client: SocketAddr,
        destination: SocketAddr,
    ) -> Result<Judgement, Reason> {
        let question = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = oneshot::channel();
        {
            let mut waiting = self.lock();
            if waiting.len() >= MAX_QUESTIONS {
                return Err(Reason::NoJudgement);
            }
            waiting.insert(question, sender);
        }
        let _forget = Forget { control: self, question };
        let message = FromProxy::Ask { question, client, destination };
        if self.questions.try_send(message).is_err() {
            return Err(Reason::NoJudgement);
        }
        match tokio::time::timeout(self.patience, receiver).await {
            Ok(Ok(judgement)) => judgement,
            Ok(Err(_)) | Err(_) => Err(Reason::NoJudgement),
        }
    }

    /// The revision of the rules in force, as it changes.
    pub(crate) fn revision(&self) -> watch::Receiver<u64> {
        self.revision.subscribe()
    }

    /// Carries messages until the connection ends.
    pub(crate) async fn serve(self: Arc<Self>, wire: Wire, journal: Arc<Journal>) -> ControlEnded {
        let Wire { stream, questions, records } = wire;
        let (reader, writer) = stream.into_split();
        tokio::select! {
            ended = self.read(reader) => ended,
            ended = write(writer, questions, records, journal) => ended,
        }
    }

    async fn read(&self, mut reader: OwnedReadHalf) -> ControlEnded {
        let (mut inbox, mut buffer) = (Inbox::default(), vec![0; 64 * 1024]);
        loop {
            match reader.read(&mut buffer).await {
                Ok(0) => return ControlEnded::Closed,
                Ok(count) => inbox.push(&buffer[..count]),
                Err(error) => return error.into(),
            }
            loop {
                match inbox.take() {
                    Ok(Some(message)) => self.handle(message),
                    Ok(None) => break,
                    Err(error) => return error.into(),
                }
            }
        }
    }

    fn handle(&self, message: ToProxy) {
        match message {
            ToProxy::Revision(revision) => {
                self.revision.send_if_modified(|current| {
                    let is_newer = revision > *current;
                    *current = revision.max(*current);
                    is_newer
                });
            }
            ToProxy::Judgement { question, judgement } => {
                if let Some(answer) = self.lock().remove(&question) {
                    // Whoever asked may be gone.
                    let _ = answer.send(judgement);
                }
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<u64, Answer>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes a question back when nobody waits for its answer any more.
struct Forget<'a> {
    control: &'a Control,
    question: u64,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        self.control.lock().remove(&self.question);
    }
}

/// Sends questions before records, and the tally in between.
async fn write(
    mut writer: OwnedWriteHalf,
    mut questions: mpsc::Receiver<FromProxy>,
    mut records: mpsc::Receiver<FromProxy>,
    journal: Arc<Journal>,
) -> ControlEnded {
    let mut tick = tokio::time::interval(TALLY_EVERY);
    let mut lost = 0;
    loop {
        let message = tokio::select! {
            biased;
            Some(question) = questions.recv() => question,
            _ = tick.tick() => FromProxy::Tally(journal.tally()),
            Some(record) = records.recv() => record,
            else => return ControlEnded::Closed,
        };
        let lost_now = journal.tally().lost_records;
        if lost_now > lost {
            let message = FromProxy::Lost(lost_now - lost);
            lost = lost_now;
            if let Err(ended) = send(&mut writer, &message).await {
                return ended;
            }
        }
        if let Err(ended) = send(&mut writer, &message).await {
            return ended;
        }
    }
}

async fn send(writer: &mut OwnedWriteHalf, message: &FromProxy) -> Result<(), ControlEnded> {
    let bytes = encode(message)?;
    writer.write_all(&bytes).await?;
    Ok(())
}
