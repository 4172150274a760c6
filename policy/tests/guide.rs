//! Egress policies as guides and tutorials write them.
//!
//! Some of them would not do in Cilium what their authors mean; here they do, with a warning.

use std::path::Path;
use std::sync::Arc;

use model::{EndpointName, Label, Labels, NameBuf, NameRef, Prefix, Protocol, Verdict};
use policy::{Context, DefaultDeny, Document, Policy, Subject, Table, Wants};

/// The policy `backend` of the namespace `prod` with this egress.
fn policy(egress: &str) -> Policy {
    let text = format!(
        "apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata:
  name: backend
  namespace: prod
spec:
  endpointSelector:
    matchLabels:
      app: backend
{egress}"
    );
    let (documents, problems) = Document::read_all(&Arc::from(Path::new("guide.yaml")), &text);
    assert_eq!(problems, []);
    Policy::read(&documents[0]).unwrap()
}

fn pod(namespace: &str, key: &str, value: &str) -> Labels {
    [Label::kubernetes(Labels::NAMESPACE, namespace), Label::kubernetes(key, value)]
        .into_iter()
        .collect()
}

fn table(policy: &Policy) -> Table {
    let backend = pod("prod", "app", "backend");
    assert!(policy.rules.iter().all(|rule| rule.selects(&backend)));
    assert!(!policy.rules.iter().any(|rule| rule.selects(&pod("dev", "app", "backend"))));
    let dns_pods = [pod("kube-system", "k8s-app", "kube-dns")].into();
    Table::compile(&policy.rules, &Context { dns_pods, ..Context::default() })
}

fn rows(table: &Table, labels: &Labels) -> Vec<String> {
    shown(&table.rows(Subject::Labels(labels)))
}

fn shown(rows: &[policy::TableRow]) -> Vec<String> {
    rows.iter().map(|row| format!("{} {}", row.ports, row.ruling)).collect()
}

fn allows(table: &Table, pod: &Labels, name: &str) -> bool {
    let name: NameBuf = name.parse().unwrap();
    let name: NameRef<'_> = name.as_ref();
    let filter = table.name_filter(&[Subject::Labels(pod)], Protocol::UDP, 53);
    filter.is_some_and(|filter| filter.allows(name))
}

#[test]
fn pods_by_label() {
    let policy = policy(
        "  egress:
    - toEndpoints:
        - matchLabels:
            role: cache
",
    );
    let table = table(&policy);
    assert_eq!(table.default_deny(), DefaultDeny::Enforced);
    assert_eq!(rows(&table, &pod("prod", "role", "cache")), ["any allow"]);
    assert_eq!(rows(&table, &pod("dev", "role", "cache")), Vec::<String>::new());
    assert_eq!(rows(&table, &pod("prod", "role", "web")), Vec::<String>::new());
}

#[test]
fn pods_by_label_and_namespace() {
    let policy = policy(
        "  egress:
    - toEndpoints:
        - matchLabels:
            role: cache
            k8s:io.kubernetes.pod.namespace: staging
",
    );
    let table = table(&policy);
    assert_eq!(rows(&table, &pod("staging", "role", "cache")), ["any allow"]);
    assert_eq!(rows(&table, &pod("prod", "role", "cache")), Vec::<String>::new());
}

#[test]
fn outside_prefixes() {
    let policy = policy(
        "  egress:
    - toCIDR:
        - 172.31.0.0/16
      toPorts:
        - ports:
            - port: \"3306\"
              protocol: TCP
",
    );
    let table = table(&policy);
    let rows = table.rows(Subject::Outside {
        prefix: "172.31.0.0/16".parse().unwrap(),
        labels: &Labels::default(),
    });
    let shown: Vec<_> = rows.iter().map(|row| (row.ports.to_string(), row.ruling)).collect();
    assert_eq!(shown, [("3306/TCP".to_owned(), Verdict::Allow.into())]);
    assert_eq!(table.rows(Subject::Any), []);
}

#[test]
fn the_clusters_dns_with_rules_in_an_item_without_ports() {
    let policy = policy(
        "  egress:
    - toEndpoints:
        - matchLabels:
            k8s-app: kube-dns
      toPorts:
        - ports:
            - port: \"53\"
              protocol: UDP
        - rules:
            dns:
              - matchPattern: \"*\"
",
    );
    let warnings: Vec<_> = policy.warnings.iter().map(|warning| &*warning.field).collect();
    assert_eq!(warnings, ["spec.egress[0].toEndpoints", "spec.egress[0].toPorts[1].rules"]);
    let table = table(&policy);
    let dns = pod("kube-system", "k8s-app", "kube-dns");
    assert_eq!(rows(&table, &dns), ["53/TCP dns", "53/UDP dns"]);
    assert!(allows(&table, &dns, "example.com"));
    assert!(!allows(&table, &pod("dev", "k8s-app", "kube-dns"), "example.com"));
}

