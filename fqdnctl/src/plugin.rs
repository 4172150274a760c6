//! `kubectl fqdn`: fqdnctl inside the pod of the daemon that it is about.
//!
//! kubectl reaches the cluster and shows who asks; here only the pod is chosen. Commands that need
//! no daemon run on this machine, where their files are.

use std::ffi::OsStr;
use std::io::IsTerminal;
use std::process::{Command, ExitCode};

use anyhow::{Context, bail};
use clap::Parser;
use serde::Deserialize;
use serde::de::DeserializeOwned;

/// The name under which kubectl looks for it.
const NAME: &str = "kubectl-fqdn";
/// The label and the container of the daemon's pods, as the chart has them.
const LABEL: &str = "app.kubernetes.io/name=fqdnd";
const CONTAINER: &str = "fqdnd";

/// Look into the fqdnd of a node, from anywhere that kubectl works.
#[derive(Debug, Parser)]
#[command(name = "kubectl fqdn", bin_name = "kubectl fqdn", version, max_term_width = 100)]
#[command(after_long_help = "\
Commands are fqdnctl's own: `kubectl fqdn help` lists them. Those that need no daemon, such as
`policy check`, run on this machine.

Examples:
  kubectl fqdn --all-nodes health
  kubectl fqdn --node worker-1 status
  kubectl fqdn --pod prod/web observe -f --verdict drop
  kubectl fqdn --pod prod/web policy explain --from prod/web --to api.example.com --port 443/TCP

Exit codes: fqdnctl's; of several nodes' the worst.")]
struct Plugin {
    /// The node whose fqdnd is asked.
    #[arg(long, value_name = "NODE", group = "which")]
    node: Option<String>,
    /// A pod: the fqdnd of its node is asked.
    #[arg(long, value_name = "NAMESPACE/POD", group = "which")]
    pod: Option<String>,
    /// Ask every node's, one after another.
    #[arg(long, group = "which")]
    all_nodes: bool,
    #[command(flatten)]
    kubectl: Kubectl,
    /// fqdnctl's command, with its arguments.
    #[arg(
        value_name = "COMMAND",
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true
    )]
    command: Vec<String>,
}

/// How kubectl is called.
#[derive(Debug, clap::Args)]
struct Kubectl {
    /// The kubeconfig, as kubectl takes it.
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<String>,
    /// The context of the kubeconfig.
    #[arg(long, value_name = "NAME")]
    context: Option<String>,
}

/// Whether the program was called by the plugin's name.
pub(crate) fn is_called(program: Option<&OsStr>) -> bool {
    let name = program.and_then(|path| std::path::Path::new(path).file_name());
    name.is_some_and(|name| name == NAME)
}

/// Runs the command where it belongs; `here` tells whether that is this machine, and runs it then.
pub(crate) fn run(here: impl FnOnce(&[String]) -> Option<ExitCode>) -> anyhow::Result<ExitCode> {
    let plugin = Plugin::parse();
    match here(&plugin.command) {
        Some(code) => Ok(code),
        None => plugin.run(),
    }
}

impl Plugin {
    fn run(&self) -> anyhow::Result<ExitCode> {
        let daemons = self.daemons()?;
        let mut worst = 0;
        for daemon in &daemons {
            if self.all_nodes {
                eprintln!("{}:", daemon.spec.node_name);
            }
            worst = worst.max(self.exec(daemon)?);
        }
        Ok(ExitCode::from(worst))
    }

    /// The daemons to ask, one for each node.
    fn daemons(&self) -> anyhow::Result<Vec<Pod>> {
        let node = match (&self.node, &self.pod) {
            (Some(node), _) => Some(node.clone()),
            (None, Some(pod)) => Some(self.node_of(pod)?),
            (None, None) => None,
        };
        let mut path = format!("/api/v1/pods?labelSelector={}", encoded(LABEL));
        if let Some(node) = &node {
            path += &format!("&fieldSelector={}", encoded(&format!("spec.nodeName={node}")));
        }
        let listed: List = self.kubectl.read(&path)?;
        let daemons = in_charge(listed.items);
        match (daemons.as_slice(), &node) {
            ([], Some(node)) => bail!("no fqdnd runs on the node {node}"),
            ([], None) => bail!("no fqdnd runs in this cluster: no pod has the label {LABEL}"),
            ([_, _, ..], None) if !self.all_nodes => {
                bail!(
                    "fqdnd runs on {}: name one by --node or --pod, or --all-nodes",
                    names(&daemons)
                )
            }
            (_, _) => Ok(daemons),
        }
    }

    fn node_of(&self, pod: &str) -> anyhow::Result<String> {
        let Some((namespace, name)) = pod.split_once('/') else {
            bail!("`{pod}` is not of the form NAMESPACE/POD");
        };
        let (namespace, name) = (encoded(namespace), encoded(name));
        let found: Pod =
            self.kubectl.read(&format!("/api/v1/namespaces/{namespace}/pods/{name}"))?;
        if found.spec.node_name.is_empty() {
            bail!("the pod {pod} is on no node yet");
        }
        Ok(found.spec.node_name)
    }

