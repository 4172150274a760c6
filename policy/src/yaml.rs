//! YAML text to trees whose every node knows its place.
//!
//! Trees are bounded: file size, depth, and the number of nodes that a file may hold once its
//! aliases are written out. What YAML 1.1 and 1.2 read differently (`yes`, `on`, ...) is kept as
//! what it is: a boolean where only one can stand, and never text, so that nobody guesses. Merge
//! keys (`<<`) are honoured, as by `kubectl`, but for a key that stands both in the map and in what
//! is merged into it.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use serde_saphyr::granit_parser::{Event, Parser, ScalarStyle, ScanError, Span, Tag};

use crate::problem::{Place, Problem};

/// The longest file, in bytes.
pub(crate) const MAX_FILE_LEN: usize = 8 << 20;
/// The deepest nesting.
const MAX_DEPTH: usize = 64;
/// The most nodes in one file, aliases written out.
const MAX_NODES: usize = 1 << 20;

/// A value and where it begins.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub place: Place,
    pub value: Value,
}

#[derive(Clone, Debug)]
pub(crate) enum Value {
    Null,
    Bool(bool),
    Integer(i64),
    Float(f64),
    /// A word that is a boolean to some readers and text to others.
    Ambiguous(Arc<str>),
    Text(Arc<str>),
    List(Vec<Node>),
    /// The entries in the order of the text; no key stands twice.
    Map(Vec<Entry>),
}

/// One entry of a map.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub key: Arc<str>,
    pub place: Place,
    pub value: Node,
}

/// The documents of a file; a broken one gives a problem in its place.
pub(crate) fn parse(file: &Arc<Path>, text: &str) -> Vec<Result<Node, Problem>> {
    if text.len() > MAX_FILE_LEN {
        let message = format!("has {} bytes, at most {MAX_FILE_LEN} are read", text.len());
        return vec![Err(Problem::new(file, Place { line: 1, column: 1 }, "", message))];
    }
    let mut parser = Parser::new_from_str(text);
    let mut documents = Vec::new();
    let mut nodes = 0;
    loop {
        match document(&mut parser, &mut nodes) {
            Ok(Some(node)) => documents.push(Ok(node)),
            Ok(None) => return documents,
            Err(Flaw(place, message)) => {
                documents.push(Err(Problem::new(file, place, "", message)));
                match parser.proceed_next_document() {
                    Ok(true) if nodes < MAX_NODES => {}
                    Ok(_) => return documents,
                    Err(error) => {
                        let Flaw(place, message) = error.into();
                        documents.push(Err(Problem::new(file, place, "", message)));
                        return documents;
                    }
                }
            }
        }
    }
}

/// Why a document is not taken, and the place.
struct Flaw(Place, String);

impl From<ScanError> for Flaw {
    fn from(error: ScanError) -> Self {
        let place = Place { line: error.marker().line(), column: error.marker().col() + 1 };
        Self(place, format!("not YAML: {}", error.kind()))
    }
}

type Events<'input> = Parser<'input, serde_saphyr::granit_parser::StrInput<'input>>;

/// The next document's root, or none at the end of the file.
fn document(parser: &mut Events<'_>, nodes: &mut usize) -> Result<Option<Node>, Flaw> {
    let mut tree = Tree { open: Vec::new(), anchors: HashMap::new(), root: None, nodes };
    while let Some(event) = parser.next_event() {
        let (event, span) = event?;
        match event {
            Event::DocumentEnd => return Ok(tree.root),
            Event::StreamEnd => return Ok(None),
            event => tree.handle_event(event, &span)?,
        }
    }
    Ok(None)
}

/// A document being built from events.
struct Tree<'a> {
    open: Vec<Open>,
    anchors: HashMap<usize, Node>,
    root: Option<Node>,
    nodes: &'a mut usize,
}

