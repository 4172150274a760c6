//! Who is measured, all of them running on one node at once and idle while it is not their turn.

use std::env;
use std::fmt::Write as _;
use std::fs;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use integration::{Binding, Daemon, Lab, LabOptions, Namespace, PodSpec, wait_until};

use super::dnsperf::{Dnsperf, Report};
use super::load::{self, Outcome, Pace};
use super::names::{self, Names};
use super::responder::Responder;
use crate::process::{Process, cpu_time};

/// Where the server is, on one of the lab's outside hosts.
const SERVER_HOST: &str = "cdn";
const SERVER: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(198, 51, 100, 53), 53);
/// The pod that the daemon watches.
const WATCHED: &str = "default/client";
/// A pod that no daemon knows.
const FREE: &str = "default/free";
const FLOOR_PORT: u16 = 5301;
const DNSDIST_PORT: u16 = 5302;

/// Whom the client asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Contender {
    /// The server itself.
    Direct,
    /// The forwarder that does nothing else.
    Floor,
    /// dnsdist with the rules.
    Dnsdist,
    /// The daemon, asked for names that it mostly knows already.
    Fqdnd,
    /// Another daemon, which records no flows, asked for the same.
    FqdndUnrecorded,
    /// The daemon, asked for a new name every time.
    FqdndFresh,
}

impl Contender {
    pub const ALL: [Self; 6] = [
        Self::Direct,
        Self::Floor,
        Self::Dnsdist,
        Self::Fqdnd,
        Self::FqdndUnrecorded,
        Self::FqdndFresh,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Floor => "floor",
            Self::Dnsdist => "dnsdist",
            Self::Fqdnd => "fqdnd",
            Self::FqdndUnrecorded => "fqdnd-unrecorded",
            Self::FqdndFresh => "fqdnd-fresh",
        }
    }

    /// What it is asked for.
    pub const fn names(self) -> Names {
        match self {
            Self::Direct | Self::Floor | Self::Dnsdist | Self::Fqdnd | Self::FqdndUnrecorded => {
                Names::Working
            }
            Self::FqdndFresh => Names::Fresh,
        }
    }
}

/// The lab with everything running in it.
pub struct Stage {
    floor: Process,
    dnsdist: Process,
    recorded: Watched,
    unrecorded: Watched,
    dnsperf: Dnsperf,
}

/// A daemon and the node that it watches.
pub struct Watched {
    daemon: Daemon,
    _responder: Responder,
    lab: Lab,
}

/// A load, and what it cost the proxy.
pub struct Load {
    pub outcome: Outcome,
    pub cpu: Duration,
}

impl Stage {
    /// Starts everything; `window` queries of dnsperf will be open at a time.
    pub fn new(workers: u32, window: usize) -> Result<Self> {
        let workers = workers.to_string();
        let recorded = Watched::new(&["--dns-workers", &workers])?;
        let unrecorded = Watched::new(&["--dns-workers", &workers, "--flows-enabled", "false"])?;
        let floor = Process::start(floor(&recorded.lab)?)?;
        let dnsdist = Process::start(dnsdist(&recorded.lab)?)?;
        let dnsperf = Dnsperf::new(recorded.lab.directory(), window)?;
        let stage = Self { floor, dnsdist, recorded, unrecorded, dnsperf };
        for contender in Contender::ALL {
            let answers =
                || stage.load(contender, Pace::Rate(100), Duration::from_millis(20)).is_ok();
            wait_until(contender.name(), Duration::from_secs(10), answers)
                .map_err(|_| anyhow!("{} does not answer", contender.name()))?;
        }
        Ok(stage)
    }

    /// Puts a load on a contender.
    pub fn load(&self, contender: Contender, pace: Pace, time: Duration) -> Result<Load> {
        let (client, server) = self.ends(contender);
        let process = self.process(contender);
        let before = process.map_or(Ok(Duration::ZERO), cpu_time)?;
        let outcome = client.run(|| load::ask(server, contender.names(), pace, time))?;
        let outcome = outcome.with_context(|| contender.name())?;
        let cpu = process.map_or(Ok(Duration::ZERO), cpu_time)?.saturating_sub(before);
        Ok(Load { outcome, cpu })
    }

    /// Has dnsperf ask a contender, for the names that all are asked for.
    pub fn dnsperf(&self, contender: Contender, time: Duration) -> Result<Report> {
        let (client, server) = self.ends(contender);
        self.dnsperf.ask(client, server, time).with_context(|| contender.name())
    }

