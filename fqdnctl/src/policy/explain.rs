//! `fqdnctl policy explain`: by the daemon, or by the same engine without one.

use std::net::IpAddr;
use std::path::PathBuf;

use anyhow::Context;
use api::{ExplainQuery, ResolvedName};
use clap::Args;
use engine::explain::{Known, Target, explain};
use engine::rebinding::Guard;
use model::{EndpointName, Name, Prefix, Protocol};

use crate::client::Client;
use crate::output::Output;
use crate::policy::answer;
use crate::policy::check::Scope;

/// Explain why a connection passes, or does not.
///
/// Tells the verdict (allow, deny, or redirect to a proxy), the reason, and which lines of
/// which documents decide it. For a denial, it shows rules that nearly allow the connection, and
/// the smallest change that would let it pass.
///
/// The daemon is asked, which knows what the pod has resolved, unless directories of manifests are
/// named: then they are read once, and no daemon is needed.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  fqdnctl policy explain --from prod/web --to api.example.com --port 443/TCP
  fqdnctl policy explain --manifests ./cluster --from prod/web --to prod/db --port 5432/TCP
  fqdnctl policy explain --manifests ./cluster --from prod/web --to 203.0.113.5 --port 443/TCP \\
      --resolved api.example.com=203.0.113.5 -o json
  fqdnctl policy explain --from prod/web --to service:kube-system/kube-dns --port 53/UDP \\
      --asks api.example.com

Exit codes:
  0  the connection is explained, whatever the verdict
  1  an error, such as an unknown pod
  2  wrong usage")]
pub(crate) struct Explain {
    /// A directory of manifests to read instead of asking the daemon. May be given several times.
    #[arg(long, value_name = "DIR")]
    manifests: Vec<PathBuf>,
    /// The pod that sends.
    #[arg(long, value_name = "NAMESPACE/POD", value_parser = full_name)]
    from: EndpointName,
    /// Where it sends to: NAMESPACE/POD, an address, a name, entity:NAME or
    /// service:NAMESPACE/NAME.
    #[arg(long, value_name = "TARGET")]
    to: Target,
    /// The port and protocol (TCP, UDP, SCTP), such as 443/TCP; for ICMP and ICMPv6 the type,
    /// such as 8/ICMP.
    #[arg(long, value_name = "PORT/PROTOCOL")]
    port: Port,
    /// A name with an address that the pod has resolved it to. May be given several times.
    #[arg(long, value_name = "NAME=ADDRESS", value_parser = resolved)]
    resolved: Vec<ResolvedName>,
    /// The name that is asked for, if the connection is a question of DNS.
    #[arg(long, value_name = "NAME", value_parser = name)]
    asks: Option<String>,
    #[command(flatten)]
    cluster: Cluster,
}

/// What the daemon's configuration says of the cluster.
#[derive(Debug, Args)]
#[command(next_help_heading = "With --manifests, as the daemon is configured")]
struct Cluster {
    /// The cluster's DNS service.
    #[arg(long, value_name = "NAMESPACE/NAME", value_parser = full_name,
        default_value = "kube-system/kube-dns", requires = "manifests")]
    dns_service: EndpointName,
    /// The domain of in-cluster names.
    #[arg(long, value_name = "DOMAIN", default_value = "cluster.local", requires = "manifests")]
    cluster_domain: Name,
    /// Further domains whose names may have private addresses.
    #[arg(long, value_name = "DOMAIN", value_delimiter = ',', requires = "manifests")]
    internal_domains: Vec<Name>,
    /// Ranges of pod addresses.
    #[arg(long, value_name = "PREFIX", value_delimiter = ',', requires = "manifests")]
    pod_prefixes: Vec<Prefix>,
    /// Ranges of service addresses.
    #[arg(long, value_name = "PREFIX", value_delimiter = ',', requires = "manifests")]
    service_prefixes: Vec<Prefix>,
    /// Addresses of API servers.
    #[arg(long, value_name = "ADDRESS", value_delimiter = ',', requires = "manifests")]
    api_servers: Vec<IpAddr>,
    /// Private prefixes that outside names may resolve to.
    #[arg(long, value_name = "PREFIX", value_delimiter = ',', requires = "manifests")]
    rebind_allow: Vec<Prefix>,
    /// The addresses of the pod's own node.
    #[arg(long, value_name = "ADDRESS", value_delimiter = ',', requires = "manifests")]
    host_addresses: Vec<IpAddr>,
    /// Where a toEndpoints selector without a namespace looks for pods.
    #[arg(
        long,
        value_enum,
        value_name = "SCOPE",
        default_value = "policy-namespace",
        requires = "manifests"
    )]
    selector_scope: Scope,
    /// The node has no proxy for HTTP, Kafka and TLS.
    #[arg(long, requires = "manifests")]
    without_l7: bool,
    /// The node audits every policy.
    #[arg(long, requires = "manifests")]
    audit: bool,
}

