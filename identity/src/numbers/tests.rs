use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::digest;

fn meaning(text: &str) -> Digest {
    digest("test", [text])
}

#[test]
fn gives_a_meaning_one_number_and_frees_it_with_the_last_user() {
    let mut numbers = Numbers::new(10..=12);
    assert_eq!(numbers.acquire(&meaning("a")), Ok(Acquired { number: 10, new: true }));
    assert_eq!(numbers.acquire(&meaning("a")), Ok(Acquired { number: 10, new: false }));
    assert!(!numbers.release(10));
    assert!(numbers.release(10));
    assert!(!numbers.release(10), "a free number cannot be released");
    assert!(numbers.is_empty());
}

#[test]
fn hands_a_freed_number_out_again_only_after_the_rest_of_the_range() {
    let mut numbers = Numbers::new(1..=3);
    let mut take_and_release = |text| {
        let number = numbers.acquire(&meaning(text)).unwrap().number;
        numbers.release(number);
        number
    };
    assert_eq!(["a", "b", "a", "c"].map(&mut take_and_release), [1, 2, 3, 1]);
}

#[test]
fn says_what_is_full_and_pushes_nothing_out() {
    let mut numbers = Numbers::new(1..=2);
    numbers.acquire(&meaning("a")).unwrap();
    numbers.acquire(&meaning("b")).unwrap();
    let full = numbers.acquire(&meaning("c")).unwrap_err();
    assert_eq!(full.to_string(), "all numbers from 1 to 2 are in use");
    assert_eq!(numbers.acquire(&meaning("a")), Ok(Acquired { number: 1, new: false }));
    assert_eq!((numbers.len(), numbers.capacity()), (2, 2));
}

#[test]
fn reaches_the_very_last_number() {
    let mut numbers = Numbers::new(u32::MAX - 1..=u32::MAX);
    assert_eq!(numbers.acquire(&meaning("a")).unwrap().number, u32::MAX - 1);
    assert_eq!(numbers.acquire(&meaning("b")).unwrap().number, u32::MAX);
    assert!(numbers.acquire(&meaning("c")).is_err());
    assert_eq!(Numbers::new(0..=u32::MAX).capacity(), 1 << 32);
}

#[test]
fn a_number_keeps_its_users_when_it_stands_for_something_else() {
    let mut numbers = Numbers::new(1..=9);
    for text in ["a", "a", "b"] {
        numbers.acquire(&meaning(text)).unwrap();
    }
    assert!(numbers.rename(1, meaning("c")));
    assert_eq!((numbers.number(&meaning("a")), numbers.number(&meaning("c"))), (None, Some(1)));
    assert!(!numbers.release(1) && numbers.release(1));
    numbers.restore(4, meaning("d")).unwrap();
    assert!(!numbers.rename(2, meaning("d")), "another number has that meaning");
    assert!(!numbers.rename(4, meaning("e")), "nobody uses it");
    assert_eq!(numbers.meaning(2), Some(&meaning("b")));
}

#[test]
fn keeps_restored_numbers_for_their_meanings_until_told_otherwise() {
    let mut numbers = Numbers::new(1..=9);
    numbers.restore(4, meaning("a")).unwrap();
    numbers.restore(2, meaning("b")).unwrap();
    numbers.restore(2, meaning("b")).unwrap();
    assert_eq!(numbers.acquire(&meaning("c")).unwrap().number, 5, "behind the highest restored");
    assert_eq!(numbers.acquire(&meaning("a")), Ok(Acquired { number: 4, new: true }));
    assert!(!numbers.release(2), "nobody uses it yet");
    assert_eq!(numbers.release_unclaimed(), [2]);
    assert_eq!(numbers.number(&meaning("b")), None);
    assert_eq!(numbers.iter().map(|(number, _)| number).collect::<Vec<_>>(), [4, 5]);
}

