//! The daemon's configuration: one YAML file, every key of which is also a flag.
//!
//! A flag beats the file, the file beats the default. Unknown keys are refused with their place.

mod keys;
mod span;
mod values;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

pub use keys::{
    Bpf, Cache, Cluster, Dns, Hubble, Keys, Kubernetes, L7, Learning, Logs, Metrics, Page,
    QueryLimits, Recording, Redirect, Timeouts,
};
pub use span::Span;
pub use values::{
    AttachChoice, LimitChoice, LogFormat, PrefixKey, RefusalChoice, ScopeChoice, ServerKey,
    TeacherChoice, UpstreamChoice,
};

/// Where the file is looked for when no flag names one.
pub const DEFAULT_PATH: &str = "/etc/fqdnd/fqdnd.yaml";

/// The admin socket where no key names one.
pub const DEFAULT_SOCKET: &str = "/run/fqdnd/fqdnd.sock";

/// The state directory where no key names one.
pub const DEFAULT_STATE_DIRECTORY: &str = "/var/lib/fqdnd";

/// The configuration in force.
#[derive(Clone, Debug)]
pub struct Config {
    /// Directories of manifests.
    pub manifests: Vec<PathBuf>,
    /// The admin socket.
    pub socket: PathBuf,
    /// What a restart needs.
    pub state_directory: PathBuf,
    /// Whether another daemon that enforces here is waited for.
    pub wait: bool,
    /// Whether every policy is audited.
    pub audit: bool,
    /// A cluster's API server as the source.
    pub kubernetes: Kubernetes,
    /// The datapath.
    pub bpf: Bpf,
    /// How packets are brought to the DNS proxy.
    pub redirect: Redirect,
    /// The DNS proxy.
    pub dns: Dns,
    /// The L7 proxy.
    pub l7: L7,
    /// What is kept of answers.
    pub cache: Cache,
    /// The cluster around.
    pub cluster: Cluster,
    /// From whom addresses are learned.
    pub learning: Learning,
    /// What one endpoint may ask for under patterns.
    pub query_limits: QueryLimits,
    /// When a flow counts as over.
    pub timeouts: Timeouts,
    /// What is recorded of flows.
    pub flows: Recording,
    /// The Hubble API.
    pub hubble: Hubble,
    /// Metrics for Prometheus.
    pub metrics: Metrics,
    /// The page.
    pub page: Page,
    /// Logs.
    pub log: Logs,
}

impl Config {
    /// Reads the file, if there is one, and lays the flags over it.
    pub fn load(path: Option<&Path>, flags: Keys) -> Result<Self> {
        let file = match path {
            Some(path) => read(path)?,
            None if Path::new(DEFAULT_PATH).exists() => read(Path::new(DEFAULT_PATH))?,
            None => Keys::default(),
        };
        Self::new(flags, file)
    }

    /// Reads a file's text, without any flags.
    pub fn parse(text: &str) -> Result<Self> {
        Self::new(Keys::default(), parse(text)?)
    }

    fn new(flags: Keys, file: Keys) -> Result<Self> {
        let config = Self {
            manifests: flags.manifests.or(file.manifests).unwrap_or_default(),
            socket: flags.socket.or(file.socket).unwrap_or_else(|| DEFAULT_SOCKET.into()),
            state_directory: flags
                .state_directory
                .or(file.state_directory)
                .unwrap_or_else(|| DEFAULT_STATE_DIRECTORY.into()),
            wait: flags.wait.or(file.wait).unwrap_or(false),
            audit: flags.audit.or(file.audit).unwrap_or(false),
            kubernetes: Kubernetes::new(flags.kubernetes, file.kubernetes),
            bpf: Bpf::new(flags.bpf, file.bpf),
            redirect: Redirect::new(flags.redirect, file.redirect),
            dns: Dns::new(flags.dns, file.dns),
            l7: L7::new(flags.l7, file.l7),
            cache: Cache::new(flags.cache, file.cache),
            cluster: Cluster::new(flags.cluster, file.cluster),
            learning: Learning::new(flags.learning, file.learning),
            query_limits: QueryLimits::new(flags.query_limits, file.query_limits),
            timeouts: Timeouts::new(flags.timeouts, file.timeouts),
            flows: Recording::new(flags.flows, file.flows),
            hubble: Hubble::new(flags.hubble, file.hubble),
            metrics: Metrics::new(flags.metrics, file.metrics),
            page: Page::new(flags.page, file.page),
            log: Logs::new(flags.log, file.log),
        };
        config.check()?;
        Ok(config)
    }

