//! What one daemon leaves in the kernel, and the next finds.

use super::*;

fn rows(leases: &Leases) -> State {
    let mut state = State::default();
    for change in leases.rows() {
        state.apply(&change);
    }
    state
}

/// The kernel's state, without what belongs to the table.
fn own(state: &State) -> State {
    State {
        names: state.names.clone(),
        leases: state.leases.clone(),
        shared: state.shared.clone(),
        ..State::default()
    }
}

fn busy_pod() -> Pod {
    let mut pod = Pod::new(PLAIN, &["a.test", "b.test"]);
    pod.answer(0, "a.test", &[(1, 10), (2, 20), (200, 20)]).unwrap();
    pod.answer(0, "b.test", &[(1, 30)]).unwrap();
    pod.answer(0, "none.test", &[(1, 30), (3, 30)]).unwrap();
    pod
}

#[test]
fn a_restored_endpoint_wants_what_stands() {
    let pod = busy_pod();
    let restored = Leases::restore(POD, PLAIN, &pod.kernel);
    assert_eq!(rows(&restored), own(&pod.kernel));
    assert_eq!(restored.poll_timeout(), pod.leases.poll_timeout());
    assert_eq!(Leases::restore(EndpointId(8), PLAIN, &pod.kernel).rows().count(), 0);
}

#[test]
fn a_restored_endpoint_goes_on_as_if_nothing_had_been() {
    let mut pod = busy_pod();
    pod.leases = Leases::restore(POD, PLAIN, &pod.kernel);
    pod.rejudge(&["a.test", "b.test"]).unwrap();
    assert_eq!(pod.changes, []);
    pod.settle();
    assert_eq!(pod.changes, []);
    pod.answer(5, "c.test", &[(9, 5)]).unwrap();
    assert_eq!(pod.kernel.names.len(), 2, "nothing selects c");
    pod.wait(11, &[]);
    assert_eq!(pod.lease(1), Some(lease(&[1], 2, 30)));
    pod.wait(31, &[]);
    assert_eq!(own(&pod.kernel), State::default());
}

#[test]
fn what_has_expired_is_kept_for_a_connection_that_outlived_the_daemon() {
    let mut pod = busy_pod();
    pod.leases = Leases::restore(POD, PLAIN, &pod.kernel);
    pod.rejudge(&["a.test", "b.test"]).unwrap();
    pod.settle();
    pod.wait(100, &[2]);
    assert_eq!(pod.addresses(), [1, 2, 200], "all are a's, and none is b's any more");
    assert_eq!(pod.names_of(1), ["a.test."]);
}

#[test]
fn an_answer_before_policy_is_settled_leaves_what_stood() {
    let mut pod = Pod::new(PLAIN, &["a.test"]);
    pod.answer(0, "a.test", &[(1, 10)]).unwrap();
    pod.leases = Leases::restore(POD, PLAIN, &pod.kernel);
    pod.answer(1, "a.test", &[(1, 20), (2, 20)]).unwrap();
    assert_eq!(pod.lease(1), Some(lease(&[0], 1, 21)));
    assert_eq!(pod.lease(2), Some(lease(&[0], 1, 21)));
}

#[test]
fn takes_over_both_sets_of_a_change_that_was_cut_short() {
    let mut pod = Pod::new(PLAIN, &["a.test"]);
    pod.answer(0, "a.test", &[(1, 10)]).unwrap();
    pod.rejudge(&["a.test", "*.test"]).unwrap();
    pod.leases = Leases::restore(POD, PLAIN, &pod.kernel);
    assert_eq!(rows(&pod.leases), own(&pod.kernel));
    pod.rejudge(&["a.test", "*.test"]).unwrap();
    assert_eq!(pod.changes, []);
    pod.settle();
    assert_eq!(pod.lease(1), Some(lease(&[1], 1, 10)));
}

#[test]
fn leaves_out_records_that_nothing_leads_to() {
    let whole = busy_pod().kernel;
    let expected = |mut state: State, removed: &[Change]| {
        for change in removed {
            state.apply(change);
        }
        own(&state)
    };
    let mut broken = whole.clone();
    broken.apply(&Change::PutName(POD, NameNumber(9), name_of("unused.test")));
    broken.apply(&Change::PutShared(POD, address(77), NameNumber(1), seconds(9)));
    broken.apply(&Change::PutShared(POD, address(2), NameNumber(2), seconds(9)));
    broken.apply(&Change::PutLease(POD, address(78), lease(&[0], 55, 9)));
    assert_eq!(rows(&Leases::restore(POD, PLAIN, &broken)), expected(whole.clone(), &[]));

    let mut unnamed = whole.clone();
    unnamed.apply(&Change::DeleteName(POD, NameNumber(2)));
    let wanted = [
        Change::DeleteName(POD, NameNumber(2)),
        Change::DeleteShared(POD, address(1), NameNumber(1)),
        Change::DeleteShared(POD, address(1), NameNumber(2)),
        Change::PutLease(
            POD,
            address(1),
            LeaseEntry {
                name: NameNumber(1),
                expires: seconds(10),
                ..whole.leases[&(POD, address(1))]
            },
        ),
    ];
    assert_eq!(rows(&Leases::restore(POD, PLAIN, &unnamed)), expected(whole, &wanted));
}

#[test]
fn of_two_numbers_with_one_name_the_later_counts() {
    let mut state = busy_pod().kernel;
    state.apply(&Change::PutName(POD, NameNumber(4), name_of("a.test")));
    state.apply(&Change::PutLease(POD, address(5), lease(&[0], 4, 10)));
    let restored = Leases::restore(POD, PLAIN, &state);
    assert_eq!(restored.name(NameNumber(4)), Some(name_of("a.test").as_ref()));
    assert_eq!(restored.name(NameNumber(1)), None);
    assert_eq!(rows(&restored).leases.len(), 2, "b's and the new one");
}
