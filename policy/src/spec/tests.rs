use std::path::Path;
use std::sync::Arc;

use model::{Label, Labels};
use proptest::prelude::*;

use crate::{Context, Document, Options, Policy, Problem, Rule, SelectorScope, Subject, Table};

fn read(text: &str) -> Result<Policy, Vec<Problem>> {
    read_with(text, Options::default())
}

fn read_with(text: &str, options: Options) -> Result<Policy, Vec<Problem>> {
    let (documents, problems) = Document::read_all(&Arc::from(Path::new("p.yaml")), text);
    assert_eq!(problems, [], "{text}");
    Policy::read_with(&documents[0], options)
}

fn policy(spec: &str) -> Policy {
    policy_with(spec, Options::default())
}

fn policy_with(spec: &str, options: Options) -> Policy {
    let text = format!(
        "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\n\
         metadata: {{name: web, namespace: prod}}\nspec: {spec}\n"
    );
    read_with(&text, options).unwrap()
}

fn clusterwide(spec: &str) -> Policy {
    let text = format!(
        "apiVersion: cilium.io/v2\nkind: CiliumClusterwideNetworkPolicy\n\
         metadata: {{name: web}}\nspec: {spec}\n"
    );
    read(&text).unwrap()
}

/// The rule's meaning with one line for the endpoints and one for each entry.
fn meaning(policy: &Policy) -> Vec<String> {
    let lines = policy.rules.iter().map(|rule| rule.canonical());
    lines.flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>()).collect()
}

fn entry(text: &str) -> String {
    meaning(&policy(&format!("{{endpointSelector: {{}}, egress: [{text}]}}"))).pop().unwrap()
}

fn warnings(policy: &Policy) -> Vec<String> {
    policy.warnings.iter().map(ToString::to_string).collect()
}

#[test]
fn every_problem_of_a_document_is_told_with_its_place() {
    let problems = read(
        "apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata:
  name: web
spec:
  endpointSelector:
    matchLabels:
      app: 1
  egress:
  - toFQDNs:
    - matchName: example.com
    - matchNames: example.org
    toPorts:
    - ports:
      - port: '443'
        protocol: tcp
  - toCIDR:
    - 10.0.0.1
  toEntities: [world]
",
    )
    .unwrap_err();
    let shown: Vec<String> = problems.iter().map(ToString::to_string).collect();
    assert_eq!(
        shown,
        [
            "p.yaml:8:12: spec.endpointSelector.matchLabels.app: must be text, not the number 1; \
             quote it if text is meant",
            "p.yaml:12:7: spec.egress[0].toFQDNs[1]: one of matchName and matchPattern must be set",
            "p.yaml:12:7: spec.egress[0].toFQDNs[1].matchNames: is no field that is known here; \
             did you mean matchName?",
            "p.yaml:16:19: spec.egress[0].toPorts[0].ports[0].protocol: `tcp` is none of TCP, UDP, \
             SCTP, ANY; did you mean TCP?",
            "p.yaml:18:7: spec.egress[1].toCIDR[0]: `10.0.0.1` has no `/`; write `10.0.0.1/32` \
             for this address alone",
            "p.yaml:19:3: spec.toEntities: is no field that is known here",
        ]
    );
}

#[test]
fn the_policys_namespace_is_forced_on_its_endpoints() {
    let subject = |spec: &str| {
        let policy = policy(&format!("{{endpointSelector: {spec}, egress: [{{}}]}}"));
        (policy.rules[0].subject.to_string(), policy.warnings.len())
    };
    let forced = "k8s:io.kubernetes.pod.namespace=prod";
    assert_eq!(subject("{}"), (forced.to_owned(), 0));
    assert_eq!(subject("{matchLabels: {app: web}}"), (format!("any:app=web,{forced}"), 0));
    let other = subject("{matchLabels: {'k8s:io.kubernetes.pod.namespace': dev}}");
    assert_eq!(other, (forced.to_owned(), 1));
    let own = subject("{matchLabels: {'k8s:io.kubernetes.pod.namespace': prod}}");
    assert_eq!(own, (forced.to_owned(), 0));

    let everywhere = clusterwide("{endpointSelector: {matchLabels: {app: web}}, egress: [{}]}");
    assert_eq!(everywhere.rules[0].subject.to_string(), "any:app=web");
    assert_eq!(everywhere.key.to_string(), "web");
}

