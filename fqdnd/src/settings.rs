//! From the configuration to what each part is told.

use std::hash::RandomState;
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result};
use engine::leases::Limits;
use engine::querying::{DistinctNames, QueryLimits, Rate};
use engine::rebinding::Guard;
use engine::{Learning, Teachers};
use model::{EndpointName, Name, Prefix};

use crate::config::{
    AttachChoice, Config, Learning as LearningKeys, LimitChoice, PrefixKey, Recording,
    RefusalChoice, ScopeChoice, Span, TeacherChoice, UpstreamChoice,
};
use crate::daemon::SWEEP;
use crate::l7;
use crate::metering::Metering;
use crate::names;
use crate::recording::{Bell, Budget, Exchanges, Flows, Requests};
use crate::teaching::Teaching;

/// How manifests are read.
pub fn manifests(config: &Config) -> kubernetes::Options {
    kubernetes::Options { state: Some(config.state_directory.clone()), policies: policies(config) }
}

/// How a cluster is watched, if one is.
pub fn cluster(config: &Config) -> Option<kubernetes::ClusterOptions> {
    let keys = &config.kubernetes;
    if !keys.is_watched() {
        return None;
    }
    Some(kubernetes::ClusterOptions {
        access: if keys.in_cluster {
            kubernetes::Access::InCluster
        } else {
            kubernetes::Access::Kubeconfig(keys.kubeconfig.clone())
        },
        node: keys.node.clone(),
        runtime: match keys.runtime.as_str() {
            "auto" => kubernetes::RuntimeSource::found(),
            "cgroups" => kubernetes::RuntimeSource::Cgroups("/sys/fs/cgroup".into()),
            socket => kubernetes::RuntimeSource::Cri(socket.into()),
        },
        policies: policies(config),
        spread: keys.spread.0,
        state: Some(config.state_directory.clone()),
    })
}

/// Where this node says what became of policies, if it does.
pub fn reports(config: &Config) -> Option<kubernetes::Reports> {
    let keys = &config.kubernetes;
    keys.reports
        .then(|| kubernetes::Reports { namespace: keys.namespace.clone(), node: keys.node.clone() })
}

/// How policies are read.
pub fn policies(config: &Config) -> policy::Options {
    let selector_scope = match config.cluster.selector_scope {
        ScopeChoice::PolicyNamespace => policy::SelectorScope::PolicyNamespace,
        ScopeChoice::AllNamespaces => policy::SelectorScope::AllNamespaces,
    };
    policy::Options { selector_scope, l7: l7_program(config).is_some(), audit: config.audit }
}

/// The datapath's maps and how programs are attached.
pub fn datapath(config: &Config) -> bpf::Options {
    let keys = &config.bpf;
    bpf::Options {
        pin: keys.pin_directory.clone(),
        attach: match keys.attach {
            AttachChoice::Auto => bpf::AttachMode::Auto,
            AttachChoice::Tcx => bpf::AttachMode::Tcx,
            AttachChoice::Clsact => bpf::AttachMode::Clsact,
        },
        sizes: bpf::Sizes {
            prefixes: keys.prefixes,
            rows: keys.rows,
            leases: keys.leases,
            names: keys.names,
            flows_out: keys.flows_per_endpoint,
            flows_in: keys.flows_per_endpoint,
            ..bpf::Sizes::default()
        },
    }
}

/// The rules and routes that lead to the proxy.
pub fn redirect(config: &Config) -> Result<host::redirect::Redirect> {
    let keys = &config.redirect;
    let marks = host::Marks::new(keys.mark_mask).context("redirect.markMask")?;
    let from_pods = uses_pods_addresses(config);
    let (table, priority) = (keys.route_table, keys.rule_priority);
    Ok(host::redirect::Redirect { marks, table, priority, from_pods })
}

/// The L7 proxy's program, if it is to run and is there.
fn l7_program(config: &Config) -> Option<PathBuf> {
    let keys = &config.l7;
    if !keys.enabled {
        return None;
    }
    if !keys.program.as_os_str().is_empty() {
        return Some(keys.program.clone());
    }
    l7::beside_this_program().ok().filter(|program| program.is_file())
}

