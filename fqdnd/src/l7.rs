//! The L7 proxy as the daemon sees it: a process of its own that is started, watched, told what
//! may be said on connections, and heard of what was.
//!
//! - Connections are sent to it only while it says that it is well. Otherwise the kernel drops
//!   what is for it, and says so.
//! - What it asks is answered at once, from the snapshot that DNS is judged by. When the daemon
//!   goes, it goes: nothing could be judged any more.
//! - It has none of the daemon's rights: its sockets are opened here and passed on.

mod counts;
mod judge;
mod listeners;
mod process;
mod secrets;
mod server;
mod status;
mod supervisor;

use std::sync::Arc;
use std::time::Duration;

use engine::LocalEndpoint;
use kubernetes::Inventory;
use model::{EndpointId, Objects};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use crate::names::Names;
use crate::recording::Flows;
use judge::Judge;
use server::Server;
use supervisor::Supervisor;

pub use counts::{Counts, Outcomes, Spoken};
pub use process::{Launch, beside_this_program};
pub use secrets::Secrets;
pub use status::{Health, Status};
pub use supervisor::Steer;

/// How long the daemon's own start waits for the proxy's.
const START: Duration = Duration::from_secs(5);

/// What the proxy is started and served with.
pub struct Options {
    /// How its process is started.
    pub launch: Launch,
    /// The mark of what it sends to pods.
    pub mark: u32,
    /// Whether destinations are to see pods' own addresses.
    pub from_pods: bool,
    /// Who gets which secrets.
    pub secrets: Secrets,
}

/// The running proxy, until this is dropped.
pub struct L7 {
    judge: Arc<Judge>,
    status: Arc<Status>,
    supervising: JoinHandle<()>,
}

impl L7 {
    /// Starts the proxy, and waits a while until connections can be sent to it.
    pub async fn start(
        options: Options,
        names: &Arc<Names>,
        flows: Option<&Arc<Flows>>,
        steer: Steer,
    ) -> Self {
        let Options { launch, mark, from_pods, secrets } = options;
        let judge = Arc::new(Judge::new(Arc::clone(names), secrets, from_pods));
        let status = Arc::new(Status::new());
        let server = Server {
            judge: Arc::clone(&judge),
            status: Arc::clone(&status),
            flows: flows.map(Arc::clone),
        };
        let supervisor = Supervisor { launch, mark, steer, server, status: Arc::clone(&status) };
        let supervising = tokio::spawn(supervisor.run());
        let begun = Instant::now();
        while matches!(status.health(), Health::Starting) && begun.elapsed() < START {
            sleep(Duration::from_millis(5)).await;
        }
        Self { judge, status, supervising }
    }

    /// Other rules are in force: living connections are judged by them from their next request on.
    pub fn changed(&self, inventory: &Inventory, endpoints: &Objects<EndpointId, LocalEndpoint>) {
        self.judge.changed(inventory, endpoints);
    }

    /// How it fares.
    pub fn status(&self) -> &Status {
        &self.status
    }

    /// The secrets there are.
    pub fn secrets(&self) -> Arc<Secrets> {
        self.judge.secrets()
    }
}

impl Drop for L7 {
    fn drop(&mut self) {
        self.supervising.abort();
    }
}