#[test]
fn destinations_are_in_the_policys_namespace_unless_it_names_one() {
    let peers = |selector: &str| entry(&format!("{{toEndpoints: [{selector}]}}"));
    assert_eq!(
        peers("{matchLabels: {app: db}}"),
        "pods([any:app=db,k8s:io.kubernetes.pod.namespace=prod] dns [any:app=db]) ports(all)"
    );
    for own in [
        "k8s:io.kubernetes.pod.namespace",
        "io.kubernetes.pod.namespace",
        "k8s:io.cilium.k8s.namespace.labels.team",
        "io.cilium.k8s.namespace.labels.kubernetes.io/metadata.name",
        "reserved:health",
    ] {
        let shown = if own.contains(':') { own.to_owned() } else { format!("any:{own}") };
        assert_eq!(
            peers(&format!("{{matchLabels: {{'{own}': x}}}}")),
            format!("pods([{shown}=x]) ports(all)")
        );
    }
    let all = clusterwide("{endpointSelector: {}, egress: [{toEndpoints: [{}]}]}");
    let every_pod = "pods([k8s:io.kubernetes.pod.namespace]) ports(all)";
    assert_eq!(meaning(&all).last().unwrap(), every_pod);
}

#[test]
fn absent_empty_and_present_lists_differ() {
    assert_eq!(entry("{}"), "all");
    assert_eq!(entry("{toPorts: []}"), "all");
    assert_eq!(entry("{toPorts: [{}]}"), "all ports()");
    assert_eq!(entry("{toCIDR: []}"), "prefixes() ports(all)");
    assert_eq!(entry("{toFQDNs: []}"), "names() ports(all)");
    assert_eq!(entry("{toEndpoints: []}"), "pods() ports(all)");
    assert_eq!(entry("{toEntities: []}"), "entities() ports(all)");
    assert_eq!(entry("{toFQDNs: [], toCIDR: [10.1.2.3/8]}"), "prefixes(10.0.0.0/8) ports(all)");
    assert_eq!(entry("{toCIDR: ['::/0'], toPorts: []}"), "prefixes(::/0) ports(all)");
}

#[test]
fn ports_and_protocols_become_prefixes() {
    let ports = |port: &str| entry(&format!("{{toPorts: [{{ports: [{{{port}}}]}}]}}"));
    assert_eq!(ports("port: '443', protocol: TCP"), "all ports(443/TCP)");
    assert_eq!(ports("port: '443'"), "all ports(443/SCTP | 443/TCP | 443/UDP)");
    assert_eq!(ports("port: '0', protocol: UDP"), "all ports(UDP)");
    assert_eq!(ports("port: '0', protocol: ANY"), "all ports(SCTP | TCP | UDP)");
    assert_eq!(ports("port: '0', endPort: 65535, protocol: UDP"), "all ports(UDP)");
    assert_eq!(ports("port: '8', endPort: 11, protocol: TCP"), "all ports(8-11/TCP)");
    assert_eq!(ports("port: '8', endPort: 0, protocol: TCP"), "all ports(8/TCP)");
    assert_eq!(ports("port: '8', endPort: 7, protocol: TCP"), "all ports(8/TCP)");
    assert_eq!(ports("port: web, endPort: 90, protocol: TCP"), "all ports(web/TCP)");
    assert_eq!(ports("port: '010', protocol: TCP"), "all ports(8/TCP)");
}

