//! Field and label selectors, as far as they are used.

use serde_json::Value;

/// Which objects a list or watch is of.
#[derive(Clone, Debug, Default)]
pub(crate) struct Selection {
    pub namespace: Option<String>,
    /// Path, whether it has to be equal, value.
    fields: Vec<(String, bool, String)>,
    labels: Vec<(String, bool, String)>,
}

impl Selection {
    pub fn new(namespace: Option<String>, fields: &str, labels: &str) -> Self {
        Self { namespace, fields: terms(fields), labels: terms(labels) }
    }

    pub fn selects(&self, object: &Value) -> bool {
        let metadata = &object["metadata"];
        let field = |path: &str| {
            let value = path.split('.').fold(object, |value, key| &value[key]);
            value.as_str().unwrap_or_default()
        };
        self.namespace.as_deref().is_none_or(|own| metadata["namespace"] == own)
            && self.fields.iter().all(|(path, equal, value)| (field(path) == value) == *equal)
            && self.labels.iter().all(|(key, equal, value)| {
                (metadata["labels"][key].as_str().unwrap_or_default() == value) == *equal
            })
    }
}

fn terms(text: &str) -> Vec<(String, bool, String)> {
    let read = |term: &str| {
        let (key, equal, value) = match term.split_once("!=") {
            Some((key, value)) => (key, false, value),
            None => {
                let (key, value) = term.split_once('=').unwrap_or((term, ""));
                (key, true, value.trim_start_matches('='))
            }
        };
        (key.to_owned(), equal, value.to_owned())
    };
    text.split(',').filter(|term| !term.is_empty()).map(read).collect()
}
