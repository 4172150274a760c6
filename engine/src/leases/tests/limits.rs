//! What happens at each bound.

use super::*;

#[test]
fn the_name_that_expires_first_makes_room_for_a_new_one() {
    let mut pod = Pod::new(Limits { names: 2, ..PLAIN }, &["*.test"]);
    pod.answer(0, "a.test", &[(1, 20)]).unwrap();
    pod.answer(0, "b.test", &[(2, 30)]).unwrap();
    pod.answer(5, "a.test", &[(1, 100)]).unwrap();
    let learned = pod.answer(6, "c.test", &[(3, 10)]).unwrap();
    assert_eq!(learned.evicted, 1);
    assert_eq!(pod.addresses(), [1, 3], "a was prolonged, so b goes");
    assert_eq!(pod.leases.stats().evicted_names, 1);
}

#[test]
fn a_name_kept_for_a_connection_goes_last() {
    let mut pod = Pod::new(Limits { names: 2, ..PLAIN }, &["*.test"]);
    pod.answer(0, "kept.test", &[(1, 10)]).unwrap();
    pod.answer(0, "leased.test", &[(2, 300)]).unwrap();
    pod.wait(11, &[1]);
    pod.answer(12, "new.test", &[(3, 10)]).unwrap();
    assert_eq!(pod.addresses(), [1, 3]);
}

#[test]
fn the_name_that_expires_first_makes_room_for_addresses() {
    let mut pod = Pod::new(Limits { addresses: 4, ..PLAIN }, &["*.test"]);
    pod.answer(0, "a.test", &[(1, 10), (2, 10)]).unwrap();
    pod.answer(0, "b.test", &[(3, 20), (4, 20)]).unwrap();
    pod.answer(1, "c.test", &[(5, 5)]).unwrap();
    assert_eq!(pod.addresses(), [3, 4, 5]);
    let six: Vec<(u8, u32)> = (11..=16).map(|last| (last, last.into())).collect();
    pod.answer(2, "d.test", &six).unwrap();
    assert_eq!(pod.addresses(), [13, 14, 15, 16], "no name may have more than all may");
    assert_eq!(pod.leases.stats().addresses, 4);
}

#[test]
fn an_answer_without_a_set_is_not_learned() {
    let mut pod = Pod::new(PLAIN, &["a.test", "b.test"]);
    pod.sets.limit = Some(1);
    pod.answer(0, "a.test", &[(1, 10)]).unwrap();
    assert_eq!(pod.answer(0, "b.test", &[(2, 10)]), Err(SetsFull));
    assert_eq!(pod.addresses(), [1]);
    assert_eq!((pod.leases.stats().names, pod.leases.stats().sets_full), (1, 1));
}

#[test]
fn a_union_without_a_set_opens_nothing_more_and_is_tried_again() {
    let mut pod = Pod::new(PLAIN, &["a.test", "b.test"]);
    pod.sets.limit = Some(2);
    pod.answer(0, "a.test", &[(1, 10)]).unwrap();
    assert_eq!(pod.answer(0, "b.test", &[(1, 10)]), Err(SetsFull));
    assert_eq!(pod.lease(1), Some(lease(&[0], 0, 10)), "what a allows, and no more");
    assert_eq!(pod.answer(0, "b.test", &[(1, 10)]), Err(SetsFull), "it is still not open");
    pod.sets.limit = None;
    pod.answer(0, "b.test", &[(1, 10)]).unwrap();
    assert_eq!(pod.lease(1), Some(lease(&[2], 0, 10)));
}

#[test]
fn a_name_that_finds_no_set_in_the_new_table_is_closed_and_asks_again() {
    let mut pod = Pod::new(PLAIN, &["a.test"]);
    pod.answer(0, "a.test", &[(1, 10)]).unwrap();
    pod.sets.limit = Some(1);
    assert_eq!(pod.rejudge(&["a.test", "*.test"]), Err(SetsFull));
    assert_eq!(pod.changes, []);
    pod.settle();
    assert_eq!(pod.addresses(), []);
    pod.sets.limit = None;
    pod.answer(5, "a.test", &[(1, 1)]).unwrap();
    assert_eq!(pod.lease(1), Some(lease(&[1], 1, 10)));
}

#[test]
fn one_call_looks_at_a_bounded_number_of_names() {
    let mut pod = Pod::new(Limits { names: 5000, addresses: 5000, ..PLAIN }, &[]);
    let count = Leases::NAMES_PER_TIMEOUT + 1;
    for index in 0..count {
        pod.answer(0, &format!("n{index}.test"), &[(1, 10)]).unwrap();
    }
    pod.wait(11, &[]);
    assert_eq!(pod.leases.stats().names, 1);
    assert!(pod.leases.poll_timeout().is_some_and(|due| due <= seconds(11)));
    pod.wait(11, &[]);
    assert_eq!(pod.leases.stats().names, 0);
}

#[test]
fn many_names_on_one_address_cost_what_each_of_them_costs() {
    let mut pod = Pod::new(Limits { names: 5000, addresses: 5000, ..PLAIN }, &["*.test"]);
    let mut leases = std::mem::replace(&mut pod.leases, Leases::new(POD, PLAIN));
    for index in 0..4000 {
        let name = name_of(&format!("n{index}.test"));
        let mut changes = Vec::new();
        let answer = [(address(1), 60)];
        let now = seconds(index / 100);
        leases.handle_answer(name.as_ref(), &answer, now, &mut pod.sets, &mut changes).unwrap();
        assert!(changes.len() <= 5, "{changes:?}");
    }
    assert_eq!(leases.names_of(address(1)).count(), 4000);
}
