//! Where the demo plays: a lab with two of the examples in force, the daemon, and somebody who
//! types.

use std::{
    collections::{BTreeMap, BTreeSet},
    env,
    ffi::OsString,
    process::Command,
};

use anyhow::{Context, Result, ensure};
use integration::{Daemon, Lab, LabOptions};
use serde_json::Value;

use super::page::{Page, Prompt};

pub(super) const CLIENT: &str = "default/client";
pub(super) const OTHER: &str = "default/other";

const POLICIES: [(&str, &str); 2] = [
    ("one-name", include_str!("../../../examples/one-name.yaml")),
    ("wildcard", include_str!("../../../examples/wildcard.yaml")),
];

/// What outlives a daemon in the kernel. The rest counts, or belongs to the flows of the moment.
const LASTING_MAPS: [&str; 8] =
    ["sources", "prefixes", "frontends", "rows", "leases", "shared", "names", "numbers"];

/// The lab, its daemon and the page that all is shown on.
///
/// The fields' order is the order of the end: the daemon goes before the node that it runs on.
#[derive(Debug)]
pub(super) struct Stage {
    daemon: Daemon,
    lab: Lab,
    page: Page,
}

/// Every row of the kernel's lasting maps, as text.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Kernel(BTreeMap<&'static str, BTreeSet<String>>);

impl Kernel {
    pub(super) fn maps(&self) -> usize {
        self.0.len()
    }

    pub(super) fn rows(&self) -> usize {
        self.0.values().map(BTreeSet::len).sum()
    }

    /// The rows that only one of the two has.
    pub(super) fn differences(&self, other: &Kernel) -> Vec<String> {
        let of_map = |(map, rows): (&&str, &BTreeSet<String>)| {
            let differing: Vec<_> = rows.symmetric_difference(&other.0[map]).collect();
            differing.into_iter().map(|row| format!("{map}: {row}")).collect::<Vec<_>>()
        };
        self.0.iter().flat_map(of_map).collect()
    }
}

impl Stage {
    /// Makes the lab, puts the examples in force and starts the daemon; says what is there.
    pub(super) fn build(options: LabOptions, attach: &str, page: Page) -> Result<Stage> {
        page.heading(
            "A node, its pods and an outside world, in network namespaces of this machine",
        );
        let lab = Lab::new(options)?;
        for (name, text) in POLICIES {
            lab.policy(name, text)?;
        }
        let daemon = Daemon::start(&lab, &["--bpf-attach", attach])?;
        let stage = Stage { daemon, lab, page };
        page.lines(stage.cast()?);
        Ok(stage)
    }

    pub(super) fn lab(&self) -> &Lab {
        &self.lab
    }

    pub(super) fn daemon(&self) -> &Daemon {
        &self.daemon
    }

    pub(super) fn daemon_mut(&mut self) -> &mut Daemon {
        &mut self.daemon
    }

    pub(super) fn page(&self) -> Page {
        self.page
    }

    /// Types a line in the client pod and shows what comes of it, which must contain `wanted`.
    pub(super) fn client(&self, line: &str, wanted: &str) -> Result<()> {
        self.pod(CLIENT, line, wanted)
    }

    /// As [`Stage::client`], in the pod `other`.
    pub(super) fn other(&self, line: &str, wanted: &str) -> Result<()> {
        self.pod(OTHER, line, wanted)
    }

    /// As [`Stage::client`], on the node, where fqdnctl is installed.
    pub(super) fn node(&self, line: &str, wanted: &str) -> Result<()> {
        let mut shell = self.lab.node().command("sh");
        shell.env("PATH", path_with_our_programs()?).env("FQDND_SOCKET", self.daemon.socket());
        self.types(Prompt::Node, shell, line, wanted)
    }

