//! The daemon: opens everything in order, then turns what its sources say into revisions.
//!
//! Stopping or dying changes nothing in the kernel: programs, maps and links are pinned, and what
//! is enforced stays enforced.

mod starting;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use bpf::Datapath;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Mutex, watch};
use tokio::time::MissedTickBehavior;
use tracing::{debug, error, info, warn};

use crate::attached::Attached;
use crate::bypass::{self, Bypasses};
use crate::config::Config;
use crate::health::Health;
use crate::l7::L7;
use crate::names::Names;
use crate::observer::Observer;
use crate::pins::{self, Pins};
use crate::reconcile::{Known, Reconciler};
use crate::recording::{Flows, Recorder};
use crate::source::Source;
use crate::{metrics, page, report};

/// How often leases that ran out are looked at.
pub const SWEEP: Duration = Duration::from_millis(500);

/// What the admin API reads.
pub struct Shared {
    /// Whether the daemon does its work.
    pub health: Arc<Health>,
    /// The maps.
    pub datapath: Arc<Datapath>,
    /// Endpoints' names.
    pub names: Arc<Names>,
    /// Whether every policy is audited.
    pub audits: bool,
    /// Ways that packets take past the programs.
    pub bypasses: Bypasses,
    /// The cold half.
    pub reconciler: Mutex<Reconciler>,
    /// What the manifests describe.
    pub manifests: watch::Receiver<Arc<kubernetes::Inventory>>,
    /// The node's links and addresses.
    pub node: watch::Receiver<Arc<host::Node>>,
    /// What the policies mean that is probably not what was meant.
    audit: Mutex<(u64, Arc<Vec<policy::Problem>>)>,
    /// The DNS proxy.
    pub proxy: dnsproxy::Proxy,
    /// The L7 proxy, if there is one.
    pub l7: Option<L7>,
    /// What was seen, if it is recorded.
    pub flows: Option<Arc<Flows>>,
    /// Who may see it, if it is recorded.
    pub observer: Option<Observer>,
    /// Where metrics are served, or should be.
    pub metrics: Vec<api::Listener>,
    /// Where the page is served, or should be.
    pub page: Vec<api::Listener>,
    /// Who looks at it.
    pub page_clients: page::Clients,
    /// When the daemon started.
    pub started: Instant,
    /// The same in seconds since 1970.
    pub started_at: u64,
    /// The kernel's release.
    pub kernel: String,
}

/// Runs until SIGTERM or SIGINT.
pub async fn run(config: Config) -> Result<()> {
    if !nix::unistd::geteuid().is_root() {
        bail!("fqdnd must be run by root: it loads BPF programs and changes routes");
    }
    if config.manifests.is_empty() && !config.kubernetes.is_watched() {
        bail!(
            "manifests: name at least one directory of manifests (`--manifests DIR`), or a cluster \
             (`--in-cluster`, `--kubeconfig FILE`)"
        );
    }
    let mut ending = Ending::watch()?;
    let health = Arc::new(Health::starting());
    let (mut admin, shared, mut sources, listeners) = tokio::select! {
        biased;
        () = ending.asked() => return Ok(()),
        begun = starting::begin(&config, &health) => begun?,
    };
    admin.serve(&shared);
    let metrics = metrics::serve(listeners.metrics, &shared);
    let page = page::serve(listeners.page, &shared);
    let recorder = shared.flows.clone().map(|flows| Recorder::start(&shared, flows)).transpose()?;
    let bypasses = bypass::watch(&shared)?;
    info!(socket = %config.socket.display(), "fqdnd is ready");
    if config.audit {
        warn!("every policy is audited: nothing is enforced, and flows tell what would be dropped");
    }
    if let Err(error) = sd_notify::notify(false, &[sd_notify::NotifyState::Ready]) {
        debug!(%error, "the service manager was not told");
    }
    let result = follow(&shared, &mut sources, &mut ending).await;
    if let Err(error) = sd_notify::notify(false, &[sd_notify::NotifyState::Stopping]) {
        debug!(%error, "the service manager was not told");
    }
    drop((recorder, metrics, page, bypasses));
    if let Some(observer) = &shared.observer {
        observer.stop(&config.hubble);
    }
    drop(admin);
    info!("fqdnd stops: what is enforced stays enforced");
    result
}

/// What keeps telling the daemon how things are.
struct Sources {
    manifests: watch::Receiver<Arc<kubernetes::Inventory>>,
    node: watch::Receiver<Arc<host::Node>>,
    watcher: host::Watcher,
    /// This node's pods among those of the manifests.
    attached: Attached,
    source: Source,
}

/// What the sources said last.
struct Seen {
    manifests: Arc<kubernetes::Inventory>,
    node: Arc<host::Node>,
}

impl Sources {
    /// What they say now; `again`, where namespaces may lead elsewhere.
    async fn look(&mut self, again: bool) -> Seen {
        let manifests = self.manifests.borrow_and_update().clone();
        let node = self.node.borrow_and_update().clone();
        self.attached.take(&manifests.pods);
        self.attached.look(again).await;
        Seen { manifests, node }
    }

