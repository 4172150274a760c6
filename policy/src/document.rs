//! Files to documents: what each one is, and where it stands.
//!
//! A document that is no YAML, or names no kind, is a [`Problem`]; the others of its file are read
//! all the same. The items of a list object (`kind: List`) are documents of their own.

use std::path::Path;
use std::sync::Arc;

use serde::de::DeserializeOwned;

use crate::problem::{Place, Problem};
use crate::yaml::{self, Entry, Node, Value};

mod reader;

/// The most documents of one file whose problems are told.
const MAX_PROBLEMS: usize = 100;

/// One Kubernetes object of a file.
#[derive(Clone, Debug)]
pub struct Document {
    /// The file as it was named by whoever read it.
    pub file: Arc<Path>,
    /// The line where the object begins, the first is 1.
    pub line: usize,
    /// `kind`.
    pub kind: String,
    /// `apiVersion`.
    pub api_version: String,
    /// `metadata.name`, empty where there is none.
    pub name: String,
    /// `metadata.namespace`.
    pub namespace: Option<String>,
    pub(crate) root: Node,
}

/// Why a document is no object, and what can be told of it all the same.
#[derive(Clone, Debug)]
pub(crate) struct DocumentError {
    pub problem: Problem,
    pub kind: String,
    pub namespace: Option<String>,
    pub name: String,
}

impl DocumentError {
    fn new(problem: Problem, root: Option<&Node>) -> Self {
        let kind = root.and_then(|root| header(root, "kind").ok()).unwrap_or_default().to_owned();
        let (namespace, name) = root.map(full_name).unwrap_or_default();
        Self { problem, kind, namespace, name }
    }
}

impl Document {
    /// The namespace of an object that names none.
    pub const DEFAULT_NAMESPACE: &'static str = "default";
    /// The longest file that is read, in bytes.
    pub const MAX_FILE_LEN: usize = yaml::MAX_FILE_LEN;

    /// The documents of a file's text, and what is wrong with the others.
    pub fn read_all(file: &Arc<Path>, text: &str) -> (Vec<Self>, Vec<Problem>) {
        let (mut documents, mut problems) = (Vec::new(), Vec::new());
        for read in Self::read_each(file, text) {
            match read {
                Ok(document) => documents.push(document),
                Err(error) => problems.push(error.problem),
            }
        }
        if let Some(more) = problems.len().checked_sub(MAX_PROBLEMS).filter(|more| *more > 0) {
            problems.truncate(MAX_PROBLEMS);
            let place = Place { line: 1, column: 1 };
            problems.push(Problem::new(file, place, "", format!("has {more} more such documents")));
        }
        (documents, problems)
    }

    /// Each document of a file's text that has content, in order.
    pub(crate) fn read_each(file: &Arc<Path>, text: &str) -> Vec<Result<Self, DocumentError>> {
        let mut documents = Vec::new();
        for node in yaml::parse(file, text) {
            match node {
                Ok(Node { value: Value::Null, .. }) => {}
                Ok(node) => Self::read_object(file, node, &mut documents),
                Err(problem) => documents.push(Err(DocumentError::new(problem, None))),
            }
        }
        documents
    }

    fn read_object(file: &Arc<Path>, root: Node, documents: &mut Vec<Result<Self, DocumentError>>) {
        let (kind, api_version) = match (header(&root, "kind"), header(&root, "apiVersion")) {
            (Ok(kind), Ok(api_version)) => (kind.to_owned(), api_version.to_owned()),
            (Err(flaw), _) | (_, Err(flaw)) => {
                let problem = Problem::new(file, flaw.0, flaw.1, flaw.2);
                documents.push(Err(DocumentError::new(problem, Some(&root))));
                return;
            }
        };
        if kind.ends_with("List") && list(&root, "items").is_some() {
            for item in into_items(root) {
                Self::read_object(file, item, documents);
            }
            return;
        }
        let (namespace, name) = full_name(&root);
        documents.push(Ok(Self {
            file: Arc::clone(file),
            line: root.place.line,
            kind,
            api_version,
            name,
            namespace,
            root,
        }));
    }

