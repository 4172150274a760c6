//! A walk through a document that collects what is wrong with it.
//!
//! The checks go on behind a problem, so that a document's problems are told together.

use std::path::Path;
use std::sync::Arc;

use crate::document::join;
use crate::options::Options;
use crate::problem::{Place, Problem};
use crate::rule::{Spot, Unenforced};
use crate::yaml::{Entry, Node, Value};

/// The most problems, and the most warnings, that are told of one document.
const MAX_TOLD: usize = 100;
/// The longest field name that is compared with the known ones.
const MAX_COMPARED: usize = 64;

/// What has been found so far.
pub(super) struct Check {
    pub(super) options: Options,
    /// The policy's namespace; none for a clusterwide one.
    pub(super) namespace: Option<String>,
    file: Arc<Path>,
    problems: Vec<Problem>,
    warnings: Vec<Problem>,
    unenforced: Vec<Problem>,
}

/// Everything that was found.
pub(super) struct Findings {
    pub(super) problems: Vec<Problem>,
    pub(super) warnings: Vec<Problem>,
    pub(super) unenforced: Vec<Problem>,
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

    /// The value, if it is a whole number, however it was written.
    pub(super) fn number(&self) -> Option<i64> {
        match self.node.value {
            Value::Integer(value) => Some(value),
            Value::Float(value) if value.fract() == 0.0 => {
                // A whole number beyond 64 bits is too large for every field.
                Some(value as i64)
            }
            _ => None,
        }
    }

    /// Whether this is a list without items.
    pub(super) fn is_empty_list(&self) -> bool {
        matches!(&self.node.value, Value::List(items) if items.is_empty())
    }

    /// The items, if it is a list.
    pub(super) fn items(&self) -> Vec<Self> {
        let Value::List(items) = &self.node.value else { return Vec::new() };
        let path = |index| format!("{}[{index}]", self.path);
        items.iter().enumerate().map(|(i, node)| At { node, path: path(i) }).collect()
    }

    /// The value under a key, if it is a map that has one.
    pub(super) fn value_of(&self, key: &str) -> Option<Self> {
        let Value::Map(entries) = &self.node.value else { return None };
        let entry = entries.iter().find(|entry| *entry.key == *key)?;
        Some(self.entry(entry).1)
    }

    /// Whether this is the value of such a field.
    pub(super) fn is_field(&self, key: &str) -> bool {
        self.path.strip_suffix(key).is_some_and(|path| path.is_empty() || path.ends_with('.'))
    }

    /// The value's place, to be kept.
    pub(super) fn spot(&self) -> Spot {
        let Place { line, column } = self.node.place;
        Spot { line, column, field: self.path.as_str().into() }
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
    pub(super) fn new(file: &Arc<Path>, options: Options) -> Self {
        Self {
            options,
            namespace: None,
            file: Arc::clone(file),
            problems: Vec::new(),
            warnings: Vec::new(),
            unenforced: Vec::new(),
        }
    }

    /// What was found, in the order of the text.
    pub(super) fn finish(self) -> Findings {
        let Self { mut problems, mut warnings, mut unenforced, .. } = self;
        problems.sort();
        warnings.sort();
        unenforced.sort();
        Findings { problems, warnings, unenforced }
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

    /// Warns at a place that was kept.
    pub(super) fn warn_at(&mut self, spot: &Spot, message: impl Into<String>) {
        if self.warnings.len() < MAX_TOLD {
            self.warnings.push(spot.problem(&self.file, message));
        }
    }

    /// Collects problems only, of what has no effect here.
    pub(super) fn in_silence(&mut self, check: impl FnOnce(&mut Self)) {
        let (warnings, unenforced) = (self.warnings.len(), self.unenforced.len());
        check(self);
        self.warnings.truncate(warnings);
        self.unenforced.truncate(unenforced);
    }

    /// Notes a field that is valid and not enforced here.
    pub(super) fn unenforced(&mut self, at: &At<'_>, what: Unenforced, so: &str) {
        self.not_enforced(at, format!("{what} is not enforced here, so {so}"));
    }

    /// Notes, with a message of its own, what is valid and not enforced here.
    pub(super) fn not_enforced(&mut self, at: &At<'_>, message: impl Into<String>) {
        if self.unenforced.len() < MAX_TOLD {
            let problem = at.spot().problem(&self.file, message);
            self.unenforced.push(problem.clone());
            self.warnings.push(problem);
        }
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

    /// Refuses fields that entries of `egressDeny` and `ingressDeny` do not have.
    pub(super) fn for_allowed_only(&mut self, fields: &Fields<'_>, keys: &[&str]) {
        for key in keys {
            if let Some((_, at)) = fields.entries.iter().find(|(known, _)| known == key) {
                self.problem(at, "is for what is allowed: a denial has no such field");
            }
        }
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
        if !matches!(at.node.value, Value::List(_)) {
            self.expected(at, "a list");
            return None;
        }
        Some(at.items())
    }

    pub(super) fn text<'n>(&mut self, at: &At<'n>) -> Option<&'n str> {
        let text = at.node.as_text();
        if text.is_none() {
            self.expected(at, "text");
        }
        text
    }

    /// The text of a field, if it is there and is text.
    pub(super) fn optional_text<'n>(
        &mut self,
        fields: &Fields<'n>,
        key: &str,
    ) -> Option<(At<'n>, &'n str)> {
        let at = self.present(fields, key)?;
        let text = self.text(&at)?;
        Some((at, text))
    }

