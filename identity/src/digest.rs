//! The digest that stands for a meaning.
//!
//! Every part goes in behind its length, so two lists of parts have the same digest only where
//! they are the same list: `["ab", "c"]` and `["a", "bc"]` differ.

use model::Digest;
use sha2::{Digest as _, Sha256};

/// The digest of a meaning: what kind of thing it is, and the parts that tell it from others.
///
/// The parts are hashed in the order given; a caller whose parts have no order sorts them first.
pub fn digest<P: AsRef<[u8]>>(kind: &str, parts: impl IntoIterator<Item = P>) -> Digest {
    let mut hasher = Sha256::new();
    feed(&mut hasher, kind.as_bytes());
    for part in parts {
        feed(&mut hasher, part.as_ref());
    }
    let mut digest = Digest::default();
    let length = digest.len();
    digest.copy_from_slice(&hasher.finalize()[..length]);
    digest
}

fn feed(hasher: &mut Sha256, part: &[u8]) {
    hasher.update((part.len() as u64).to_be_bytes());
    hasher.update(part);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_the_start_of_the_sha_256_of_lengths_and_parts() {
        // printf '\0\0\0\0\0\0\0\1k\0\0\0\0\0\0\0\2ab' | sha256sum
        assert_eq!(hex(digest("k", ["ab"])), "1b5cfec64d7d957f4c06850bd7d9c3b0");
    }

    #[test]
    fn tells_lists_apart_that_read_the_same_when_joined() {
        let lists: [&[&str]; 6] =
            [&["ab", "c"], &["a", "bc"], &["abc"], &["abc", ""], &["", "abc"], &[]];
        for (index, one) in lists.iter().enumerate() {
            for other in &lists[..index] {
                assert_ne!(digest("k", *one), digest("k", *other), "{one:?} {other:?}");
            }
        }
        assert_ne!(digest("ka", ["b"]), digest("k", ["ab"]));
        assert_ne!(digest("a", ["b"]), digest("b", ["a"]));
    }

    fn hex(digest: Digest) -> String {
        digest.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}