#[test]
fn a_database_a_cache_and_names() {
    let policy = policy(
        "  egress:
    - toEndpoints:
        - matchLabels:
            k8s-app: kube-dns
      toPorts:
        - ports:
            - port: \"53\"
              protocol: UDP
          rules:
            dns:
              - matchPattern: \"*.stripe.com\"
    - toEndpoints:
        - matchLabels:
            app: db
            k8s:io.kubernetes.pod.namespace: prod
      toPorts:
        - ports:
            - port: \"5432\"
              protocol: TCP
    - toFQDNs:
        - matchName: api.stripe.com
      toPorts:
        - ports:
            - port: \"443\"
              protocol: TCP
",
    );
    let table = table(&policy);
    let dns = pod("kube-system", "k8s-app", "kube-dns");
    assert!(allows(&table, &dns, "API.stripe.com.") && !allows(&table, &dns, "stripe.com"));
    assert_eq!(rows(&table, &pod("prod", "app", "db")), ["5432/TCP allow"]);
    let name: NameBuf = "api.stripe.com".parse().unwrap();
    let mut selectors = Vec::new();
    table.selectors_of(name.as_ref(), &mut selectors);
    let names = table.rows(Subject::Names(&selectors));
    assert_eq!(names.iter().map(|row| row.ports.to_string()).collect::<Vec<_>>(), ["443/TCP"]);
}

#[test]
fn the_entities() {
    let policy = policy(
        "  egress:
    - toEntities:
        - world
    - toEntities:
        - cluster
    - toEntities:
        - kube-apiserver
",
    );
    let table = table(&policy);
    assert_eq!(rows(&table, &pod("dev", "app", "any")), ["any allow"]);
    let world = Subject::Outside { prefix: Prefix::all_ipv6(), labels: &Labels::default() };
    assert_eq!(table.rows(world).len(), 1);
    assert_eq!(table.rows(Subject::Any), []);
}

#[test]
fn a_service_by_its_backends() {
    let policy = policy(
        "  egress:
    - toServices:
        - k8sService:
            serviceName: external-api
            namespace: prod
",
    );
    let table = table(&policy);
    let name = EndpointName { namespace: "prod".into(), name: "external-api".into() };
    assert_eq!(table.wants().services.iter().collect::<Vec<_>>(), [&name]);
    let backend: Labels = [Wants::service_label(&name)].into_iter().collect();
    assert_eq!(rows(&table, &backend), ["any allow"]);
}

#[test]
fn a_prefix_with_an_exception() {
    let policy = policy(
        "  egress:
    - toCIDRSet:
        - cidr: 172.31.0.0/16
          except:
            - 172.31.20.0/24
",
    );
    let table = table(&policy);
    let rows = |prefix: &str| {
        let prefix = prefix.parse().unwrap();
        table.rows(Subject::Outside { prefix, labels: &Labels::default() }).len()
    };
    assert_eq!((rows("172.31.0.0/16"), rows("172.31.20.0/24")), (1, 0));
}

#[test]
fn requests_and_topics_are_judged_by_the_proxy() {
    let policy = policy(
        "  egress:
    - toEntities:
        - world
      toPorts:
        - ports:
            - port: \"443\"
              protocol: TCP
          rules:
            http:
              - method: GET
                path: \"/v1/*\"
    - toEndpoints:
        - matchLabels:
            app: kafka
      toPorts:
        - rules:
            kafka:
              - topic: \"payments\"
                apiKey: produce
",
    );
    let warnings: Vec<_> = policy.warnings.iter().map(|warning| &*warning.field).collect();
    assert_eq!(
        warnings,
        [
            "spec.egress[0].toPorts[0].rules",
            "spec.egress[0].toPorts[0].rules.http[0].path",
            "spec.egress[1].toPorts[0].rules",
        ]
    );
    assert!(policy.unenforced.is_empty());
    let table = table(&policy);
    let world = Subject::Outside { prefix: Prefix::all_ipv4(), labels: &Labels::default() };
    assert_eq!(shown(&table.rows(world)), ["443/TCP proxy", "443/UDP proxy"]);
    assert_eq!(rows(&table, &pod("prod", "app", "kafka")), ["9092/TCP proxy"]);
}

#[test]
fn a_whole_policy_of_production() {
    let policy = policy(
        "  egress:
    # 1. Allow DNS
    - toEndpoints:
        - matchLabels:
            k8s-app: kube-dns
      toPorts:
        - ports:
            - port: \"53\"
              protocol: UDP
          rules:
            dns:
              - matchPattern: \"*\"
    # 2. Allow DB
    - toEndpoints:
        - matchLabels:
            app: db
            k8s:io.kubernetes.pod.namespace: prod
      toPorts:
        - ports:
            - port: \"5432\"
              protocol: TCP
    # 3. Allow Redis
    - toEndpoints:
        - matchLabels:
            app: redis
            k8s:io.kubernetes.pod.namespace: prod
      toPorts:
        - ports:
            - port: \"6379\"
              protocol: TCP
    # 4. Allow HTTPS to external payment API
    - toEntities:
        - world
      toPorts:
        - ports:
            - port: \"443\"
              protocol: TCP
          rules:
            http:
              - host: \"api.stripe.com\"
                method: \"POST\"
                path: \"/v1/payments\"
",
    );
    let table = table(&policy);
    assert_eq!(rows(&table, &pod("kube-system", "k8s-app", "kube-dns")), ["53/UDP dns"]);
    assert_eq!(rows(&table, &pod("prod", "app", "db")), ["5432/TCP allow"]);
    assert_eq!(rows(&table, &pod("prod", "app", "redis")), ["6379/TCP allow"]);
    assert_eq!(rows(&table, &pod("prod", "app", "other")), Vec::<String>::new());
    let world = Subject::Outside { prefix: Prefix::all_ipv4(), labels: &Labels::default() };
    assert_eq!(shown(&table.rows(world)), ["443/TCP proxy", "443/UDP proxy"]);
    let row = table.row_at(world, Protocol::TCP, 443).unwrap();
    let model::Requests::Http(said) = &row.conversations[0].rule.requests else { panic!() };
    assert_eq!(said[0].host.as_deref(), Some("api.stripe.com"));
}