    fn known<'a>(&'a self, seen: &'a Seen) -> Known<'a> {
        Known { manifests: &seen.manifests, node: &seen.node, attached: &self.attached }
    }
}

/// What asks the daemon to end.
struct Ending {
    terminate: Signal,
    interrupt: Signal,
}

impl Ending {
    fn watch() -> Result<Self> {
        let (terminate, interrupt) = (SignalKind::terminate(), SignalKind::interrupt());
        Ok(Self { terminate: signal(terminate)?, interrupt: signal(interrupt)? })
    }

    async fn asked(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Turns changes into revisions until a signal ends the daemon.
async fn follow(shared: &Shared, sources: &mut Sources, ending: &mut Ending) -> Result<()> {
    let mut mounts = host::Mounts::watch().context("mounts cannot be watched")?;
    let mut sweep = tokio::time::interval(SWEEP);
    sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut look = tokio::time::interval(pins::LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut pins = Pins::default();
    loop {
        tokio::select! {
            () = ending.asked() => return Ok(()),
            error = sources.watcher.failed() => {
                error!(%error, "links are not watched any more");
                return Err(error).context("the node's links cannot be watched any more");
            }
            changed = sources.manifests.changed() => {
                changed.context("the manifests are not watched any more")?;
                update(shared, sources, false).await;
            }
            changed = sources.node.changed() => {
                changed.context("the node's links are not watched any more")?;
                sources.source.links_changed();
                update(shared, sources, true).await;
            }
            changed = mounts.changed() => {
                changed.context("mounts are not watched any more")?;
                // Most mounts are no pod's namespace.
                if sources.attached.look(true).await {
                    update(shared, sources, false).await;
                }
            }
            _ = look.tick() => pins.look(&shared.datapath),
            _ = sweep.tick() => {
                let mut reconciler = shared.reconciler.lock().await;
                reconciler.sweep();
                shared.health.round(&reconciler, &shared.manifests.borrow());
                drop(reconciler);
                if !shared.proxy.is_healthy() {
                    bail!("a thread of the DNS proxy has ended: its endpoints would not be answered");
                }
            }
        }
    }
}

/// Turns what the sources say into a revision; `again`, where namespaces may lead elsewhere.
async fn update(shared: &Shared, sources: &mut Sources, again: bool) {
    let seen = sources.look(again).await;
    let mut reconciler = shared.reconciler.lock().await;
    let failed = reconciler.failed();
    reconciler.update(sources.known(&seen));
    if reconciler.failed() == failed {
        sources.source.is_in_force(&seen.manifests);
    }
    if let Some(l7) = &shared.l7 {
        l7.changed(&seen.manifests, reconciler.endpoints());
    }
}

impl Shared {
    /// What the policies mean that is probably not what was meant: looked at when it is asked for,
    /// and once for a revision, for it is about everything there is.
    pub async fn audit(&self) -> Result<Arc<Vec<policy::Problem>>> {
        let (revision, inventory, settings) = {
            let reconciler = self.reconciler.lock().await;
            let settings = reconciler.node().settings().clone();
            (reconciler.revisions().1, reconciler.inventory().clone(), settings)
        };
        let mut known = self.audit.lock().await;
        if known.0 != revision {
            let find = move || report::rules::audit(&inventory, &settings);
            let found = tokio::task::spawn_blocking(find).await;
            *known = (revision, Arc::new(found.context("the policies cannot be looked at")?));
        }
        Ok(Arc::clone(&known.1))
    }

    /// How programs are attached.
    pub fn attach_mode(&self) -> api::AttachMode {
        match self.datapath.attaches_by() {
            bpf::By::Tcx => api::AttachMode::Tcx,
            bpf::By::Clsact => api::AttachMode::Clsact,
        }
    }

    /// The DNS proxy's counters.
    pub fn dns_counts(&self) -> BTreeMap<String, u64> {
        self.proxy.stats().iter().map(|(name, count)| (name.replace('_', "-"), count)).collect()
    }

    /// What the datapath had to let go of, for all endpoints together.
    pub fn datapath_limits(&self) -> Result<BTreeMap<String, u64>> {
        let mut limits = BTreeMap::new();
        let mut add = |name: &str, count| *limits.entry(name.to_owned()).or_default() += count;
        for endpoint in self.names.endpoints() {
            let evicted = |direction| self.datapath.evictions(endpoint, direction);
            add("outbound-flows-evicted", evicted(bpf::Direction::Outbound)?);
            add("inbound-flows-evicted", evicted(bpf::Direction::Inbound)?);
        }
        for counts in self.datapath.counts()?.into_values() {
            add("drop-events-suppressed", counts.drop_events.suppressed);
            add("drop-events-lost", counts.drop_events.lost);
            add("flow-events-suppressed", counts.flow_events.suppressed);
            add("flow-events-lost", counts.flow_events.lost);
        }
        add("pins-made-again", self.datapath.pins_repaired());
        Ok(limits)
    }
}
