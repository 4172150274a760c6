//! The daemon's start: everything is opened in order, and the first revision is enforced.
//!
//! Programs are attached with their settings in place, and queries come when they can be judged:
//! those of a predecessor may give packets to ports that are ours now.

use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use api::Phase;
use bpf::Datapath;
use engine::Node;
use host::Marks;
use model::State;
use tokio::sync::Mutex;
use tracing::warn;

use super::{Shared, Sources};
use crate::admin::{self, Admin};
use crate::attached::Attached;
use crate::bypass::Bypasses;
use crate::config::Config;
use crate::health::Health;
use crate::l7::L7;
use crate::listening::Listeners;
use crate::names::Names;
use crate::observer::Observer;
use crate::reconcile::Reconciler;
use crate::recording::Flows;
use crate::source::{PodInterfaces, Source};
use crate::{page, pins, settings, takeover};

/// What is served beside the admin API, before anybody asks.
pub(super) struct Served {
    pub(super) metrics: Listeners,
    pub(super) page: Listeners,
}

/// What the daemon has before anything is enforced.
struct Opened {
    datapath: Arc<Datapath>,
    /// What was read while another daemon enforced.
    source: Option<Source>,
    health: Arc<Health>,
}

/// Opens everything in order, and has the first revision enforced.
pub(super) async fn begin(
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

async fn start(
    config: &Config,
    Opened { datapath, source, health }: Opened,
    served: &Served,
) -> Result<(Arc<Shared>, Sources)> {
    let watcher = watch_node().await?;
    let marks = redirect(config).await?;
    health.prepare(Phase::Starting, source.is_some(), "pods and policies are being read");
    let mut sources = Sources::open(config, watcher, source).await?;

    let dump = datapath.dump().context("the kernel's state cannot be read")?;
    let flows = settings::flows(config).map(Arc::new);
    let options = settings::names(config, flows.clone())?;
    let names = Arc::new(Names::new(Arc::clone(&datapath), options));
    let mut reconciler = restore(config, &names, &dump)?;

    let seen = sources.look(true).await;
    configure(config, marks, &datapath, None)?;
    let proxy = dnsproxy::start(settings::proxy(config, marks), Arc::clone(&names) as _)
        .context("the DNS proxy cannot be started")?;
    reconciler.start(sources.known(&seen), &dump)?;
    sources.source.is_in_force(&seen.manifests);
    pins::finish_move(&datapath);
    configure(config, marks, &datapath, Some(&proxy))?;

    let l7 = start_l7(config, &proxy, &names, flows.as_ref(), marks).await;
    if let Some(l7) = &l7 {
        l7.changed(&seen.manifests, reconciler.endpoints());
    }
    let observer = match &flows {
        Some(flows) => Some(Observer::start(&config.hubble, Arc::clone(flows)).await),
        None => None,
    };
    health.round(&reconciler, &seen.manifests);
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
        kernel: kernel_release(),
    };
    Ok((Arc::new(shared), sources))
}

async fn watch_node() -> Result<host::Watcher> {
    let watcher = host::watch(host::WatchOptions::default()).await;
    watcher.context("the node's links cannot be watched")
}

/// Leads what the programs give to the DNS proxy there, by these marks.
async fn redirect(config: &Config) -> Result<Marks> {
    let redirect = settings::redirect(config)?;
    redirect.install().await.context("redirects to the DNS proxy cannot be set up")?;
    Ok(redirect.marks)
}

impl Sources {
    /// With what was read already, or else with what is read now.
    async fn open(config: &Config, watcher: host::Watcher, source: Option<Source>) -> Result<Self> {
        let mut source = match source {
            Some(source) => source,
            None => Source::watch(config).await?,
        };
        source.report(config);
        Ok(Self {
            manifests: source.subscribe(),
            node: watcher.snapshots(),
            watcher,
            attached: Attached::default(),
            source,
        })
    }
}

/// The cold half, which goes on with what the kernel has.
fn restore(config: &Config, names: &Arc<Names>, dump: &State) -> Result<Reconciler> {
    let node = Node::new(settings::engine(config)?);
    let datapath = Arc::clone(names.datapath());
    let mut reconciler = Reconciler::new(node, datapath, Arc::clone(names), dump)?;
    if config.audit {
        reconciler.audit();
    } else {
        reconciler.close_unknown(PodInterfaces::new(&config.kubernetes.interfaces));
    }
    Ok(reconciler)
}

/// Writes the programs' settings: with the proxy's ports, as soon as it may be given queries.
fn configure(
    config: &Config,
    marks: Marks,
    datapath: &Datapath,
    proxy: Option<&dnsproxy::Proxy>,
) -> Result<()> {
    write(datapath, &settings::kernel(config, marks, proxy))
}

fn write(datapath: &Datapath, settings: &bpf::Settings) -> Result<()> {
    datapath.configure(settings).context("the programs' settings cannot be written")
}

/// Starts the L7 proxy, if it is to run.
async fn start_l7(
    config: &Config,
    proxy: &dnsproxy::Proxy,
    names: &Arc<Names>,
    flows: Option<&Arc<Flows>>,
    marks: Marks,
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
        write(&datapath, &settings)
    };
    Some(L7::start(options, names, flows, Box::new(steer)).await)
}

fn kernel_release() -> String {
    let kernel = nix::sys::utsname::uname();
    kernel.map_or_else(|_| String::new(), |own| own.release().to_string_lossy().into_owned())
}
