//! A lab with a client pod and web servers, and what clients say of them.

use std::{net::IpAddr, process::Stdio, time::Duration};

use hickory_proto::rr::RecordType;
use integration::{
    Authority, Daemon, Identity, Lab, LabOptions, Pod, Resolver, Topology, WebServer, wait_until,
};
use serde_json::Value;

pub const CLIENT: &str = "default/client";
/// The port of the web server without TLS, on the host `web`.
pub const PLAIN: u16 = 8080;
/// `www.example.com`, on the host `web`.
pub const WWW: &str = "203.0.113.10";
pub const WWW6: &str = "2001:db8:1::10";
const PATIENCE: Duration = Duration::from_secs(60);

/// A lab, its daemon and a web server at [`PLAIN`].
pub struct Ground {
    // The order of the end.
    pub daemon: Daemon,
    pub web: WebServer,
    pub lab: Lab,
    pub client: &'static str,
}

impl Ground {
    /// A lab with one policy in force.
    pub fn new(policy: &str) -> Ground {
        Ground::with(LabOptions::default(), policy, &[])
    }

    pub fn bridged(policy: &str, flags: &[&str]) -> Ground {
        Ground::with(LabOptions::with_topology(Topology::Bridged), policy, flags)
    }

    pub fn with(options: LabOptions, policy: &str, flags: &[&str]) -> Ground {
        let lab = Lab::new(options).unwrap();
        lab.policy("l7", policy).unwrap();
        let web = WebServer::start(lab.outside("web").namespace(), PLAIN, None).unwrap();
        let daemon = Daemon::start(&lab, flags).unwrap();
        Ground { daemon, web, lab, client: CLIENT }
    }

    pub fn client(&self) -> &Pod {
        self.lab.pod(self.client)
    }

    /// Puts another policy in the first one's place and waits until it is in force.
    pub fn change(&self, policy: &str) {
        self.daemon.settle("another policy", || self.lab.policy("l7", policy).unwrap());
    }

    /// The client resolves a name and gets its first address.
    pub fn resolve(&self, name: &str) -> IpAddr {
        let resolver = Resolver::new(self.lab.dns_service()[0]);
        let answer = self.client().ask(resolver, name, RecordType::A);
        *answer.addresses.first().expect("an address")
    }

    /// The status and the body that curl gets in the client pod; 0 where no answer came.
    pub fn curl(&self, arguments: &[&str]) -> (u16, String) {
        let mut curl = self.client().command("curl");
        curl.args([
            "--silent",
            "--show-error",
            "--max-time",
            "20",
            "--write-out",
            "\n%{http_code}",
        ]);
        let output = curl.args(arguments).stdin(Stdio::null()).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let (body, status) = text.rsplit_once('\n').unwrap_or(("", "0"));
        let errors = String::from_utf8_lossy(&output.stderr);
        (status.parse().unwrap_or(0), format!("{body}{errors}"))
    }

    /// What curl prints in the client pod, whatever comes of it.
    pub fn output(&self, arguments: &[&str]) -> String {
        let mut curl = self.client().command("curl");
        let output = curl.args(["--silent", "--max-time", "20"]).args(arguments).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// The status alone.
    pub fn status(&self, arguments: &[&str]) -> u16 {
        self.curl(arguments).0
    }

    /// Waits for a flow of the client's that fits.
    pub fn flow(&self, filters: &[&str], fits: impl Fn(&Value) -> bool) -> Value {
        let of = ["observe", "--from-pod", self.client, "--last", "1000"];
        let mut found = None;
        let mut all = Vec::new();
        let waited = wait_until("such a flow", PATIENCE, || {
            let text = self.daemon.ctl(&[&of[..], filters, &["-o", "json"]].concat()).unwrap();
            let read = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
            all = read.map(|entry| entry["flow"].clone()).collect();
            found = all.iter().find(|flow| fits(flow)).cloned();
            found.is_some()
        });
        waited.unwrap_or_else(|error| panic!("{error}: {all:#?}"));
        found.expect("it was waited for")
    }

    /// Waits for an L7 flow whose summary has these words.
    pub fn told(&self, words: &str) -> Value {
        self.flow(&["--type", "l7"], |flow| {
            flow["Summary"].as_str().is_some_and(|summary| summary.contains(words))
        })
    }

    /// The process of the L7 proxy, once there is one other than `before`.
    pub fn proxy(&self, before: Option<i32>) -> i32 {
        let mut found = None;
        let waited = wait_until("the L7 proxy's process", PATIENCE, || {
            let status = self.daemon.ctl_json(&["status"]).unwrap();
            let pid = status["l7"]["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok());
            found = pid.filter(|pid| Some(*pid) != before);
            found.is_some()
        });
        waited.unwrap();
        found.expect("it was waited for")
    }
}

/// A policy of the client's with these entries for DNS, and others.
pub fn policy(entries: &str) -> String {
    format!(
        r#"apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {{name: l7, namespace: default}}
spec:
  endpointSelector: {{matchLabels: {{app: client}}}}
  egress:
  - toEndpoints:
    - matchLabels: {{k8s:io.kubernetes.pod.namespace: kube-system, k8s-app: kube-dns}}
    toPorts:
    - ports: [{{port: "53", protocol: ANY}}]
      rules: {{dns: [{{matchPattern: "*"}}]}}
{entries}"#
    )
}

/// The manifest of a Secret in `default`.
pub fn secret(name: &str, annotations: &str, values: &[(&str, &str)]) -> String {
    let mut text = format!(
        "apiVersion: v1\nkind: Secret\nmetadata:\n  name: {name}\n  namespace: default\n  \
         annotations: {{{annotations}}}\ntype: Opaque\nstringData:\n"
    );
    for (key, value) in values {
        text.push_str(&format!("  {key}: |\n"));
        for line in value.lines() {
            text.push_str(&format!("    {line}\n"));
        }
    }
    text
}

/// An authority that the world trusts, and a server's certificate of it.
pub fn public(names: &[&str]) -> (Authority, Identity) {
    let authority = Authority::new("the world's authority").unwrap();
    let identity = authority.issue(names).unwrap();
    (authority, identity)
}
