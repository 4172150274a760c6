//! What passes because it is audited.

use super::*;

#[test]
fn what_passes_because_it_is_audited_names_what_would_deny_it() {
    let spec = "egress:
- toCIDR: [203.0.113.0/24]
  toPorts: [{ports: [{port: '443', protocol: TCP}]}]
egressDeny:
- toCIDR: [203.0.113.8/29]";
    let cluster = Cluster::audited(spec);
    assert_eq!(cluster.said("203.0.113.1", "443/TCP"), "allow allow-rule 7");
    assert_eq!(cluster.said("203.0.113.9", "443/TCP"), "audit deny-rule 10");
    assert_eq!(cluster.said("203.0.113.1", "80/TCP"), "audit policy-denied");
    assert_eq!(cluster.said("10.96.7.7", "80/TCP"), "audit no-service");
    let told = cluster.ask("203.0.113.1", "80/TCP", &[]);
    assert_eq!((told.default_deny, told.audited), (DefaultDeny::Audited, vec!["prod/web".into()]));
    let enforced = Cluster::new(spec);
    for to in ["203.0.113.1", "203.0.113.9"] {
        let changes = cluster.changes(to, "80/TCP");
        assert_eq!(changes, enforced.changes(to, "80/TCP"), "what would help if it were enforced");
        assert!(!changes.is_empty());
    }
}

#[test]
fn a_name_that_is_audited_is_told_with_the_rule_that_lacks_it() {
    let spec = format!("egress:\n{DNS_RULE}");
    let asked = |cluster: &Cluster, name: &str| {
        let question =
            Question { asks: Some(name.parse().unwrap()), ..question("10.96.0.10", "53/UDP", &[]) };
        let Explanation { outcome, reason, .. } = explain(cluster.known(), &question).unwrap();
        (outcome, reason)
    };
    let audited = Cluster::audited(&spec);
    assert_eq!(asked(&audited, "a.com"), (Outcome::Redirect, Reason::DnsRule));
    assert_eq!(asked(&audited, "b.com"), (Outcome::Audit, Reason::NameRefused));
    let open = Cluster::new(&format!("{spec}enableDefaultDeny: {{egress: false}}"));
    assert_eq!(asked(&open, "b.com"), (Outcome::Redirect, Reason::DnsRule));
}