#[test]
fn rules_for_dns_without_ports_mean_port_53_and_say_so() {
    let policy = policy(
        "{endpointSelector: {}, egress: [{toPorts: [{rules: {dns: [{matchPattern: '*.a'}, {matchName: B.}]}}]}]}",
    );
    assert_eq!(meaning(&policy)[1], "all ports(53/TCP | 53/UDP; dns *.a | b)");
    assert_eq!(
        warnings(&policy),
        [
            "p.yaml:4:58: spec.egress[0].toPorts[0].rules: has no ports, so the DNS port 53 is meant, \
          UDP and TCP; Cilium refuses this"
        ]
    );
}

#[test]
fn rules_for_dns_have_no_sctp() {
    let dns = |protocol: &str| {
        entry(&format!(
            "{{toPorts: [{{ports: [{{port: '53', protocol: {protocol}}}], \
             rules: {{dns: [{{matchName: a}}]}}}}]}}"
        ))
    };
    assert_eq!(dns("ANY"), "all ports(53/TCP | 53/UDP; dns a)");
    assert_eq!(dns("SCTP"), "all ports(; dns a)");
}

#[test]
fn warns_where_dns_pods_are_selected_in_other_namespaces() {
    let policy = policy(
        "{endpointSelector: {}, egress: [{toEndpoints: [{matchLabels: {k8s-app: kube-dns}}], \
         toPorts: [{ports: [{port: '53'}], rules: {dns: [{matchPattern: '*'}]}}]}]}",
    );
    assert_eq!(
        warnings(&policy),
        [
            "p.yaml:4:53: spec.egress[0].toEndpoints: selects the cluster's DNS pods too where their \
          labels match, for rules.dns; Cilium keeps to the namespace `prod`: name \
          io.kubernetes.pod.namespace to be exact"
        ]
    );
}

#[test]
fn default_deny_follows_the_section_and_the_switch() {
    let deny = |spec: &str| {
        let policy = policy(&format!("{{endpointSelector: {{}}, {spec}}}"));
        policy.rules.iter().map(|rule| rule.default_deny).collect::<Vec<_>>()
    };
    assert_eq!(deny("egress: [{}]"), [true]);
    assert_eq!(deny("egress: [{}], enableDefaultDeny: {ingress: false}"), [true]);
    assert_eq!(deny("egress: [{}], enableDefaultDeny: {egress: false}"), [false]);
    assert_eq!(deny("egress: [], ingress: [{}]"), Vec::<bool>::new());
    assert_eq!(deny("ingress: [{}], enableDefaultDeny: {egress: true}"), Vec::<bool>::new());
}

#[test]
fn several_specs_are_several_rules() {
    let policy = read(
        "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\n\
         metadata: {name: web, annotations: {fqdnd.io/allow-private: 'true', other: x}}\n\
         spec: {endpointSelector: {}, egress: [{}]}\nspecs:\n\
         - {endpointSelector: {matchLabels: {a: b}}, egress: [{}]}\n",
    )
    .unwrap();
    let lines: Vec<usize> = policy.rules.iter().map(|rule| rule.origin.line).collect();
    assert_eq!(lines, [4, 6]);
    assert_eq!(policy.key.to_string(), "default/web");
    assert!(policy.allow_private && policy.rules[0].allow_private);
}

#[test]
fn the_same_meaning_has_the_same_text() {
    let one = policy(
        "{endpointSelector: {matchLabels: {a: b, c: d}}, egress: [{toCIDR: [10.0.0.0/8, 11.0.0.0/8]}, \
         {toFQDNs: [{matchName: A.com}], toPorts: [{ports: [{port: '1'}, {port: '2'}]}]}]}",
    );
    let same = policy(
        "\n  egress:\n  - toFQDNs: [{matchPattern: a.com.}]\n    \
         toPorts: [{ports: [{port: '2'}, {port: '1', endPort: 1}]}]\n  \
         - toCIDR: [11.0.0.0/8, 10.1.0.0/8]\n  \
         endpointSelector: {matchLabels: {c: d}, matchExpressions: [{key: a, operator: In, values: [b]}]}",
    );
    let other = policy("{endpointSelector: {matchLabels: {a: b, c: d}}, egress: [{}]}");
    assert_eq!(one.rules[0].canonical(), same.rules[0].canonical());
    assert_ne!(one.rules[0].canonical(), other.rules[0].canonical());
}