/// A list or map whose end has not come.
struct Open {
    node: Node,
    anchor: usize,
    /// In a map: the key whose value comes next.
    key: Option<(Arc<str>, Place)>,
}

impl Tree<'_> {
    fn handle_event(&mut self, event: Event<'_>, span: &Span) -> Result<(), Flaw> {
        let place = Place { line: span.start.line(), column: span.start.col() + 1 };
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let value = scalar(&text, style, tag.as_deref(), self.wants_key(), place)?;
                self.count(1, place)?;
                self.add(Node { place, value }, anchor)
            }
            Event::SequenceStart(_, anchor, tag) => {
                self.open(Value::List(Vec::new()), anchor, tag.as_deref(), place)
            }
            Event::MappingStart(_, anchor, tag) => {
                self.open(Value::Map(Vec::new()), anchor, tag.as_deref(), place)
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(),
            Event::Alias(anchor) => {
                let Some(node) = self.anchors.get(&anchor) else {
                    return Err(Flaw(place, "an alias stands inside of what it names".to_owned()));
                };
                if depth(node) + self.open.len() > MAX_DEPTH {
                    return Err(too_deep(place));
                }
                let count = size(node);
                let node = Node { place, value: node.value.clone() };
                self.count(count, place)?;
                self.add(node, 0)
            }
            _ => Ok(()),
        }
    }

    fn count(&mut self, added: usize, place: Place) -> Result<(), Flaw> {
        *self.nodes = self.nodes.saturating_add(added);
        if *self.nodes <= MAX_NODES {
            return Ok(());
        }
        Err(Flaw(place, format!("the file has over {MAX_NODES} values, aliases written out")))
    }

    /// Whether the next node is a map's key.
    fn wants_key(&self) -> bool {
        matches!(
            self.open.last(),
            Some(Open { node: Node { value: Value::Map(_), .. }, key: None, .. })
        )
    }

    fn open(
        &mut self,
        value: Value,
        anchor: usize,
        tag: Option<&Tag>,
        place: Place,
    ) -> Result<(), Flaw> {
        if let Some(tag) = tag.filter(|tag| !matches!(tag.core_suffix(), Some("map" | "seq"))) {
            return Err(unknown_tag(tag, place));
        }
        if self.wants_key() {
            return Err(Flaw(place, "a key must be text".to_owned()));
        }
        if self.open.len() >= MAX_DEPTH {
            return Err(too_deep(place));
        }
        self.count(1, place)?;
        self.open.push(Open { node: Node { place, value }, anchor, key: None });
        Ok(())
    }

    fn close(&mut self) -> Result<(), Flaw> {
        let Some(Open { mut node, anchor, .. }) = self.open.pop() else { return Ok(()) };
        if let Value::Map(entries) = &mut node.value {
            check_keys(entries)?;
            if let Some(merged) = entries.iter().position(|entry| &*entry.key == "<<") {
                let merged = entries.remove(merged).value;
                merge(entries, merged)?;
                check_keys(entries)?;
            }
        }
        self.add(node, anchor)
    }

    /// Puts a finished node where it belongs.
    fn add(&mut self, node: Node, anchor: usize) -> Result<(), Flaw> {
        if anchor != 0 {
            self.count(size(&node), node.place)?;
            self.anchors.insert(anchor, node.clone());
        }
        let Some(open) = self.open.last_mut() else {
            self.root = Some(node);
            return Ok(());
        };
        match (&mut open.node.value, open.key.take()) {
            (Value::Map(entries), Some((key, place))) => {
                entries.push(Entry { key, place, value: node });
            }
            (Value::Map(_), None) => match node.value {
                Value::Text(key) => open.key = Some((key, node.place)),
                _ => return Err(Flaw(node.place, "a key must be text".to_owned())),
            },
            (Value::List(items), _) => items.push(node),
            _ => {}
        }
        Ok(())
    }
}

