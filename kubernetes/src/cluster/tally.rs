//! On how many nodes a policy is in force, of few words from each.
//!
//! A node does not list its policies: it tells a number for each of a fixed number of buckets, to
//! which every policy that is in force there adds its own by uid and generation. Where a bucket's
//! number is the expected one, so is each policy in it.

use std::fmt;
use std::str::FromStr;

use sha2::{Digest as _, Sha256};

use crate::cluster::verdict::{Verdict, Verdicts};

const BUCKETS: usize = 32;
/// How many objects the nodes' words are spread over, so that none of them grows too large: with
/// some 10,000 nodes all of them are full.
const SHARDS: usize = 16;

/// What one node has in force.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Digest([u32; BUCKETS]);

impl Digest {
    /// Of the policies that are read whole.
    pub fn of(verdicts: &Verdicts) -> Self {
        let mut digest = Self::default();
        for verdict in verdicts.values().filter(|verdict| verdict.problems.is_empty()) {
            let Verdict { uid, generation, .. } = &**verdict;
            // An annotation is no part of what generations count.
            let audited = if verdict.audited { " audited" } else { "" };
            let bucket = &mut digest.0[bucket(uid)];
            *bucket = bucket.wrapping_add(number(&format!("{uid} {generation}{audited}")));
        }
        digest
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|bucket| write!(f, "{bucket:08x}"))
    }
}

/// Some text is no node's word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NoDigest;

impl FromStr for Digest {
    type Err = NoDigest;

    fn from_str(text: &str) -> Result<Self, NoDigest> {
        if text.len() != BUCKETS * 8 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(NoDigest);
        }
        let mut digest = Self::default();
        for (bucket, at) in digest.0.iter_mut().zip((0..).step_by(8)) {
            *bucket = u32::from_str_radix(&text[at..at + 8], 16).map_err(|_| NoDigest)?;
        }
        Ok(digest)
    }
}

/// How many nodes have what is expected, by bucket.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    nodes: usize,
    as_expected: [usize; BUCKETS],
}

impl Tally {
    /// Of what nodes told.
    pub fn of(expected: &Digest, told: impl Iterator<Item = Digest>) -> Self {
        let mut tally = Self::default();
        for digest in told {
            tally.nodes += 1;
            for (count, (own, expected)) in
                tally.as_expected.iter_mut().zip(digest.0.iter().zip(expected.0))
            {
                *count += usize::from(*own == expected);
            }
        }
        tally
    }

    /// How many nodes told.
    pub fn nodes(&self) -> usize {
        self.nodes
    }

    /// How many of them have the policy of this uid in force as it is expected.
    pub fn enforcing(&self, uid: &str) -> usize {
        self.as_expected[bucket(uid)]
    }
}

/// The object in which a node's word stands, and the annotation there.
pub(crate) fn place_of(node: &str) -> (String, String) {
    let digest = Sha256::digest(node);
    let name: String = digest[..10].iter().map(|byte| format!("{byte:02x}")).collect();
    (shard(usize::from(digest[0]) % SHARDS), format!("{ANNOTATION}{name}"))
}

/// All objects in which nodes' words stand.
pub(crate) fn shards() -> impl Iterator<Item = String> {
    (0..SHARDS).map(shard)
}

/// What annotations with nodes' words begin with.
pub(crate) const ANNOTATION: &str = "nodes.fqdnd.io/";

fn shard(number: usize) -> String {
    format!("fqdnd-nodes-{number:x}")
}

fn bucket(uid: &str) -> usize {
    number(uid) as usize % BUCKETS
}

fn number(text: &str) -> u32 {
    let digest = Sha256::digest(text);
    u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]])
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use policy::PolicyKey;

    use super::*;

    fn verdicts(generations: &[(usize, i64)]) -> Verdicts {
        let verdict = |&(number, generation): &(usize, i64)| {
            let name = format!("p{number}");
            let uid = format!("uid-{number}");
            let (audited, problems, told) = Default::default();
            let verdict = Verdict { uid, generation, audited, problems, told };
            (PolicyKey { namespace: None, name }, Arc::new(verdict))
        };
        generations.iter().map(verdict).collect()
    }

    #[test]
    fn a_node_that_has_an_older_generation_or_none_does_not_count_and_others_do() {
        let all = |generation: i64| (0..100).map(|own| (own, generation)).collect::<Vec<_>>();
        let wanted = Digest::of(&verdicts(&all(2)));
        let mut late = all(2);
        late[7].1 = 1;
        let missing = all(2)[..99].to_vec();
        let told = [wanted.clone(), Digest::of(&verdicts(&late)), Digest::of(&verdicts(&missing))];
        let tally = Tally::of(&wanted, told.into_iter());
        let enforcing = |number: usize| tally.enforcing(&format!("uid-{number}"));
        assert_eq!((tally.nodes(), enforcing(7), enforcing(99)), (3, 2, 2));
        // The rest of a policy's bucket waits with it.
        let others = (0..100).filter(|own| enforcing(*own) == 3).count();
        assert!(others > 80, "{others}");
        assert!((0..100).all(|own| enforcing(own) >= 1));
    }

    #[test]
    fn a_word_reads_back_and_no_other_text_does() {
        let digest = Digest::of(&verdicts(&[(1, 1), (2, 5)]));
        assert_eq!(digest.to_string().parse(), Ok(digest.clone()));
        let text = digest.to_string();
        for wrong in ["", &text[1..], &text.replace('0', "g"), &format!("{text}0")] {
            assert_eq!(wrong.parse::<Digest>(), Err(NoDigest), "{wrong}");
        }
    }

    #[test]
    fn each_node_has_a_place_that_fits() {
        let (shard, annotation) = place_of(&"long.".repeat(50));
        assert!(shards().any(|own| own == shard));
        assert!(annotation.strip_prefix(ANNOTATION).is_some_and(|name| name.len() <= 63));
        assert_ne!(place_of("a").1, place_of("b").1);
    }
}
