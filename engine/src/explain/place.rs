//! What a destination is, in the order in which the kernel's maps tell it.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use model::{EndpointName, Frontend, Labels, Name, Protocol, Service, Source};
use policy::{Context, Entity, Rule, Table};

use super::{ExplainError, Known, Question, Resolved, Target};
use crate::addresses::{Addresses, Meaning, reserved};

/// What `cluster` stands for beside pods, and `all` beside the world.
const CLUSTER: [&str; 7] =
    ["host", "remote-node", "kube-apiserver", "health", "init", "ingress", "unmanaged"];

/// One destination.
#[derive(Clone, Debug)]
pub(super) struct Destination {
    /// For people.
    pub shown: String,
    pub address: Option<IpAddr>,
    pub protocol: Protocol,
    pub port: u16,
    pub asks: Option<Name>,
    pub place: Place,
}

/// What a destination is.
#[derive(Clone, Debug)]
pub(super) enum Place {
    /// Something in the cluster with these labels.
    Inside(Labels),
    /// An address outside, with what it carries beside being outside.
    Outside { address: IpAddr, labels: Labels, names: Vec<Name>, expired: Vec<Name> },
    /// A port of a service.
    Frontend(Port),
    /// An address of the service range where no service is.
    NoService,
}

/// A port of a service, and what stands behind it.
#[derive(Clone, Debug)]
pub(super) struct Port {
    pub service: EndpointName,
    /// The ready backends, each at its own port.
    pub backends: Vec<(SocketAddr, Place)>,
}

/// The cluster as rules see it.
pub(super) struct Map<'a> {
    known: Known<'a>,
    resolved: &'a [Resolved],
    table: Table,
    addresses: Addresses,
    frontends: BTreeMap<Frontend, (&'a Service, usize)>,
}

impl<'a> Map<'a> {
    pub fn new(
        known: Known<'a>,
        context: &Context,
        rules: &[Arc<Rule>],
        resolved: &'a [Resolved],
    ) -> Self {
        let table = Table::compile(rules, context);
        let addresses = Addresses::of(known.inventory, known.settings, &table);
        Self { known, resolved, table, addresses, frontends: frontends(known) }
    }

    /// All destinations that a question is about, never none; and what there is to say of them.
    pub fn places(
        &self,
        question: &Question,
    ) -> Result<(Vec<Destination>, Vec<String>), ExplainError> {
        let mut notes = Vec::new();
        let at = |address: IpAddr, shown: String| Destination {
            shown,
            address: Some(address),
            protocol: question.protocol,
            port: question.port,
            asks: question.asks.clone(),
            place: self.at(address, question.protocol, question.port),
        };
        let of = |shown: String, place: Place| Destination {
            shown,
            address: None,
            protocol: question.protocol,
            port: question.port,
            asks: question.asks.clone(),
            place,
        };
        let places = match &question.to {
            Target::Address(address) => vec![at(*address, self.describe(*address))],
            Target::Pod(name) => {
                let pod = self.known.inventory.pods.get(name);
                let pod = pod.ok_or_else(|| ExplainError::NoPod(name.clone()))?;
                if pod.addresses.is_empty() {
                    notes.push(format!("pod {name} has no address yet: judged by its labels"));
                    vec![of(format!("pod {name}"), Place::Inside(self.addresses.pod_labels(pod)))]
                } else {
                    let all = pod.addresses.iter();
                    all.map(|own| at(*own, format!("pod {name} at {own}"))).collect()
                }
            }
            Target::Service(name) => self.service(name, &at, &of, &mut notes)?,
            Target::Name(name) => self.name(name, &at, &of, &mut notes)?,
            Target::Entity(Entity::None) => return Err(ExplainError::EmptyEntity(Entity::None)),
            Target::Entity(entity) => {
                let places = self.entity(*entity);
                places.into_iter().map(|(shown, place)| of(shown, place)).collect()
            }
        };
        self.note_rebinding(&mut notes);
        Ok((places, notes))
    }

    fn service(
        &self,
        name: &EndpointName,
        at: &impl Fn(IpAddr, String) -> Destination,
        of: &impl Fn(String, Place) -> Destination,
        notes: &mut Vec<String>,
    ) -> Result<Vec<Destination>, ExplainError> {
        let service = self.known.inventory.services.get(name);
        let service = service.ok_or_else(|| ExplainError::NoService(name.clone()))?;
        if let Some(external) = &service.external_name {
            notes.push(format!("service {name} stands for the name {external}"));
            return self.name(external, at, of, notes);
        }
        if !service.addresses.is_empty() {
            let all = service.addresses.iter();
            return Ok(all.map(|own| at(*own, format!("service {name} at {own}"))).collect());
        }
        notes.push(format!("service {name} is headless: its clients send to its backends"));
        if service.backends.is_empty() {
            return Err(ExplainError::EmptyService(name.clone()));
        }
        let all = service.backends.iter();
        Ok(all.map(|own| at(*own, format!("service {name}, {}", self.describe(*own)))).collect())
    }