fn uses_pods_addresses(config: &Config) -> bool {
    match config.l7.upstream_address {
        UpstreamChoice::Node => false,
        UpstreamChoice::Pod => l7_program(config).is_some(),
    }
}

/// The L7 proxy, if it is to run.
pub fn l7(config: &Config, marks: host::Marks) -> Option<l7::Options> {
    let keys = &config.l7;
    let from_pods = uses_pods_addresses(config);
    let millis = |span: Span| u64::try_from(span.0.as_millis()).unwrap_or(u64::MAX);
    let options = l7proxy_core::Options {
        connections: keys.connections,
        connections_per_endpoint: keys.connections_per_endpoint,
        requests_per_endpoint: keys.requests_per_endpoint,
        streams: keys.streams,
        head_bytes: keys.head_bytes,
        head_fields: keys.head_fields,
        opening_time: millis(keys.opening_time),
        request_time: millis(keys.request_time),
        idle_time: millis(keys.idle_time),
        connect_time: millis(keys.connect_time),
        ..l7proxy_core::Options::default()
    };
    let launch = l7::Launch {
        program: l7_program(config)?,
        options,
        threads: keys.threads,
        user: keys.user,
        pod_mark: from_pods.then(|| marks.upstream()),
        log: config.log.level.clone(),
    };
    let secrets = l7::Secrets::new(&keys.secret_namespaces);
    Some(l7::Options { launch, mark: marks.answer(), from_pods, secrets })
}

/// What the programs are told of marks and times, and of the proxy's ports when there is one.
pub fn kernel(
    config: &Config,
    marks: host::Marks,
    proxy: Option<&dnsproxy::Proxy>,
) -> bpf::Settings {
    let timeouts = &config.timeouts;
    let keys = &config.flows;
    bpf::Settings {
        marks: bpf::Marks {
            mask: marks.mask(),
            redirect: marks.redirect(),
            answer: marks.answer(),
        },
        tcp_idle: timeouts.tcp_established.0,
        handshake_idle: timeouts.tcp_transient.0,
        udp_idle: timeouts.udp.0,
        drop_events: events(keys, keys.drops_per_second),
        flow_events: events(keys, keys.first_packets_per_second),
        udp_ports: proxy.map_or_else(Vec::new, |proxy| proxy.udp_ports().to_vec()),
        tcp_ports: proxy.map_or_else(Vec::new, |proxy| proxy.tcp_ports().to_vec()),
        l7_ports: Vec::new(),
    }
}

/// Without a record of flows, the programs need not tell of any.
fn events(keys: &Recording, per_second: u32) -> bpf::EventBudget {
    if !keys.enabled {
        return bpf::EventBudget::OFF;
    }
    bpf::EventBudget { per_second, burst: per_second.saturating_mul(2) }
}

/// The record of flows, if there is to be one.
pub fn flows(config: &Config) -> Option<Flows> {
    let keys = &config.flows;
    let ring = flows::Ring::new(flows::Capacity::at_least(keys.capacity));
    // Beside the workers, one thread serves TCP.
    let budget = Budget::per_second(keys.queries_per_second);
    let bell = Arc::new(Bell::default());
    let exchanges = Exchanges::new(config.dns.workers + 1, budget, Arc::clone(&bell));
    let node = nix::sys::utsname::uname()
        .map_or_else(|_| String::new(), |own| own.nodename().to_string_lossy().into_owned());
    let budget = Budget::per_second(keys.requests_per_second);
    let requests = Requests::new(budget, Arc::clone(&bell));
    keys.enabled.then(|| Flows::new(ring, exchanges, requests, bell, &node))
}

/// The DNS proxy.
pub fn proxy(config: &Config, marks: host::Marks) -> dnsproxy::Options {
    let keys = &config.dns;
    dnsproxy::Options {
        answer_mark: marks.answer(),
        workers: NonZeroUsize::new(keys.workers).unwrap_or(NonZeroUsize::MIN),
        upstream_timeout: keys.upstream_timeout.0,
        max_ttl: keys.max_ttl.as_secs(),
        refusal: match keys.refusal {
            RefusalChoice::Refused => dnsproxy::Refusal::Refused,
            RefusalChoice::Nxdomain => dnsproxy::Refusal::NxDomain,
        },
        in_flight: keys.in_flight,
        in_flight_per_endpoint: keys.in_flight_per_endpoint,
        tcp: dnsproxy::TcpOptions {
            connections: keys.tcp_connections,
            connections_per_endpoint: keys.tcp_connections_per_endpoint,
            idle_time: keys.tcp_idle.0,
            ..dnsproxy::TcpOptions::default()
        },
        ..dnsproxy::Options::default()
    }
}