    /// Where the client is, and whom it asks.
    fn ends(&self, contender: Contender) -> (&Namespace, SocketAddrV4) {
        let lab = match contender {
            Contender::FqdndUnrecorded => &self.unrecorded.lab,
            Contender::Direct
            | Contender::Floor
            | Contender::Dnsdist
            | Contender::Fqdnd
            | Contender::FqdndFresh => &self.recorded.lab,
        };
        let at = |port| SocketAddrV4::new(lab.node_addresses().0, port);
        let (pod, server) = match contender {
            Contender::Direct => (FREE, SERVER),
            Contender::Floor => (FREE, at(FLOOR_PORT)),
            Contender::Dnsdist => (FREE, at(DNSDIST_PORT)),
            Contender::Fqdnd | Contender::FqdndUnrecorded | Contender::FqdndFresh => {
                (WATCHED, SERVER)
            }
        };
        (lab.pod(pod).namespace(), server)
    }

    fn process(&self, contender: Contender) -> Option<u32> {
        match contender {
            Contender::Direct => None,
            Contender::Floor => Some(self.floor.pid()),
            Contender::Dnsdist => Some(self.dnsdist.pid()),
            Contender::Fqdnd | Contender::FqdndFresh => self.recorded.daemon.pid(),
            Contender::FqdndUnrecorded => self.unrecorded.daemon.pid(),
        }
    }
}

impl Watched {
    /// Starts a daemon with the rules on a node of its own.
    pub fn new<S: AsRef<str>>(flags: &[S]) -> Result<Self> {
        let options = LabOptions::default().pod(PodSpec::new(FREE).bound_by(Binding::None));
        let lab = Lab::new(options)?;
        lab.policy("bench", &names::policy("client", &SERVER.ip().to_string()))?;
        let responder = Responder::start(lab.outside(SERVER_HOST).namespace(), SERVER)?;
        let flags: Vec<&str> = flags.iter().map(AsRef::as_ref).collect();
        let daemon = Daemon::start(&lab, &flags)?;
        Ok(Self { daemon, _responder: responder, lab })
    }

    /// Starts the daemon again with other flags.
    pub fn restart_with<S: AsRef<str>>(&mut self, flags: &[S]) -> Result<()> {
        let flags: Vec<&str> = flags.iter().map(AsRef::as_ref).collect();
        Ok(self.daemon.restart_with(&flags)?)
    }

    /// Puts a load on the daemon.
    pub fn load(&self, names: Names, pace: Pace, time: Duration) -> Result<Load> {
        let pid = self.daemon.pid().context("the daemon has ended")?;
        let before = cpu_time(pid)?;
        let pod = self.lab.pod(WATCHED).namespace();
        let outcome = pod.run(|| load::ask(SERVER, names, pace, time))??;
        Ok(Load { outcome, cpu: cpu_time(pid)?.saturating_sub(before) })
    }

    /// The daemon's CPU time for each query of a load, in µs.
    pub fn cpu_us(&self, names: Names, pace: Pace, time: Duration) -> Result<f64> {
        let Load { outcome, cpu } = self.load(names, pace, time)?;
        Ok(cpu.as_secs_f64() * 1e6 / outcome.answered as f64)
    }
}

/// This program again, as the bare forwarder.
fn floor(lab: &Lab) -> Result<Command> {
    let mut command = lab.node().command(env::current_exe().context("find this program")?);
    let listen = SocketAddrV4::new(lab.node_addresses().0, FLOOR_PORT);
    command.arg("forward").arg(listen.to_string()).arg(SERVER.to_string());
    Ok(command)
}

/// dnsdist with the rules as its manual advises: a set of names and a tree of zones, not one rule
/// behind the other.
fn dnsdist(lab: &Lab) -> Result<Command> {
    let mut text = format!(
        "setLocal('{}:{DNSDIST_PORT}')\nsetACL('0.0.0.0/0')\nsetSecurityPollSuffix('')\n\
         newServer({{address='{SERVER}'}})\n\
         exact = newDNSNameSet()\nzones = newSuffixMatchNode()\n",
        lab.node_addresses().0
    );
    for number in 0..names::EXACT {
        writeln!(text, "exact:add(newDNSName('{}'))", names::exact(number))?;
    }
    for number in 0..names::ZONES {
        writeln!(text, "zones:add(newDNSName('{}'))", names::zone(number))?;
    }
    text.push_str(
        "addAction(QNameSetRule(exact), AllowAction())\n\
         addAction(SuffixMatchNodeRule(zones), AllowAction())\n\
         addAction(AllRule(), RCodeAction(DNSRCode.REFUSED))\n",
    );
    let path = lab.directory().join("dnsdist.conf");
    fs::write(&path, text)?;
    let mut command = lab.node().command("dnsdist");
    command.args(["--supervised", "--disable-syslog", "--config"]);
    command.arg(path).stderr(Stdio::null());
    Ok(command)
}
