//! What one revision after another writes, and what it leaves alone.

use super::*;

#[test]
fn a_changed_policy_moves_resolved_addresses_to_the_new_table() {
    let mut bench = Bench::new();
    bench.policies(POLICY);
    bench.commit();
    bench.learn(CLIENT, "www.example.com", "203.0.113.1", Moment::from_secs(1));
    let before = bench.generation(7);
    bench.policies(&POLICY.replace("\"443\"", "\"8443\""));
    bench.commit();
    assert_eq!(bench.tcp("203.0.113.1:443"), Err(DropReason::PolicyDenied));
    assert_eq!(bench.tcp("203.0.113.1:8443"), Ok(Verdict::Allow));
    assert_eq!(bench.generation(7), before + 1);
    let tables: BTreeSet<_> = bench.kernel.rows.keys().map(|row| row.table).collect();
    assert_eq!(tables.len(), 1, "the old table is gone");
}

#[test]
fn a_policy_more_writes_its_own_rows_alone_and_one_less_takes_them_out() {
    let mut bench = Bench::new();
    bench.policies(POLICY);
    bench.commit();
    bench.learn(CLIENT, "www.example.com", "203.0.113.1", Moment::from_secs(1));
    let before = bench.kernel.clone();
    let more = POLICY.replace("name: client", "name: more");
    let (head, _) = more.split_once("  egress:").unwrap();
    let more = format!("{head}  egress:\n    - toCIDR: [203.0.113.128/25]\n");
    bench.policies(&format!("{POLICY}---{more}"));
    let changes = bench.commit();
    assert!(
        matches!(
            changes[..],
            [
                Change::PutNumber(NumberKind::Identity, ..),
                Change::PutNumber(NumberKind::Table, ..),
                Change::PutPrefix(..),
                Change::PutRow(_, Ruling { verdict: Some(Verdict::Allow), .. }),
            ]
        ),
        "{changes:?}"
    );
    assert_eq!(bench.tcp("203.0.113.200:22"), Ok(Verdict::Allow));

    bench.policies(POLICY);
    let changes = bench.commit();
    let rows = |change: &&Change| matches!(change, Change::PutRow(..) | Change::DeleteRow(..));
    assert_eq!(changes.iter().filter(rows).count(), 1, "{changes:?}");
    let entry = bench.kernel.endpoints.get_mut(&Interface(7)).unwrap();
    assert_eq!(entry.generation, before.endpoints[&Interface(7)].generation + 1);
    entry.generation -= 1;
    assert_eq!(bench.kernel, before);
}

#[test]
fn flows_by_a_name_are_judged_again_when_their_address_becomes_a_pods() {
    let mut bench = Bench::new();
    bench.policies(POLICY);
    bench.commit();
    bench.learn(CLIENT, "www.example.com", "203.0.113.1", Moment::from_secs(1));
    assert_eq!(bench.tcp("203.0.113.1:443"), Ok(Verdict::Allow));
    let before = (bench.generation(7), bench.generation(8));
    bench.pod("default/late", &[("app", "late")], &["203.0.113.1"], None);
    bench.commit();
    assert_eq!(bench.tcp("203.0.113.1:443"), Err(DropReason::PolicyDenied));
    assert!(bench.generation(7) > before.0);
    assert_eq!(bench.generation(8), before.1, "without such a lease nothing has changed");
}

#[test]
fn nothing_is_written_when_nothing_changes() {
    let mut bench = Bench::new();
    bench.policies(POLICY);
    bench.commit();
    assert_eq!(bench.commit(), []);
    // The same rules elsewhere in a file mean the same.
    bench.policies(&format!("\n\n{POLICY}"));
    assert_eq!(bench.commit(), []);
}

#[test]
fn an_address_that_a_pod_loses_begins_a_generation_and_one_that_it_gains_does_not() {
    let mut bench = Bench::new();
    bench.policies(POLICY);
    let mut addresses = |addresses: &[&str]| {
        bench.pod("default/late", &[("app", "late")], addresses, Some(12));
        bench.commit();
        bench.generation(12)
    };
    let before = addresses(&["10.0.0.77"]);
    assert_eq!(addresses(&["10.0.0.77", "10.0.0.78"]), before);
    assert_eq!(addresses(&["10.0.0.78"]), before + 1);
    assert_eq!(addresses(&["10.0.0.78"]), before + 1);
}

#[test]
fn a_new_pod_leaves_other_endpoints_alone_and_a_moved_address_does_not() {
    let mut bench = Bench::new();
    bench.policies(&POLICY.replace("    - toCIDR: [198.51.100.0/24]\n", ""));
    bench.commit();
    let before = bench.generation(8);
    bench.pod("default/late", &[("app", "late")], &["10.0.0.77"], Some(12));
    bench.commit();
    assert_eq!(bench.generation(8), before);

    // The DNS pod's address becomes another pod's.
    let before = bench.generation(7);
    bench.pod("kube-system/dns", &[("k8s-app", "kube-dns")], &["10.0.0.54"], Some(8));
    bench.pod("default/late", &[("app", "late")], &[DNS], Some(12));
    bench.commit();
    assert!(bench.generation(7) > before);
    assert_eq!(bench.verdict(7, "10.0.0.53:5353", Protocol::UDP), Err(DropReason::PolicyDenied));
    assert_eq!(bench.verdict(7, "10.0.0.54:5353", Protocol::UDP), Ok(Verdict::Dns));
}

#[test]
fn a_restart_gives_the_same_meanings_the_same_numbers() {
    let mut bench = Bench::new();
    bench.policies(POLICY);
    bench.commit();
    bench.learn(CLIENT, "www.example.com", "203.0.113.1", Moment::from_secs(1));

    let mut node = Node::new(settings());
    node.restore(&bench.kernel);
    let plan = node.plan(&bench.inventory).unwrap();
    assert!(plan.difference.is_empty(), "{:?}", plan.difference);
    let mut desired = node.desired();
    for (id, local) in &plan.endpoints {
        let mut leases = Leases::restore(*id, Limits::default(), &bench.kernel);
        let mut changes: Vec<Change> = leases.rows().collect();
        if let Some(table) = &local.table {
            leases.rejudge(&mut *table.sets(), &mut changes).unwrap();
        }
        leases.settle(&mut changes);
        changes.iter().for_each(|change| desired.apply(change));
    }
    assert_eq!(desired, bench.kernel);
}

#[test]
fn a_pod_that_goes_takes_everything_with_it() {
    let mut bench = Bench::new();
    bench.policies(POLICY);
    bench.commit();
    let name = EndpointName { namespace: "default".into(), name: "client".into() };
    let gone = bench.node.plan(&bench.inventory).unwrap().endpoints;
    let (id, _) = gone.iter().find(|(_, local)| local.name == name).unwrap();
    bench.inventory.pods.remove(&name);
    bench.inventory.bindings.bound.remove(&name);
    bench.commit();
    assert!(bench.kernel.endpoints.values().all(|entry| entry.endpoint != *id));
    assert!(bench.kernel.sources.keys().all(|(endpoint, _)| endpoint != id));
    assert!(bench.kernel.rows.is_empty());
    assert!(!bench.kernel.prefixes.contains_key(&Prefix::host(CLIENT.parse().unwrap())));
}
