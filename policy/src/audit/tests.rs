use std::path::Path;

use model::{EndpointName, Label, Service};

use super::*;
use crate::Document;

fn audited(spec: &str) -> Vec<String> {
    let text = format!(
        "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\n\
         metadata: {{name: web, namespace: prod}}\nspec:\n{spec}\n"
    );
    let (documents, _) = Document::read_all(&Arc::from(Path::new("web.yaml")), &text);
    let policy = Arc::new(Policy::read(&documents[0]).unwrap());
    let web: Labels =
        [Label::kubernetes(Labels::NAMESPACE, "prod"), Label::kubernetes("app", "web")]
            .into_iter()
            .collect();
    let name = |name: &str| EndpointName { namespace: "prod".into(), name: name.into() };
    let external =
        Service { external_name: Some("a.com".parse().unwrap()), ..Service::new(name("pay")) };
    let services = [Service::new(name("db")), external];
    let services = services.into_iter().map(|own| (own.name.clone(), Arc::new(own))).collect();
    let dns = [("k8s-app", "kube-dns"), (Labels::NAMESPACE, "kube-system")];
    let dns = dns.into_iter().map(|(key, value)| Label::kubernetes(key, value)).collect();
    let dns_pods = [dns].into();
    let context = Context { services, dns_pods, ..Context::default() };
    let population =
        Population { context: &context, labels: &[&web], port_names: &["http".to_owned()].into() };
    audit(&[policy], &population).iter().map(ToString::to_string).collect()
}

#[test]
fn tells_what_selects_nothing() {
    let found = audited(
        "  endpointSelector: {matchLabels: {app: wbe}}
  egress:
  - toEndpoints: [{matchLabels: {app: web}}, {matchLabels: {app: db}}]
  - toNodes: [{matchLabels: {role: edge}}]
  - toServices: [{k8sService: {serviceName: dbs, namespace: prod}}]
  - toCIDRSet: [{cidrGroupRef: office}]
  - toPorts: [{ports: [{port: http}, {port: grpc, protocol: TCP}]}]",
    );
    assert_eq!(
        found,
        [
            "web.yaml:5:1: endpointSelector: selects no pod that is there, so the rule does nothing",
            "web.yaml:7:18: spec.egress[0].toEndpoints: `any:app=db` selects nothing that is there",
            "web.yaml:8:14: spec.egress[1].toNodes: `reserved:remote-node,any:role=edge` selects no \
             node that is there",
            "web.yaml:9:17: spec.egress[2].toServices: `prod/dbs` selects no service that is there",
            "web.yaml:10:16: spec.egress[3].toCIDRSet: `group office` has no prefix, so it means \
             nothing",
            "web.yaml:11:15: spec.egress[4].toPorts[0]: no pod that is there names a port `grpc`",
        ]
    );
}

#[test]
fn says_nothing_of_what_is_there() {
    let found = audited(
        "  endpointSelector: {}
  egress:
  - toEndpoints: [{matchLabels: {app: web}}]
  - toServices: [{k8sServiceSelector: {selector: {}}}]
    toPorts: [{ports: [{port: http, protocol: TCP}]}]",
    );
    let external = "selects an ExternalName service, which stands for the name `a.com` as in \
                    toFQDNs; in Cilium it selects nothing";
    assert_eq!(found, [format!("web.yaml:8:17: spec.egress[1].toServices: {external}")]);
}

#[test]
fn dns_pods_are_there_whatever_their_namespace_where_a_rule_is_for_dns() {
    let rule = |application: &str| {
        audited(&format!(
            "  endpointSelector: {{}}\n  egress:\n  - toEndpoints: [{{matchLabels: {{k8s-app: \
             kube-dns}}}}]\n    toPorts: [{{ports: [{{port: \"53\"}}]{application}}}]"
        ))
    };
    assert_eq!(rule(", rules: {dns: [{matchPattern: \"*\"}]}"), [""; 0]);
    assert_eq!(rule("").len(), 1, "other rules keep to the policy's own namespace");
}