    /// Runs the command beside a daemon, and gives its exit code.
    fn exec(&self, daemon: &Pod) -> anyhow::Result<u8> {
        let mut kubectl = self.kubectl.command();
        kubectl.args(["exec", "--namespace", &daemon.metadata.namespace, &daemon.metadata.name]);
        kubectl.args(["--container", CONTAINER]);
        if std::io::stdin().is_terminal() && std::io::stdout().is_terminal() {
            kubectl.args(["--stdin", "--tty"]);
        }
        kubectl.args(["--", "/usr/bin/fqdnctl"]).args(&self.command);
        let status = kubectl.status().context("cannot run kubectl")?;
        Ok(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1))
    }
}

impl Kubectl {
    fn command(&self) -> Command {
        let mut command = Command::new("kubectl");
        for (flag, value) in [("--kubeconfig", &self.kubeconfig), ("--context", &self.context)] {
            command.args(value.iter().flat_map(|value| [flag, value]));
        }
        command
    }

    /// Reads what stands at a path of the API server's.
    fn read<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        let output = self.command().args(["get", "--raw", path]).output();
        let output = output.context("cannot run kubectl")?;
        if !output.status.success() {
            bail!("kubectl: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        serde_json::from_slice(&output.stdout).context("cannot read kubectl's answer")
    }
}

#[derive(Debug, Deserialize)]
struct List {
    items: Vec<Pod>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Pod {
    metadata: Metadata,
    spec: Spec,
    status: Status,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Metadata {
    namespace: String,
    name: String,
    creation_timestamp: String,
    deletion_timestamp: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Spec {
    node_name: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Status {
    phase: String,
}

/// Of the daemons on a node the one that enforces: the older one, as long as it is not to end.
fn in_charge(mut pods: Vec<Pod>) -> Vec<Pod> {
    pods.retain(|pod| pod.status.phase == "Running" && pod.metadata.deletion_timestamp.is_none());
    pods.sort_by(|a, b| {
        let key = |pod: &Pod| (pod.spec.node_name.clone(), pod.metadata.creation_timestamp.clone());
        key(a).cmp(&key(b))
    });
    pods.dedup_by(|later, first| later.spec.node_name == first.spec.node_name);
    pods
}

/// The nodes' names, but not all of a thousand.
fn names(daemons: &[Pod]) -> String {
    let mut names: Vec<&str> =
        daemons.iter().take(5).map(|pod| pod.spec.node_name.as_str()).collect();
    let more = format!("{} more", daemons.len() - names.len());
    if daemons.len() > names.len() {
        names.push(&more);
    }
    names.join(", ")
}

/// A text in which everything but RFC 3986's unreserved characters is percent-encoded.
fn encoded(text: &str) -> String {
    let encode = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
            char::from(byte).to_string()
        }
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(encode).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pods(text: &str) -> Vec<Pod> {
        let pod = |line: &str| {
            let [name, node, created, state] = line.split_whitespace().collect::<Vec<_>>()[..]
            else {
                panic!("{line}")
            };
            let mut pod = Pod::default();
            pod.metadata.name = name.to_owned();
            pod.metadata.creation_timestamp = created.to_owned();
            pod.metadata.deletion_timestamp = (state == "ending").then(String::new);
            pod.spec.node_name = node.to_owned();
            pod.status.phase = if state == "pending" { "Pending" } else { "Running" }.to_owned();
            pod
        };
        text.trim().lines().map(pod).collect()
    }

    #[test]
    fn of_two_daemons_on_a_node_the_older_is_asked_until_it_is_to_end() {
        let listed = pods(
            "new-a  a 2026-01-02T00:00:00Z running
             old-a  a 2026-01-01T00:00:00Z running
             old-b  b 2026-01-01T00:00:00Z ending
             new-b  b 2026-01-02T00:00:00Z running
             only-c c 2026-01-01T00:00:00Z pending",
        );
        let chosen: Vec<String> =
            in_charge(listed).into_iter().map(|pod| pod.metadata.name).collect();
        assert_eq!(chosen, ["old-a", "new-b"]);
    }

    #[test]
    fn options_stand_before_the_command_and_its_own_behind() {
        let parsed = |args: &[&str]| Plugin::try_parse_from([&["kubectl fqdn"], args].concat());
        let plugin = parsed(&["--node", "a", "observe", "-f", "--pod", "x/y"]).unwrap();
        assert_eq!((plugin.node.as_deref(), plugin.pod.as_deref()), (Some("a"), None));
        assert_eq!(plugin.command, ["observe", "-f", "--pod", "x/y"]);
        assert!(parsed(&["--node", "a", "--pod", "x/y", "status"]).is_err());
        assert!(parsed(&["--node", "a"]).is_err());
    }

    #[test]
    fn it_is_told_by_the_name_it_is_called_by() {
        assert!(is_called(Some(OsStr::new("/usr/local/bin/kubectl-fqdn"))));
        assert!(!is_called(Some(OsStr::new("fqdnctl"))));
        assert!(!is_called(None));
    }
}
