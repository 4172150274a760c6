//! The smallest change that would let it pass.

use super::*;

#[test]
fn the_smallest_change_names_this_destination_and_port_alone() {
    let cluster = Cluster::new("egress:\n- toEndpoints: [{matchLabels: {app: x}}]");
    let at = "Add spec.egress at 7\n";
    assert_eq!(
        cluster.changes("prod/db", "5432/TCP"),
        format!(
            "{at}- toEndpoints:
  - matchLabels:
      app: \"db\"
  toPorts:
  - ports:
    - port: \"5432\"
      protocol: TCP"
        )
    );
    assert_eq!(
        cluster.changes("other/db", "8/ICMP"),
        format!(
            "{at}- toEndpoints:
  - matchLabels:
      tier: \"data\"
      k8s:io.kubernetes.pod.namespace: \"other\"
  icmps:
  - fields:
    - family: IPv4
      type: 8"
        )
    );
    assert_eq!(
        cluster.changes("203.0.113.1", "0/SCTP"),
        format!(
            "{at}- toCIDR:
  - \"203.0.113.1/32\"
  toPorts:
  - ports:
    - port: \"0\"
      protocol: SCTP"
        )
    );
    assert_eq!(
        cluster.changes("service:prod/db", "5432/TCP").lines().nth(2),
        Some("  - k8sService:")
    );
    assert_eq!(cluster.changes("10.96.9.9", "1/TCP"), "");
}

#[test]
fn a_name_that_cannot_be_asked_for_needs_two_changes() {
    let cluster = Cluster::new("egress: [{}]");
    assert_eq!(
        cluster.changes("b.com", "443/TCP"),
        "Add spec.egress at 6
- toFQDNs:
  - matchName: \"b.com\"
  toPorts:
  - ports:
    - port: \"443\"
      protocol: TCP
Add spec.egress at 6
- toEndpoints:
  - matchLabels:
      k8s-app: \"kube-dns\"
      k8s:io.kubernetes.pod.namespace: \"kube-system\"
  toPorts:
  - ports:
    - port: \"1053\"
      protocol: UDP
    rules:
      dns:
      - matchName: \"b.com\""
    );
}

#[test]
fn an_entry_that_lacks_nothing_but_the_port_gains_it() {
    let entry = |app: &str| {
        format!(
            "egress:\n- toEndpoints: [{app}]\n  toPorts: [{{ports: [{{port: '80', protocol: TCP}}]}}]"
        )
    };
    let one = Cluster::new(&entry("{matchLabels: {app: db}}"));
    assert_eq!(
        one.changes("prod/db", "5432/TCP"),
        "Add spec.egress[0].toPorts[0].ports at 8\n- port: \"5432\"\n  protocol: TCP"
    );
    // With several destinations, all of them would be opened.
    let several = Cluster::new(&entry("{matchLabels: {app: db}}, {matchLabels: {app: x}}"));
    assert!(several.changes("prod/db", "5432/TCP").starts_with("Add spec.egress at 7\n"));
}

#[test]
fn a_deny_rule_gets_an_exception_or_has_to_go() {
    let cluster = Cluster::new(
        "egress: [{}]
egressDeny:
- toCIDR: [203.0.113.0/24]
- toEndpoints: [{matchLabels: {app: db}}]",
    );
    assert_eq!(cluster.said("203.0.113.1", "1/TCP"), "deny deny-rule 8");
    let changes = cluster.ask("203.0.113.1", "1/TCP", &[]).changes;
    let kinds: Vec<_> = changes.iter().map(|change| change.kind).collect();
    assert_eq!(kinds, [ChangeKind::Replace, ChangeKind::Add]);
    assert_eq!(
        changes[0].yaml,
        "toCIDRSet:\n- cidr: \"203.0.113.0/24\"\n  except:\n  - \"203.0.113.1/32\""
    );
    let changes = cluster.ask("prod/db", "1/TCP", &[]).changes;
    assert_eq!(changes[0].kind, ChangeKind::Remove);
    assert_eq!(changes[0].field, "spec.egressDeny[1]");
}