    /// The text of a field that must be there and not be empty.
    pub(super) fn required_text<'n>(
        &mut self,
        fields: &Fields<'n>,
        key: &str,
    ) -> Option<(At<'n>, &'n str)> {
        match self.present(fields, key) {
            None => self.problem(fields.itself(), format!("{key} must be set")),
            Some(at) => match self.text(&at)? {
                "" => self.problem(&at, "must not be empty"),
                text => return Some((at, text)),
            },
        }
        None
    }

    /// One of some texts.
    pub(super) fn one_of<'n>(&mut self, at: &At<'n>, known: &[&str]) -> Option<&'n str> {
        let text = self.text(at)?;
        if known.contains(&text) {
            return Some(text);
        }
        self.problem(at, format!("`{text}` is none of {}{}", known.join(", "), meant(text, known)));
        None
    }

    /// True or false, also in YAML 1.1's words.
    pub(super) fn boolean(&mut self, at: &At<'_>) -> Option<bool> {
        match &at.node.value {
            Value::Bool(value) => Some(*value),
            Value::Ambiguous(word) => {
                Some(matches!(&*word.to_ascii_lowercase(), "y" | "yes" | "on"))
            }
            _ => {
                self.expected(at, "true or false");
                None
            }
        }
    }

    pub(super) fn integer(&mut self, at: &At<'_>) -> Option<i64> {
        let number = at.number();
        if number.is_none() {
            self.expected(at, "a whole number");
        }
        number
    }
}

/// The message for a field that nobody knows, with the known one that it is most like.
fn unknown_field(field: &str, known: &[&str]) -> String {
    format!("is no field that is known here{}", meant(field, known))
}

/// The question which of the known words was meant, if one is like the written one.
fn meant(field: &str, known: &[&str]) -> String {
    if field.len() > MAX_COMPARED {
        return String::new();
    }
    let like = |known: &&str| {
        strsim::damerau_levenshtein(&known.to_ascii_lowercase(), &field.to_ascii_lowercase())
    };
    match known.iter().copied().min_by_key(like) {
        Some(nearest) if like(&nearest) <= 3.min(field.chars().count() / 2) => {
            format!("; did you mean {nearest}?")
        }
        _ => String::new(),
    }
}

impl Spot {
    /// Something to say of the place.
    pub(crate) fn problem(&self, file: &Arc<Path>, message: impl Into<String>) -> Problem {
        let place = Place { line: self.line, column: self.column };
        Problem::new(file, place, &*self.field, message)
    }
}
