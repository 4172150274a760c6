//! A bounded set of numbers, handed out by meaning and counted by use.
//!
//! Invariants: a meaning has one number and a number one meaning; a number is given back when its
//! last user releases it, and is not handed out again before the range has been gone through once.
//! So what still refers to a number just freed (a flow record, a line in a log) is not misread.

use std::collections::BTreeMap;
use std::ops::{Bound, RangeInclusive};

use model::Digest;
use thiserror::Error;

/// Numbers of one range, by meaning.
#[derive(Clone, Debug)]
pub struct Numbers {
    range: RangeInclusive<u32>,
    /// Where the search for a free number begins.
    next: u32,
    numbers: BTreeMap<Digest, u32>,
    meanings: BTreeMap<u32, Meaning>,
}

#[derive(Clone, Copy, Debug)]
struct Meaning {
    digest: Digest,
    /// 0: restored, and nobody has claimed it yet.
    users: u32,
}

/// A number in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Acquired {
    /// The number.
    pub number: u32,
    /// Whether nobody used it before: its meaning may not be recorded yet.
    pub new: bool,
}

/// Every number of the range has a meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("all numbers from {first} to {last} are in use")]
pub struct Full {
    /// The range's first number.
    pub first: u32,
    /// The range's last number.
    pub last: u32,
}

/// Why a recorded number was not taken over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum RestoreError {
    /// It belongs to another range.
    #[error("number {number} is not between {first} and {last}")]
    OutOfRange {
        /// The number.
        number: u32,
        /// The range's first number.
        first: u32,
        /// The range's last number.
        last: u32,
    },
    /// The number has another meaning already.
    #[error("number {number} is recorded with two meanings")]
    TwoMeanings {
        /// The number.
        number: u32,
    },
    /// The meaning has another number already.
    #[error("number {number} is recorded with the meaning of number {other}")]
    TwoNumbers {
        /// The number refused.
        number: u32,
        /// The number that the meaning keeps.
        other: u32,
    },
}

impl Numbers {
    /// The numbers of `range`, all free.
    pub fn new(range: RangeInclusive<u32>) -> Self {
        let next = *range.start();
        Self { range, next, numbers: BTreeMap::new(), meanings: BTreeMap::new() }
    }

    /// Takes over a recorded number. It stays reserved for its meaning until that is acquired, or
    /// until [`Self::release_unclaimed`].
    pub fn restore(&mut self, number: u32, digest: Digest) -> Result<(), RestoreError> {
        let (first, last) = (*self.range.start(), *self.range.end());
        if !self.range.contains(&number) {
            return Err(RestoreError::OutOfRange { number, first, last });
        }
        if self.meanings.get(&number).is_some_and(|meaning| meaning.digest != digest) {
            return Err(RestoreError::TwoMeanings { number });
        }
        if let Some(&other) = self.numbers.get(&digest).filter(|&&other| other != number) {
            return Err(RestoreError::TwoNumbers { number, other });
        }
        self.numbers.insert(digest, number);
        self.meanings.entry(number).or_insert(Meaning { digest, users: 0 });
        if number >= self.next {
            self.next = self.after(number);
        }
        Ok(())
    }

    /// Frees the restored numbers that nobody has acquired since, and tells which they were.
    pub fn release_unclaimed(&mut self) -> Vec<u32> {
        let unclaimed: Vec<u32> = self
            .meanings
            .iter()
            .filter(|(_, meaning)| meaning.users == 0)
            .map(|(&number, _)| number)
            .collect();
        for &number in &unclaimed {
            self.free(number);
        }
        unclaimed
    }

    /// The number of a meaning, with one more user: the one it has, or else a free one.
    pub fn acquire(&mut self, digest: &Digest) -> Result<Acquired, Full> {
        if let Some(&number) = self.numbers.get(digest) {
            let meaning = self.meanings.get_mut(&number).expect("a numbered meaning is recorded");
            let new = meaning.users == 0;
            meaning.users += 1;
            return Ok(Acquired { number, new });
        }
        let number = self
            .first_free(self.next)
            .or_else(|| self.first_free(*self.range.start()))
            .ok_or(Full { first: *self.range.start(), last: *self.range.end() })?;
        self.next = self.after(number);
        self.numbers.insert(*digest, number);
        self.meanings.insert(number, Meaning { digest: *digest, users: 1 });
        Ok(Acquired { number, new: true })
    }

    /// Has a number in use stand for another meaning, with the same users. Not where the number has
    /// no user, or the meaning another number: then nothing changes, and the answer is false.
    pub fn rename(&mut self, number: u32, digest: Digest) -> bool {
        if self.numbers.contains_key(&digest) {
            return false;
        }
        let Some(meaning) = self.meanings.get_mut(&number).filter(|own| own.users > 0) else {
            return false;
        };
        let old = std::mem::replace(&mut meaning.digest, digest);
        self.numbers.remove(&old);
        self.numbers.insert(digest, number);
        true
    }

    /// One user less. Whether that was the last, so that the number is free now.
    pub fn release(&mut self, number: u32) -> bool {
        let Some(meaning) = self.meanings.get_mut(&number) else { return false };
        if meaning.users == 0 {
            return false;
        }
        meaning.users -= 1;
        if meaning.users == 0 {
            self.free(number);
            return true;
        }
        false
    }

    /// The number of a meaning, if it has one.
    pub fn number(&self, digest: &Digest) -> Option<u32> {
        self.numbers.get(digest).copied()
    }

    /// The meaning of a number, if it has one.
    pub fn meaning(&self, number: u32) -> Option<&Digest> {
        self.meanings.get(&number).map(|meaning| &meaning.digest)
    }

    /// The numbers that have a meaning, restored ones included, in rising order.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &Digest)> {
        self.meanings.iter().map(|(&number, meaning)| (number, &meaning.digest))
    }

    /// How many numbers have a meaning.
    pub fn len(&self) -> usize {
        self.meanings.len()
    }

    /// Whether no number has a meaning.
    pub fn is_empty(&self) -> bool {
        self.meanings.is_empty()
    }

    /// How many numbers there are, free ones included.
    pub fn capacity(&self) -> u64 {
        let (first, last) = (u64::from(*self.range.start()), u64::from(*self.range.end()));
        (last + 1).saturating_sub(first)
    }

    fn free(&mut self, number: u32) {
        if let Some(meaning) = self.meanings.remove(&number) {
            self.numbers.remove(&meaning.digest);
        }
    }

    /// The first free number from `start` on.
    fn first_free(&self, start: u32) -> Option<u32> {
        let mut candidate = start;
        for &taken in
            self.meanings.range((Bound::Included(start), Bound::Unbounded)).map(|(n, _)| n)
        {
            if taken != candidate {
                break;
            }
            candidate = candidate.checked_add(1)?;
        }
        self.range.contains(&candidate).then_some(candidate)
    }

    /// The number behind `number`, the first behind the last.
    fn after(&self, number: u32) -> u32 {
        if number == *self.range.end() { *self.range.start() } else { number + 1 }
    }
}

#[cfg(test)]
mod tests;
