//! Many name patterns, asked at once which of them match a name.
//!
//! Names without stars stand in a hash map, the others in a trie of labels from the right. The
//! edges of a trie node are literal labels, a star alone, and globs grouped by what stands before
//! their first star and after their last, so that the time depends on the length of the name and
//! not on the number of patterns. Only globs with the same ends and different middles
//! (`*a*.example.com`, `*b*.example.com`) are tried one by one.
//!
//! A copy costs nothing, and a pattern put in or taken out of it what that pattern costs.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use imbl::GenericHashMap;
use imbl::shared_ptr::DefaultSharedPtr;
use model::{LabelGlob, Name, NameRef, Pattern, PatternKind};
use rustc_hash::FxBuildHasher;

/// The number of a pattern among those of its table or index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SelectorId(pub u32);

/// A set of patterns, each with its number.
#[derive(Clone, Debug, Default)]
pub struct PatternIndex {
    all: Vec<SelectorId>,
    exact: SharedMap<Name, Vec<SelectorId>>,
    root: Node,
}

type SharedMap<K, V> = GenericHashMap<K, V, FxBuildHasher, DefaultSharedPtr>;

/// What is known after some labels of a name, read from the right.
#[derive(Clone, Debug, Default)]
struct Node {
    /// Patterns that end here.
    here: Vec<SelectorId>,
    /// Patterns that take one or more labels of any text from here.
    deep: Vec<SelectorId>,
    literals: SharedMap<Box<[u8]>, Arc<Node>>,
    star: Option<Arc<(LabelGlob, Node)>>,
    globs: Globs,
}

/// Edges for globs that are neither a literal nor a star alone.
#[derive(Clone, Debug, Default)]
struct Globs {
    by_prefix: Parts<Arc<Suffixes>>,
}

/// The globs with one prefix.
#[derive(Clone, Debug, Default)]
struct Suffixes {
    by_suffix: Parts<Bucket>,
}

/// The globs with the same ends.
type Bucket = Arc<Vec<(LabelGlob, Node)>>;

/// Values by the beginnings or ends of labels.
#[derive(Clone, Debug)]
struct Parts<V> {
    values: SharedMap<Box<[u8]>, V>,
    /// How many keys there are of each length.
    lengths: BTreeMap<usize, usize>,
}

/// The labels of a name, the rightmost last.
struct Question<'a> {
    labels: [&'a [u8]; MAX_LABELS],
    count: usize,
    /// How many labels, from the left, a star could match.
    plain: usize,
}

/// A name of 255 bytes has at most this many labels of one byte.
const MAX_LABELS: usize = 127;

impl PatternIndex {
    /// The index of these patterns; their numbers count from 0.
    pub fn new<'a>(patterns: impl IntoIterator<Item = &'a Pattern>) -> Self {
        let mut index = Self::default();
        for (id, pattern) in (0..).map(SelectorId).zip(patterns) {
            index.insert(pattern, id);
        }
        index
    }

    /// Puts in a pattern under a number that no other has.
    pub fn insert(&mut self, pattern: &Pattern, id: SelectorId) {
        match pattern.kind() {
            PatternKind::Nothing => {}
            PatternKind::All => self.all.push(id),
            PatternKind::Exact(name) => self.exact.entry(name.clone()).or_default().push(id),
            PatternKind::Labels { deep, globs } => self.root.insert(globs, *deep, id),
        }
    }

    /// Takes out the pattern that was put in under a number.
    pub fn remove(&mut self, pattern: &Pattern, id: SelectorId) {
        match pattern.kind() {
            PatternKind::Nothing => {}
            PatternKind::All => self.all.retain(|own| *own != id),
            PatternKind::Exact(name) => {
                let Some(ids) = self.exact.get_mut(name) else { return };
                ids.retain(|own| *own != id);
                if ids.is_empty() {
                    self.exact.remove(name);
                }
            }
            PatternKind::Labels { deep, globs } => self.root.remove(globs, *deep, id),
        }
    }

    /// Whether any pattern matches.
    pub fn matches(&self, name: NameRef<'_>) -> bool {
        self.visit(name, &mut |_| ControlFlow::Break(())).is_break()
    }

    /// Whether a name without stars among the patterns is this one.
    pub fn names(&self, name: NameRef<'_>) -> bool {
        self.exact.contains_key(name.as_wire())
    }

    /// Adds the numbers of all patterns that match, in order.
    pub fn collect(&self, name: NameRef<'_>, into: &mut Vec<SelectorId>) {
        let start = into.len();
        let _ = self.visit(name, &mut |ids| {
            into.extend_from_slice(ids);
            ControlFlow::Continue(())
        });
        into[start..].sort_unstable();
    }

    /// Calls `found` with each group of matching patterns until it breaks.
    fn visit(
        &self,
        name: NameRef<'_>,
        found: &mut impl FnMut(&[SelectorId]) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        report(&self.all, found)?;
        if let Some(ids) = self.exact.get(name.as_wire()) {
            report(ids, found)?;
        }
        let question = Question::new(name);
        self.root.visit(&question, question.count, found)
    }
}