/// The hot half.
pub fn names(config: &Config, flows: Option<Arc<Flows>>) -> Result<names::Options> {
    let (guard, limits) = (guard(config)?, limits(config));
    let (metering, teaching) = (metering(config), teaching(&config.learning));
    Ok(names::Options { guard, limits, metering, teaching, flows })
}

/// What is limited of queries under patterns, if anything is.
fn metering(config: &Config) -> Option<Metering> {
    let keys = &config.query_limits;
    let burst = if keys.burst == 0 { keys.rate.saturating_mul(2) } else { keys.burst };
    let limits = QueryLimits {
        rate: NonZeroU32::new(keys.rate)
            .zip(NonZeroU32::new(burst))
            .map(|(per_second, burst)| Rate { per_second, burst }),
        label_length: (keys.label_length > 0).then_some(keys.label_length),
        distinct_names: (keys.distinct_names > 0)
            .then_some(DistinctNames { count: keys.distinct_names, window: keys.window.0 }),
        hasher: RandomState::new(),
    };
    let enforces = match keys.mode {
        LimitChoice::Enforce => !config.audit,
        LimitChoice::Audit => false,
    };
    limits.limit_anything().then(|| Metering::new(limits, enforces))
}

/// From whom addresses are learned.
fn teaching(keys: &LearningKeys) -> Teaching {
    let from = match keys.from {
        TeacherChoice::Auto => Teachers::Auto,
        TeacherChoice::Any => Teachers::Any,
        TeacherChoice::Trusted => Teachers::Trusted,
    };
    let resolvers = keys.resolvers.iter().map(|key| key.0).collect();
    Teaching::new(Learning { from, resolvers })
}

/// The bounds of every endpoint's names.
fn limits(config: &Config) -> Limits {
    let (dns, cache) = (&config.dns, &config.cache);
    Limits {
        min_ttl: dns.min_ttl.as_secs(),
        max_ttl: dns.max_ttl.as_secs(),
        grace: dns.grace.0,
        addresses_per_name: cache.addresses_per_name,
        kept_per_name: cache.kept_per_name,
        names: cache.names,
        addresses: cache.addresses,
        recheck: cache.recheck.0,
        ahead: 2 * SWEEP,
    }
}

/// The rebinding guard.
fn guard(config: &Config) -> Result<Guard> {
    let keys = &config.cluster;
    let mut internal_domains = Vec::new();
    for domain in std::iter::once(&keys.domain).chain(&keys.internal_domains) {
        let name: Name = domain.parse().with_context(|| format!("`{domain}` is no domain"))?;
        internal_domains.push(name);
    }
    let cluster = keys.pod_prefixes.iter().chain(&keys.service_prefixes);
    Ok(Guard {
        internal_domains,
        cluster_prefixes: prefixes(cluster),
        allow: prefixes(keys.rebind_allow.iter()),
    })
}

/// The engine's cold half.
pub fn engine(config: &Config) -> Result<engine::Settings> {
    let service = &config.cluster.dns_service;
    let (namespace, name) = service.split_once('/').with_context(|| {
        format!("cluster.dnsService: `{service}` is not of the form NAMESPACE/NAME")
    })?;
    Ok(engine::Settings {
        dns_service: EndpointName { namespace: namespace.into(), name: name.into() },
        service_prefixes: prefixes(config.cluster.service_prefixes.iter()),
        pod_prefixes: prefixes(config.cluster.pod_prefixes.iter()),
        api_servers: config.cluster.api_servers.clone(),
        sets_per_table: config.cache.name_sets,
        identities: config.bpf.prefixes.min(1 << 20),
    })
}

fn prefixes<'a>(keys: impl Iterator<Item = &'a PrefixKey>) -> Vec<Prefix> {
    keys.map(|key| key.0).collect()
}
