use model::Label;

use super::*;
use crate::{Document, Options, Policy};

/// The rules of a policy of the namespace `prod`, in a file of their own.
fn rules(spec: &str) -> Vec<Arc<Rule>> {
    rules_with(spec, Options::default())
}

fn rules_with(spec: &str, options: Options) -> Vec<Arc<Rule>> {
    let text = format!(
        "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\n\
         metadata: {{name: web, namespace: prod}}\nspec:\n{spec}\n"
    );
    let (documents, _) = Document::read_all(&Arc::from(Path::new("web.yaml")), &text);
    Policy::read_with(&documents[0], options).unwrap().rules
}

fn pod(app: &str) -> Labels {
    [Label::kubernetes(Labels::NAMESPACE, "prod"), Label::kubernetes("app", app)]
        .into_iter()
        .collect()
}

fn shown(decision: &Decision) -> String {
    let ports = decision.ports.as_ref().map_or("all".to_owned(), |spot| spot.field.to_string());
    format!("{} {}:{} {ports}", decision.direction, decision.file.display(), decision.entry.line)
}

fn decided(explanation: &Explanation) -> Vec<String> {
    explanation.decided.iter().map(shown).collect()
}

fn near(explanation: &Explanation) -> Vec<(String, Lack)> {
    explanation.near.iter().map(|near| (shown(&near.rule), near.lacks)).collect()
}

fn to_pod<'a>(labels: &'a Labels, protocol: Protocol, port: u16) -> Packet<'a> {
    Packet { destination: Destination::Inside(labels), protocol, port, asks: None }
}

#[test]
fn names_the_rules_that_allow_and_those_that_deny() {
    let rules = rules(
        "  endpointSelector: {}
  egress:
  - toEndpoints: [{matchLabels: {app: db}}]
  - toPorts: [{ports: [{port: '5432', protocol: TCP}]}]
  egressDeny:
  - toEndpoints: [{matchLabels: {app: db}}]
    toPorts: [{ports: [{port: '22', protocol: TCP}]}]",
    );
    let db = pod("db");
    let ask = |port| explain(&rules, &Context::default(), &to_pod(&db, Protocol::TCP, port));
    let allowed = ask(5432);
    assert!(allowed.passes(Protocol::TCP));
    assert_eq!(allowed.default_deny, DefaultDeny::Enforced);
    assert_eq!(
        decided(&allowed),
        ["allow web.yaml:7 all", "allow web.yaml:8 spec.egress[1].toPorts[0]"]
    );
    let denied = ask(22);
    assert_eq!(denied.verdict, Some(Verdict::Deny));
    assert_eq!(decided(&denied), ["deny web.yaml:10 spec.egressDeny[0].toPorts[0]"]);
    assert_eq!(near(&denied), []);
}

#[test]
fn a_denial_by_default_names_what_nearly_allows() {
    let rules = rules_with(
        "  endpointSelector: {}
  egress:
  - toEndpoints: [{matchLabels: {app: db}}]
    toPorts: [{ports: [{port: '443', protocol: TCP}]}]
  - toEndpoints: [{matchLabels: {app: web}}]
    toPorts: [{ports: [{port: '80', protocol: TCP}]}]
  - toEndpoints: [{matchLabels: {app: web}}]
    toPorts: [{ports: [{port: '443', protocol: TCP}], rules: {http: [{}]}}]
  - toEndpoints: [{matchLabels: {app: web}}]
    authentication: {mode: required}
  - toEndpoints: [{matchLabels: {app: other}}]
    toPorts: [{ports: [{port: '1', protocol: TCP}]}]",
        Options { l7: false, ..Options::default() },
    );
    let web = pod("web");
    let explanation = explain(&rules, &Context::default(), &to_pod(&web, Protocol::TCP, 443));
    assert_eq!((explanation.verdict, explanation.passes(Protocol::TCP)), (None, false));
    assert_eq!(
        near(&explanation),
        [
            ("allow web.yaml:13 all".to_owned(), Lack::Enforcement(Unenforced::Authentication)),
            (
                "allow web.yaml:11 spec.egress[2].toPorts[0]".to_owned(),
                Lack::Enforcement(Unenforced::Http)
            ),
            ("allow web.yaml:9 spec.egress[1].toPorts[0]".to_owned(), Lack::Port),
            ("allow web.yaml:7 spec.egress[0].toPorts[0]".to_owned(), Lack::Destination),
        ]
    );
}