    fn name(
        &self,
        name: &Name,
        at: &impl Fn(IpAddr, String) -> Destination,
        of: &impl Fn(String, Place) -> Destination,
        notes: &mut Vec<String>,
    ) -> Result<Vec<Destination>, ExplainError> {
        let own = self.resolved.iter().filter(|resolved| resolved.name == *name);
        let mut addresses: Vec<IpAddr> = own.map(|resolved| resolved.address).collect();
        addresses.sort_unstable();
        addresses.dedup();
        if !addresses.is_empty() {
            let all = addresses.into_iter();
            return Ok(all.map(|own| at(own, format!("{name} at {own}"))).collect());
        }
        if let Some(service) = self.service_named(name) {
            notes.push(format!("{name} is the name of service {service}"));
            return self.service(&service, at, of, notes);
        }
        notes.push(format!(
            "{name} is not resolved: judged as an address outside the cluster, in no narrower \
             prefix of a rule"
        ));
        let address = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        let place = Place::Outside {
            address,
            labels: Labels::default(),
            names: vec![name.clone()],
            expired: Vec::new(),
        };
        Ok(vec![of(format!("{name}, not resolved"), place)])
    }

    /// The service that has this name in the cluster's DNS, such as `db.prod.svc.cluster.local`.
    fn service_named(&self, name: &Name) -> Option<EndpointName> {
        let domains = &self.known.guard.internal_domains;
        if !domains.iter().any(|domain| name.as_ref().is_under(domain.as_ref())) {
            return None;
        }
        let mut labels = name.as_ref().labels();
        let mut text = || String::from_utf8(labels.next()?.to_vec()).ok();
        let service = EndpointName { name: text()?, namespace: text()? };
        (text()? == "svc" && self.known.inventory.services.contains_key(&service))
            .then_some(service)
    }

    fn entity(&self, entity: Entity) -> Vec<(String, Place)> {
        let world = |address: IpAddr, shown: &str| {
            let place = Place::Outside {
                address,
                labels: Labels::default(),
                names: Vec::new(),
                expired: Vec::new(),
            };
            (format!("{shown}, an address in no narrower prefix of a rule"), place)
        };
        let ipv4 = || world(Ipv4Addr::UNSPECIFIED.into(), "the world over IPv4");
        let ipv6 = || world(Ipv6Addr::UNSPECIFIED.into(), "the world over IPv6");
        let pods = || ("a pod without labels".to_owned(), Place::Inside(Labels::default()));
        let cluster = || {
            let members = CLUSTER.iter().flat_map(|name| self.members(name));
            std::iter::once(pods()).chain(members).collect::<Vec<_>>()
        };
        match entity {
            Entity::None => Vec::new(),
            Entity::Cluster => cluster(),
            Entity::All => cluster().into_iter().chain([ipv4(), ipv6()]).collect(),
            Entity::Reserved("world") => vec![ipv4(), ipv6()],
            Entity::Reserved("world-ipv4") => vec![ipv4()],
            Entity::Reserved("world-ipv6") => vec![ipv6()],
            Entity::Reserved(name) => self.members(name),
        }
    }

    /// The known addresses that carry a reserved label, or what stands for one that is not known.
    fn members(&self, name: &str) -> Vec<(String, Place)> {
        let carries = |labels: &Labels| labels.values(&Source::Reserved, name).next().is_some();
        let inside = self.addresses.inside().filter(|(_, labels)| carries(labels));
        let inside = inside.map(|(own, labels)| (own, Place::Inside(labels)));
        let marked = self.addresses.marked_outside();
        let outside = marked.filter(|own| match self.addresses.at(*own) {
            Meaning::Outside(labels) => carries(&labels),
            Meaning::Inside(_) | Meaning::NoService => false,
        });
        let known = inside.chain(outside.map(|own| (own, self.by_address(own))));
        let known: Vec<_> =
            known.map(|(address, place)| (format!("{name} at {address}"), place)).collect();
        if known.is_empty() {
            vec![(name.to_owned(), Place::Inside(reserved(name)))]
        } else {
            known
        }
    }

