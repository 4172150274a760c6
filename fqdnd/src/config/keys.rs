//! Every key of the configuration, as file and flag. The comments are the manual: `--help` prints
//! them, and the file's reference is written from them.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use clap::Args;
use serde::Deserialize;

use super::Span;
use super::values::{
    AttachChoice, LimitChoice, LogFormat, PrefixKey, RefusalChoice, ScopeChoice, ServerKey,
    TeacherChoice, UpstreamChoice, parse_number,
};

/// Makes two types of each section: the keys as file and flags give them, and the values in force.
macro_rules! section {
    ($(#[$doc:meta])* $keys:ident => $values:ident, $prefix:literal, $heading:literal {
        $($(#[$field_doc:meta])* [$($arg:tt)*] $field:ident: $type:ty = $default:expr;)*
    }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Default, Args, Deserialize)]
        #[serde(rename_all = "camelCase", deny_unknown_fields, default)]
        #[command(next_help_heading = $heading)]
        pub struct $keys {
            $(
                $(#[$field_doc])*
                #[arg(id = concat!($prefix, stringify!($field)), $($arg)*)]
                pub $field: Option<$type>,
            )*
        }

        $(#[$doc])*
        #[derive(Clone, Debug)]
        pub struct $values {
            $($(#[$field_doc])* pub $field: $type,)*
        }

        impl $values {
            /// A flag beats the file, the file beats the default.
            pub(super) fn new(flags: $keys, file: $keys) -> Self {
                Self { $($field: flags.$field.or(file.$field).unwrap_or_else(|| $default),)* }
            }
        }
    };
}

section! {
    /// The datapath.
    BpfKeys => Bpf, "bpf-", "Datapath" {
        /// Directory in a BPF file system where maps and links are pinned. Default:
        /// /sys/fs/bpf/fqdnd.
        [long = "bpf-pin-directory", value_name = "DIR"]
        pin_directory: PathBuf = "/sys/fs/bpf/fqdnd".into();
        /// How programs are attached to interfaces. Default: auto.
        [long = "bpf-attach", value_enum, value_name = "MODE"]
        attach: AttachChoice = AttachChoice::Auto;
        /// Prefixes the node's trie may hold: pods, nodes, services and CIDR rules. Default:
        /// 262144.
        [long = "bpf-prefixes", value_name = "N"]
        prefixes: u32 = 262_144;
        /// Rows that all verdict tables together may hold. Default: 262144.
        [long = "bpf-rows", value_name = "N"]
        rows: u32 = 262_144;
        /// Resolved addresses that all endpoints together may hold. Default: 262144.
        [long = "bpf-leases", value_name = "N"]
        leases: u32 = 262_144;
        /// Names that all endpoints together may hold in the kernel. Default: 131072.
        [long = "bpf-names", value_name = "N"]
        names: u32 = 131_072;
        /// Flows an endpoint may have in each direction, about 128 bytes of kernel memory each.
        /// Default: 8192.
        [long = "bpf-flows-per-endpoint", value_name = "N"]
        flows_per_endpoint: u32 = 8192;
    }
}

section! {
    /// How packets are brought to the DNS proxy.
    RedirectKeys => Redirect, "redirect-", "Redirects" {
        /// Two bits of the packet mark that are ours, clear of kube-proxy's (0xc000) and the CNI's:
        /// the higher marks packets to the proxy, the lower its answers. Default: 0x3000.
        [long = "redirect-mark-mask", value_name = "MARK", value_parser = parse_number]
        mark_mask: u32 = 0x3000;
        /// The routing table that delivers marked packets to the node itself. Default: 2005.
        [long = "redirect-route-table", value_name = "N"]
        route_table: u32 = 2005;
        /// The priority of the routing rule that leads there; before the main table's. Default:
        /// 90.
        [long = "redirect-rule-priority", value_name = "N"]
        rule_priority: u32 = 90;
    }
}

section! {
    /// The DNS proxy.
    DnsKeys => Dns, "dns-", "DNS proxy" {
        /// Worker threads, each with sockets of its own. Default: one for each core.
        [long = "dns-workers", value_name = "N"]
        workers: usize = std::thread::available_parallelism().map_or(1, usize::from);
        /// The shortest time an address is leased for, whatever its record says. Default: 5s.
        [long = "dns-min-ttl", value_name = "TIME"]
        min_ttl: Span = Span::seconds(5);
        /// The longest; a longer TTL is lowered in the answer too. Default: 1h.
        [long = "dns-max-ttl", value_name = "TIME"]
        max_ttl: Span = Span::seconds(3600);
        /// How long past its TTL an address may still be connected to. Default: 10s.
        [long = "dns-grace", value_name = "TIME"]
        grace: Span = Span::seconds(10);
        /// How long a server has to answer before the client gets SERVFAIL. Default: 4s.
        [long = "dns-upstream-timeout", value_name = "TIME"]
        upstream_timeout: Span = Span::seconds(4);
        /// What a name that no rule allows is answered with. Default: refused.
        [long = "dns-refusal", value_enum, value_name = "RCODE"]
        refusal: RefusalChoice = RefusalChoice::Refused;
        /// Queries that may wait for servers at once, on each worker. Default: 16384.
        [long = "dns-in-flight", value_name = "N"]
        in_flight: usize = 16_384;
        /// Queries of one endpoint that may wait at once. Default: 2048.
        [long = "dns-in-flight-per-endpoint", value_name = "N"]
        in_flight_per_endpoint: usize = 2048;
        /// TCP connections in all. Default: 1024.
        [long = "dns-tcp-connections", value_name = "N"]
        tcp_connections: usize = 1024;
        /// TCP connections of one endpoint. Default: 64.
        [long = "dns-tcp-connections-per-endpoint", value_name = "N"]
        tcp_connections_per_endpoint: usize = 64;
        /// How long a TCP connection may be idle. Default: 10s.
        [long = "dns-tcp-idle", value_name = "TIME"]
        tcp_idle: Span = Span::seconds(10);
    }
}

section! {
    /// The L7 proxy, which judges what is said in HTTP, TLS and Kafka.
    L7Keys => L7, "l7-", "L7 proxy" {
        /// Whether it runs. Without it, rules for HTTP, TLS and Kafka open nothing, and say so.
        /// Default: true.
        [long = "l7-enabled", value_name = "BOOL"]
        enabled: bool = true;
        /// Its program. Default: `fqdnd-l7` beside fqdnd; where there is none, it does not run.
        [long = "l7-program", value_name = "FILE"]
        program: PathBuf = PathBuf::new();
        /// The user that it becomes, by number. Default: 65534.
        [long = "l7-user", value_name = "UID"]
        user: u32 = 65_534;
        /// Threads that serve connections. Default: the number of CPUs, up to 4.
        [long = "l7-threads", value_name = "N"]
        threads: usize = std::thread::available_parallelism().map_or(1, |n| n.get().min(4));
        /// Whose address destinations see: that of the `node`, or of the `pod`. Default: node.
        [long = "l7-upstream-address", value_enum, value_name = "WHOSE"]
        upstream_address: UpstreamChoice = UpstreamChoice::Node;
        /// Namespaces whose Secrets the policies of all namespaces may name; others may be named
        /// in their own namespace only. Default: cilium-secrets.
        [long = "l7-secret-namespaces", value_name = "NAMESPACE", value_delimiter = ',']
        secret_namespaces: Vec<String> = vec!["cilium-secrets".into()];
        /// Connections in all. Default: 16384.
        [long = "l7-connections", value_name = "N"]
        connections: usize = 16_384;
        /// Connections of one endpoint. Default: 1024.
        [long = "l7-connections-per-endpoint", value_name = "N"]
        connections_per_endpoint: usize = 1024;
        /// Requests of one endpoint that may be in flight. Default: 4096.
        [long = "l7-requests-per-endpoint", value_name = "N"]
        requests_per_endpoint: usize = 4096;
        /// Requests that one HTTP/2 connection may have in flight. Default: 100.
        [long = "l7-streams", value_name = "N"]
        streams: u32 = 100;
        /// Bytes of a request's head. Default: 32768.
        [long = "l7-head-bytes", value_name = "BYTES"]
        head_bytes: usize = 32_768;
        /// Header fields of a request. Default: 100.
        [long = "l7-head-fields", value_name = "N"]
        head_fields: usize = 100;
        /// How long a client may take to begin, TLS handshakes included. Default: 10s.
        [long = "l7-opening-time", value_name = "TIME"]
        opening_time: Span = Span::seconds(10);
        /// How long a client may take over a request's head, and between two parts of its body.
        /// Default: 30s.
        [long = "l7-request-time", value_name = "TIME"]
        request_time: Span = Span::seconds(30);
        /// How long a connection may be idle. Default: 1h.
        [long = "l7-idle-time", value_name = "TIME"]
        idle_time: Span = Span::seconds(3600);
        /// How long connecting to a destination may take. Default: 10s.
        [long = "l7-connect-time", value_name = "TIME"]
        connect_time: Span = Span::seconds(10);
    }
}

section! {
    /// What is kept of answers.
    CacheKeys => Cache, "cache-", "Names and addresses" {
        /// Names of one endpoint. Default: 16384.
        [long = "cache-names", value_name = "N"]
        names: usize = 16_384;
        /// Addresses of one endpoint. Default: 32768.
        [long = "cache-addresses", value_name = "N"]
        addresses: usize = 32_768;
        /// Addresses of one name of one endpoint. Default: 1000.
        [long = "cache-addresses-per-name", value_name = "N"]
        addresses_per_name: usize = 1000;
        /// Expired addresses of one name that living connections keep. Default: 1000.
        [long = "cache-kept-per-name", value_name = "N"]
        kept_per_name: usize = 1000;
        /// How often an expired address is looked at for living connections. Default: 30s.
        [long = "cache-recheck", value_name = "TIME"]
        recheck: Span = Span::seconds(30);
        /// Different sets of matching toFQDNs selectors that one verdict table may have. Default:
        /// 4096.
        [long = "cache-name-sets", value_name = "N"]
        name_sets: usize = 4096;
    }
}

section! {
    /// A cluster's API server as the source, in the place of manifests.
    KubernetesKeys => Kubernetes, "kubernetes-", "Kubernetes" {
        /// Whether this is a pod of the cluster whose API server is watched. Default: false.
        [long = "in-cluster", value_name = "BOOL", num_args = 0..=1, default_missing_value = "true"]
        in_cluster: bool = false;
        /// A kubeconfig that names the API server to watch. Default: none.
        [long = "kubeconfig", value_name = "FILE"]
        kubeconfig: PathBuf = PathBuf::new();
        /// The name of this node in the cluster. Default: the variable NODE_NAME, or else the
        /// host's name.
        [long = "kubernetes-node", value_name = "NAME"]
        node: String = node_name();
        /// Which interface is whose: `cgroups`, the path of a container runtime's socket, or
        /// `auto`, the socket of containerd or CRI-O that is there. Default: auto.
        [long = "kubernetes-runtime", value_name = "SOURCE"]
        runtime: String = "auto".into();
        /// Names of interfaces that lead into pods, such as `veth*`: closed from the moment they
        /// appear until their pod is known. Default: none.
        [long = "kubernetes-interfaces", value_name = "PATTERN", value_delimiter = ',']
        interfaces: Vec<String> = Vec::new();
        /// Whether what became of each policy is written to its status, by one node for all.
        /// Default: true.
        [long = "kubernetes-reports", value_name = "BOOL"]
        reports: bool = true;
        /// The namespace in which the nodes agree on which of them that is. Default: the variable
        /// POD_NAMESPACE, or else kube-system.
        [long = "kubernetes-namespace", value_name = "NAME"]
        namespace: String = std::env::var("POD_NAMESPACE").unwrap_or_else(|_| "kube-system".into());
        /// The nodes of a cluster that start together begin to read within this time. Default: 1s.
        [long = "kubernetes-spread", value_name = "TIME"]
        spread: Span = Span::seconds(1);
    }
}

section! {
    /// The cluster around.
    ClusterKeys => Cluster, "cluster-", "Cluster" {
        /// The cluster's DNS service, as NAMESPACE/NAME. Default: kube-system/kube-dns.
        [long = "cluster-dns-service", value_name = "SERVICE"]
        dns_service: String = "kube-system/kube-dns".into();
        /// The domain of in-cluster names. Default: cluster.local.
        [long = "cluster-domain", value_name = "DOMAIN"]
        domain: String = "cluster.local".into();
        /// Further domains whose names may have private addresses.
        [long = "cluster-internal-domains", value_name = "DOMAIN", value_delimiter = ',']
        internal_domains: Vec<String> = Vec::new();
        /// Ranges of pod addresses: outside names do not lead there.
        [long = "cluster-pod-prefixes", value_name = "PREFIX", value_delimiter = ',']
        pod_prefixes: Vec<PrefixKey> = Vec::new();
        /// Ranges of service addresses: an unknown address in them is denied.
        [long = "cluster-service-prefixes", value_name = "PREFIX", value_delimiter = ',']
        service_prefixes: Vec<PrefixKey> = Vec::new();
        /// Addresses of API servers (the entity kube-apiserver), beside those behind the service
        /// default/kubernetes.
        [long = "cluster-api-servers", value_name = "ADDRESS", value_delimiter = ',']
        api_servers: Vec<IpAddr> = Vec::new();
        /// Where a toEndpoints selector without a namespace looks for pods. Default:
        /// policy-namespace.
        [long = "cluster-selector-scope", value_enum, value_name = "SCOPE"]
        selector_scope: ScopeChoice = ScopeChoice::PolicyNamespace;
        /// Private prefixes that outside names may resolve to.
        [long = "cluster-rebind-allow", value_name = "PREFIX", value_delimiter = ',']
        rebind_allow: Vec<PrefixKey> = Vec::new();
    }
}

section! {
    /// From whom addresses are learned.
    LearningKeys => Learning, "learning-", "Learning" {
        /// Whose answers open addresses: those of `any` server that a rule lets be asked, those of
        /// `trusted` ones (the cluster's own DNS, and `resolvers`), or `auto`, the latter where
        /// the cluster's DNS is known. Other answers reach the pod and open nothing. Default: auto.
        [long = "learning-from", value_enum, value_name = "SERVERS"]
        from: TeacherChoice = TeacherChoice::Auto;
        /// Addresses or prefixes of servers to trust beside the cluster's own, such as a node's
        /// cache. Default: none.
        [long = "learning-resolvers", value_name = "SERVER", value_delimiter = ',']
        resolvers: Vec<ServerKey> = Vec::new();
    }
}

section! {
    /// What one endpoint may ask for under patterns. Names that a rule spells out are not counted.
    QueryLimitKeys => QueryLimits, "queryLimits-", "Query limits" {
        /// Queries a second, in the long run; 0 for any number. Default: 0.
        [long = "query-limits-rate", value_name = "N"]
        rate: u32 = 0;
        /// Queries at once; 0 for twice the rate. Default: 0.
        [long = "query-limits-burst", value_name = "N"]
        burst: u32 = 0;
        /// Bytes of the longest label, up to 63; 0 for any length. Default: 0.
        [long = "query-limits-label-length", value_name = "BYTES"]
        label_length: u8 = 0;
        /// Different names in a window, up to 65536; 0 for any number. Default: 0.
        [long = "query-limits-distinct-names", value_name = "N"]
        distinct_names: u32 = 0;
        /// The window's length. Default: 1m.
        [long = "query-limits-window", value_name = "TIME"]
        window: Span = Span::seconds(60);
        /// What becomes of queries over a limit: refused by `enforce`; by `audit` only counted and
        /// logged. Default: enforce.
        [long = "query-limits-mode", value_enum, value_name = "MODE"]
        mode: LimitChoice = LimitChoice::Enforce;
    }
}

section! {
    /// When a flow counts as over.
    TimeoutKeys => Timeouts, "timeout-", "Flow timeouts" {
        /// An established TCP connection without packets. Default: 8000s.
        [long = "timeout-tcp-established", value_name = "TIME"]
        tcp_established: Span = Span::seconds(8000);
        /// A TCP connection that opens or closes. Default: 60s.
        [long = "timeout-tcp-transient", value_name = "TIME"]
        tcp_transient: Span = Span::seconds(60);
        /// UDP, ICMP and everything else. Default: 60s.
        [long = "timeout-udp", value_name = "TIME"]
        udp: Span = Span::seconds(60);
    }
}

section! {
    /// What is recorded of flows.
    FlowKeys => Recording, "flows-", "Flows" {
        /// Whether flows' first packets, drops and questions of DNS are recorded. Default: true.
        [long = "flows-enabled", value_name = "BOOL"]
        enabled: bool = true;
        /// How many of the newest are kept: one less than a power of two, so the next such number
        /// up to 65535. Default: 4095.
        [long = "flows-capacity", value_name = "N"]
        capacity: usize = 4095;
        /// Drops of one endpoint that are recorded in a second, in the long run; at once, twice as
        /// many. What is more is counted. Default: 100.
        [long = "flows-drops-per-second", value_name = "N"]
        drops_per_second: u32 = 100;
        /// First packets of one endpoint likewise. Default: 500.
        [long = "flows-first-packets-per-second", value_name = "N"]
        first_packets_per_second: u32 = 500;
        /// Questions of DNS of one endpoint likewise. Default: 1000.
        [long = "flows-queries-per-second", value_name = "N"]
        queries_per_second: u32 = 1000;
        /// Requests of one endpoint through the L7 proxy likewise. Default: 1000.
        [long = "flows-requests-per-second", value_name = "N"]
        requests_per_second: u32 = 1000;
    }
}

section! {
    /// The Hubble API, which serves flows.
    HubbleKeys => Hubble, "hubble-", "Hubble API" {
        /// The API's unix socket, open to root and its group. Default: /run/fqdnd/hubble.sock.
        [long = "hubble-socket", value_name = "PATH"]
        socket: PathBuf = "/run/fqdnd/hubble.sock".into();
        /// Addresses with ports to listen at as well; without a certificate, of the loopback only,
        /// where every local user may ask. Default: none.
        [long = "hubble-listen", value_name = "ADDRESS", value_delimiter = ',']
        listen: Vec<SocketAddr> = Vec::new();
        /// The certificate to show to clients that come by TCP, in PEM. It is read again when it
        /// changes, and so are the two below. Default: none.
        [long = "hubble-tls-certificate", value_name = "FILE"]
        tls_certificate: PathBuf = PathBuf::new();
        /// The certificate's key. Default: none.
        [long = "hubble-tls-key", value_name = "FILE"]
        tls_key: PathBuf = PathBuf::new();
        /// The authority that has to have signed the clients' certificates. Default: none.
        [long = "hubble-tls-client-ca", value_name = "FILE"]
        tls_client_ca: PathBuf = PathBuf::new();
    }
}

section! {
    /// Metrics for Prometheus.
    MetricsKeys => Metrics, "metrics-", "Metrics" {
        /// Addresses with ports to serve them at, as `/metrics` over HTTP, such as 127.0.0.1:9965.
        /// They tell of no names, addresses or pods; whoever reaches them may read. Default: none.
        [long = "metrics-listen", value_name = "ADDRESS", value_delimiter = ',']
        listen: Vec<SocketAddr> = Vec::new();
    }
}

section! {
    /// The page.
    PageKeys => Page, "page-", "Page" {
        /// Addresses of the loopback with ports to serve it at, such as 127.0.0.1:9966, where every
        /// local user may look at what pods do. Default: none.
        [long = "page-listen", value_name = "ADDRESS", value_delimiter = ',']
        listen: Vec<SocketAddr> = Vec::new();
    }
}

section! {
    /// Logs.
    LogKeys => Logs, "log-", "Logs" {
        /// What is logged, as the RUST_LOG syntax has it. Names and addresses of traffic appear
        /// at debug. Default: info.
        [long = "log-level", value_name = "FILTER"]
        level: String = "info".into();
        /// How logs are written. Default: text.
        [long = "log-format", value_enum, value_name = "FORMAT"]
        format: LogFormat = LogFormat::Text;
    }
}

fn node_name() -> String {
    std::env::var("NODE_NAME").unwrap_or_else(|_| {
        nix::unistd::gethostname()
            .map_or_else(|_| String::new(), |name| name.to_string_lossy().to_lowercase())
    })
}

/// All keys; each one that is not set is `None`.
#[derive(Clone, Debug, Default, Args, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Keys {
    /// Directories of Kubernetes manifests, read whole and watched. May be given several times.
    #[arg(long, value_name = "DIR")]
    pub manifests: Option<Vec<PathBuf>>,
    /// The admin socket, open to root alone. Default: /run/fqdnd/fqdnd.sock.
    #[arg(long, value_name = "PATH")]
    pub socket: Option<PathBuf>,
    /// Directory for the last good version of each manifest, which is in force again after a
    /// restart while the file is broken. Default: /var/lib/fqdnd.
    #[arg(long, value_name = "DIR")]
    pub state_directory: Option<PathBuf>,
    /// Whether to stand by while another fqdnd enforces here, and take over as soon as it has
    /// ended; else that is an error. Default: false.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    pub wait: Option<bool>,
    /// Whether every policy is audited: what policies would drop passes, and flows tell of it as
    /// AUDIT. So nothing is enforced. Default: false.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    pub audit: Option<bool>,
    #[allow(missing_docs, reason = "clap would take it for the text of the whole command")]
    #[command(flatten)]
    pub kubernetes: KubernetesKeys,
    #[allow(missing_docs, reason = "clap would take it for the text of the whole command")]
    #[command(flatten)]
    pub bpf: BpfKeys,
    #[allow(missing_docs, reason = "clap would take it for the text of the whole command")]
    #[command(flatten)]
    pub redirect: RedirectKeys,
    #[allow(missing_docs, reason = "clap would take it for the text of the whole command")]
    #[command(flatten)]
    pub dns: DnsKeys,
    #[allow(missing_docs, reason = "clap would take it for the text of the whole command")]
    #[command(flatten)]
    pub l7: L7Keys,
    #[allow(missing_docs, reason = "clap would take it for the text of the whole command")]
    #[command(flatten)]
    pub cache: CacheKeys,
    #[allow(missing_docs, reason = "clap would take it for the text of the whole command")]
    #[command(flatten)]
    pub cluster: ClusterKeys,
    #[allow(missing_docs, reason = "clap would take it for the text of the whole command")]
    #[command(flatten)]
    pub learning: LearningKeys,
    #[allow(missing_docs, reason = "clap would take it for the text of the whole command")]
    #[command(flatten)]
    pub query_limits: QueryLimitKeys,
    #[allow(missing_docs, reason = "clap would take it for the text of the whole command")]
    #[command(flatten)]
    pub timeouts: TimeoutKeys,
    #[allow(missing_docs, reason = "clap would take it for the text of the whole command")]
    #[command(flatten)]
    pub flows: FlowKeys,
    #[allow(missing_docs, reason = "clap would take it for the text of the whole command")]
    #[command(flatten)]
    pub hubble: HubbleKeys,
    #[allow(missing_docs, reason = "clap would take it for the text of the whole command")]
    #[command(flatten)]
    pub metrics: MetricsKeys,
    #[allow(missing_docs, reason = "clap would take it for the text of the whole command")]
    #[command(flatten)]
    pub page: PageKeys,
    #[allow(missing_docs, reason = "clap would take it for the text of the whole command")]
    #[command(flatten)]
    pub log: LogKeys,
}
