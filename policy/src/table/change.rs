//! Rules into a table and out of it: a change costs what the rules cost that it is about, and tells
//! where the table says something else than before.

use std::collections::BTreeSet;
use std::sync::Arc;

use model::{EndpointName, Labels, Pattern, Prefix};

use crate::context::{Wants, service_source};
use crate::counted::Bag;
use crate::meaning::{Meaning, Outcome, Place, Spoken, Statement};
use crate::selector::{LabelSelector, Operator, Requirement};
use crate::table::fold::Effect;
use crate::table::prefixes::PrefixGrant;
use crate::table::{Grant, GrantId, Table, outside};

/// Where a table says something else than another one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Altered {
    /// Of every destination, or of the rest.
    pub everywhere: bool,
    /// Of everything in the cluster, or of those pods that name certain ports.
    pub inside: bool,
    /// Of what these select.
    pub selectors: BTreeSet<LabelSelector>,
    /// Of these services where no backend is ready.
    pub services: BTreeSet<EndpointName>,
    /// Of the addresses under these prefixes.
    pub prefixes: BTreeSet<Prefix>,
    /// What it asks for and did not before.
    pub come: Asked,
    /// What it asked for and does not any more.
    pub gone: Asked,
    /// Of the addresses of names.
    pub names: AlteredNames,
}

/// What a table has addresses told apart by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// The prefixes that rules name, exceptions too.
    pub prefixes: BTreeSet<Prefix>,
    /// The labels that it wants beside those of objects.
    pub wants: Wants,
}

/// What a table says of the addresses of names, beside what another one said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum AlteredNames {
    /// The same.
    #[default]
    Same,
    /// The same, and more is allowed.
    Wider,
    /// Something else: what was allowed may not be any more, or not in the same way.
    Other,
}

/// Whether rules come or go.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    In,
    Out,
}

impl Altered {
    /// Whether it is anything outside the cluster, whatever its prefix is.
    pub fn is_about_all_outside(&self) -> bool {
        [Prefix::all_ipv4(), Prefix::all_ipv6()].into_iter().any(|all| {
            let labels = outside(all, &Labels::default());
            self.selectors.iter().any(|selector| selector.matches(&labels))
        })
    }
}

impl Table {
    /// The same table without some rules and with others, and where it differs.
    pub fn changed<'a>(
        &self,
        gone: impl IntoIterator<Item = &'a Meaning>,
        come: impl IntoIterator<Item = &'a Meaning>,
    ) -> (Self, Altered) {
        let mut change = Change { table: self.clone(), altered: Altered::default() };
        // What goes and comes again is thereby never missing.
        come.into_iter().for_each(|meaning| change.take(meaning, Way::In));
        gone.into_iter().for_each(|meaning| change.take(meaning, Way::Out));
        if self.default_deny() != change.table.default_deny() {
            change.altered.everywhere = true;
        }
        (change.table, change.altered)
    }
}

struct Change {
    table: Table,
    altered: Altered,
}

impl Change {
    fn take(&mut self, meaning: &Meaning, way: Way) {
        way.count(&mut self.table.denying, meaning.default_deny);
        if way == Way::In {
            meaning.patterns.iter().for_each(|own| self.enter_pattern(own));
            meaning.statements.iter().for_each(|own| self.enter(own));
        } else {
            meaning.statements.iter().for_each(|own| self.leave(own));
            meaning.patterns.iter().for_each(|own| self.leave_pattern(own));
        }
    }

    fn enter(&mut self, Statement { place, grant }: &Statement) {
        let effect = match &grant.outcome {
            Outcome::Allow => Effect::Allow,
            Outcome::Deny => Effect::Deny,
            Outcome::AuditedDeny => {
                self.table.audited_denials += 1;
                Effect::AuditedDeny
            }
            Outcome::Dns(list) => Effect::Dns(self.table.filters.acquire(list)),
            Outcome::L7(rules) => Effect::L7(self.table.conversations.acquire(rules)),
        };
        let (id, _) = self.table.grants.acquire(Arc::new(Grant::new(grant, effect)));
        for port in &grant.named {
            if self.table.ports.insert(port.name.clone()) {
                self.altered.come.wants.ports.insert(port.name.clone());
            }
        }
        self.mark(place, grant, GrantId(id), Way::In);
    }

    fn leave(&mut self, Statement { place, grant }: &Statement) {
        let effect = match &grant.outcome {
            Outcome::Allow => Some(Effect::Allow),
            Outcome::Deny => Some(Effect::Deny),
            Outcome::AuditedDeny => Some(Effect::AuditedDeny),
            Outcome::Dns(list) => self.table.filters.release(list).map(Effect::Dns),
            Outcome::L7(rules) => self.table.conversations.release(rules).map(Effect::L7),
        };
        let known = effect.and_then(|effect| self.table.grants.number(&Grant::new(grant, effect)));
        let Some(id) = known else { return };
        if effect == Some(Effect::AuditedDeny) {
            self.table.audited_denials -= 1;
        }
        for port in &grant.named {
            if self.table.ports.remove(&port.name) {
                self.altered.gone.wants.ports.insert(port.name.clone());
            }
        }
        self.mark(place, grant, GrantId(id), Way::Out);
        self.table.grants.release(id);
    }