#[test]
fn a_name_that_may_not_be_asked_for_is_told_from_one_that_may() {
    let rules = rules(
        "  endpointSelector: {}
  egress:
  - toEndpoints: [{matchLabels: {app: dns}}]
    toPorts: [{ports: [{port: '53', protocol: UDP}], rules: {dns: [{matchPattern: '*.a'}]}}]",
    );
    let dns = pod("dns");
    let ask = |name: &str| {
        let name: Name = name.parse().unwrap();
        let packet = Packet { asks: Some(name.as_ref()), ..to_pod(&dns, Protocol::UDP, 53) };
        explain(&rules, &Context::default(), &packet)
    };
    assert_eq!(ask("b.a").asks, Some(true));
    let refused = ask("b.c");
    assert_eq!((refused.verdict, refused.passes(Protocol::UDP)), (Some(Verdict::Dns), false));
    assert_eq!(near(&refused)[0].1, Lack::Name);
}

#[test]
fn an_address_is_reached_by_prefix_and_by_name() {
    let rules = rules(
        "  endpointSelector: {}
  egress:
  - toCIDRSet: [{cidr: 9.0.0.0/8, except: [9.1.0.0/16]}]
  - toFQDNs: [{matchName: a.com}]",
    );
    let ask = |address: &str, names: &[&str]| {
        let names: Vec<Name> = names.iter().map(|name| name.parse().unwrap()).collect();
        let destination = Destination::Outside {
            address: address.parse().unwrap(),
            labels: &Labels::default(),
            names: &names,
        };
        let packet = Packet { destination, protocol: Protocol::TCP, port: 1, asks: None };
        decided(&explain(&rules, &Context::default(), &packet)).len()
    };
    assert_eq!(ask("9.2.0.1", &[]), 1);
    assert_eq!(ask("9.1.0.1", &[]), 0);
    assert_eq!(ask("9.1.0.1", &["b.com", "a.com"]), 1);
    assert_eq!(ask("9.2.0.1", &["a.com"]), 2);
}

#[test]
fn without_default_deny_what_no_rule_covers_passes() {
    let explanation = explain(&[], &Context::default(), &to_pod(&pod("a"), Protocol::SCTP, 9));
    assert_eq!(explanation.verdict, Some(Verdict::Unruled));
    assert!(explanation.passes(Protocol::SCTP));
    assert_eq!(explanation.default_deny, DefaultDeny::None);
    assert!(explanation.decided.is_empty());
}

#[test]
fn an_external_service_is_its_name() {
    let rules = rules(
        "  endpointSelector: {}
  egress: [{toServices: [{k8sService: {serviceName: pay, namespace: prod}}]}]",
    );
    let name = model::EndpointName { namespace: "prod".into(), name: "pay".into() };
    let mut service = model::Service::new(name.clone());
    service.external_name = Some("a.com".parse().unwrap());
    let services = std::iter::once((name, Arc::new(service))).collect();
    let context = Context { services, ..Context::default() };
    let names = ["a.com".parse().unwrap()];
    let destination = Destination::Outside {
        address: "9.9.9.9".parse().unwrap(),
        labels: &Labels::default(),
        names: &names,
    };
    let packet = Packet { destination, protocol: Protocol::TCP, port: 443, asks: None };
    assert!(explain(&rules, &context, &packet).passes(packet.protocol));
    assert!(!explain(&rules, &Context::default(), &packet).passes(packet.protocol));
    let table = crate::Table::compile(&rules, &context);
    let patterns: Vec<&str> = table.selectors().map(|(_, own)| own.as_str()).collect();
    assert_eq!(patterns, ["a.com"]);
}

#[test]
fn rules_for_what_is_said_send_tcp_to_the_proxy_unless_a_plain_allow_covers_it() {
    let rules = rules(
        "  endpointSelector: {}
  egress:
  - toEndpoints: [{matchLabels: {app: web}}]
    toPorts:
    - {ports: [{port: '80', protocol: TCP}], rules: {http: [{method: GET}]}}
    - {ports: [{port: '9092', protocol: TCP}], rules: {kafka: [{role: produce}]}}
    - {ports: [{port: '81', protocol: TCP}], rules: {http: [{method: GET}]}}
    - ports: [{port: '81', protocol: TCP}]",
    );
    let web = pod("web");
    let ask = |protocol, port| {
        let explanation = explain(&rules, &Context::default(), &to_pod(&web, protocol, port));
        (explanation.verdict, explanation.passes(protocol), decided(&explanation))
    };
    let by = |item: usize| vec![format!("allow web.yaml:7 spec.egress[0].toPorts[{item}]")];
    assert_eq!(ask(Protocol::TCP, 80), (Some(Verdict::Proxy), true, by(0)));
    assert_eq!(ask(Protocol::UDP, 80), (Some(Verdict::Proxy), false, by(0)));
    assert_eq!(ask(Protocol::SCTP, 80), (None, false, vec![]));
    assert_eq!(ask(Protocol::TCP, 9092), (Some(Verdict::Proxy), true, by(1)));
    assert_eq!(ask(Protocol::UDP, 9092), (None, false, vec![]));
    assert_eq!(ask(Protocol::TCP, 81), (Some(Verdict::Allow), true, by(3)));
}