#[test]
fn selects_by_labels() {
    let policy = policy(
        "{endpointSelector: {matchExpressions: [{key: tier, operator: NotIn, values: [db]}]}, \
         egress: [{}]}",
    );
    let selects = |namespace: &str, tier: &str| {
        let labels: Labels =
            [Label::kubernetes(Labels::NAMESPACE, namespace), Label::kubernetes("tier", tier)]
                .into_iter()
                .collect();
        Rule::selects(&policy.rules[0], &labels)
    };
    assert!(selects("prod", "web"));
    assert!(!selects("prod", "db") && !selects("dev", "web"));
}

#[test]
fn destinations_of_every_kind_are_read() {
    for (text, expected) in [
        ("{toEntities: [world, none]}", "entities(none | world) ports(all)"),
        (
            "{toServices: [{k8sService: {serviceName: a, namespace: b}}]}",
            "services(b/a) ports(all)",
        ),
        (
            "{toServices: [{k8sServiceSelector: {selector: {matchLabels: {a: b}}, namespace: c}}]}",
            "services(c/* [any:a=b]) ports(all)",
        ),
        (
            "{toNodes: [{matchLabels: {role: edge}}, {}]}",
            "nodes(reserved:remote-node | reserved:remote-node,any:role=edge) ports(all)",
        ),
        (
            "{toCIDRSet: [{cidr: 10.1.2.3/8, except: [10.1.2.3/16]}, {cidrGroupRef: g}, \
             {cidrGroupSelector: {matchLabels: {a: b}}}]}",
            "prefixes(10.0.0.0/8 but 10.1.0.0/16 | group g | groups [any:a=b]) ports(all)",
        ),
        (
            "{icmps: [{fields: [{type: Echo}, {family: IPv6, type: 129}]}]}",
            "all ports(129/ICMPv6 | 8/ICMP)",
        ),
        (
            "{toPorts: [{ports: [{port: HTTP, protocol: TCP}, {port: '1', protocol: UDP}]}]}",
            "all ports(1/UDP | http/TCP)",
        ),
        (
            "{toEntities: [host], authentication: {mode: required}}",
            "entities(host) unenforced(authentication) ports(all)",
        ),
        ("{toEntities: [host], authentication: {mode: disabled}}", "entities(host) ports(all)"),
        ("{toGroups: [{}]}", "prefixes() unenforced(toGroups) ports(all)"),
        ("{toGroups: []}", "prefixes() ports(all)"),
        ("{toCIDR: [], toFQDNs: []}", "prefixes() ports(all)"),
        ("{toCIDR: [10.0.0.0/8], toEndpoints: []}", "pods() ports(all)"),
        ("{toEntities: [], toFQDNs: [{matchName: a}]}", "pods() ports(all)"),
        ("{toCIDR: [10.0.0.0/8], toFQDNs: []}", "prefixes(10.0.0.0/8) ports(all)"),
    ] {
        assert_eq!(entry(text), expected, "{text}");
    }
}

#[test]
fn a_selector_of_services_counts_alone_beside_a_name() {
    let policy = policy(
        "{endpointSelector: {}, egress: [{toServices: [{k8sService: {serviceName: a, namespace: b}, \
         k8sServiceSelector: {selector: {matchLabels: {c: d}}}}]}]}",
    );
    assert_eq!(meaning(&policy)[1], "services(*/* [any:c=d]) ports(all)");
    let expected =
        "spec.egress[0].toServices[0].k8sService: has no meaning beside k8sServiceSelector";
    assert!(warnings(&policy)[0].ends_with(expected));
}

