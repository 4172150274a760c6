//! Opening the datapath, where another daemon may still have it.
//!
//! A daemon that stands by has everything ready that it can have: its programs were loaded once,
//! aside, so that one whose programs this kernel refuses never stands in line; and the cluster is
//! read. The daemon before it is only asked to end when this one says that it is ready: not before
//! the server gave this very one its lists, so that an update which takes the right to read them goes
//! no further than the first node.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use api::Phase;
use bpf::Datapath;
use tokio::time::sleep;
use tracing::{info, warn};

use crate::config::Config;
use crate::health::Health;
use crate::settings;
use crate::source::Source;

/// How often it is looked whether the datapath is free.
const LOOK: Duration = Duration::from_millis(10);

const AS_KEPT: &str = "another fqdnd enforces here, and the API server has not given this one all \
                       lists: what it gave before would be in force";

/// Opens the datapath; if the configuration says so, when it is free. What was read of the cluster
/// meanwhile goes on being read.
pub async fn open(config: &Config, health: &Health) -> Result<(Datapath, Option<Source>)> {
    if !config.wait {
        let opened = Datapath::open(&settings::datapath(config));
        return Ok((opened.context("the datapath cannot be opened")?, None));
    }
    let source = match free(config)? {
        Some(datapath) => return Ok((datapath, None)),
        None => prepare(config, health).await?,
    };
    info!("another fqdnd enforces here: this one stands by");
    let mut told = None;
    loop {
        let ready = source.as_ref().is_none_or(Source::is_first_hand);
        if told.replace(ready) != Some(ready) {
            let why = if ready { "another fqdnd enforces here" } else { AS_KEPT };
            health.prepare(Phase::StandingBy, ready, why);
        }
        if let Some(datapath) = free(config)? {
            info!("the other fqdnd has ended: this one takes over");
            health.prepare(Phase::Starting, ready, "the other fqdnd has ended");
            return Ok((datapath, source));
        }
        sleep(LOOK).await;
    }
}

/// Opens the datapath, unless somebody has it.
fn free(config: &Config) -> Result<Option<Datapath>> {
    match Datapath::open(&settings::datapath(config)) {
        Ok(datapath) => Ok(Some(datapath)),
        Err(bpf::Error::InUse(_)) => Ok(None),
        Err(error) => Err(error).context("the datapath cannot be opened"),
    }
}

async fn prepare(config: &Config, health: &Health) -> Result<Option<Source>> {
    health.prepare(Phase::StandingBy, false, "programs are loaded aside");
    rehearse(config).context("this kernel does not take the programs")?;
    if !config.kubernetes.is_watched() {
        return Ok(None);
    }
    health.prepare(Phase::StandingBy, false, "the cluster is being read");
    Ok(Some(Source::watch(config).await?))
}

/// Loads the programs with maps of their own, and takes all of it away again.
fn rehearse(config: &Config) -> Result<(), bpf::Error> {
    let mut options = settings::datapath(config);
    let mut name = options.pin.clone().into_os_string();
    name.push(format!("-aside-{}", std::process::id()));
    options.pin = name.into();
    let _aside = Aside(options.pin.clone());
    Datapath::open(&options).map(drop)
}

/// A directory of pins that goes with this.
struct Aside(PathBuf);

impl Drop for Aside {
    fn drop(&mut self) {
        if let Err(error) = bpf::remove(&self.0) {
            warn!(%error, "what was loaded aside cannot be taken away");
        }
    }
}
