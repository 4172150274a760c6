//! Rules for what may be said: which names, requests and servers.

use model::Verdict;

use super::*;

#[test]
fn rules_for_dns_unite_their_names() {
    let dns = |name: &str| {
        format!(
            "{{endpointSelector: {{}}, egress: [{{toCIDR: [9.9.9.9/32], toPorts: [{{ports: \
             [{{port: '53', protocol: UDP}}], rules: {{dns: [{{matchPattern: '{name}'}}]}}}}]}}]}}"
        )
    };
    let table = table(&[&dns("*.b.com"), &dns("a.com"), &dns("a.com")]);
    let rows = table.rows(outside("9.9.9.9/32"));
    assert_eq!(shown(&rows), ["53/UDP dns *.b.com a.com"]);
    let filter = rows[0].filter.as_ref().unwrap();
    assert!(filter.allows(name("a.com").as_ref()) && filter.allows(name("x.b.com").as_ref()));
    assert!(!filter.allows(name("b.com").as_ref()));
}

#[test]
fn rules_without_an_item_judge_nothing() {
    for rules in ["dns", "http", "kafka"] {
        let table = table(&[&format!(
            "{{endpointSelector: {{}}, egress: [{{toPorts: [{{ports: [{{port: '53', protocol: \
             TCP}}], rules: {{{rules}: []}}}}]}}]}}"
        )]);
        assert_eq!(shown(&table.rows(Subject::Any)), ["53/TCP allow"]);
    }
}