#[test]
fn what_is_denied_is_read_as_what_is_allowed() {
    let denied = |entry: &str| {
        meaning(&policy(&format!("{{endpointSelector: {{}}, egressDeny: [{entry}]}}")))
    };
    assert_eq!(denied("{}")[1..], ["not all"]);
    assert_eq!(denied("{toEntities: [world]}")[1..], ["not entities(world) ports(all)"]);
    assert_eq!(
        denied("{toPorts: [{ports: [{port: '22'}]}]}")[1..],
        ["not all ports(22/SCTP | 22/TCP | 22/UDP)"]
    );
    assert_eq!(denied("{toGroups: [{}]}")[1..], ["not entities(world) ports(all)"]);
    assert!(denied("{}")[0].contains("deny(true)"));
}

#[test]
fn a_negative_selector_selects_pods_only() {
    let selector = "{toEndpoints: [{matchExpressions: [{key: io.kubernetes.pod.namespace, \
                    operator: NotIn, values: [a]}]}]}";
    let pods = "pods([k8s:io.kubernetes.pod.namespace,any:io.kubernetes.pod.namespace notin (a)])";
    assert_eq!(entry(selector), format!("{pods} ports(all)"));
    let denied = policy(&format!("{{endpointSelector: {{}}, egressDeny: [{selector}]}}"));
    assert_eq!(meaning(&denied)[1], format!("not {pods} ports(all)"));
}

#[test]
fn selectors_reach_all_namespaces_where_that_is_chosen() {
    let text = "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: {name: a}\n\
                spec: {endpointSelector: {}, egress: [{toEndpoints: [{matchLabels: {a: b}}]}]}\n";
    let (documents, _) = Document::read_all(&Arc::from(Path::new("p.yaml")), text);
    let options = Options { selector_scope: SelectorScope::AllNamespaces, ..Options::default() };
    let policy = Policy::read_with(&documents[0], options).unwrap();
    let everywhere = "pods([any:a=b,k8s:io.kubernetes.pod.namespace]) ports(all)";
    assert_eq!(meaning(&policy)[1], everywhere);
    assert!(policy.rules[0].subject.to_string().contains("namespace=default"));
}

#[test]
fn what_is_not_enforced_is_a_warning_and_is_listed() {
    let text = "{endpointSelector: {}, egress: [{toEntities: [world], authentication: {mode: required}, \
         toPorts: [{ports: [{port: '443', protocol: TCP}], serverNames: [a.com]}]}]}";
    let judged: Vec<String> = policy(text).unenforced.iter().map(ToString::to_string).collect();
    let policy = policy_with(text, Options { l7: false, ..Options::default() });
    let expected = [
        "p.yaml:4:77: spec.egress[0].authentication: authentication is not enforced here, so the \
         entry allows nothing",
        "p.yaml:4:158: spec.egress[0].toPorts[0].serverNames: serverNames is not enforced here, so \
         these ports are not opened",
    ];
    let shown: Vec<String> = policy.unenforced.iter().map(ToString::to_string).collect();
    assert_eq!(shown, expected);
    assert_eq!(judged, expected[..1], "where there is a proxy, it judges server names");
    assert_eq!(warnings(&policy), expected);
    assert!(!policy.unenforced.is_empty());
    let nodes = clusterwide("{nodeSelector: {}, egress: [{}]}");
    assert_eq!((nodes.rules.len(), nodes.unenforced.len()), (0, 1));
}

#[test]
fn warns_of_labels_that_no_pod_has_in_cilium() {
    let warned = |selector: &str| {
        warnings(&policy(&format!(
            "{{endpointSelector: {selector}, egress: [{{toEndpoints: [{selector}]}}]}}"
        )))
    };
    let own = warned("{matchExpressions: [{key: 'k8s:pod-template-hash', operator: Exists}]}");
    let expected = "asks for `pod-template-hash`, which Cilium leaves out of pods' labels unless \
                    told otherwise: there no pod has it";
    assert!(own.len() == 2 && own.iter().all(|own| own.ends_with(expected)), "{own:?}");
    for known in ["io.kubernetes.pod.namespace", "app.kubernetes.io/name", "app"] {
        assert_eq!(warned(&format!("{{matchLabels: {{{known}: prod}}}}")), Vec::<String>::new());
    }
}