#[test]
fn refuses_records_that_contradict_each_other() {
    let mut numbers = Numbers::new(1..=9);
    numbers.restore(1, meaning("a")).unwrap();
    let mut error = |number, text| numbers.restore(number, meaning(text)).unwrap_err().to_string();
    assert_eq!(error(10, "b"), "number 10 is not between 1 and 9");
    assert_eq!(error(1, "b"), "number 1 is recorded with two meanings");
    assert_eq!(error(2, "a"), "number 2 is recorded with the meaning of number 1");
}

#[derive(Clone, Debug)]
enum Operation {
    Acquire(u8),
    Release(u8),
    Restore(u8, u8),
    ReleaseUnclaimed,
}

fn operation() -> impl Strategy<Value = Operation> {
    prop_oneof![
        4 => (0..12u8).prop_map(Operation::Acquire),
        4 => (0..12u8).prop_map(Operation::Release),
        1 => (0..12u8, 0..12u8).prop_map(|(number, text)| Operation::Restore(number, text)),
        1 => Just(Operation::ReleaseUnclaimed),
    ]
}

/// A list of (number, meaning, users), searched from end to end for everything.
#[derive(Default)]
struct Model(Vec<(u32, u8, u32)>);

impl Model {
    const RANGE: RangeInclusive<u32> = 2..=9;

    fn acquire(&mut self, text: u8, given: Result<Acquired, Full>) {
        let full = self.0.len() == Self::RANGE.count();
        match self.0.iter_mut().find(|entry| entry.1 == text) {
            Some(entry) => {
                assert_eq!(given, Ok(Acquired { number: entry.0, new: entry.2 == 0 }));
                entry.2 += 1;
            }
            None if full => assert!(given.is_err()),
            None => {
                let Acquired { number, new } = given.unwrap();
                assert!(new && Self::RANGE.contains(&number));
                assert!(self.0.iter().all(|entry| entry.0 != number));
                self.0.push((number, text, 1));
            }
        }
    }

    fn release(&mut self, number: u32) -> bool {
        let Some(at) = self.0.iter().position(|entry| entry.0 == number && entry.2 > 0) else {
            return false;
        };
        self.0[at].2 -= 1;
        let freed = self.0[at].2 == 0;
        if freed {
            self.0.remove(at);
        }
        freed
    }

    fn restore(&mut self, number: u32, text: u8) -> bool {
        if self.0.iter().any(|entry| entry.0 == number && entry.1 == text) {
            return true;
        }
        let possible = Self::RANGE.contains(&number)
            && self.0.iter().all(|entry| entry.0 != number && entry.1 != text);
        if possible {
            self.0.push((number, text, 0));
        }
        possible
    }
}

proptest! {
    #[test]
    fn does_what_a_plain_list_does(operations in prop::collection::vec(operation(), 0..120)) {
        let mut numbers = Numbers::new(Model::RANGE);
        let mut model = Model::default();
        for operation in operations {
            match operation {
                Operation::Acquire(text) => {
                    model.acquire(text, numbers.acquire(&meaning(&text.to_string())));
                }
                Operation::Release(number) => {
                    let freed = numbers.release(number.into());
                    prop_assert_eq!(freed, model.release(number.into()));
                }
                Operation::Restore(number, text) => {
                    let restored = numbers.restore(number.into(), meaning(&text.to_string()));
                    prop_assert_eq!(restored.is_ok(), model.restore(number.into(), text));
                }
                Operation::ReleaseUnclaimed => {
                    let freed: BTreeSet<u32> = numbers.release_unclaimed().into_iter().collect();
                    let unclaimed = model.0.extract_if(.., |entry| entry.2 == 0);
                    prop_assert_eq!(freed, unclaimed.map(|entry| entry.0).collect());
                }
            }
            let expected: BTreeSet<_> = model
                .0
                .iter()
                .map(|&(number, text, _)| (number, meaning(&text.to_string())))
                .collect();
            prop_assert_eq!(numbers.iter().map(|(n, d)| (n, *d)).collect::<BTreeSet<_>>(), expected);
        }
    }
}