    /// How many packets of a pod's were dropped, for each reason.
    pub(super) fn drops(&self, path: &str) -> Result<BTreeMap<String, u64>> {
        let list = self.daemon.ctl_json(&["endpoint", "list"])?;
        let is_named =
            |own: &&Value| format!("{}/{}", text(own, "namespace"), text(own, "name")) == path;
        let endpoint = list.as_array().into_iter().flatten().find(is_named);
        let endpoint = endpoint.with_context(|| format!("fqdnctl lists no endpoint {path}"))?;
        let drops = serde_json::from_value(endpoint["drops"].clone());
        drops.with_context(|| format!("the drops of {path}"))
    }

    /// The addresses that a pod has learned, with their names.
    pub(super) fn learned(&self, path: &str) -> Result<BTreeSet<String>> {
        let list = self.daemon.ctl_json(&["cache", "list", "-e", path])?;
        let entry = |own| format!("{} {}", text(own, "name"), text(own, "address"));
        Ok(list.as_array().into_iter().flatten().map(entry).collect())
    }

    /// What stands in the kernel.
    pub(super) fn kernel(&self) -> Result<Kernel> {
        let rows = |map| {
            let rows = self.daemon.ctl_json(&["map", "dump", map])?;
            let row = |own| format!("{} = {}", text(own, "key"), text(own, "value"));
            Ok((map, rows.as_array().into_iter().flatten().map(row).collect()))
        };
        LASTING_MAPS.into_iter().map(rows).collect::<Result<_>>().map(Kernel)
    }

    /// How to look around in it from another terminal.
    pub(super) fn ways_in(&self) -> Vec<String> {
        let client = self.lab.pod(CLIENT).namespace().path().display();
        let server = self.lab.dns_service()[0];
        let enter = format!("nsenter --net={client}");
        let socket = self.daemon.socket();
        let fqdnctl = env::current_exe().unwrap_or_default().with_file_name("fqdnctl");
        vec![
            format!("{enter} dig @{server} www.example.com"),
            format!("{enter} curl -m 1 http://203.0.113.10/"),
            format!("{} --socket {} status", fqdnctl.display(), socket.display()),
            String::new(),
            "The policies, whose changes are enforced within a second, are in".to_owned(),
            self.lab.manifests().directory().display().to_string(),
        ]
    }

    fn pod(&self, path: &str, line: &str, wanted: &str) -> Result<()> {
        let pod = self.lab.pod(path);
        self.types(Prompt::Pod(&pod.spec().name), pod.command("sh"), line, wanted)
    }

    fn types(
        &self,
        prompt: Prompt<'_>,
        mut shell: Command,
        line: &str,
        wanted: &str,
    ) -> Result<()> {
        self.page.command(prompt, line);
        let output = shell.args(["-c", line]).output().context("run sh")?;
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        let said = said.trim_matches('\n');
        self.page.output(said);
        ensure!(said.contains(wanted), "`{line}` should say {wanted:?}, and said {said:?}");
        Ok(())
    }

    /// Who and what is there.
    fn cast(&self) -> Result<Vec<String>> {
        let status = self.daemon.ctl_json(&["status"])?;
        let [client, other] = [CLIENT, OTHER].map(|path| self.lab.pod(path).ipv4());
        let [dns, _] = self.lab.dns_service();
        let policies = POLICIES.map(|(name, _)| format!("examples/{name}.yaml"));
        Ok(vec![
            format!("pods      client {client} and other {other}, whose DNS server is {dns}"),
            "outside   web, on 203.0.113.0/24 and 2001:db8:1::/64".to_owned(),
            format!("policies  {}", policies.join(", ")),
            format!(
                "fqdnd     ready in {:.2} s on Linux {}, attached by {}",
                self.daemon.started_in().as_secs_f64(),
                text(&status, "kernel"),
                text(&status, "attachMode")
            ),
        ])
    }
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

/// The directories where programs are looked for, ours before all others.
fn path_with_our_programs() -> Result<OsString> {
    let here = env::current_exe().context("find this program")?;
    let ours = here.parent().map(ToOwned::to_owned);
    let others = env::var_os("PATH").unwrap_or_default();
    let all = ours.into_iter().chain(env::split_paths(&others));
    env::join_paths(all).context("the directory of this program has a colon in its name")
}