fn report(
    ids: &[SelectorId],
    found: &mut impl FnMut(&[SelectorId]) -> ControlFlow<()>,
) -> ControlFlow<()> {
    if ids.is_empty() { ControlFlow::Continue(()) } else { found(ids) }
}

impl<'a> Question<'a> {
    fn new(name: NameRef<'a>) -> Self {
        let mut question = Self { labels: [&[]; MAX_LABELS], count: 0, plain: 0 };
        for label in name.labels().take(MAX_LABELS) {
            if question.plain == question.count && is_plain(label) {
                question.plain += 1;
            }
            question.labels[question.count] = label;
            question.count += 1;
        }
        question
    }
}

/// Whether a star can match this label.
fn is_plain(label: &[u8]) -> bool {
    label.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

impl Node {
    /// Puts in a pattern whose labels from here on to the left are `globs`, the leftmost first.
    fn insert(&mut self, globs: &[LabelGlob], deep: bool, id: SelectorId) {
        let Some((glob, rest)) = globs.split_last() else {
            let ids = if deep { &mut self.deep } else { &mut self.here };
            ids.push(id);
            return;
        };
        if let Some(literal) = glob.literal() {
            let next = self.literals.entry(literal.as_bytes().into()).or_default();
            Arc::make_mut(next).insert(rest, deep, id);
        } else if glob.is_star() {
            let star = self.star.get_or_insert_with(|| Arc::new((glob.clone(), Self::default())));
            Arc::make_mut(star).1.insert(rest, deep, id);
        } else {
            self.globs.insert(glob, |next| next.insert(rest, deep, id));
        }
    }

    fn remove(&mut self, globs: &[LabelGlob], deep: bool, id: SelectorId) {
        let Some((glob, rest)) = globs.split_last() else {
            let ids = if deep { &mut self.deep } else { &mut self.here };
            ids.retain(|own| *own != id);
            return;
        };
        if let Some(literal) = glob.literal() {
            let literal = literal.as_bytes();
            let Some(next) = self.literals.get_mut(literal).map(Arc::make_mut) else { return };
            next.remove(rest, deep, id);
            if next.is_empty() {
                self.literals.remove(literal);
            }
        } else if glob.is_star() {
            let Some(star) = self.star.as_mut().map(Arc::make_mut) else { return };
            star.1.remove(rest, deep, id);
            if star.1.is_empty() {
                self.star = None;
            }
        } else {
            self.globs.remove(glob, |next| next.remove(rest, deep, id));
        }
    }

    /// Whether no pattern ends here or further to the left.
    fn is_empty(&self) -> bool {
        self.here.is_empty()
            && self.deep.is_empty()
            && self.literals.is_empty()
            && self.star.is_none()
            && self.globs.by_prefix.values.is_empty()
    }

    /// Looks at the `left` labels that are not read yet.
    fn visit(
        &self,
        question: &Question<'_>,
        left: usize,
        found: &mut impl FnMut(&[SelectorId]) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        if left == 0 {
            return report(&self.here, found);
        }
        if left <= question.plain {
            report(&self.deep, found)?;
        }
        let (label, left) = (question.labels[left - 1], left - 1);
        if let Some(next) = self.literals.get(label) {
            next.visit(question, left, found)?;
        }
        if let Some((_, next)) = self.star.as_deref().filter(|(glob, _)| glob.matches(label)) {
            next.visit(question, left, found)?;
        }
        for bucket in self.globs.buckets(label) {
            for (_, next) in bucket.iter().filter(|(glob, _)| glob.matches(label)) {
                next.visit(question, left, found)?;
            }
        }
        ControlFlow::Continue(())
    }
}

impl Globs {
    fn insert(&mut self, glob: &LabelGlob, change: impl FnOnce(&mut Node)) {
        let (prefix, suffix) = ends(glob);
        let suffixes = Arc::make_mut(self.by_prefix.make(prefix));
        let bucket = Arc::make_mut(suffixes.by_suffix.make(suffix));
        let place = bucket.iter().position(|(known, _)| known == glob).unwrap_or_else(|| {
            bucket.push((glob.clone(), Node::default()));
            bucket.len() - 1
        });
        change(&mut bucket[place].1);
    }

    fn remove(&mut self, glob: &LabelGlob, change: impl FnOnce(&mut Node)) {
        let (prefix, suffix) = ends(glob);
        let Some(suffixes) = self.by_prefix.values.get_mut(prefix).map(Arc::make_mut) else {
            return;
        };
        let Some(bucket) = suffixes.by_suffix.values.get_mut(suffix) else { return };
        let bucket = Arc::make_mut(bucket);
        let Some(place) = bucket.iter().position(|(known, _)| known == glob) else { return };
        change(&mut bucket[place].1);
        if !bucket[place].1.is_empty() {
            return;
        }
        bucket.remove(place);
        if bucket.is_empty() {
            suffixes.by_suffix.remove(suffix);
        }
        if suffixes.by_suffix.values.is_empty() {
            self.by_prefix.remove(prefix);
        }
    }

    /// The globs whose prefix and suffix both fit `label`.
    fn buckets(&self, label: &[u8]) -> impl Iterator<Item = &Bucket> {
        let prefixes = self.by_prefix.lengths().map_while(|length| label.get(..length));
        prefixes.filter_map(|prefix| self.by_prefix.values.get(prefix)).flat_map(move |suffixes| {
            let ends = &suffixes.by_suffix;
            let starts = ends.lengths().map_while(|length| label.len().checked_sub(length));
            starts.filter_map(move |start| ends.values.get(&label[start..]))
        })
    }
}

/// What stands before a glob's first star and after its last.
fn ends(glob: &LabelGlob) -> (&[u8], &[u8]) {
    (glob.prefix().as_bytes(), glob.suffix().unwrap_or("").as_bytes())
}

impl<V> Default for Parts<V> {
    fn default() -> Self {
        Self { values: SharedMap::default(), lengths: BTreeMap::new() }
    }
}

impl<V: Clone + Default> Parts<V> {
    fn make(&mut self, part: &[u8]) -> &mut V {
        let known = self.values.contains_key(part);
        if !known {
            *self.lengths.entry(part.len()).or_default() += 1;
        }
        self.values.entry(part.into()).or_default()
    }

    fn remove(&mut self, part: &[u8]) {
        if self.values.remove(part).is_none() {
            return;
        }
        match self.lengths.get_mut(&part.len()) {
            Some(count) if *count > 1 => *count -= 1,
            Some(_) | None => drop(self.lengths.remove(&part.len())),
        }
    }

    /// The lengths of the keys, ascending.
    fn lengths(&self) -> impl Iterator<Item = usize> {
        self.lengths.keys().copied()
    }
}

#[cfg(test)]
mod tests {
    use std::hint::black_box;
    use std::time::Instant;

    use proptest::prelude::*;

    use super::*;

    fn pattern(text: &str) -> Pattern {
        Pattern::match_pattern(text).unwrap()
    }

    fn found(index: &PatternIndex, name: &str) -> Vec<u32> {
        let mut ids = Vec::new();
        index.collect(name.parse::<Name>().unwrap().as_ref(), &mut ids);
        ids.into_iter().map(|id| id.0).collect()
    }

    #[test]
    fn tells_every_pattern_that_matches() {
        let texts = [
            "*",
            "example.com",
            "*.example.com",
            "**.example.com",
            "a*.example.com",
            "*z.example.com",
            "a*z.example.com",
            "a*m*z.example.com",
            "*.*.com",
            "api.*.com",
            "example.com.",
            "a*.example.com",
        ];
        let patterns = texts.map(pattern);
        let index = PatternIndex::new(&patterns);
        assert_eq!(found(&index, "example.com"), [0, 1, 10]);
        assert_eq!(found(&index, "az.example.com"), [0, 2, 3, 4, 5, 6, 8, 11]);
        assert_eq!(found(&index, "amz.example.com"), [0, 2, 3, 4, 5, 6, 7, 8, 11]);
        assert_eq!(found(&index, "api.x.com"), [0, 8, 9]);
        assert_eq!(found(&index, "a.b.example.com"), [0, 3]);
        assert_eq!(found(&index, "."), [0]);
        assert_eq!(found(&index, "a\\.b.example.com"), [0]);
        let names = |name: &str| index.names(name.parse::<Name>().unwrap().as_ref());
        assert!(names("example.com") && !names("az.example.com") && !names("com"));
    }

    #[test]
    fn adds_behind_what_is_there() {
        let index = PatternIndex::new(&[pattern("*.com")]);
        let mut ids = vec![SelectorId(7)];
        index.collect("a.com".parse::<Name>().unwrap().as_ref(), &mut ids);
        assert_eq!(ids, [SelectorId(7), SelectorId(0)]);
    }

    #[test]
    fn ten_thousand_patterns_cost_about_what_ten_cost() {
        let index = |count: usize| {
            let patterns: Vec<Pattern> =
                (0..count).map(|i| pattern(&format!("svc{i}*.example.com"))).collect();
            PatternIndex::new(&patterns)
        };
        let other: Name = "other.example.com".parse().unwrap();
        let near: Name = "svc5-x.example.com".parse().unwrap();
        let once = |index: &PatternIndex| {
            let start = Instant::now();
            for _ in 0..5_000 {
                assert!(black_box(index).matches(near.as_ref()));
                assert!(!black_box(index).matches(other.as_ref()));
            }
            start.elapsed()
        };
        // The best of several, because other work on the machine only ever makes it slower.
        let time = |index: &PatternIndex| (0..5).map(|_| once(index)).min().unwrap();
        let (few, many) = (time(&index(10)), time(&index(10_000)));
        println!("10,000 names: {few:?} with 10 patterns, {many:?} with 10,000");
        assert!(many < few * 20, "{many:?} is out of proportion to {few:?}");
    }

    fn label() -> impl Strategy<Value = String> {
        prop_oneof![4 => "[ab]{1,3}", 1 => "[a\\*]{1,4}", 2 => "[ab\\*]{1,5}", 1 => Just("*".into())]
    }

    fn any_pattern() -> impl Strategy<Value = Pattern> {
        let labels = prop::collection::vec(label(), 1..4);
        (labels, any::<bool>()).prop_map(|(labels, deep)| {
            pattern(&format!("{}{}", if deep { "**." } else { "" }, labels.join(".")))
        })
    }

    fn any_name() -> impl Strategy<Value = Name> {
        let label = prop_oneof![6 => "[ab]{1,4}", 1 => "[ab!]{1,2}"];
        prop::collection::vec(label, 0..5)
            .prop_map(|labels| format!("{}.", labels.join(".")).parse().unwrap())
    }

    proptest! {
        #[test]
        fn agrees_with_each_pattern_asked_alone(
            patterns in prop::collection::vec(any_pattern(), 0..20),
            gone in prop::collection::vec(any_pattern(), 0..20),
            names in prop::collection::vec(any_name(), 1..10),
        ) {
            let mut index = PatternIndex::default();
            let gone = || (100..).map(SelectorId).zip(&gone);
            gone().for_each(|(id, pattern)| index.insert(pattern, id));
            for (id, pattern) in (0..).map(SelectorId).zip(&patterns) {
                index.insert(pattern, id);
            }
            gone().for_each(|(id, pattern)| index.remove(pattern, id));
            let mut empty = index.clone();
            for (id, pattern) in (0..).map(SelectorId).zip(&patterns) {
                empty.remove(pattern, id);
            }
            prop_assert!(empty.all.is_empty() && empty.exact.is_empty() && empty.root.is_empty());
            for name in &names {
                let expected: Vec<SelectorId> = (0..)
                    .map(SelectorId)
                    .zip(&patterns)
                    .filter(|(_, pattern)| pattern.matches(name.as_ref()))
                    .map(|(id, _)| id)
                    .collect();
                let mut ids = Vec::new();
                index.collect(name.as_ref(), &mut ids);
                prop_assert_eq!(&ids, &expected, "{}", name);
                prop_assert_eq!(index.matches(name.as_ref()), !expected.is_empty());
            }
        }
    }
}