    /// The question of DNS for a name, at the cluster's DNS service.
    pub fn lookup(&self, name: &Name) -> Option<Destination> {
        let dns = &self.known.settings.dns_service;
        let service = self.known.inventory.services.get(dns)?;
        let port = service.ports.iter().find(|port| port.protocol == Protocol::UDP)?;
        let (address, number) = match (service.addresses.first(), port.backends.first()) {
            (Some(address), _) => (*address, port.port),
            (None, Some(backend)) => (backend.ip(), backend.port()),
            (None, None) => return None,
        };
        Some(Destination {
            shown: format!("the name {name} at service {dns}"),
            address: Some(address),
            protocol: Protocol::UDP,
            port: number,
            asks: Some(name.clone()),
            place: self.at(address, Protocol::UDP, number),
        })
    }

    /// What an address is: a service's port first, for no other rule counts there.
    fn at(&self, address: IpAddr, protocol: Protocol, port: u16) -> Place {
        let Some(&(service, index)) = self.frontends.get(&Frontend { address, protocol, port })
        else {
            return self.by_address(address);
        };
        let backends = service.ports[index].backends.iter();
        let backends = backends.filter(|own| own.is_ipv6() == address.is_ipv6());
        let backends = backends.map(|own| (*own, self.by_address(own.ip()).without_names()));
        Place::Frontend(Port { service: service.name.clone(), backends: backends.collect() })
    }

    fn by_address(&self, address: IpAddr) -> Place {
        match self.addresses.at(address) {
            Meaning::Inside(labels) => Place::Inside(labels),
            Meaning::Outside(labels) => self.outside(address, labels),
            Meaning::NoService => Place::NoService,
        }
    }

    fn outside(&self, address: IpAddr, labels: Labels) -> Place {
        let own = self.resolved.iter().filter(|own| own.address == address && self.is_learned(own));
        let (expired, live): (Vec<_>, Vec<_>) = own.partition(|own| own.expired);
        let names = |all: Vec<&Resolved>| all.into_iter().map(|own| own.name.clone()).collect();
        Place::Outside { address, labels, names: names(live), expired: names(expired) }
    }

    /// Whether the rebinding guard lets a name bring an address, or a policy lifts it.
    fn is_learned(&self, resolved: &Resolved) -> bool {
        if self.known.guard.admits(resolved.name.as_ref(), resolved.address).is_ok() {
            return true;
        }
        let mut selectors = Vec::new();
        self.table.selectors_of(resolved.name.as_ref(), &mut selectors);
        selectors.into_iter().any(|selector| self.table.allow_private(selector))
    }

    fn note_rebinding(&self, notes: &mut Vec<String>) {
        let unlearned = self.resolved.iter().filter(|own| !self.is_learned(own));
        notes.extend(unlearned.filter_map(|own| {
            let rebinding = self.known.guard.admits(own.name.as_ref(), own.address).err()?;
            Some(format!("that {} resolves there does not count: {rebinding}", own.name))
        }));
    }

    fn describe(&self, address: IpAddr) -> String {
        match self.addresses.pods_at(address).next() {
            Some(pod) if !pod.host_network => format!("pod {} at {address}", pod.name),
            Some(_) | None => address.to_string(),
        }
    }
}

impl Place {
    /// What names say counts for the address that the pod sends to, not for those behind it.
    fn without_names(self) -> Self {
        match self {
            Self::Outside { address, labels, .. } => {
                Self::Outside { address, labels, names: Vec::new(), expired: Vec::new() }
            }
            Self::Inside(_) | Self::Frontend(_) | Self::NoService => self,
        }
    }
}

/// Every address and port where a service is met.
fn frontends(known: Known<'_>) -> BTreeMap<Frontend, (&Service, usize)> {
    let inventory = known.inventory;
    let of_nodes = inventory.nodes.values().flat_map(|own| &own.addresses);
    let nodes: Vec<IpAddr> = inventory.host_addresses.iter().chain(of_nodes).copied().collect();
    let mut frontends = BTreeMap::new();
    for service in inventory.services.values() {
        for (index, port) in service.ports.iter().enumerate() {
            let at_nodes = port.node_port.into_iter();
            let at_nodes = at_nodes.flat_map(|own| nodes.iter().map(move |node| (*node, own)));
            let at_service = service.addresses.iter().map(|address| (*address, port.port));
            for (address, number) in at_service.chain(at_nodes) {
                let frontend = Frontend { address, protocol: port.protocol, port: number };
                frontends.insert(frontend, (&**service, index));
            }
        }
    }
    frontends
}
