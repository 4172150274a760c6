//! One file's text to the objects that it describes.
//!
//! A document that is broken does not hide its neighbours; whether there is one is remembered, so
//! that what it gave before can stay in force.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::Path;
use std::sync::Arc;

use model::{CidrGroup, ClusterNode, EndpointName};
use policy::{Document, Policy, PolicyKey, Problem};
use serde::Deserialize;

use crate::backends::{Endpoints, Slice};
use crate::inventory::Skipped;
use crate::metadata::Metadata;
use crate::pod::Pod;
use crate::secret::Secret;
use crate::service::Service;
use crate::{cidr_group, node, secret};

/// How many problems of one file are kept; what is beyond is only counted.
pub(crate) const MAX_PROBLEMS: usize = 100;

/// What a file's text gives.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reading {
    pub objects: BTreeMap<ObjectKey, Found>,
    pub problems: Vec<Problem>,
    pub warnings: Vec<Problem>,
    pub skipped: Vec<Skipped>,
    /// Whether the file may hold objects that could not be read.
    pub broken: bool,
    /// Whether there is nothing but white space, as while an editor writes anew.
    pub blank: bool,
}

/// What two objects cannot both be.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum ObjectKey {
    Namespace(String),
    Pod(String, String),
    Service(String, String),
    Slice(String, String),
    Endpoints(String, String),
    Secret(EndpointName),
    Node(String),
    CidrGroup(String),
    Policy(PolicyKey),
}

/// An object, and where its name stands.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub object: Object,
    pub line: usize,
    pub column: usize,
}

/// A checked object.
#[derive(Clone, Debug)]
pub(crate) enum Object {
    /// A namespace's labels.
    Namespace(BTreeMap<String, String>),
    Pod(Arc<Pod>),
    Service(Arc<Service>),
    /// Nothing where the slice stands behind no service.
    Slice(Option<Arc<Slice>>),
    Endpoints(Arc<Endpoints>),
    Secret(Arc<Secret>),
    Node(Arc<ClusterNode>),
    CidrGroup(Arc<CidrGroup>),
    Policy(Arc<Policy>),
}

/// A Namespace's document, pruned.
#[derive(Debug, Deserialize)]
pub(crate) struct NamespaceDocument {
    metadata: Metadata,
}

impl Reading {
    /// Reads a file.
    pub fn new(file: &Arc<Path>, text: &str, policies: policy::Options) -> Self {
        let (documents, problems) = Document::read_all(file, text);
        let blank = text.trim().is_empty();
        let mut reading = Self { blank, ..Self::default() };
        reading.fail(problems);
        for document in &documents {
            reading.read(document, policies);
        }
        reading.limit_problems(file);
        reading
    }

    /// The reading of a file that cannot be read at all.
    pub fn failed(problem: Problem) -> Self {
        Self { problems: vec![problem], broken: true, ..Self::default() }
    }

    fn fail(&mut self, problems: Vec<Problem>) {
        self.broken |= !problems.is_empty();
        self.problems.extend(problems);
    }

    fn read(&mut self, document: &Document, policies: policy::Options) {
        let group = document.api_version.split_once('/').map_or("", |(group, _)| group);
        let read = match (group, document.kind.as_str()) {
            ("", "Namespace") => alone(document.read(), NamespaceDocument::object),
            ("", "Pod") => Pod::read(document).map(|pod| {
                let key = ObjectKey::Pod(pod.name.namespace.clone(), pod.name.name.clone());
                (key, Object::Pod(Arc::new(pod)))
            }),
            ("", "Service") => alone(Service::read(document), |service| {
                let name = &service.name;
                let key = ObjectKey::Service(name.namespace.clone(), name.name.clone());
                (key, Object::Service(Arc::new(service)))
            }),
            ("", "Endpoints") => alone(Endpoints::read(document), |endpoints| {
                let name = &endpoints.service;
                let key = ObjectKey::Endpoints(name.namespace.clone(), name.name.clone());
                (key, Object::Endpoints(Arc::new(endpoints)))
            }),
            ("discovery.k8s.io", "EndpointSlice") => {
                alone(Slice::read(document), |(name, slice)| {
                    (
                        ObjectKey::Slice(name.namespace, name.name),
                        Object::Slice(slice.map(Arc::new)),
                    )
                })
            }
            ("", "Secret") => alone(secret::read(document), |(name, secret)| {
                (ObjectKey::Secret(name), Object::Secret(Arc::new(secret)))
            }),
            ("", "Node") => alone(node::read(document), |node| {
                (ObjectKey::Node(node.name.clone()), Object::Node(Arc::new(node)))
            }),
            ("cilium.io", "CiliumCIDRGroup") => alone(cidr_group::read(document), |group| {
                (ObjectKey::CidrGroup(group.name.clone()), Object::CidrGroup(Arc::new(group)))
            }),
            ("cilium.io", "CiliumNetworkPolicy" | "CiliumClusterwideNetworkPolicy") => {
                self.policy(document, policies)
            }
            _ => return self.skip(document),
        };
        match read {
            Ok((key, object)) => self.add(document, key, object),
            Err(problems) => self.fail(problems),
        }
    }

    fn policy(
        &mut self,
        document: &Document,
        options: policy::Options,
    ) -> Result<(ObjectKey, Object), Vec<Problem>> {
        let policy = Policy::read_with(document, options)?;
        self.warnings.extend(policy.warnings.iter().cloned());
        Ok((ObjectKey::Policy(policy.key.clone()), Object::Policy(Arc::new(policy))))
    }

    fn add(&mut self, document: &Document, key: ObjectKey, object: Object) {
        let name = document.problem_at(&["metadata", "name"], "");
        let found = Found { object, line: name.line, column: name.column };
        match self.objects.entry(key) {
            Entry::Vacant(entry) => {
                entry.insert(found);
            }
            Entry::Occupied(entry) => {
                let message = duplicate(&document.file, entry.get());
                self.problems.push(Problem { message, ..name });
            }
        }
    }

    fn skip(&mut self, document: &Document) {
        if self.skipped.len() < MAX_PROBLEMS {
            self.skipped.push(Skipped::new(document));
        }
    }

    fn limit_problems(&mut self, file: &Arc<Path>) {
        self.warnings.truncate(MAX_PROBLEMS);
        let beyond = self.problems.len().saturating_sub(MAX_PROBLEMS);
        if beyond > 0 {
            self.problems.truncate(MAX_PROBLEMS);
            self.problems.push(whole_file(file, format!("{beyond} more problems in this file")));
        }
    }
}

impl NamespaceDocument {
    /// The namespace's labels.
    pub fn labels(&self) -> BTreeMap<String, String> {
        self.metadata.labels()
    }

    fn object(self) -> (ObjectKey, Object) {
        (ObjectKey::Namespace(self.metadata.name()), Object::Namespace(self.labels()))
    }
}

/// An object of a kind of which only the first problem is told.
fn alone<T>(
    read: Result<T, Problem>,
    object: impl FnOnce(T) -> (ObjectKey, Object),
) -> Result<(ObjectKey, Object), Vec<Problem>> {
    read.map(object).map_err(|problem| vec![problem])
}

/// The message that an object is described already, at the place of `first`.
pub(crate) fn duplicate(file: &Path, first: &Found) -> String {
    let Found { line, column, .. } = first;
    format!("the same object stands at {}:{line}:{column} already; that one counts", file.display())
}

/// A problem of a file as a whole.
pub(crate) fn whole_file(file: &Arc<Path>, message: impl Into<String>) -> Problem {
    let file = Arc::clone(file);
    Problem { file, line: 1, column: 1, field: String::new(), message: message.into() }
}