    /// What no single key can tell to be wrong.
    fn check(&self) -> Result<()> {
        host::Marks::new(self.redirect.mark_mask).context("redirect.markMask")?;
        if self.dns.min_ttl.0 > self.dns.max_ttl.0 {
            let (min, max) = (self.dns.min_ttl, self.dns.max_ttl);
            bail!("dns.minTtl: {min} is longer than maxTtl, {max}");
        }
        if !(1..=64).contains(&self.dns.workers) {
            bail!("dns.workers: {} is not from 1 to 64", self.dns.workers);
        }
        self.query_limits.check()?;
        self.l7.check()?;
        self.kubernetes.check(&self.manifests)?;
        self.hubble.check()?;
        self.page.check()
    }
}

impl QueryLimits {
    fn check(&self) -> Result<()> {
        let Self { label_length, distinct_names, .. } = *self;
        if label_length > 63 {
            bail!("queryLimits.labelLength: {label_length} is more than any label has (63)");
        }
        if distinct_names > 1 << 16 {
            bail!("queryLimits.distinctNames: {distinct_names} is more than 65536");
        }
        if distinct_names > 0 && self.window.0.is_zero() {
            bail!("queryLimits.window: distinctNames needs a length of time");
        }
        if self.burst > 0 && self.rate == 0 {
            bail!("queryLimits.burst stands without a rate");
        }
        Ok(())
    }
}

impl L7 {
    fn check(&self) -> Result<()> {
        if !(1..=64).contains(&self.threads) {
            bail!("l7.threads: {} is not from 1 to 64", self.threads);
        }
        if self.user == 0 {
            bail!("l7.user: the L7 proxy must not be root's");
        }
        if !(256..=1 << 20).contains(&self.head_bytes) {
            bail!("l7.headBytes: {} is not from 256 to 1048576", self.head_bytes);
        }
        Ok(())
    }
}

impl Kubernetes {
    /// Whether a cluster is watched.
    pub fn is_watched(&self) -> bool {
        self.in_cluster || !self.kubeconfig.as_os_str().is_empty()
    }

    fn check(&self, manifests: &[PathBuf]) -> Result<()> {
        if self.in_cluster && !self.kubeconfig.as_os_str().is_empty() {
            bail!("kubernetes.kubeconfig stands beside inCluster: give one of the two");
        }
        if self.is_watched() && !manifests.is_empty() {
            bail!("manifests stands beside a cluster to watch: give one of the two");
        }
        if self.is_watched() && self.node.is_empty() {
            bail!("kubernetes.node: this host has no name; give the node's");
        }
        if !matches!(self.runtime.as_str(), "auto" | "cgroups") && !self.runtime.starts_with('/') {
            bail!("kubernetes.runtime: `{}` is not auto, cgroups or a path", self.runtime);
        }
        Ok(())
    }
}

impl Hubble {
    /// Nobody beyond this machine gets to see flows without a certificate.
    fn check(&self) -> Result<()> {
        let files = [
            ("tlsCertificate", &self.tls_certificate),
            ("tlsKey", &self.tls_key),
            ("tlsClientCa", &self.tls_client_ca),
        ];
        let is_set = |path: &Path| !path.as_os_str().is_empty();
        let missing = files.iter().find(|(_, path)| !is_set(path));
        if let Some((key, _)) = missing
            && files.iter().any(|(_, path)| is_set(path))
        {
            bail!("hubble.{key} is missing: tlsCertificate, tlsKey and tlsClientCa go together");
        }
        let open = self.listen.iter().find(|address| !address.ip().is_loopback());
        match (open, missing) {
            (Some(address), Some(_)) => bail!(
                "hubble.listen: {address} is not of the loopback: that takes tlsCertificate, \
                 tlsKey and tlsClientCa"
            ),
            (_, _) => Ok(()),
        }
    }
}

impl Page {
    /// Nobody beyond this machine gets to see it: it knows no users.
    fn check(&self) -> Result<()> {
        match self.listen.iter().find(|address| !address.ip().is_loopback()) {
            Some(address) => bail!(
                "page.listen: {address} is not of the loopback; from elsewhere, come by a tunnel \
                 such as `ssh -L`"
            ),
            None => Ok(()),
        }
    }
}

fn read(path: &Path) -> Result<Keys> {
    let text =
        std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    parse(&text).with_context(|| format!("{} is no valid configuration", path.display()))
}

fn parse(text: &str) -> Result<Keys> {
    let blank = |line: &str| line.trim().is_empty() || line.trim_start().starts_with('#');
    if text.lines().all(blank) {
        return Ok(Keys::default());
    }
    let options = serde_saphyr::options! { strict_booleans: true, with_snippet: false };
    Ok(serde_saphyr::from_str_with_options(text, options)?)
}

#[cfg(test)]
mod tests;
