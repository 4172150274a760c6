//! What `fqdnd check` says of the machine: facts are gathered, then judged.
//!
//! The judgement is pure, so that every finding has a test without a machine that has the fault.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::nft;
use crate::redirect::{ipv6_enabled, list_rules};

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// As it should be.
    Good,
    /// Worth knowing; it may explain what one sees.
    Note,
    /// fqdnd cannot do its work like this.
    Fault,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Good => "ok",
            Self::Note => "note",
            Self::Fault => "fault",
        })
    }
}

/// One line of the report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What was looked at.
    pub subject: &'static str,
    /// How much it matters.
    pub severity: Severity,
    /// What was seen, and what to do about it.
    pub text: String,
}

/// What was seen of the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// The kernel's release, as `uname -r` says it.
    pub kernel: String,
    /// The effective capabilities, as a bit set.
    pub capabilities: u64,
    /// The version of nft; or why it could not be told.
    pub nft: Result<String, String>,
    /// Whether the kernel has routing rules; or why they could not be listed.
    pub rules: Result<(), String>,
    /// Whether IPv6 is there.
    pub ipv6: bool,
    /// Where the cgroup v2 hierarchy is mounted.
    pub cgroup2: Option<PathBuf>,
    /// Where a BPF file system is mounted.
    pub bpffs: Option<PathBuf>,
    /// Whether IPv4 is forwarded.
    pub forwarding_v4: bool,
    /// Whether IPv6 is forwarded.
    pub forwarding_v6: bool,
    /// Whether bridged packets go through iptables (br_netfilter); none without the module.
    pub bridge_netfilter: Option<bool>,
}

/// Capabilities that the daemon uses: name, number, and the number of one that includes it.
const CAPABILITIES: [(&str, u32, Option<u32>); 4] = [
    ("CAP_NET_ADMIN", 12, None),
    ("CAP_NET_RAW", 13, None),
    ("CAP_BPF", 39, Some(21)),
    ("CAP_PERFMON", 38, Some(21)),
];

/// The oldest kernel that the programs are written for.
const OLDEST_KERNEL: (u32, u32) = (5, 15);

/// The kernel that brought TCX.
const TCX_KERNEL: (u32, u32) = (6, 6);

impl Machine {
    /// Looks at the machine.
    pub async fn observe() -> Self {
        let mounts = read("/proc/self/mounts");
        Self {
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            capabilities: effective_capabilities(&read("/proc/thread-self/status")),
            nft: nft::version().await.map_err(|error| error.to_string()),
            rules: list_rules().await.map_err(|error| error.to_string()),
            ipv6: ipv6_enabled(),
            cgroup2: mounted(&mounts, "cgroup2"),
            bpffs: mounted(&mounts, "bpf"),
            forwarding_v4: is_one("net/ipv4/ip_forward").unwrap_or(false),
            forwarding_v6: is_one("net/ipv6/conf/all/forwarding").unwrap_or(false),
            bridge_netfilter: is_one("net/bridge/bridge-nf-call-iptables"),
        }
    }

    /// Judges what was seen, one finding a subject.
    pub fn findings(&self) -> Vec<Finding> {
        vec![
            self.judge_kernel(),
            self.judge_capabilities(),
            self.judge_nft(),
            self.judge_rules(),
            self.judge_bpffs(),
            self.judge_cgroup(),
            self.judge_ipv6(),
            self.judge_forwarding(),
            self.judge_bridges(),
        ]
    }

    fn judge_kernel(&self) -> Finding {
        let kernel = &self.kernel;
        let (severity, text) = match version(kernel) {
            None => (Severity::Note, format!("{kernel}: the version could not be read")),
            Some(version) if version < OLDEST_KERNEL => {
                (Severity::Fault, format!("{kernel}: 5.15 or later is needed"))
            }
            Some(version) if version < TCX_KERNEL => {
                (Severity::Good, format!("{kernel}: without TCX (6.6); clsact filters are used"))
            }
            Some(_) => (Severity::Good, format!("{kernel}, with TCX")),
        };
        Finding { subject: "kernel", severity, text }
    }

