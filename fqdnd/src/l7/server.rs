//! The daemon's end of the connection to the proxy: answers what it asks, tells it when rules
//! changed, and hears what was asked of destinations.

use std::sync::Arc;
use std::time::Duration;

use l7proxy_core::control::{ControlError, FromProxy, Inbox, ToProxy, encode};
use thiserror::Error;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::{Instant, sleep_until, timeout};

use super::judge::Judge;
use super::status::Status;
use crate::recording::Flows;

/// How long the proxy may say nothing, though it tells every second that it is well.
const SILENCE: Duration = Duration::from_secs(10);

/// What the connection's end is served with.
pub struct Server {
    pub judge: Arc<Judge>,
    pub status: Arc<Status>,
    pub flows: Option<Arc<Flows>>,
}

/// Why a connection to the proxy is not served any more.
#[derive(Debug, Error)]
pub enum Ended {
    /// The proxy closed it.
    #[error("it closed the control connection")]
    Closed,
    /// It broke.
    #[error("the control connection broke: {0}")]
    Broken(#[from] std::io::Error),
    /// The proxy says what cannot be read.
    #[error(transparent)]
    Unreadable(#[from] ControlError),
    /// The proxy says nothing, or takes nothing.
    #[error("it has not been heard of for {}s", SILENCE.as_secs())]
    Silent,
}

impl Server {
    /// Serves a connection until it ends. `well` is called when the proxy is heard of first.
    pub async fn serve(&self, mut stream: UnixStream, well: impl FnOnce()) -> Ended {
        let mut well = Some(well);
        let mut revisions = self.judge.revisions();
        let (mut inbox, mut buffer) = (Inbox::default(), vec![0; 64 * 1024]);
        let mut deadline = Instant::now() + SILENCE;
        loop {
            let mut answers = Vec::new();
            tokio::select! {
                changed = revisions.changed() => match changed {
                    Ok(()) => answers.push(ToProxy::Revision(*revisions.borrow_and_update())),
                    Err(_) => return Ended::Closed,
                },
                read = stream.read(&mut buffer) => match read {
                    Ok(0) => return Ended::Closed,
                    Ok(count) => inbox.push(&buffer[..count]),
                    Err(error) => return error.into(),
                },
                () = sleep_until(deadline) => return Ended::Silent,
            }
            loop {
                match inbox.take() {
                    Ok(Some(message)) => {
                        deadline = Instant::now() + SILENCE;
                        if let Some(well) = well.take() {
                            well();
                        }
                        answers.extend(self.hear(message));
                    }
                    Ok(None) => break,
                    Err(error) => return error.into(),
                }
            }
            if let Err(ended) = say(&mut stream, &answers).await {
                return ended;
            }
        }
    }

    fn hear(&self, message: FromProxy) -> Option<ToProxy> {
        match message {
            FromProxy::Ask { question, client, destination } => {
                let judgement = self.judge.judge(client, destination);
                return Some(ToProxy::Judgement { question, judgement });
            }
            FromProxy::Access(access) => {
                self.status.count(&access);
                if let Some(flows) = &self.flows {
                    flows.requests().note(access);
                }
            }
            FromProxy::Lost(count) => {
                if let Some(flows) = &self.flows {
                    flows.requests().lose(count);
                }
            }
            FromProxy::Tally(tally) => self.status.tell(tally),
        }
        None
    }
}

async fn say(stream: &mut UnixStream, messages: &[ToProxy]) -> Result<(), Ended> {
    let mut bytes = Vec::new();
    for message in messages {
        bytes.extend(encode(message)?);
    }
    let written = timeout(SILENCE, stream.write_all(&bytes)).await;
    Ok(written.map_err(|_| Ended::Silent)??)
}
