//! The lab itself: made in one call, gone when it is dropped.
//!
//! ```text
//!  pods ── veth ── node ── uplink ── router ── outside hosts
//!                   │
//!                   └ cluster DNS pod, kube-proxy's translation
//! ```

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use crate::{
    dns_server::{DnsServer, DnsServerError, QuestionLog},
    hosts::{HostServices, HostServicesError},
    links::{self, LinkError},
    manifests::{self, Manifests, ManifestsError, PodFacts},
    namespace::{Namespace, NamespaceError},
    plan::{
        self, DNS_POD, DNS_SERVICE, LabOptions, NODE, OutsideSpec, PodSpec, Topology, pod_addresses,
    },
    service::ServiceSpec,
    sweep::{LAB_PREFIX, sweep},
    translation,
    undo::{self, Undo},
};

static LABS: AtomicU32 = AtomicU32::new(0);

/// Why a lab could not be made or changed.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// A namespace failed.
    #[error(transparent)]
    Namespace(#[from] NamespaceError),
    /// A link, address, route or rule failed.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// A DNS server failed.
    #[error(transparent)]
    DnsServer(#[from] DnsServerError),
    /// A host's services failed.
    #[error(transparent)]
    HostServices(#[from] HostServicesError),
    /// A manifest failed.
    #[error(transparent)]
    Manifests(#[from] ManifestsError),
    /// The lab's files failed.
    #[error("the lab's files: {0}")]
    Files(#[from] io::Error),
    /// There is no room for a further pod or host.
    #[error("no room for {0}: a lab holds at most 200 pods and hosts")]
    Full(String),
    /// There is no such pod.
    #[error("no pod {0} in the lab")]
    NoPod(String),
}

/// A pod of the lab.
#[derive(Debug)]
pub struct Pod {
    spec: PodSpec,
    place: u8,
    addresses: (Ipv4Addr, Ipv6Addr),
    host_interface: String,
    resolv_conf: PathBuf,
    _services: HostServices,
    namespace: Namespace,
}

impl Pod {
    /// What it was made from.
    pub fn spec(&self) -> &PodSpec {
        &self.spec
    }

    /// Its IPv4 address.
    pub fn ipv4(&self) -> Ipv4Addr {
        self.addresses.0
    }

    /// Its IPv6 address.
    pub fn ipv6(&self) -> Ipv6Addr {
        self.addresses.1
    }

    /// Both of its addresses, IPv4 first.
    pub fn addresses(&self) -> [IpAddr; 2] {
        [self.addresses.0.into(), self.addresses.1.into()]
    }

    /// The name of its veth's end on the node.
    pub fn host_interface(&self) -> &str {
        &self.host_interface
    }

    /// Its network namespace.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// A command inside the pod, with the resolver configuration that a kubelet would give it.
    pub fn command(&self, program: &str) -> Command {
        self.namespace.command_with_resolver(program, &self.resolv_conf)
    }
}

/// A host outside the node.
#[derive(Debug)]
pub struct OutsideHost {
    dns: Option<DnsServer>,
    _services: HostServices,
    namespace: Namespace,
}

impl OutsideHost {
    /// Its network namespace.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// The questions that reached its DNS server, if it is one.
    pub fn questions(&self) -> Option<&QuestionLog> {
        self.dns.as_ref().map(DnsServer::log)
    }
}

/// A node with its pods, its DNS server and the outside.
///
/// The fields' order is the order of the end: servers, then namespaces, then files.
#[derive(Debug)]
pub struct Lab {
    topology: Topology,
    setup: Duration,
    number: u32,
    places: u8,
    manifests: Manifests,
    dns: DnsServer,
    on_node: Option<HostServices>,
    pods: BTreeMap<String, Pod>,
    outside: BTreeMap<String, OutsideHost>,
    router: Namespace,
    node: Arc<Namespace>,
    directory: PathBuf,
    _directory: Undo,
}

impl Lab {
    /// Makes a lab; of what a failure leaves half made, nothing stays.
    pub fn new(options: LabOptions) -> Result<Lab, LabError> {
        let start = Instant::now();
        undo::watch_signals()?;
        sweep();
        let number = LABS.fetch_add(1, Ordering::Relaxed);
        let (directory, undo_directory) = make_directory(number)?;
        let manifests = Manifests::new(directory.join("manifests"))?;

        let node = Namespace::new(name(number, "node"))?;
        let router = Namespace::new(name(number, "router"))?;
        links::lay_uplink(&node, &router)?;
        links::lay_topology(&node, options.topology, options.br_netfilter)?;
        let mut outside = BTreeMap::new();
        for (place, spec) in (0..200).zip(&options.outside) {
            outside.insert(spec.name.clone(), make_outside(number, &router, spec, place)?);
        }

        let dns_spec = PodSpec::new(DNS_POD).label("k8s-app", "kube-dns");
        let ground =
            Ground { number, node: &node, topology: options.topology, directory: &directory };
        let dns_pod = ground.make_pod(&manifests, dns_spec, 0)?;
        let dns = DnsServer::start(&dns_pod.namespace, &dns_pod.addresses())?;
        translation::install(&node, dns_pod.addresses)?;
        manifests.write("service-kube-dns", &manifests::dns_service(dns_pod.addresses))?;

        let mut lab = Lab {
            topology: options.topology,
            setup: Duration::ZERO,
            number,
            places: 1,
            manifests,
            dns,
            on_node: None,
            pods: BTreeMap::from([(DNS_POD.to_owned(), dns_pod)]),
            outside,
            router,
            node: Arc::new(node),
            directory,
            _directory: undo_directory,
        };
        for pod in options.pods {
            lab.add_pod(pod)?;
        }
        lab.setup = start.elapsed();
        Ok(lab)
    }

    /// How long it took to make.
    pub fn setup_time(&self) -> Duration {
        self.setup
    }

    /// Its number among this process's labs.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// How its pods are connected.
    pub fn topology(&self) -> Topology {
        self.topology
    }

    /// The node.
    pub fn node(&self) -> &Arc<Namespace> {
        &self.node
    }

    /// The node's own addresses.
    pub fn node_addresses(&self) -> (Ipv4Addr, Ipv6Addr) {
        NODE
    }

    /// The router between the node and the outside.
    pub fn router(&self) -> &Namespace {
        &self.router
    }

    /// A pod by `namespace/name`.
    ///
    /// # Panics
    /// There is none: the scenario is wrong.
    pub fn pod(&self, path: &str) -> &Pod {
        self.pods.get(path).unwrap_or_else(|| panic!("no pod {path} in the lab"))
    }

    /// Every pod, by `namespace/name`.
    pub fn pods(&self) -> impl Iterator<Item = (&str, &Pod)> {
        self.pods.iter().map(|(path, pod)| (path.as_str(), pod))
    }

    /// An outside host by its name.
    ///
    /// # Panics
    /// There is none: the scenario is wrong.
    pub fn outside(&self, name: &str) -> &OutsideHost {
        self.outside.get(name).unwrap_or_else(|| panic!("no outside host {name} in the lab"))
    }

    /// The cluster DNS service's addresses, which kube-proxy's rules translate.
    pub fn dns_service(&self) -> [IpAddr; 2] {
        [DNS_SERVICE.0.into(), DNS_SERVICE.1.into()]
    }

    /// The cluster DNS pod.
    pub fn dns_pod(&self) -> &Pod {
        self.pod(DNS_POD)
    }

    /// The questions that reached the cluster DNS pod.
    pub fn questions(&self) -> &QuestionLog {
        self.dns.log()
    }

    /// The directory of manifests that describes this lab.
    pub fn manifests(&self) -> &Manifests {
        &self.manifests
    }

    /// The lab's own directory, for sockets, configuration and logs.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Puts a policy's text in force, in place of the one with this name.
    pub fn policy(&self, name: &str, text: &str) -> Result<(), LabError> {
        Ok(self.manifests.write(&format!("policy-{name}"), text)?)
    }

    /// Takes a policy away.
    pub fn remove_policy(&self, name: &str) -> Result<(), LabError> {
        Ok(self.manifests.remove(&format!("policy-{name}"))?)
    }

    /// Has the node serve the ports that every host serves.
    pub fn serve_on_node(&mut self) -> Result<(), LabError> {
        self.on_node = Some(HostServices::start(&self.node, "node")?);
        Ok(())
    }

    /// Puts a service in the cluster, in place of the one with this name: the node translates it
    /// to its first ready backend of the family, and then its manifests say so.
    pub fn service(&self, spec: &ServiceSpec) -> Result<(), LabError> {
        translation::install_service(&self.node, spec)?;
        Ok(self
            .manifests
            .write(&format!("service-{}-{}", spec.namespace, spec.name), &spec.manifest())?)
    }

    /// Makes a further pod and its manifest.
    pub fn add_pod(&mut self, spec: PodSpec) -> Result<(), LabError> {
        let path = spec.path();
        if self.places >= 200 {
            return Err(LabError::Full(path));
        }
        let ground = Ground {
            number: self.number,
            node: &self.node,
            topology: self.topology,
            directory: &self.directory,
        };
        let pod = ground.make_pod(&self.manifests, spec, self.places)?;
        self.places += 1;
        self.pods.insert(path, pod);
        self.write_namespaces()
    }

    /// Takes a pod away: its manifest, then its namespace and with it its veth.
    pub fn remove_pod(&mut self, path: &str) -> Result<(), LabError> {
        let Some(pod) = self.pods.remove(path) else {
            return Err(LabError::NoPod(path.to_owned()));
        };
        Ok(self.manifests.remove(&manifests::pod_name(&pod.spec))?)
    }

    /// Takes a pod's veth away, and leaves the pod and its manifest as they are.
    pub fn cut(&self, path: &str) -> Result<(), LabError> {
        Ok(self.node.ip(&format!("link del {}\n", self.pod(path).host_interface))?)
    }

    /// Gives a pod whose veth was taken away another one with the same names and addresses.
    pub fn wire(&self, path: &str) -> Result<(), LabError> {
        let Pod { namespace, place, host_interface, .. } = self.pod(path);
        Ok(links::lay_pod(&self.node, namespace, self.topology, *place, host_interface)?)
    }

    fn write_namespaces(&self) -> Result<(), LabError> {
        let names: BTreeSet<&str> =
            self.pods.values().map(|pod| pod.spec.namespace.as_str()).collect();
        Ok(self.manifests.write("namespaces", &manifests::namespaces(names))?)
    }
}

/// Where a pod is made.
struct Ground<'a> {
    number: u32,
    node: &'a Namespace,
    topology: Topology,
    directory: &'a Path,
}

impl Ground<'_> {
    fn make_pod(&self, manifests: &Manifests, spec: PodSpec, place: u8) -> Result<Pod, LabError> {
        let role = format!("{}-{}", spec.namespace, spec.name);
        let namespace = Namespace::new(name(self.number, &role))?;
        let host_interface = plan::veth_name(place, &spec.name);
        links::lay_pod(self.node, &namespace, self.topology, place, &host_interface)?;
        let services = HostServices::start(&namespace, &spec.path())?;
        let addresses = pod_addresses(place);
        let facts = PodFacts {
            addresses,
            host_interface: &host_interface,
            namespace_path: namespace.path(),
        };
        manifests.write(&manifests::pod_name(&spec), &manifests::pod(&spec, &facts))?;
        let resolv_conf = self.write_resolv_conf(&spec.namespace)?;
        Ok(Pod {
            spec,
            place,
            addresses,
            host_interface,
            resolv_conf,
            _services: services,
            namespace,
        })
    }

    /// The resolver configuration of the pods in a Kubernetes namespace.
    fn write_resolv_conf(&self, namespace: &str) -> io::Result<PathBuf> {
        let path = self.directory.join(format!("resolv-{namespace}.conf"));
        let text = format!(
            "nameserver {}\n\
             search {namespace}.svc.cluster.local svc.cluster.local cluster.local\n\
             options ndots:5\n",
            DNS_SERVICE.0
        );
        fs::write(&path, text)?;
        Ok(path)
    }
}

fn make_outside(
    number: u32,
    router: &Namespace,
    spec: &OutsideSpec,
    place: u8,
) -> Result<OutsideHost, LabError> {
    let namespace = Namespace::new(name(number, &spec.name))?;
    links::lay_outside(router, &namespace, spec, place)?;
    let services = HostServices::start(&namespace, &spec.name)?;
    let dns = match spec.dns.as_slice() {
        [] => None,
        addresses => Some(DnsServer::start(&namespace, addresses)?),
    };
    Ok(OutsideHost { dns, _services: services, namespace })
}

fn make_directory(number: u32) -> io::Result<(PathBuf, Undo)> {
    let directory =
        std::env::temp_dir().join(format!("{LAB_PREFIX}{}-{number}", std::process::id()));
    let undo = Undo::enter({
        let directory = directory.clone();
        move || {
            let _ = fs::remove_dir_all(directory);
        }
    });
    fs::create_dir(&directory)?;
    Ok((directory, undo))
}

fn name(number: u32, role: &str) -> String {
    format!("fqdnd-{}-{number}-{role}", std::process::id())
}