    fn judge_capabilities(&self) -> Finding {
        let has = |number: u32| self.capabilities >> number & 1 == 1;
        let missing: Vec<_> = CAPABILITIES
            .iter()
            .filter(|(_, number, wider)| !has(*number) && !wider.is_some_and(has))
            .map(|(name, ..)| *name)
            .collect();
        let (severity, text) = if missing.is_empty() {
            (Severity::Good, "all that are needed".to_owned())
        } else {
            (Severity::Fault, format!("missing {}: run as root", missing.join(", ")))
        };
        Finding { subject: "capabilities", severity, text }
    }

    fn judge_nft(&self) -> Finding {
        let (severity, text) = match &self.nft {
            Ok(version) => (Severity::Good, version.clone()),
            Err(error) => (Severity::Fault, error.clone()),
        };
        Finding { subject: "nftables", severity, text }
    }

    fn judge_rules(&self) -> Finding {
        let (severity, text) = match &self.rules {
            Ok(()) => (Severity::Good, "available".to_owned()),
            Err(error) => {
                (Severity::Fault, format!("{error}: the kernel needs CONFIG_IP_MULTIPLE_TABLES"))
            }
        };
        Finding { subject: "routing rules", severity, text }
    }

    fn judge_bpffs(&self) -> Finding {
        let (severity, text) = match &self.bpffs {
            Some(path) => (Severity::Good, format!("mounted at {}", path.display())),
            None => (Severity::Note, "not mounted: fqdnd mounts it at /sys/fs/bpf".to_owned()),
        };
        Finding { subject: "bpffs", severity, text }
    }

    fn judge_cgroup(&self) -> Finding {
        let (severity, text) = match &self.cgroup2 {
            Some(path) => (Severity::Good, format!("version 2 at {}", path.display())),
            None => {
                (Severity::Note, "version 2 is not mounted: pods are not told by cgroup".to_owned())
            }
        };
        Finding { subject: "cgroup", severity, text }
    }

    fn judge_ipv6(&self) -> Finding {
        let (severity, text) = if self.ipv6 {
            (Severity::Good, "enabled")
        } else {
            (Severity::Note, "disabled: DNS over IPv6 is not redirected, and dropped")
        };
        Finding { subject: "IPv6", severity, text: text.to_owned() }
    }

    fn judge_forwarding(&self) -> Finding {
        let (severity, text) = match (self.forwarding_v4, self.forwarding_v6 || !self.ipv6) {
            (true, true) => (Severity::Good, "on"),
            (true, false) => (
                Severity::Note,
                "off for IPv6 (net.ipv6.conf.all.forwarding): routed pods reach nothing by it",
            ),
            (false, true) => (
                Severity::Note,
                "off for IPv4 (net.ipv4.ip_forward): routed pods reach nothing by it",
            ),
            (false, false) => (Severity::Note, "off: routed pods reach nothing but the node"),
        };
        Finding { subject: "forwarding", severity, text: text.to_owned() }
    }

    fn judge_bridges(&self) -> Finding {
        let (severity, text) = match self.bridge_netfilter {
            None => (
                Severity::Note,
                "br_netfilter is not loaded: pods on one bridge reach each other past kube-proxy",
            ),
            Some(true) => (Severity::Good, "bridged packets go through iptables"),
            Some(false) => (
                Severity::Note,
                "bridged packets do not go through iptables (net.bridge.bridge-nf-call-iptables): \
                 answers of a service on the pod's own bridge come from another address",
            ),
        };
        Finding { subject: "bridges", severity, text: text.to_owned() }
    }
}

fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

fn is_one(sysctl: &str) -> Option<bool> {
    let text = std::fs::read_to_string(Path::new("/proc/sys").join(sysctl)).ok()?;
    Some(text.trim() == "1")
}

fn effective_capabilities(status: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    line.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or(0)
}

fn mounted(mounts: &str, kind: &str) -> Option<PathBuf> {
    mounts.lines().find_map(|line| {
        let mut fields = line.split(' ').skip(1);
        let path = fields.next()?;
        (fields.next()? == kind).then(|| PathBuf::from(path))
    })
}

fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests;