#[test]
fn warns_of_a_label_of_the_world_that_cilium_does_not_give_it_everywhere() {
    let warned = |field: &str| {
        warnings(&policy(&format!("{{endpointSelector: {{}}, egress: [{{{field}}}]}}")))
    };
    let expected = "asks for `reserved:world`, which in Cilium no address has in a cluster of both \
                    IPv4 and IPv6, but `world-ipv4` or `world-ipv6`; `toEntities: [world]` means \
                    the same everywhere";
    let own = warned("toEndpoints: [{matchLabels: {'reserved:world': ''}}]");
    assert!(own.len() == 1 && own[0].ends_with(expected), "{own:?}");
    let requirement = "{key: 'reserved:world', operator: Exists}";
    let selector = format!("toEndpoints: [{{matchExpressions: [{requirement}]}}]");
    assert_eq!(warned(&selector).len(), 1);
    for other in [
        "toEntities: [world]",
        "toEndpoints: [{matchLabels: {'reserved:world-ipv4': ''}}]",
        "toEndpoints: [{matchLabels: {world: ''}}]",
    ] {
        assert_eq!(warned(other), Vec::<String>::new(), "{other}");
    }
}

#[test]
fn warns_of_tls_that_the_proxy_will_refuse() {
    let warned = |item: &str| -> Vec<String> {
        let policy = policy(&format!(
            "{{endpointSelector: {{}}, egress: [{{toPorts: [{{ports: [{{port: '443', protocol: \
             TCP}}], {item}}}]}}]}}"
        ));
        policy.warnings.iter().map(|own| format!("{}: {}", own.field, own.message)).collect()
    };
    let http = "rules: {http: [{}]}";
    let terminate = "terminatingTLS: {secret: {name: a}}";
    let originate = "originatingTLS: {secret: {name: b}}";
    assert_eq!(
        warned(http),
        ["spec.egress[0].toPorts[0].rules: is for HTTP in the clear: to judge what is said in \
          TLS, terminatingTLS and originatingTLS have to stand beside it; without them TLS is \
          refused"]
    );
    assert_eq!(
        warned(&format!("{terminate}, {http}")),
        ["spec.egress[0].toPorts[0].terminatingTLS: lets nothing pass without originatingTLS: it \
          would leave in the clear"]
    );
    assert_eq!(warned(&format!("{terminate}, {originate}, {http}")), Vec::<String>::new());
    assert_eq!(warned("serverNames: [a.com]"), Vec::<String>::new());
}

#[test]
fn warns_of_what_is_probably_wrong() {
    let warned = |egress: &str| -> Vec<String> {
        let policy = policy(&format!("{{endpointSelector: {{}}, egress: [{egress}]}}"));
        policy.warnings.into_iter().map(|own| format!("{}: {}", own.field, own.message)).collect()
    };
    let dns = "{toPorts: [{ports: [{port: '53'}], rules: {dns: [{matchPattern: '*.a.com'}]}}]}";
    assert_eq!(
        warned("{toFQDNs: [{matchName: a.com}]}"),
        ["spec.egress[0].toFQDNs: no rules.dns of this policy lets `a.com` be asked for: unless \
          another policy does, no address of it is ever learned"]
    );
    assert_eq!(
        warned(&format!("{dns}, {{toFQDNs: [{{matchName: x.a.com}}]}}")),
        Vec::<String>::new()
    );
    assert_eq!(
        warned(&format!("{dns}, {{toFQDNs: [{{matchPattern: '*.a.com'}}]}}")),
        Vec::<String>::new()
    );
    assert_eq!(warned(&format!("{dns}, {{toFQDNs: [{{matchName: a.com}}]}}")).len(), 1);
    assert_eq!(
        warned(&format!("{dns}, {{toEntities: [world]}}, {{toFQDNs: [{{matchName: x.a.com}}]}}")),
        ["spec.egress[2].toFQDNs: does not narrow what the entity in line 4 opens: that allows \
          every address at these ports already"]
    );
    assert_eq!(
        warned(&format!("{dns}, {{toFQDNs: [{{matchPattern: x.a.com}}]}}")),
        ["spec.egress[1].toFQDNs[0].matchPattern: has no `*`, so it matches this one name: \
          matchName would say so"]
    );
    assert_eq!(
        warned("{toPorts: [{rules: {http: [{path: '/v1/*'}]}}]}")[1..],
        [
            "spec.egress[0].toPorts[0].rules.http[0].path: `/v1/*` reads like a file pattern, and is \
          a regular expression: its `*` repeats what stands before it; for any text write \
          `/v1/.*`"
        ]
    );
}

