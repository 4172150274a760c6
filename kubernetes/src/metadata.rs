//! What every object says of itself: name, namespace, labels, annotations.

use std::collections::BTreeMap;

use model::EndpointName;
use serde::Deserialize;

use crate::text::{LabelKey, LabelValue, NamespaceName, ObjectName};

/// The `metadata` of a document.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Metadata {
    name: ObjectName,
    namespace: Option<NamespaceName>,
    pub uid: Option<String>,
    labels: Option<BTreeMap<LabelKey, LabelValue>>,
    annotations: Option<BTreeMap<String, String>>,
}

impl Metadata {
    /// The object's name, without its namespace.
    pub fn name(&self) -> String {
        self.name.clone().into_string()
    }

    /// The object's namespace and name.
    pub fn full_name(&self) -> EndpointName {
        EndpointName {
            namespace: NamespaceName::or_default(self.namespace.clone()),
            name: self.name(),
        }
    }

    /// The object's labels.
    pub fn labels(&self) -> BTreeMap<String, String> {
        let labels = self.labels.clone().unwrap_or_default();
        labels.into_iter().map(|(key, value)| (key.into_string(), value.into_string())).collect()
    }

    /// An annotation's text.
    pub fn annotation(&self, key: &str) -> Option<&str> {
        self.annotations.as_ref()?.get(key).map(String::as_str)
    }
}