    /// Reads the document as a type of the caller's.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, Problem> {
        reader::read(&self.root).map_err(|flaw| flaw.into_problem(&self.file))
    }

    /// The place of a field, such as `metadata.annotations[fqdnd.io/interface]` given as its keys;
    /// where it is absent, that of the innermost one that is there.
    pub fn problem_at(&self, keys: &[&str], message: impl Into<String>) -> Problem {
        let mut place = self.root.place;
        let mut node = Some(&self.root);
        for key in keys {
            let Some(entry) = node.and_then(|node| node.entry(key)) else { break };
            place = entry.value.place;
            node = Some(&entry.value);
        }
        let field = keys.iter().fold(String::new(), |path, key| join(&path, key));
        Problem::new(&self.file, place, field, message)
    }
}

/// The namespace and name of an object, as far as it has them.
fn full_name(root: &Node) -> (Option<String>, String) {
    let metadata = root.field("metadata");
    let text = |key| metadata.and_then(|metadata| metadata.field(key)).and_then(Node::as_text);
    (text("namespace").map(str::to_owned), text("name").unwrap_or_default().to_owned())
}

/// A header field's text, or the place, field and reason why there is none.
fn header<'a>(root: &'a Node, key: &'static str) -> Result<&'a str, (Place, &'static str, String)> {
    if !matches!(root.value, Value::Map(_)) {
        return Err((root.place, "", "not a Kubernetes object: must be a map".to_owned()));
    }
    let Some(node) = root.field(key) else {
        return Err((root.place, key, "must be set".to_owned()));
    };
    node.as_text().filter(|text| !text.is_empty()).ok_or((
        node.place,
        key,
        format!("must be text, not {}", node.kind()),
    ))
}

fn list<'a>(root: &'a Node, key: &str) -> Option<&'a [Node]> {
    match &root.field(key)?.value {
        Value::List(items) => Some(items),
        _ => None,
    }
}

/// The items of a list object, moved out of it: lists in lists must not cost a copy each.
fn into_items(root: Node) -> Vec<Node> {
    let Value::Map(entries) = root.value else { return Vec::new() };
    let items = entries.into_iter().find(|entry| &*entry.key == "items");
    match items.map(|entry| entry.value.value) {
        Some(Value::List(items)) => items,
        _ => Vec::new(),
    }
}

/// The path of the field `key` of the map at `path`.
pub(crate) fn join(path: &str, key: &str) -> String {
    let plain = !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    match (plain, path.is_empty()) {
        (true, true) => key.to_owned(),
        (true, false) => format!("{path}.{key}"),
        (false, _) => format!("{path}[{key}]"),
    }
}

impl Node {
    /// The entry under `key`, if this is a map that has it.
    pub(crate) fn entry(&self, key: &str) -> Option<&Entry> {
        match &self.value {
            Value::Map(entries) => entries.iter().find(|entry| &*entry.key == key),
            _ => None,
        }
    }

    /// The value under `key`; null is as absent.
    pub(crate) fn field(&self, key: &str) -> Option<&Self> {
        let node = &self.entry(key)?.value;
        (!matches!(node.value, Value::Null)).then_some(node)
    }

    /// The text, if this is text.
    pub(crate) fn as_text(&self) -> Option<&str> {
        match &self.value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// What this is, as messages call it.
    pub(crate) fn kind(&self) -> String {
        match &self.value {
            Value::Null => "null".to_owned(),
            Value::Bool(value) => format!("the boolean {value}; quote it if text is meant"),
            Value::Integer(value) => format!("the number {value}; quote it if text is meant"),
            Value::Float(value) => format!("the number {value:?}; quote it if text is meant"),
            Value::Ambiguous(word) => {
                format!("`{word}`, a boolean to YAML 1.1; quote it, or write true or false")
            }
            Value::Text(text) if text.is_empty() => "empty text".to_owned(),
            Value::Text(_) => "text".to_owned(),
            Value::List(_) => "a list".to_owned(),
            Value::Map(_) => "a map".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests;