    /// Has something granted at a place, or not any more.
    fn mark(&mut self, place: &Place, grant: &Spoken, id: GrantId, way: Way) {
        let (table, altered) = (&mut self.table, &mut self.altered);
        match place {
            Place::Everywhere => {
                if way.count(&mut table.any, id) {
                    altered.everywhere = true;
                    altered.inside |= !grant.named.is_empty();
                }
                if !grant.named.is_empty() {
                    way.count(&mut table.any_named, id);
                }
            }
            Place::Cluster => altered.inside |= way.count(&mut table.cluster, id),
            Place::Labels(selector) => self.mark_labels(selector, id, way),
            Place::Pods(labels) => {
                let own = table.pods.entry(labels.clone()).or_default();
                if way.count(own, id) {
                    let all = labels.iter().map(Requirement::from);
                    altered.selectors.insert(all.collect());
                }
                if own.is_empty() {
                    table.pods.remove(labels);
                }
            }
            Place::Backends(service) => self.mark_backends(service, id, way),
            Place::Prefix(prefix, except) => self.mark_prefix(*prefix, except, id, way),
            Place::Name(pattern) => {
                let differs = match way {
                    Way::In => table.selectors.grant(pattern, id),
                    Way::Out => table.selectors.withdraw(pattern, id),
                };
                let is_more = match grant.outcome {
                    // Beside rules for what is said, a plain allow changes how connections fare.
                    Outcome::Allow => way == Way::In && table.conversations.is_empty(),
                    // It tells more or less, and nothing fares otherwise.
                    Outcome::AuditedDeny => true,
                    Outcome::Deny | Outcome::Dns(_) | Outcome::L7(_) => false,
                };
                if differs {
                    let names = if is_more { AlteredNames::Wider } else { AlteredNames::Other };
                    altered.names = altered.names.max(names);
                }
            }
        }
    }

    fn mark_labels(&mut self, selector: &LabelSelector, id: GrantId, way: Way) {
        let labelled = &mut self.table.labelled;
        let differs = match way {
            Way::In => labelled.insert(selector, id),
            Way::Out => labelled.remove(selector, &id),
        };
        if differs {
            self.altered.selectors.insert(selector.clone());
        }
    }

    fn mark_backends(&mut self, service: &EndpointName, id: GrantId, way: Way) {
        self.mark_labels(&LabelSelector::backends(service), id, way);
        let services = &mut self.table.services;
        let was_known = services.contains_key(service);
        let own = services.entry(service.clone()).or_default();
        if way.count(own, id) {
            self.altered.services.insert(service.clone());
        }
        match (was_known, own.is_empty()) {
            (false, false) => drop(self.altered.come.wants.services.insert(service.clone())),
            (true, true) => drop(self.altered.gone.wants.services.insert(service.clone())),
            (true, false) | (false, true) => {}
        }
        if services.get(service).is_some_and(Bag::is_empty) {
            services.remove(service);
        }
    }

    fn mark_prefix(&mut self, prefix: Prefix, except: &[Prefix], grant: GrantId, way: Way) {
        let (prefixes, altered) = (&mut self.table.prefixes, &mut self.altered);
        let own = PrefixGrant { grant, except: except.into() };
        let named = || except.iter().chain([&prefix]).copied();
        let differs = match way {
            Way::In => {
                altered.come.prefixes.extend(named().filter(|own| prefixes.acquire(*own)));
                prefixes.grant(prefix, own)
            }
            Way::Out => {
                let differs = prefixes.withdraw(prefix, &own);
                altered.gone.prefixes.extend(named().filter(|own| prefixes.release(*own)));
                differs
            }
        };
        if differs {
            altered.prefixes.insert(prefix);
        }
    }

    fn enter_pattern(&mut self, (pattern, private): &(Pattern, bool)) {
        if self.table.selectors.acquire(pattern, *private) {
            self.altered.names = self.altered.names.max(AlteredNames::Wider);
        }
    }

    fn leave_pattern(&mut self, (pattern, private): &(Pattern, bool)) {
        if self.table.selectors.release(pattern, *private) {
            self.altered.names = self.altered.names.max(AlteredNames::Wider);
        }
    }
}

impl Way {
    /// Puts one in or takes one out; whether that makes a difference beyond the count.
    fn count<T: Ord + Clone>(self, bag: &mut Bag<T>, item: T) -> bool {
        match self {
            Self::In => bag.insert(item),
            Self::Out => bag.remove(&item),
        }
    }
}

impl LabelSelector {
    /// The ready backends of a service.
    pub(crate) fn backends(service: &EndpointName) -> Self {
        Self::everything().and(Requirement {
            key: String::new(),
            source: service_source(),
            operator: Operator::In([service.to_string()].into()),
        })
    }
}