#[test]
fn a_documents_problems_are_told_up_to_a_bound() {
    let entries = "{x: 1}, ".repeat(1000);
    let text = format!(
        "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: {{name: a}}\n\
         spec: {{endpointSelector: {{}}, egress: [{entries}]}}\n"
    );
    assert_eq!(read(&text).unwrap_err().len(), 100);
}

#[test]
fn a_long_field_name_costs_little() {
    let text = format!(
        "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: {{name: a}}\n\
         spec: {{endpointSelector: {{}}, egress: [{{}}]}}\n? {}\n: 1\n",
        "x".repeat(1 << 20)
    );
    assert_eq!(read(&text).unwrap_err().len(), 1);
}

fn token() -> impl Strategy<Value = String> {
    let words = [
        "apiVersion: cilium.io/v2\n",
        "kind: CiliumNetworkPolicy\n",
        "metadata: {name: a}\n",
        "spec:\n",
        "  endpointSelector: {}\n",
        "  egress:\n",
        "  - ",
        "    ",
        "toFQDNs",
        "toPorts",
        "toEndpoints",
        "toCIDR",
        "toCIDRSet",
        "toEntities",
        "toServices",
        "icmps",
        "fields",
        "type",
        "http",
        "kafka",
        "path",
        "k8sService",
        "cidr",
        "except",
        "egressDeny",
        "ports",
        "port",
        "rules",
        "dns",
        "matchName",
        "matchPattern",
        "matchLabels",
        ": ",
        "\n",
        "---\n",
        "{",
        "}",
        "[",
        "]",
        ", ",
        "\"",
        "'",
        "*",
        "**.a",
        "53",
        "&a ",
        "*a",
        "!x ",
        "<<",
        "null",
        "# ",
        "|\n",
        ">-\n",
        "? ",
        "- ",
        "\t",
        "\u{feff}",
        "é",
    ];
    prop_oneof![
        8 => prop::sample::select(words.to_vec()).prop_map(str::to_owned),
        1 => any::<String>(),
    ]
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(tokens in prop::collection::vec(token(), 0..60)) {
        let file = Arc::from(Path::new("p.yaml"));
        let (documents, _) = Document::read_all(&file, &tokens.concat());
        for document in documents {
            if let Ok(policy) = Policy::read(&document) {
                policy.rules.iter().for_each(|rule| drop(rule.canonical()));
                let table = Table::compile(&policy.rules, &Context::default());
                drop(table.rows(Subject::Any));
            }
        }
    }

    #[test]
    fn no_spec_makes_it_panic(tokens in prop::collection::vec(token(), 0..40)) {
        let file = Arc::from(Path::new("p.yaml"));
        let header = "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: {name: a}\n\
                      spec:\n  endpointSelector: {}\n  egress:\n  - ";
        let (documents, _) = Document::read_all(&file, &format!("{header}{}", tokens.concat()));
        for policy in documents.iter().filter_map(|document| Policy::read(document).ok()) {
            let table = Table::compile(&policy.rules, &Context::default());
            drop(table.rows(Subject::Any));
        }
    }
}
