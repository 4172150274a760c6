//! What the rules of a pod or table say, told from what others say by one digest.
//!
//! Rules come and go at the cost of these rules: the digest is that of 256 others, each of the rules
//! whose own digests begin alike.

use std::sync::Arc;

use imbl::{OrdMap, Vector};
use model::{Digest, changes};
use policy::Meaning;

/// What one rule says.
#[derive(Debug)]
pub(crate) struct Saying {
    /// Of the rule, and of what it means in the cluster.
    pub(crate) digest: Digest,
    pub(crate) meaning: Meaning,
}

/// Two that mean the same have the same digest.
impl PartialEq for Saying {
    fn eq(&self, other: &Self) -> bool {
        self.digest == other.digest
    }
}

impl Eq for Saying {}

/// What several rules say. A copy costs nothing.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sayings {
    all: OrdMap<Digest, Arc<Saying>>,
    /// How many rules say a thing, where it is more than one.
    more: OrdMap<Digest, usize>,
    /// By the first byte of those in it; empty, or all of them.
    digests: Vector<Digest>,
}

impl Sayings {
    pub(crate) fn insert(&mut self, saying: &Arc<Saying>) {
        let digest = saying.digest;
        if self.all.contains_key(&digest) {
            *self.more.entry(digest).or_default() += 1;
            return;
        }
        self.all.insert(digest, Arc::clone(saying));
        self.refresh(digest[0]);
    }

    pub(crate) fn remove(&mut self, saying: &Saying) {
        let digest = saying.digest;
        match self.more.get_mut(&digest) {
            Some(1) => drop(self.more.remove(&digest)),
            Some(more) => *more -= 1,
            None => {
                self.all.remove(&digest);
                self.refresh(digest[0]);
            }
        }
    }

    fn refresh(&mut self, first: u8) {
        if self.digests.is_empty() {
            self.digests = std::iter::repeat_n(Digest::default(), 256).collect();
        }
        let (mut from, mut to) = (Digest::default(), [u8::MAX; 16]);
        (from[0], to[0]) = (first, first);
        let mut alike = self.all.range(from..=to).map(|(digest, _)| digest).peekable();
        let none = alike.peek().is_none();
        let digest = if none { Digest::default() } else { identity::digest("rules", alike) };
        self.digests.set(usize::from(first), digest);
    }

    /// The digest of all; none where nothing is said.
    pub(crate) fn digest(&self) -> Option<Digest> {
        (!self.all.is_empty()).then(|| identity::digest("table", &self.digests))
    }

    /// What is said, no two the same.
    pub(crate) fn meanings(&self) -> impl Iterator<Item = &Meaning> {
        self.all.values().map(|saying| &saying.meaning)
    }

    /// What is not said any more by others, and what they say instead.
    pub(crate) fn differences<'a>(
        &'a self,
        other: &'a Self,
    ) -> (Vec<&'a Meaning>, Vec<&'a Meaning>) {
        let (mut gone, mut come) = (Vec::new(), Vec::new());
        for changed in changes(&self.all, &other.all) {
            gone.extend(changed.old.map(|saying| &saying.meaning));
            come.extend(changed.new.map(|saying| &saying.meaning));
        }
        (gone, come)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn saying(text: &str) -> Arc<Saying> {
        let digest = identity::digest("test", [text]);
        Arc::new(Saying { digest, meaning: Meaning::default() })
    }

    fn sayings<'a>(texts: impl IntoIterator<Item = &'a str>) -> Sayings {
        let mut sayings = Sayings::default();
        texts.into_iter().for_each(|text| sayings.insert(&saying(text)));
        sayings
    }

    #[test]
    fn the_digest_is_that_of_what_is_said_however_it_came_to_be() {
        let all: Vec<String> = (0..1_000).map(|own| own.to_string()).collect();
        let texts = || all.iter().map(String::as_str);
        let whole = sayings(texts());
        assert_eq!(sayings(texts().rev()).digest(), whole.digest());
        let few = sayings(["a", "b"]);
        let mut fewer = sayings(["a", "b", "c"]);
        fewer.remove(&saying("c"));
        assert_eq!(few.digest(), fewer.digest());
        let mut other = sayings(texts().chain(["0", "0", "more"]));
        assert_ne!(other.digest(), whole.digest());
        ["more", "0", "0"].iter().for_each(|text| other.remove(&saying(text)));
        assert_eq!(other.digest(), whole.digest());
        other.remove(&saying("0"));
        assert_ne!(other.digest(), whole.digest());
        texts().skip(1).for_each(|text| other.remove(&saying(text)));
        assert_eq!(other.digest(), None);
    }

    #[test]
    fn differences_are_what_is_said_in_one_alone() {
        let (gone, come) = (sayings(["a", "b", "c"]), sayings(["c", "d"]));
        let (gone, come) = gone.differences(&come);
        assert_eq!((gone.len(), come.len()), (2, 1));
    }
}
