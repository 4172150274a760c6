//! The reference cases of a DNS cache that connections keep alive, one test a case.

use super::*;

#[test]
fn a_floor_of_60_makes_a_ttl_of_3_last() {
    let mut pod = Pod::new(Limits { min_ttl: 60, ..PLAIN }, &["a.test"]);
    pod.answer(0, "a.test", &[(1, 3)]).unwrap();
    pod.wait(3, &[]);
    assert_eq!(pod.addresses(), [1]);
    pod.wait(70, &[]);
    assert_eq!(pod.addresses(), []);
    assert_eq!(pod.kernel.names, BTreeMap::new());
}

#[test]
fn a_ttl_of_10_is_there_at_10_and_gone_at_11() {
    let mut pod = Pod::new(PLAIN, &["a.test"]);
    pod.answer(0, "a.test", &[(1, 10)]).unwrap();
    pod.wait(10, &[]);
    assert_eq!(pod.lease(1), Some(lease(&[0], 1, 10)));
    pod.wait(11, &[]);
    assert_eq!(pod.lease(1), None);
}

#[test]
fn a_shorter_ttl_than_what_is_left_leaves_the_later_expiry() {
    let mut pod = Pod::new(PLAIN, &["a.test"]);
    pod.answer(0, "a.test", &[(1, 100)]).unwrap();
    pod.answer(50, "a.test", &[(1, 10)]).unwrap();
    assert_eq!(pod.changes, []);
    pod.wait(100, &[]);
    assert_eq!(pod.lease(1), Some(lease(&[0], 1, 100)));
    pod.wait(101, &[]);
    assert_eq!(pod.lease(1), None);
}

#[test]
fn the_names_of_a_shared_address_run_out_one_by_one() {
    let mut pod = Pod::new(PLAIN, &["*.test"]);
    pod.answer(0, "a.test", &[(1, 2)]).unwrap();
    pod.answer(0, "b.test", &[(1, 4)]).unwrap();
    pod.wait(1, &[]);
    assert_eq!(pod.names_of(1), ["a.test.", "b.test."]);
    pod.wait(3, &[]);
    assert_eq!(pod.names_of(1), ["b.test."]);
    pod.wait(5, &[]);
    assert_eq!(pod.names_of(1), [""; 0]);
}

#[test]
fn over_the_limit_of_addresses_the_earliest_expiry_goes_and_other_names_keep_it() {
    let mut pod = Pod::new(Limits { addresses_per_name: 5, ..PLAIN }, &["*.test"]);
    pod.answer(0, "other.test", &[(1, 10)]).unwrap();
    let six: Vec<(u8, u32)> = (1..=6).map(|last| (last, last.into())).collect();
    let learned = pod.answer(0, "a.test", &six).unwrap();
    assert_eq!(learned.evicted, 1);
    assert_eq!(pod.names_of(1), ["other.test."]);
    assert_eq!(pod.names_of(2), ["a.test."]);
    assert_eq!(pod.addresses(), [1, 2, 3, 4, 5, 6]);
    assert_eq!(pod.leases.stats().evicted_addresses, 1);
}

#[test]
fn over_the_limit_of_addresses_one_that_is_known_ends_at_once() {
    let mut pod = Pod::new(Limits { addresses_per_name: 5, ..PLAIN }, &["*.test"]);
    for last in 1..=6 {
        pod.answer(0, "a.test", &[(last, last.into())]).unwrap();
    }
    assert_eq!(pod.lease(1), Some(lease(&[0], 1, 0)), "closed to new flows");
    pod.wait(1, &[]);
    assert_eq!(pod.addresses(), [2, 3, 4, 5, 6]);
}

#[test]
fn what_has_expired_does_not_count_towards_the_limit() {
    let mut pod = Pod::new(Limits { addresses_per_name: 5, ..PLAIN }, &["a.test"]);
    let five: Vec<(u8, u32)> = (1..=5).map(|last| (last, last.into())).collect();
    pod.answer(0, "a.test", &five).unwrap();
    pod.answer(10, "a.test", &[(6, 60)]).unwrap();
    pod.wait(10, &[]);
    assert_eq!(pod.addresses(), [6]);
    assert_eq!(pod.leases.stats().evicted_addresses, 0);
}

#[test]
fn a_living_connection_keeps_an_expired_address_until_it_ends() {
    let mut pod = Pod::new(PLAIN, &["a.test"]);
    pod.answer(0, "a.test", &[(1, 10)]).unwrap();
    pod.wait(11, &[1]);
    assert_eq!(pod.lease(1), Some(lease(&[0], 1, 41)), "open for another 30 s");
    assert!(pod.leases.entries().all(|entry| entry.kept_alive));
    pod.wait(42, &[1]);
    assert_eq!(pod.lease(1), Some(lease(&[0], 1, 72)));
    pod.wait(60, &[]);
    assert_eq!(pod.lease(1), Some(lease(&[0], 1, 72)), "open until then, so it stays");
    pod.wait(73, &[]);
    assert_eq!(pod.lease(1), None);
}

#[test]
fn a_connection_to_one_address_keeps_all_expired_ones_of_its_name() {
    let mut pod = Pod::new(PLAIN, &["test.com", "pizza.com"]);
    pod.answer(0, "test.com", &[(1, 10), (2, 5)]).unwrap();
    pod.answer(0, "pizza.com", &[(3, 10)]).unwrap();
    pod.wait(20, &[2]);
    assert_eq!(pod.addresses(), [1, 2]);
}

#[test]
fn over_the_limit_of_kept_addresses_the_one_not_in_use_goes() {
    let mut pod = Pod::new(Limits { kept_per_name: 3, ..PLAIN }, &["a.test"]);
    pod.answer(0, "a.test", &[(1, 1), (2, 2), (3, 3), (4, 4)]).unwrap();
    pod.wait(10, &[1, 2, 4]);
    assert_eq!(pod.addresses(), [1, 2, 4]);
    assert_eq!(pod.leases.stats().evicted_kept, 1);
}

#[test]
fn over_the_limit_of_kept_addresses_the_first_to_expire_goes_unless_in_use() {
    let mut pod = Pod::new(Limits { kept_per_name: 2, ..PLAIN }, &["*.test"]);
    pod.answer(0, "all.test", &[(1, 1), (2, 2), (3, 3)]).unwrap();
    pod.wait(10, &[1, 2, 3]);
    assert_eq!(pod.addresses(), [2, 3], "all in use: the first to expire goes");
    pod.answer(20, "one.test", &[(11, 1), (12, 2), (13, 3)]).unwrap();
    pod.wait(30, &[11, 2]);
    assert_eq!(pod.addresses(), [2, 3, 11, 13], "in use outlives later expiry");
}

#[test]
fn a_name_forced_out_leaves_the_address_to_the_other_name() {
    let mut pod = Pod::new(PLAIN, &["a.test", "b.test"]);
    pod.answer(0, "a.test", &[(1, 10)]).unwrap();
    pod.answer(0, "b.test", &[(1, 20)]).unwrap();
    assert_eq!(pod.forget("a.test"), 1);
    assert_eq!(pod.names_of(1), ["b.test."]);
    assert_eq!(pod.lease(1), Some(lease(&[1], 2, 20)));
    assert_eq!(pod.forget("b.test"), 1);
    assert_eq!(pod.lease(1), None);
    assert_eq!((pod.kernel.names.len(), pod.kernel.shared.len()), (0, 0));
}
