//! The daemon: opens everything in order, then turns what its sources say into revisions.
//!
//! Stopping or dying changes nothing in the kernel: programs, maps and links are pinned, and what
//! is enforced stays enforced.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use api::Phase;
use bpf::Datapath;
use engine::Node;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Mutex, watch};
use tokio::time::MissedTickBehavior;
use tracing::{debug, error, info, warn};

use crate::admin::Admin;
use crate::attached::Attached;
use crate::bypass::{self, Bypasses};
use crate::config::Config;
use crate::health::Health;
use crate::l7::L7;
use crate::listening::Listeners;
use crate::names::Names;
use crate::observer::Observer;
use crate::pins::{self, Pins};
use crate::reconcile::{Known, Reconciler};
use crate::recording::{Flows, Recorder};
use crate::source::{PodInterfaces, Source};
use crate::{admin, metrics, page, report, settings, takeover};

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
        begun = begin(&config, &health) => begun?,
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

/// Opens everything in order, and has the first revision enforced.
async fn begin(
    config: &Config,
    health: &Arc<Health>,
) -> Result<(Admin, Arc<Shared>, Sources, Served)> {
    let path = &config.socket;
    // Where the other daemon listens elsewhere, this one says what it waits for.
    let early = config.wait && !admin::is_taken(path);
    let early = early.then(|| Admin::open(path, health)).transpose()?;
    if !config.wait {
        admin::refuse_second(path)?;
    }
    let (datapath, source) = takeover::open(config, health).await?;
    // Of two that start at once, the one that has the pins is the one that listens.
    let admin = early.map_or_else(|| Admin::open(path, health), Ok)?;
    let served = Served {
        metrics: Listeners::open(&config.metrics.listen, "metrics").await,
        page: Listeners::open(&config.page.listen, "page").await,
    };
    let opened = Opened { datapath: Arc::new(datapath), source, health: Arc::clone(health) };
    let (shared, sources) = start(config, opened, &served).await?;
    Ok((admin, shared, sources, served))
}

/// What is served beside the admin API, before anybody asks.
struct Served {
    metrics: Listeners,
    page: Listeners,
}

/// What the daemon has before anything is enforced.
struct Opened {
    datapath: Arc<Datapath>,
    /// What was read while another daemon enforced.
    source: Option<Source>,
    health: Arc<Health>,
}

async fn start(
    config: &Config,
    Opened { datapath, source, health }: Opened,
    served: &Served,
) -> Result<(Arc<Shared>, Sources)> {
    let watcher = host::watch(host::WatchOptions::default())
        .await
        .context("the node's links cannot be watched")?;
    let redirect = settings::redirect(config)?;
    redirect.install().await.context("redirects to the DNS proxy cannot be set up")?;
    health.prepare(Phase::Starting, source.is_some(), "pods and policies are being read");
    let mut source = match source {
        Some(source) => source,
        None => Source::watch(config).await?,
    };
    source.report(config);
    let mut sources = Sources {
        manifests: source.subscribe(),
        node: watcher.snapshots(),
        watcher,
        attached: Attached::default(),
        source,
    };

    let dump = datapath.dump().context("the kernel's state cannot be read")?;
    let flows = settings::flows(config).map(Arc::new);
    let options = settings::names(config, flows.clone())?;
    let names = Arc::new(Names::new(Arc::clone(&datapath), options));
    let node = Node::new(settings::engine(config)?);
    let mut reconciler = Reconciler::new(node, Arc::clone(&datapath), Arc::clone(&names), &dump)?;
    if config.audit {
        reconciler.audit();
    } else {
        reconciler.close_unknown(PodInterfaces::new(&config.kubernetes.interfaces));
    }
    let inventory = sources.manifests.borrow_and_update().clone();
    let links = sources.node.borrow_and_update().clone();
    sources.attached.take(&inventory.pods);
    sources.attached.look(true).await;
    let known = Known { manifests: &inventory, node: &links, attached: &sources.attached };
    let configure = |ports| {
        let settings = settings::kernel(config, redirect.marks, ports);
        datapath.configure(&settings).context("the programs' settings cannot be written")
    };
    // Programs are attached with their settings in place, and queries come when they can be judged:
    // those of a predecessor may give packets to ports that are ours now.
    configure(None)?;
    let proxy = dnsproxy::start(settings::proxy(config, redirect.marks), Arc::clone(&names) as _)
        .context("the DNS proxy cannot be started")?;
    reconciler.start(known, &dump)?;
    sources.source.is_in_force(&inventory);
    pins::finish_move(&datapath);
    configure(Some(&proxy))?;
    let l7 = start_l7(config, &proxy, &names, flows.as_ref(), redirect.marks).await;
    if let Some(l7) = &l7 {
        l7.changed(&inventory, reconciler.endpoints());
    }

    let observer = match &flows {
        Some(flows) => Some(Observer::start(&config.hubble, Arc::clone(flows)).await),
        None => None,
    };
    health.round(&reconciler, &inventory);
    let shared = Shared {
        health,
        datapath,
        names,
        audits: config.audit,
        bypasses: Bypasses::default(),
        reconciler: Mutex::new(reconciler),
        manifests: sources.manifests.clone(),
        node: sources.node.clone(),
        audit: Mutex::default(),
        proxy,
        l7,
        flows,
        observer,
        metrics: served.metrics.told(),
        page: served.page.told(),
        page_clients: page::Clients::default(),
        started: Instant::now(),
        started_at: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |age| age.as_secs()),
        kernel: nix::sys::utsname::uname()
            .map_or_else(|_| String::new(), |own| own.release().to_string_lossy().into_owned()),
    };
    Ok((Arc::new(shared), sources))
}

/// Starts the L7 proxy, if it is to run.
async fn start_l7(
    config: &Config,
    proxy: &dnsproxy::Proxy,
    names: &Arc<Names>,
    flows: Option<&Arc<Flows>>,
    marks: host::Marks,
) -> Option<L7> {
    let Some(options) = settings::l7(config, marks) else {
        if config.l7.enabled {
            warn!("no fqdnd-l7 is beside this program: rules for HTTP, TLS and Kafka open nothing");
        }
        return None;
    };
    let base = settings::kernel(config, marks, Some(proxy));
    let datapath = Arc::clone(names.datapath());
    let steer = move |port: Option<u16>| {
        let settings = bpf::Settings { l7_ports: port.into_iter().collect(), ..base.clone() };
        datapath.configure(&settings).context("the programs' settings cannot be written")
    };
    Some(L7::start(options, names, flows, Box::new(steer)).await)
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
                if sources.attached.awaits_namespace() {
                    update(shared, sources, true).await;
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
    let inventory = sources.manifests.borrow_and_update().clone();
    let node = sources.node.borrow_and_update().clone();
    sources.attached.take(&inventory.pods);
    sources.attached.look(again).await;
    let known = Known { manifests: &inventory, node: &node, attached: &sources.attached };
    let mut reconciler = shared.reconciler.lock().await;
    let failed = reconciler.failed();
    reconciler.update(known);
    if reconciler.failed() == failed {
        sources.source.is_in_force(&inventory);
    }
    if let Some(l7) = &shared.l7 {
        l7.changed(&inventory, reconciler.endpoints());
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
