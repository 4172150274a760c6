//! Scripts with explicit time: what goes in, and exactly what comes out.

use Change::{DeleteLease, DeleteName, DeleteShared, PutLease, PutName, PutRow, PutShared};

use super::*;

const GRACE: Limits = Limits { grace: Duration::from_secs(10), ..PLAIN };

#[test]
fn writes_rows_then_the_name_then_the_lease() {
    let mut pod = Pod::new(GRACE, &["a.test"]);
    let learned = pod.answer(100, "a.test", &[(1, 30), (200, 30)]).unwrap();
    assert_eq!(learned, super::super::Learned { selected: true, fresh: 2, evicted: 0 });
    assert_eq!(
        pod.changes,
        [
            PutRow(row(set(0)), Verdict::Allow.into()),
            PutName(POD, NameNumber(1), name_of("a.test")),
            PutLease(POD, address(1), lease(&[0], 1, 140)),
            PutLease(POD, address(200), lease(&[0], 1, 140)),
        ]
    );
}

#[test]
fn writes_nothing_while_the_kernel_covers_the_answers_ttl() {
    let mut pod = Pod::new(GRACE, &["a.test"]);
    pod.answer(100, "a.test", &[(1, 30)]).unwrap();
    for at in 101..=110 {
        pod.answer(at, "a.test", &[(1, 30)]).unwrap();
        assert_eq!(pod.changes, [], "good until {} and the kernel has 140", at + 30);
    }
    pod.answer(111, "a.test", &[(1, 30)]).unwrap();
    assert_eq!(pod.changes, [PutLease(POD, address(1), lease(&[0], 1, 151))]);
}

#[test]
fn makes_the_grace_whole_before_it_is_needed() {
    let mut pod = Pod::new(GRACE, &["a.test"]);
    pod.answer(100, "a.test", &[(1, 30)]).unwrap();
    pod.answer(109, "a.test", &[(1, 30)]).unwrap();
    assert_eq!(pod.leases.poll_timeout(), Some(seconds(139)), "the lease ends, the grace begins");
    pod.wait(138, &[]);
    assert_eq!(pod.changes, []);
    pod.wait(139, &[]);
    assert_eq!(pod.changes, [PutLease(POD, address(1), lease(&[0], 1, 149))]);
    assert_eq!(pod.leases.poll_timeout(), Some(Moment::from_nanos(149_000_000_001)));
    pod.wait(149, &[]);
    assert_eq!(pod.changes, []);
    pod.wait(150, &[]);
    assert_eq!(pod.changes, [DeleteLease(POD, address(1)), DeleteName(POD, NameNumber(1))]);
    assert_eq!(pod.leases.poll_timeout(), None);
}

#[test]
fn shares_an_address_by_records_that_come_before_and_go_after() {
    let mut pod = Pod::new(PLAIN, &["a.test", "b.test"]);
    pod.answer(0, "a.test", &[(1, 10)]).unwrap();
    pod.answer(0, "b.test", &[(1, 20)]).unwrap();
    assert_eq!(
        pod.changes,
        [
            PutRow(row(set(1)), Verdict::Allow.into()),
            PutName(POD, NameNumber(2), name_of("b.test")),
            PutRow(row(set(2)), Verdict::Allow.into()),
            PutShared(POD, address(1), NameNumber(1), seconds(10)),
            PutShared(POD, address(1), NameNumber(2), seconds(20)),
            PutLease(POD, address(1), lease(&[2], 0, 20)),
        ]
    );
    pod.answer(5, "a.test", &[(1, 10)]).unwrap();
    assert_eq!(pod.changes, [PutShared(POD, address(1), NameNumber(1), seconds(15))]);
    pod.wait(16, &[]);
    assert_eq!(
        pod.changes,
        [
            PutLease(POD, address(1), lease(&[1], 2, 20)),
            DeleteShared(POD, address(1), NameNumber(1)),
            DeleteShared(POD, address(1), NameNumber(2)),
            DeleteName(POD, NameNumber(1)),
        ]
    );
}

#[test]
fn removes_all_names_of_an_address_without_steps_in_between() {
    let mut pod = Pod::new(PLAIN, &["*.test"]);
    for name in ["a.test", "b.test", "c.test"] {
        pod.answer(0, name, &[(1, 10)]).unwrap();
    }
    pod.wait(11, &[]);
    let mut expected = vec![DeleteLease(POD, address(1))];
    expected.extend([1, 2, 3].map(|number| DeleteShared(POD, address(1), NameNumber(number))));
    expected.extend([1, 2, 3].map(|number| DeleteName(POD, NameNumber(number))));
    assert_eq!(pod.changes, expected);
}

#[test]
fn keeps_names_that_nothing_selects_out_of_the_kernel() {
    let mut pod = Pod::new(PLAIN, &[]);
    let learned = pod.answer(0, "a.test", &[(1, 10)]).unwrap();
    assert!(!learned.selected);
    assert_eq!(pod.kernel, State::default());
    assert_eq!(pod.names_of(1), ["a.test."]);
    pod.rejudge(&["a.test"]).unwrap();
    assert_eq!(
        pod.changes,
        [
            PutRow(row(set(0)), Verdict::Allow.into()),
            PutName(POD, NameNumber(1), name_of("a.test")),
            PutLease(POD, address(1), lease(&[0], 1, 10)),
        ]
    );
    pod.settle();
    assert_eq!(pod.changes, []);
}