fn too_deep(place: Place) -> Flaw {
    Flaw(place, format!("nested deeper than {MAX_DEPTH} levels"))
}

fn unknown_tag(tag: &Tag, place: Place) -> Flaw {
    Flaw(place, format!("the tag `{}` is not supported", tag.original()))
}

/// Puts the entries of a map, or of several in a list, among those of another.
fn merge(into: &mut Vec<Entry>, from: Node) -> Result<(), Flaw> {
    match from.value {
        Value::Map(entries) => into.extend(entries),
        Value::List(items) => {
            for item in items {
                let Value::Map(entries) = item.value else { return Err(no_map(item.place)) };
                into.extend(entries);
            }
        }
        _ => return Err(no_map(from.place)),
    }
    Ok(())
}

fn no_map(place: Place) -> Flaw {
    Flaw(place, "only maps can be merged (`<<`)".to_owned())
}

/// Refuses a key that stands twice.
fn check_keys(entries: &[Entry]) -> Result<(), Flaw> {
    let mut keys: Vec<&Entry> = entries.iter().collect();
    keys.sort_by(|a, b| (&a.key, a.place).cmp(&(&b.key, b.place)));
    if let Some(pair) = keys.windows(2).find(|pair| pair[0].key == pair[1].key) {
        let first = pair[0].place.line;
        let message = format!("the key `{}` stands twice, first in line {first}", pair[1].key);
        return Err(Flaw(pair[1].place, message));
    }
    Ok(())
}

fn size(node: &Node) -> usize {
    1 + match &node.value {
        Value::List(items) => items.iter().map(size).sum(),
        Value::Map(entries) => entries.iter().map(|entry| 1 + size(&entry.value)).sum(),
        _ => 0,
    }
}

fn depth(node: &Node) -> usize {
    match &node.value {
        Value::List(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Map(entries) => 1 + entries.iter().map(|e| depth(&e.value)).max().unwrap_or(0),
        _ => 0,
    }
}

fn scalar(
    text: &str,
    style: ScalarStyle,
    tag: Option<&Tag>,
    is_key: bool,
    place: Place,
) -> Result<Value, Flaw> {
    match tag {
        None if style == ScalarStyle::Plain && !is_key => Ok(resolve(text)),
        None => Ok(Value::Text(text.into())),
        Some(tag) if tag.core_suffix() == Some("str") => Ok(Value::Text(text.into())),
        Some(tag) => Err(unknown_tag(tag, place)),
    }
}

/// The value of an unquoted scalar: the core schema of YAML 1.2 (section 10.3.2), and the numbers
/// of YAML 1.1, which Kubernetes takes too.
fn resolve(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "true" | "True" | "TRUE" => return Value::Bool(true),
        "false" | "False" | "FALSE" => return Value::Bool(false),
        _ => {}
    }
    let lower = text.to_ascii_lowercase();
    if matches!(&*lower, "y" | "n" | "yes" | "no" | "on" | "off") {
        return Value::Ambiguous(text.into());
    }
    number(text).unwrap_or_else(|| Value::Text(text.into()))
}

fn number(text: &str) -> Option<Value> {
    let first = text.trim_start_matches(['+', '-']).bytes().next()?;
    if !first.is_ascii_digit() && first != b'.' {
        return None;
    }
    let plain = text.replace('_', "");
    for (prefix, radix) in [("0x", 16), ("0o", 8), ("0b", 2)] {
        if let Some(digits) = plain.strip_prefix(prefix) {
            return i64::from_str_radix(digits, radix).ok().map(Value::Integer);
        }
    }
    if plain.len() > 1 && plain.starts_with('0') && plain.bytes().all(|b| (b'0'..b'8').contains(&b))
    {
        return i64::from_str_radix(&plain, 8).ok().map(Value::Integer);
    }
    if let Ok(integer) = plain.parse() {
        return Some(Value::Integer(integer));
    }
    plain.parse().ok().map(Value::Float)
}
