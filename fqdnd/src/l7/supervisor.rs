//! Keeps the proxy running: starts it, steers connections to it while it is well, and starts it
//! again when it ends.

use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use tokio::time::{Instant, sleep};
use tracing::{error, info, warn};

use super::listeners::Listeners;
use super::process::{Launch, Process};
use super::server::Server;
use super::status::Status;

/// How long the first pause before another start is, and the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// Who has run for so long has started well.
const WELL: Duration = Duration::from_secs(30);

/// Tells the kernel at which port the proxy listens; none, and the kernel drops what is for it.
pub type Steer = Box<dyn Fn(Option<u16>) -> Result<()> + Send + Sync>;

/// Keeps the proxy running.
pub struct Supervisor {
    pub launch: Launch,
    /// The mark of what the proxy sends to pods.
    pub mark: u32,
    pub steer: Steer,
    pub server: Server,
    pub status: Arc<Status>,
}

impl Supervisor {
    /// Runs for as long as the daemon.
    pub async fn run(self) {
        let mut pause = FIRST_PAUSE;
        loop {
            let begun = Instant::now();
            let Err(reason) = self.live().await;
            if let Err(error) = (self.steer)(None) {
                error!(%error, "connections may still be sent to an L7 proxy that is gone");
            }
            if begun.elapsed() >= WELL {
                pause = FIRST_PAUSE;
            }
            warn!(
                reason = format!("{reason:#}"),
                ?pause,
                "the L7 proxy ended and is started again"
            );
            self.status.failed(format!("{reason:#}"));
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// One life of the proxy.
    async fn live(&self) -> Result<std::convert::Infallible> {
        self.status.starts();
        let listeners = Listeners::open(self.mark).context("its listeners cannot be opened")?;
        let (ours, theirs) = UnixStream::pair().context("it cannot be spoken to")?;
        ours.set_nonblocking(true)?;
        let stream = tokio::net::UnixStream::from_std(ours)?;
        let started = Process::start(&self.launch, &listeners, &theirs);
        let program = self.launch.program.display();
        let mut process = started.with_context(|| format!("{program} cannot be started"))?;
        let port = listeners.port();
        // From now on they are the process's alone, and end with it.
        drop((listeners, theirs));
        let pid = process.id().unwrap_or_default();
        let well = || match (self.steer)(Some(port)) {
            Ok(()) => {
                info!(pid, port, "the L7 proxy runs");
                self.status.runs(pid);
            }
            Err(error) => error!(%error, "connections cannot be sent to the L7 proxy"),
        };
        tokio::select! {
            ended = self.server.serve(stream, well) => {
                let status = tokio::time::timeout(Duration::from_secs(1), process.ended()).await;
                match status {
                    Ok(Ok(status)) => Err(anyhow!("it ended: {status}")),
                    Ok(Err(_)) | Err(_) => Err(anyhow!("{ended}")),
                }
            }
            ended = process.ended() => Err(anyhow!("it ended: {}", ended?)),
        }
    }
}
