//! Who is who: from the numbers and addresses of events to pods, labels and services.
//!
//! It is brought up to date by what changed, between two drains of the events, so that an event is
//! read as things were when it happened. What is looked up is kept, up to a bound.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use engine::Meaning;
use flows::{Service, Who};
use model::{
    EndpointId, EndpointName, Frontend, Identity, Interface, Label, Labels, Name, Pod, Prefix,
    Source, TableId, changes,
};
use rustc_hash::FxHashMap;

use crate::daemon::Shared;
use crate::reconcile::Reconciler;

/// How many look-ups are kept.
const KEPT: usize = 8192;
/// How long to wait before the meanings of identities are read again because one is not known.
const PATIENCE: Duration = Duration::from_millis(500);

/// Who has which number or address.
pub struct Directory {
    shared: Arc<Shared>,
    revision: u64,
    endpoints: FxHashMap<EndpointId, Local>,
    inventory: Arc<kubernetes::Inventory>,
    /// The pods that have each address. One that several have is nobody's.
    addresses: HashMap<IpAddr, Vec<EndpointName>>,
    meanings: HashMap<Identity, Known>,
    /// When endpoints and meanings were last read because one was missing.
    asked: Option<Instant>,
    found: HashMap<(IpAddr, Option<Identity>), Arc<Who>>,
    node: Arc<host::Node>,
    interfaces: HashMap<Interface, Arc<str>>,
}

/// An endpoint of this node.
struct Local {
    who: Arc<Who>,
    table: Option<TableId>,
}

/// What an identity stands for.
enum Known {
    Somebody(Labels),
    Service(Arc<Service>),
}

impl Directory {
    /// Reads everything once.
    pub fn new(shared: Arc<Shared>) -> Self {
        let node = shared.node.borrow().clone();
        let mut own = Self {
            revision: 0,
            endpoints: FxHashMap::default(),
            inventory: Arc::default(),
            addresses: HashMap::new(),
            meanings: HashMap::new(),
            asked: None,
            found: HashMap::new(),
            node,
            interfaces: HashMap::new(),
            shared,
        };
        own.refresh();
        own
    }

    /// Takes in what has changed. If a revision is being carried out, that is left for later.
    pub fn refresh(&mut self) {
        self.follow_pods();
        self.follow_links();
        let shared = Arc::clone(&self.shared);
        if let Ok(reconciler) = shared.reconciler.try_lock() {
            self.follow_revision(&reconciler);
        }
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
        self.found.clear();
        for address in &pod.addresses {
            self.addresses.entry(*address).or_default().push(pod.name.clone());
        }
    }

    fn remove_pod(&mut self, pod: &Pod) {
        self.found.clear();
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
        let (_, applied) = reconciler.revisions();
        if applied == self.revision && !self.endpoints.is_empty() {
            return;
        }
        self.revision = applied;
        self.found.clear();
        let inventory = &self.inventory;
        let local = reconciler.endpoints().iter().map(|(id, local)| {
            let labels = inventory.pods.get(&local.name).map(|pod| pod.labels.clone());
            let who = Who {
                endpoint: Some(*id),
                identity: local.identity,
                pod: Some(local.name.clone()),
                labels: labels.unwrap_or_default(),
            };
            let table = local.table.as_ref().map(|table| table.id());
            (*id, Local { who: Arc::new(who), table })
        });
        self.endpoints = local.collect();
    }

    /// Reads what is missing, unless that was done a moment ago.
    fn ask(&mut self) {
        if self.asked.is_some_and(|asked| asked.elapsed() < PATIENCE) {
            return;
        }
        self.asked = Some(Instant::now());
        let shared = Arc::clone(&self.shared);
        let reconciler = shared.reconciler.blocking_lock();
        self.follow_pods();
        self.follow_revision(&reconciler);
        let known = reconciler.node().identities().into_iter();
        self.meanings =
            known.filter_map(|(own, meaning)| Some((own, Known::of(meaning)?))).collect();
    }

    /// An endpoint of this node.
    pub fn endpoint(&mut self, endpoint: EndpointId) -> Arc<Who> {
        if let Some(local) = self.endpoints.get(&endpoint) {
            return Arc::clone(&local.who);
        }
        self.ask();
        let unknown = || Arc::new(Who { endpoint: Some(endpoint), ..Who::default() });
        self.endpoints.get(&endpoint).map_or_else(unknown, |local| Arc::clone(&local.who))
    }

    /// The table that an endpoint is judged by; none if no policy selects it.
    pub fn table(&self, endpoint: EndpointId) -> Option<TableId> {
        self.endpoints.get(&endpoint)?.table
    }

    /// Who has an address, whose identity may be known already.
    pub fn who(&mut self, address: IpAddr, identity: Option<Identity>) -> Arc<Who> {
        if let Some(found) = self.found.get(&(address, identity)) {
            return Arc::clone(found);
        }
        let who = match self.shared.names.endpoint_at(address) {
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
        let identity = identity.or_else(|| self.shared.names.identity_at(address));
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
        self.shared.names.frontend_at(frontend)
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
            self.ask();
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
    let world = label(Source::Reserved, "world".to_owned());
    labels.iter().cloned().chain([cidr, world]).collect()
}
