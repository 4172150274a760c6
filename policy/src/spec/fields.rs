//! A walk through a document that collects what is wrong with it.
//!
//! The checks go on behind a problem, so that a document's problems are told together.

use std::path::Path;
use std::sync::Arc;

use crate::document::join;
use crate::problem::{Place, Problem};
use crate::yaml::{Entry, Node, Value};

/// The most problems, and the most warnings, that are told of one document.
const MAX_TOLD: usize = 100;
/// The longest field name that is compared with the known ones.
const MAX_COMPARED: usize = 64;

/// What has been found so far.
pub(super) struct Check {
    file: Arc<Path>,
    problems: Vec<Problem>,
    warnings: Vec<Problem>,
}

/// A value, and the path that leads to it.
#[derive(Clone, Debug)]
pub(super) struct At<'n> {
    node: &'n Node,
    path: String,
}

/// The entries of a map that has known ones only.
pub(super) struct Fields<'n> {
    at: At<'n>,
    entries: Vec<(&'n str, At<'n>)>,
}

impl<'n> At<'n> {
    pub(super) fn root(node: &'n Node) -> Self {
        Self { node, path: String::new() }
    }

    /// The line where the value begins.
    pub(super) fn line(&self) -> usize {
        self.node.place.line
    }

    fn entry(&self, entry: &'n Entry) -> (&'n str, Self) {
        (&entry.key, Self { node: &entry.value, path: join(&self.path, &entry.key) })
    }

    pub(super) fn is_null(&self) -> bool {
        matches!(self.node.value, Value::Null)
    }
}

impl<'n> Fields<'n> {
    /// The map.
    pub(super) fn itself(&self) -> &At<'n> {
        &self.at
    }

    /// The value of a field; null is as absent.
    pub(super) fn field(&self, key: &str) -> Option<At<'n>> {
        let (_, at) = self.entries.iter().find(|(known, _)| *known == key)?;
        (!at.is_null()).then(|| at.clone())
    }

    /// The place of a field, or of the map where it is absent.
    pub(super) fn at(&self, key: &str) -> &At<'n> {
        self.entries.iter().find(|(known, _)| *known == key).map_or(&self.at, |(_, at)| at)
    }
}

impl Check {
    pub(super) fn new(file: &Arc<Path>) -> Self {
        Self { file: Arc::clone(file), problems: Vec::new(), warnings: Vec::new() }
    }

    /// The problems and the warnings, in the order of the text.
    pub(super) fn finish(mut self) -> (Vec<Problem>, Vec<Problem>) {
        self.problems.sort();
        self.warnings.sort();
        (self.problems, self.warnings)
    }

    pub(super) fn problem(&mut self, at: &At<'_>, message: impl Into<String>) {
        self.problem_at(at.node.place, at.path.clone(), message);
    }

    fn problem_at(&mut self, place: Place, path: String, message: impl Into<String>) {
        if self.problems.len() < MAX_TOLD {
            self.problems.push(Problem::new(&self.file, place, path, message));
        }
    }

    pub(super) fn warn(&mut self, at: &At<'_>, message: impl Into<String>) {
        if self.warnings.len() < MAX_TOLD {
            self.warnings.push(Problem::new(&self.file, at.node.place, at.path.clone(), message));
        }
    }

    /// Refuses a field that Cilium knows.
    pub(super) fn not_yet(&mut self, at: &At<'_>) {
        self.problem(at, "is not enforced yet, so no policy that has it is accepted");
    }

    fn expected(&mut self, at: &At<'_>, what: &str) {
        self.problem(at, format!("must be {what}, not {}", at.node.kind()));
    }

    /// A map's entries, whatever their keys.
    pub(super) fn entries<'n>(&mut self, at: &At<'n>) -> Option<Vec<(&'n str, At<'n>)>> {
        let Value::Map(entries) = &at.node.value else {
            self.expected(at, "a map");
            return None;
        };
        Some(entries.iter().map(|entry| at.entry(entry)).collect())
    }

    /// A map's entries, with a problem for each that is not `known`.
    pub(super) fn fields<'n>(&mut self, at: &At<'n>, known: &[&str]) -> Option<Fields<'n>> {
        let Value::Map(entries) = &at.node.value else {
            self.expected(at, "a map");
            return None;
        };
        for entry in entries.iter().filter(|entry| !known.contains(&&*entry.key)) {
            let message = unknown_field(&entry.key, known);
            self.problem_at(entry.place, join(&at.path, &entry.key), message);
        }
        let entries = entries.iter().map(|entry| at.entry(entry)).collect();
        Some(Fields { at: at.clone(), entries })
    }

    /// The value of a field that must not be null, if it is there.
    pub(super) fn present<'n>(&mut self, fields: &Fields<'n>, key: &str) -> Option<At<'n>> {
        let (_, at) = fields.entries.iter().find(|(known, _)| *known == key)?;
        if at.is_null() {
            self.problem(at, "must not be null: leave the field out, or give it a value");
            return None;
        }
        Some(at.clone())
    }

    pub(super) fn list<'n>(&mut self, at: &At<'n>) -> Option<Vec<At<'n>>> {
        let Value::List(items) = &at.node.value else {
            self.expected(at, "a list");
            return None;
        };
        let path = |index| format!("{}[{index}]", at.path);
        Some(items.iter().enumerate().map(|(i, node)| At { node, path: path(i) }).collect())
    }

    pub(super) fn text<'n>(&mut self, at: &At<'n>) -> Option<&'n str> {
        let text = at.node.as_text();
        if text.is_none() {
            self.expected(at, "text");
        }
        text
    }

    pub(super) fn boolean(&mut self, at: &At<'_>) -> Option<bool> {
        let Value::Bool(value) = at.node.value else {
            self.expected(at, "true or false");
            return None;
        };
        Some(value)
    }

    pub(super) fn integer(&mut self, at: &At<'_>) -> Option<i64> {
        let Value::Integer(value) = at.node.value else {
            self.expected(at, "a whole number");
            return None;
        };
        Some(value)
    }
}

/// The message for a field that nobody knows, with the known one that it is most like.
fn unknown_field(field: &str, known: &[&str]) -> String {
    if field.len() > MAX_COMPARED {
        return "is no field that is known here".to_owned();
    }
    let like = |known: &&str| {
        strsim::damerau_levenshtein(&known.to_ascii_lowercase(), &field.to_ascii_lowercase())
    };
    match known.iter().copied().min_by_key(like) {
        Some(nearest) if like(&nearest) <= 3.min(field.chars().count() / 2) => {
            format!("is no field that is known here; did you mean {nearest}?")
        }
        _ => "is no field that is known here".to_owned(),
    }
}
