//! Who is who: from the numbers and addresses of events to pods, labels and services.
//!
//! It is brought up to date by what changed, after each look at what has happened, so that events are
//! read as things were then. What is looked up is kept, up to a bound.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use engine::Meaning;
use flows::{Service, Who};
use model::{
    EndpointId, EndpointName, Frontend, Identity, Interface, Label, Labels, Name, Pod, Prefix,
    Source, TableId, changes,
};
use rustc_hash::FxHashMap;

use super::allowance::Allowance;
use super::conversations::Conversations;
use super::grounds::{Explainer, Grounds, Local, Revision};
use crate::daemon::Shared;
use crate::names::Names;
use crate::reconcile::Reconciler;

/// How many look-ups are kept.
const KEPT: usize = 8192;
/// How long to wait before reading again because something is not known.
const PATIENCE: Duration = Duration::from_millis(500);

/// Who has which number or address.
pub struct Directory {
    shared: Arc<Shared>,
    grounds: Arc<Grounds>,
    inventory: Arc<kubernetes::Inventory>,
    /// The pods that have each address. One that several have is nobody's.
    addresses: HashMap<IpAddr, Vec<EndpointName>>,
    meanings: FxHashMap<Identity, Known>,
    /// When endpoints, and meanings, were last read because one was missing.
    asked: (Option<Instant>, Option<Instant>),
    found: FxHashMap<(IpAddr, Option<Identity>), Arc<Who>>,
    pub(super) conversations: Conversations,
    node: Arc<host::Node>,
    interfaces: FxHashMap<Interface, Arc<str>>,
}

/// What an identity stands for.
enum Known {
    Somebody(Labels),
    Service(Arc<Service>),
}

impl Directory {
    /// Reads everything once. What could not be explained is counted.
    pub fn new(shared: Arc<Shared>, unexplained: Arc<AtomicU64>) -> Self {
        let inventory = shared.manifests.borrow().clone();
        let grounds = {
            let (reconciler, names) = (shared.reconciler.blocking_lock(), &shared.names);
            let settings = reconciler.node().settings().clone();
            let learned = (names.guard().clone(), Arc::downgrade(names));
            let allowance = Allowance::new(Instant::now());
            let explainer = Explainer::new(settings, learned, allowance, unexplained);
            Grounds::new(revision(&reconciler, names, &inventory), Arc::new(explainer))
        };
        let node = shared.node.borrow().clone();
        let mut own = Self {
            grounds: Arc::new(grounds),
            inventory: Arc::default(),
            addresses: HashMap::new(),
            meanings: FxHashMap::default(),
            asked: (None, None),
            found: FxHashMap::default(),
            conversations: FxHashMap::default(),
            node,
            interfaces: FxHashMap::default(),
            shared,
        };
        own.follow_pods();
        own
    }

    /// Takes in what has changed; whether that was possible. While a revision is being carried out,
    /// it is left for later.
    pub fn refresh(&mut self) -> bool {
        self.follow_pods();
        self.follow_links();
        let shared = Arc::clone(&self.shared);
        let Ok(reconciler) = shared.reconciler.try_lock() else { return false };
        self.follow_revision(&reconciler);
        true
    }

    /// What flows are explained by that happen now.
    pub fn grounds(&self) -> &Arc<Grounds> {
        &self.grounds
    }

    fn follow_pods(&mut self) {
        let now = self.shared.manifests.borrow().clone();
        if Arc::ptr_eq(&now, &self.inventory) {
            return;
        }
        let before = std::mem::replace(&mut self.inventory, Arc::clone(&now));
        for changed in changes(&before.pods, &now.pods) {
            if let Some(pod) = changed.old {
                self.remove_pod(pod);
            }
            if let Some(pod) = changed.new {
                self.add_pod(pod);
            }
        }
    }

    fn add_pod(&mut self, pod: &Pod) {
        if pod.host_network {
            return;
        }
        self.forget();
        for address in &pod.addresses {
            self.addresses.entry(*address).or_default().push(pod.name.clone());
        }
    }

    fn remove_pod(&mut self, pod: &Pod) {
        self.forget();
        for address in &pod.addresses {
            if let Some(names) = self.addresses.get_mut(address) {
                names.retain(|name| *name != pod.name);
                if names.is_empty() {
                    self.addresses.remove(address);
                }
            }
        }
    }

    fn follow_links(&mut self) {
        let now = self.shared.node.borrow().clone();
        if !Arc::ptr_eq(&now, &self.node) {
            self.node = now;
            self.interfaces.clear();
        }
    }

    fn follow_revision(&mut self, reconciler: &Reconciler) {
        if reconciler.revisions().1 != self.grounds.revision().number {
            self.forget();
            let revision = revision(reconciler, &self.shared.names, &self.inventory);
            self.grounds = Arc::new(self.grounds.followed_by(revision));
        }
    }

    /// Whoever was found may be somebody else now.
    fn forget(&mut self) {
        self.found.clear();
        self.conversations.clear();
    }

    /// Takes in what has changed although events from before may still come, unless that was done
    /// a moment ago.
    fn ask_for_endpoints(&mut self) {
        if is_due(&mut self.asked.0) {
            let shared = Arc::clone(&self.shared);
            let reconciler = shared.reconciler.blocking_lock();
            self.follow_pods();
            self.follow_revision(&reconciler);
        }
    }

    /// Reads what identities stand for, unless that was done a moment ago.
    fn ask_for_meanings(&mut self) {
        if is_due(&mut self.asked.1) {
            let reconciler = self.shared.reconciler.blocking_lock();
            let known = reconciler.node().identities().into_iter();
            self.meanings =
                known.filter_map(|(own, meaning)| Some((own, Known::of(meaning)?))).collect();
        }
    }