#[test]
fn gives_a_lease_both_sets_while_policy_changes() {
    let mut pod = Pod::new(PLAIN, &["a.test"]);
    pod.answer(0, "a.test", &[(1, 10)]).unwrap();
    pod.rejudge(&["a.test", "*.test"]).unwrap();
    assert_eq!(
        pod.changes,
        [
            PutRow(row(set(1)), Verdict::Allow.into()),
            PutLease(POD, address(1), lease(&[0, 1], 1, 10)),
        ]
    );
    pod.answer(5, "a.test", &[(1, 10)]).unwrap();
    assert_eq!(pod.changes, [PutLease(POD, address(1), lease(&[0, 1], 1, 15))]);
    pod.settle();
    assert_eq!(pod.changes, [PutLease(POD, address(1), lease(&[1], 1, 15))]);
}

#[test]
fn closes_what_the_new_policy_does_not_select_only_after_the_switch() {
    let mut pod = Pod::new(PLAIN, &["a.test", "b.test"]);
    pod.answer(0, "a.test", &[(1, 10), (2, 10)]).unwrap();
    pod.answer(0, "b.test", &[(1, 20)]).unwrap();
    pod.rejudge(&["x.test", "b.test"]).unwrap();
    assert_eq!(pod.changes, [PutLease(POD, address(1), lease(&[2, 1], 0, 20))]);
    pod.settle();
    assert_eq!(
        pod.changes,
        [
            PutLease(POD, address(1), lease(&[1], 2, 20)),
            DeleteShared(POD, address(1), NameNumber(1)),
            DeleteShared(POD, address(1), NameNumber(2)),
            DeleteLease(POD, address(2)),
            DeleteName(POD, NameNumber(1)),
        ]
    );
    assert_eq!(pod.names_of(2), ["a.test."], "a later policy may select it again");
}

#[test]
fn opens_and_regains_an_address_that_was_kept() {
    let mut pod = Pod::new(GRACE, &["a.test"]);
    pod.answer(0, "a.test", &[(1, 10)]).unwrap();
    pod.wait(21, &[1]);
    assert_eq!(pod.changes, [PutLease(POD, address(1), lease(&[0], 1, 51))]);
    pod.answer(25, "a.test", &[(1, 5)]).unwrap();
    assert_eq!(pod.changes, [], "the later expiry stays");
    assert!(pod.leases.entries().all(|entry| !entry.kept_alive));
    pod.answer(26, "a.test", &[(1, 60)]).unwrap();
    assert_eq!(pod.changes, [PutLease(POD, address(1), lease(&[0], 1, 96))]);
}

#[test]
fn an_answer_without_addresses_learns_nothing() {
    let mut pod = Pod::new(PLAIN, &["a.test"]);
    pod.answer(0, "a.test", &[]).unwrap();
    assert_eq!(pod.changes, []);
    assert_eq!(pod.leases.stats(), super::super::Stats::default());
}

#[test]
fn a_cap_is_stronger_than_a_floor() {
    let mut pod = Pod::new(Limits { min_ttl: 60, max_ttl: 20, ..PLAIN }, &["a.test"]);
    pod.answer(0, "a.test", &[(1, 100)]).unwrap();
    assert_eq!(pod.lease(1), Some(lease(&[0], 1, 20)));
}

#[test]
fn a_revoked_name_leaves_nothing_behind() {
    let mut pod = Pod::new(PLAIN, &["*.test"]);
    pod.answer(0, "a.test", &[(1, 10)]).unwrap();
    pod.answer(0, "b.test", &[(1, 10), (2, 10)]).unwrap();
    let mut changes = Vec::new();
    pod.leases.revoke(name_of("b.test").as_ref(), &mut pod.sets, &mut changes);
    pod.apply(changes);
    assert_eq!(pod.lease(1), Some(lease(&[0], 1, 10)));
    assert_eq!(pod.addresses(), [1]);
    check_settled(&pod.kernel);
}

#[test]
fn an_address_in_use_stays_open_without_a_break_and_goes_only_after_its_time() {
    let limits = Limits { ahead: Duration::from_secs(1), ..PLAIN };
    let mut pod = Pod::new(limits, &["a.test"]);
    pod.answer(0, "a.test", &[(1, 10), (2, 60)]).unwrap();
    pod.wait(9, &[1]);
    assert_eq!(pod.changes, [], "there is still time");
    pod.wait(10, &[1]);
    assert_eq!(pod.lease(1), Some(lease(&[0], 1, 40)), "kept before it closes");
    pod.wait(40, &[1, 2]);
    assert_eq!(pod.lease(1), Some(lease(&[0], 1, 70)));
    // Looked at ahead of its time and not in use: it stays for as long as it is open.
    pod.wait(70, &[]);
    assert_eq!(pod.lease(1), Some(lease(&[0], 1, 70)));
    assert_eq!(pod.leases.poll_timeout(), Some(Moment::from_nanos(70_000_000_001)));
    pod.wait(71, &[1]);
    assert_eq!(pod.lease(1), Some(lease(&[0], 1, 101)), "whoever came in between keeps it");
    pod.wait(102, &[]);
    assert_eq!(pod.addresses(), []);
}