/// A port and protocol, as people write them.
#[derive(Clone, Copy, Debug)]
struct Port {
    number: u16,
    protocol: Protocol,
}

impl Explain {
    /// Whether the daemon is asked.
    pub fn needs_daemon(&self) -> bool {
        self.manifests.is_empty()
    }

    pub fn run(&self, client: &Client, output: &Output) -> anyhow::Result<()> {
        let query = ExplainQuery {
            from: self.from.clone(),
            to: self.to.to_string(),
            protocol: self.port.protocol,
            port: self.port.number,
            asks: self.asks.clone(),
            resolved: self.resolved.clone(),
        };
        let explanation: api::Explanation = if self.manifests.is_empty() {
            client.ask(api::path::EXPLAIN, &query)?
        } else {
            self.offline(&query)?
        };
        if output.is_data() {
            return Ok(output.data(&explanation)?);
        }
        Ok(answer::print(&query, &explanation, output)?)
    }

    fn offline(&self, query: &ExplainQuery) -> anyhow::Result<api::Explanation> {
        let cluster = &self.cluster;
        let options = policy::Options {
            selector_scope: cluster.selector_scope.into(),
            l7: !cluster.without_l7,
            audit: cluster.audit,
        };
        let read = kubernetes::Inventory::read(&self.manifests, options)?;
        for problem in &read.problems {
            eprintln!("Warning: not read: {problem}");
        }
        let inventory = cluster.inventory(&read);
        let (settings, guard) = (cluster.settings(), cluster.guard());
        let known = Known { inventory: &inventory, settings: &settings, guard: &guard };
        let question = query.question()?;
        let explanation = explain(known, &question).with_context(|| {
            let directories = self.manifests.iter().map(|own| own.display().to_string());
            format!("cannot explain by {}", directories.collect::<Vec<_>>().join(", "))
        })?;
        Ok(explanation.into())
    }
}

impl Cluster {
    fn inventory(&self, read: &kubernetes::Inventory) -> engine::Inventory {
        engine::Inventory {
            pods: read.pods.clone(),
            services: read.services.clone(),
            nodes: read.nodes.clone(),
            cidr_groups: read.cidr_groups.clone(),
            policies: read.policies.clone(),
            host_addresses: self.host_addresses.iter().copied().collect(),
            ..engine::Inventory::default()
        }
    }

    fn settings(&self) -> engine::Settings {
        engine::Settings {
            dns_service: self.dns_service.clone(),
            service_prefixes: self.service_prefixes.clone(),
            pod_prefixes: self.pod_prefixes.clone(),
            api_servers: self.api_servers.clone(),
            // An explanation numbers nothing.
            sets_per_table: 0,
            identities: 0,
        }
    }

    fn guard(&self) -> Guard {
        let domains = std::iter::once(&self.cluster_domain).chain(&self.internal_domains);
        let cluster = self.pod_prefixes.iter().chain(&self.service_prefixes);
        Guard {
            internal_domains: domains.cloned().collect(),
            cluster_prefixes: cluster.copied().collect(),
            allow: self.rebind_allow.clone(),
        }
    }
}

impl std::str::FromStr for Port {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (number, protocol) = text
            .split_once('/')
            .ok_or_else(|| format!("`{text}` is not of the form PORT/PROTOCOL"))?;
        let known =
            [Protocol::TCP, Protocol::UDP, Protocol::SCTP, Protocol::ICMP, Protocol::ICMPV6];
        let named = |own: &Protocol| own.to_string().eq_ignore_ascii_case(protocol);
        let protocol = known
            .into_iter()
            .find(named)
            .ok_or_else(|| format!("`{protocol}` is none of TCP, UDP, SCTP, ICMP and ICMPv6"))?;
        let number =
            number.parse().map_err(|_| format!("`{number}` is no number from 0 to 65535"))?;
        Ok(Self { number, protocol })
    }
}

pub(super) fn full_name(text: &str) -> Result<EndpointName, String> {
    match text.split_once('/') {
        Some((namespace, name))
            if !namespace.is_empty() && !name.is_empty() && !name.contains('/') =>
        {
            Ok(EndpointName { namespace: namespace.into(), name: name.into() })
        }
        Some(_) | None => Err(format!("`{text}` is not of the form NAMESPACE/NAME")),
    }
}

fn resolved(text: &str) -> Result<ResolvedName, String> {
    let (own, address) =
        text.split_once('=').ok_or_else(|| format!("`{text}` is not of the form NAME=ADDRESS"))?;
    let address = address.parse().map_err(|_| format!("`{address}` is no address"))?;
    Ok(ResolvedName { name: name(own)?, address })
}

fn name(text: &str) -> Result<String, String> {
    let parsed: Result<Name, _> = text.parse();
    parsed.map(|_| text.to_owned()).map_err(|error| format!("`{text}` is no name: {error}"))
}