    /// An endpoint of this node.
    pub fn endpoint(&mut self, endpoint: EndpointId) -> Arc<Who> {
        if self.local(endpoint).is_none() {
            self.ask_for_endpoints();
        }
        let unknown = || Arc::new(Who { endpoint: Some(endpoint), ..Who::default() });
        self.local(endpoint).map_or_else(unknown, |local| Arc::clone(&local.who))
    }

    /// The table that an endpoint is judged by; none if no policy selects it.
    pub fn table(&self, endpoint: EndpointId) -> Option<TableId> {
        Some(self.local(endpoint)?.table.as_ref()?.id())
    }

    fn local(&self, endpoint: EndpointId) -> Option<&Local> {
        self.grounds.revision().endpoints.get(&endpoint)
    }

    /// Who has an address, whose identity may be known already.
    pub fn who(&mut self, address: IpAddr, identity: Option<Identity>) -> Arc<Who> {
        if let Some(found) = self.found.get(&(address, identity)) {
            return Arc::clone(found);
        }
        let who = match self.grounds.revision().snapshot.endpoint(address) {
            Some(endpoint) => self.endpoint(endpoint),
            None => Arc::new(self.stranger(address, identity)),
        };
        if self.found.len() >= KEPT {
            self.found.clear();
        }
        self.found.insert((address, identity), Arc::clone(&who));
        who
    }

    fn stranger(&mut self, address: IpAddr, identity: Option<Identity>) -> Who {
        let identity = identity.or_else(|| self.grounds.revision().snapshot.identity(address));
        if let Some([name]) = self.addresses.get(&address).map(Vec::as_slice) {
            let labels = self.inventory.pods.get(name).map(|pod| pod.labels.clone());
            let labels = labels.unwrap_or_default();
            return Who { endpoint: None, identity, pod: Some(name.clone()), labels };
        }
        let labels = match identity.and_then(|identity| self.known(identity)) {
            Some(Known::Somebody(labels)) => labels.clone(),
            Some(Known::Service(_)) | None => Labels::default(),
        };
        Who { endpoint: None, identity, pod: None, labels }
    }

    /// The identity of a service's port, if there is one at this place.
    pub fn frontend_at(&self, frontend: Frontend) -> Option<Identity> {
        self.grounds.revision().snapshot.frontend(frontend)
    }

    /// The service that the identity of a port of it stands for.
    pub fn service(&mut self, identity: Identity) -> Option<Arc<Service>> {
        match self.known(identity)? {
            Known::Service(service) => Some(Arc::clone(service)),
            Known::Somebody(_) => None,
        }
    }

    fn known(&mut self, identity: Identity) -> Option<&Known> {
        if !self.meanings.contains_key(&identity) {
            self.ask_for_meanings();
        }
        self.meanings.get(&identity)
    }

    /// The names that an endpoint has resolved to an address.
    pub fn names(&self, endpoint: EndpointId, address: IpAddr) -> Arc<[Name]> {
        self.shared.names.names_of(endpoint, address)
    }

    /// An interface's name.
    pub fn interface(&mut self, interface: Interface) -> Option<Arc<str>> {
        if let Some(name) = self.interfaces.get(&interface) {
            return Some(Arc::clone(name));
        }
        let name: Arc<str> = self.node.link(interface)?.name.as_str().into();
        self.interfaces.insert(interface, Arc::clone(&name));
        Some(name)
    }
}

/// Whether it is time to ask again; if so it has been done.
fn is_due(asked: &mut Option<Instant>) -> bool {
    let is_due = asked.is_none_or(|asked| asked.elapsed() >= PATIENCE);
    if is_due {
        *asked = Some(Instant::now());
    }
    is_due
}

/// The revision in force, with pods' labels as the manifests have them.
fn revision(reconciler: &Reconciler, names: &Names, inventory: &kubernetes::Inventory) -> Revision {
    let local = reconciler.endpoints().iter().map(|(id, local)| {
        let labels = inventory.pods.get(&local.name).map(|pod| pod.labels.clone());
        (*id, Local::new(*id, local, labels))
    });
    Revision {
        number: reconciler.revisions().1,
        endpoints: local.collect(),
        inventory: reconciler.inventory().clone(),
        snapshot: names.snapshot(),
    }
}

impl Known {
    fn of(meaning: Meaning) -> Option<Self> {
        match meaning {
            Meaning::Reserved(labels) | Meaning::Labels(labels) => Some(Self::Somebody(labels)),
            Meaning::Prefix(prefix, labels) => Some(Self::Somebody(under(prefix, &labels))),
            Meaning::Service { name, .. } => {
                let EndpointName { namespace, name } = name;
                Some(Self::Service(Arc::new(Service { namespace, name })))
            }
            // Of names, an address has what its endpoint resolved.
            Meaning::Names(_) => None,
        }
    }
}

/// The labels of addresses outside under a prefix that rules name.
fn under(prefix: Prefix, labels: &Labels) -> Labels {
    let label = |source: Source, key: String| Label { key, source, value: String::new() };
    let cidr = label(Source::Other("cidr".to_owned()), prefix.to_string());
    let world =
        if prefix.address().is_ipv4() { Identity::WORLD_IPV4 } else { Identity::WORLD_IPV6 };
    let world = label(Source::Reserved, world.to_string());
    labels.iter().cloned().chain([cidr, world]).collect()
}