#[test]
fn rules_for_dns_reach_dns_pods_in_other_namespaces() {
    let table = table(&["
  endpointSelector: {}
  egress:
  - toEndpoints: [{matchLabels: {k8s-app: kube-dns}}]
    toPorts:
    - ports: [{port: '53', protocol: UDP}]
    - rules: {dns: [{matchPattern: '*.com'}]}"]);
    let rows = |namespace: &str| shown(&table.rows(Subject::Labels(&pod(namespace, "kube-dns"))));
    assert_eq!(rows("kube-system"), ["53/TCP dns *.com", "53/UDP dns *.com"]);
    assert_eq!(rows("prod"), ["53/TCP dns *.com", "53/UDP dns all"]);
    assert_eq!(rows("dev"), Vec::<String>::new());
}

#[test]
fn without_default_deny_the_rest_is_allowed_and_names_are_still_filtered() {
    let spec = "{endpointSelector: {}, enableDefaultDeny: {egress: false}, egress: [{toPorts: \
                [{ports: [{port: '53', protocol: UDP}], rules: {dns: [{matchName: a.com}]}}]}]}";
    let open = table(&[spec]);
    assert_eq!(open.default_deny(), DefaultDeny::None);
    assert_eq!(shown(&open.rows(Subject::Any)), ["any unruled", "53/UDP dns a.com"]);
    let filter = open.name_filter(&[], Protocol::UDP, 53).unwrap();
    assert!(filter.allows(name("a.com").as_ref()) && !filter.allows(name("b.com").as_ref()));
    assert_eq!(open.name_filter(&[], Protocol::TCP, 53), None);

    let closed = table(&[spec, "{endpointSelector: {}, egress: [{}]}"]);
    assert_eq!(closed.default_deny(), DefaultDeny::Enforced);
    assert_eq!(shown(&closed.rows(Subject::Any)), ["53/UDP dns a.com"]);
}

#[test]
fn a_plain_allow_on_another_level_lifts_the_filter() {
    let table = table(&["
  endpointSelector: {}
  egress:
  - toPorts: [{ports: [{port: '53', protocol: UDP}]}]
  - toCIDR: [9.0.0.0/8]
    toPorts: [{ports: [{port: '53'}], rules: {dns: [{matchName: a.com}]}}]"]);
    let level = [outside("9.0.0.0/8")];
    assert!(table.name_filter(&level, Protocol::UDP, 53).unwrap().allows_all());
    assert!(!table.name_filter(&level, Protocol::TCP, 53).unwrap().allows_all());
    assert_eq!(table.name_filter(&[], Protocol::UDP, 53), None);
}

#[test]
fn filters_are_shared_while_they_are_held() {
    let table = table(&["{endpointSelector: {}, egress: [{toPorts: [{ports: [{port: '53'}], \
         rules: {dns: [{matchName: a.com}]}}]}]}"]);
    let rows = table.rows(Subject::Any);
    let filters: Vec<_> = rows.iter().filter_map(|row| row.filter.as_ref()).collect();
    assert!(filters.len() == 2 && Arc::ptr_eq(filters[0], filters[1]));
    assert_eq!(table.filters.made(), 1);
    drop(rows);
    assert_eq!(table.name_filter(&[], Protocol::UDP, 54), None);
    assert!(table.name_filter(&[], Protocol::UDP, 53).is_some());
    assert_eq!(table.filters.made(), 1);
}

const JUDGED: &str = "
  endpointSelector: {}
  egress:
  - toCIDR: [9.0.0.0/8]
    toPorts:
    - {ports: [{port: '80', protocol: TCP}], rules: {http: [{method: GET}]}}
    - {ports: [{port: '443', protocol: ANY}], serverNames: [a.com]}
    - {ports: [{port: '9092', protocol: TCP}], rules: {kafka: [{role: produce}]}}
    - ports: [{port: '81', protocol: TCP}]
  - toCIDR: [9.1.0.0/16]
    toPorts: [{ports: [{port: '80', protocol: TCP}]}]
  - toCIDR: [8.0.0.0/8]
    authentication: {mode: required}
  - toGroups: [{aws: {region: r}}]";

#[test]
fn rules_for_what_is_said_send_tcp_to_the_proxy_and_keep_quic_out() {
    let table = table(&[JUDGED]);
    let outer = ["80/TCP proxy", "81/TCP allow", "443/TCP proxy", "9092/TCP proxy", "80/UDP proxy"];
    assert_eq!(shown(&table.rows(outside("9.0.0.0/8"))), [&outer[..], &["443/UDP proxy"]].concat());
    let inner = shown(&table.rows(outside("9.1.0.0/16")));
    assert_eq!(inner[0], "80/TCP allow", "a plain allow leaves nothing to judge");
}

#[test]
fn rules_for_what_is_said_count_beside_absent_default_deny() {
    let table = table(&["
  endpointSelector: {}
  enableDefaultDeny: {egress: false}
  egress: [{toCIDR: [9.0.0.0/8], toPorts: [{rules: {http: [{}]}}]}]"]);
    assert_eq!(shown(&table.rows(outside("9.0.0.0/8"))), ["80/TCP proxy", "80/UDP proxy"]);
    assert_eq!(shown(&table.rows(Subject::Any)), ["any unruled"]);
}

#[test]
fn alternatives_of_wider_ports_count_for_narrower_ones() {
    let table = table(&["
  endpointSelector: {}
  egress:
  - toPorts:
    - {ports: [{port: '8000', endPort: 8191, protocol: TCP}], serverNames: [a.com]}
    - {ports: [{port: '8080', protocol: TCP}], serverNames: [b.com]}"]);
    let said = |port| {
        let row = table.row_at(Subject::Any, Protocol::TCP, port);
        row.map(|row| (row.ruling, row.conversations.len()))
    };
    assert_eq!(said(8080), Some((Verdict::Proxy.into(), 2)));
    assert_eq!(said(8081), Some((Verdict::Proxy.into(), 1)));
    assert_eq!(said(8192), None);
    let rows = table.rows(Subject::Any);
    let at = |port| row_for(&rows, Protocol::TCP, port).map(|row| row.conversations.len());
    assert_eq!((at(8080), at(8081)), (Some(2), Some(1)));
}

#[test]
fn what_is_not_enforced_allows_nothing_and_hides_nothing() {
    let table = table_with(&[JUDGED], Options { l7: false, ..Options::default() });
    assert_eq!(shown(&table.rows(outside("9.0.0.0/8"))), ["81/TCP allow"]);
    assert_eq!(shown(&table.rows(outside("9.1.0.0/16"))), ["80/TCP allow", "81/TCP allow"]);
    assert_eq!(table.rows(outside("8.0.0.0/8")), []);
    let denied =
        self::table(&["{endpointSelector: {}, egressDeny: [{toGroups: [{aws: {region: r}}]}]}"]);
    assert_eq!(shown(&denied.rows(outside("8.0.0.0/8"))), ["any deny"]);
}

#[test]
fn what_may_be_said_is_kept_with_the_ports() {
    let table = table(&["
  endpointSelector: {}
  egress:
  - toEndpoints: [{matchLabels: {app: db}}]
    toPorts:
    - ports: [{port: '80', protocol: TCP}]
      rules: {http: [{method: GET, path: /v1/.*, headers: ['X-Key: true']}]}
    - ports: [{port: '9092', protocol: TCP}]
      rules: {kafka: [{role: produce, topic: orders}]}
    - ports: [{port: '443', protocol: TCP}]
      serverNames: ['*.example.com']
    - ports: [{port: '8443', protocol: TCP}]
      terminatingTLS: {secret: {namespace: certs, name: front}}
      originatingTLS: {secret: {name: back}, trustedCA: roots}
      rules: {http: [{headerMatches: [{name: X-Token, secret: {name: token}, mismatch: REPLACE}]}]}"]);
    let db = labels(&[("app", "db"), (Labels::NAMESPACE, "prod")]);
    let db: Labels = db.iter().cloned().chain(pod("prod", "x").iter().cloned()).collect();
    let said = |port| {
        let row = table.row_at(Subject::Labels(&db), Protocol::TCP, port);
        let all = row.map_or_else(Vec::new, |row| row.conversations);
        all.iter().map(|own| L7::clone(own)).collect::<Vec<_>>()
    };
    let [http] = &said(80)[..] else { panic!() };
    let model::Requests::Http(rules) = &http.rule.requests else { panic!() };
    assert_eq!(rules[0].method.as_deref(), Some("GET"));
    assert_eq!(
        (&*rules[0].headers[0].name, rules[0].headers[0].value.as_deref()),
        ("x-key", Some("true"))
    );
    let [kafka] = &said(9092)[..] else { panic!() };
    let model::Requests::Kafka(rules) = &kafka.rule.requests else { panic!() };
    assert_eq!(rules[0].api_keys, [0, 3, 18].into());
    let [names] = &said(443)[..] else { panic!() };
    assert_eq!(names.rule.server_names.as_ref().unwrap().0[0].as_str(), "*.example.com");
    let [tls] = &said(8443)[..] else { panic!() };
    let unavailable = model::Terminate::Unavailable("certs/front".into());
    assert_eq!(tls.rule.terminate, Some(unavailable));
    assert_eq!(tls.originating.as_ref().unwrap().trusted_ca.as_deref(), Some("roots"));
    assert_eq!((tls.headers[0].rule, tls.headers[0].header), (0, 0));
    assert_eq!(said(81), []);
}
