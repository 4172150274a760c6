//! Documents that Cilium takes or refuses, and what is said of them here.
//!
//! Where its code and its CRD schema differ, the stricter of them counts, but that kafka rules and
//! the entities world-ipv4 and world-ipv6 are taken.

use std::path::Path;
use std::sync::Arc;

use policy::{Document, Policy};

/// What is wrong with a document, each without file, line and column.
fn problems(text: &str) -> Vec<String> {
    let file: Arc<Path> = Arc::from(Path::new("policy.yaml"));
    let (documents, problems) = Document::read_all(&file, text);
    let problems = match &documents[..] {
        [document] => Policy::read(document).err().unwrap_or_default(),
        _ => problems,
    };
    problems.into_iter().map(|problem| format!("{}: {}", problem.field, problem.message)).collect()
}

/// What is wrong with a policy of these fields.
fn in_policy(fields: &str) -> Vec<String> {
    problems(&format!(
        "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\n\
         metadata: {{name: t, namespace: default}}\n{fields}\n"
    ))
}

/// What is wrong with a clusterwide policy of these fields.
fn in_clusterwide(fields: &str) -> Vec<String> {
    problems(&format!(
        "apiVersion: cilium.io/v2\nkind: CiliumClusterwideNetworkPolicy\n\
         metadata: {{name: t}}\n{fields}\n"
    ))
}

/// What is wrong with a policy that has this spec.
fn in_spec(spec: &str) -> Vec<String> {
    in_policy(&format!("spec: {{{spec}}}"))
}

/// What is wrong with a policy whose one egress entry this is.
fn in_entry(entry: &str) -> Vec<String> {
    in_spec(&format!("endpointSelector: {{}}, egress: [{entry}]"))
}

/// What is wrong with a policy whose one egress entry has this `ports` item.
fn in_port(port: &str) -> Vec<String> {
    in_entry(&format!("{{toPorts: [{{ports: [{port}]}}]}}"))
}

#[test]
fn takes_what_cilium_takes() {
    for entry in [
        r#"{toFQDNs: [{matchName: example.com}], toPorts: [{ports: [{port: "443", protocol: TCP}]}]}"#,
        "{}",
        "{toServices: [{}]}",
        "{toFQDNs: []}",
        r#"{toFQDNs: [{matchPattern: "a.**.com"}]}"#,
        r#"{toPorts: [{ports: [{port: "65535", protocol: TCP}]}]}"#,
        r#"{toPorts: [{ports: [{port: "http", protocol: TCP}]}]}"#,
        r#"{toPorts: [{ports: [{port: "443", protocol: ANY}]}]}"#,
        "{toPorts: [{ports: []}]}",
        r#"{toPorts: [{ports: [{port: "1000", endPort: 2000, protocol: TCP}]}]}"#,
        r#"{toPorts: [{ports: [{port: "80", endPort: 90, protocol: TCP}], rules: {http: [{method: GET}]}}]}"#,
        "{toCIDRSet: [{cidr: 10.0.0.0/8, except: [10.0.0.0/8]}]}",
        "{toCIDRSet: [{cidr: 10.0.0.0/8, except: [10.1.2.3/16]}]}",
        "{toCIDRSet: [{cidrGroupRef: g}]}",
        "{toCIDRSet: [{cidrGroupRef: g, except: [10.0.0.0/8]}]}",
        "{toCIDRSet: [{cidrGroupSelector: {matchLabels: {a: b}}}]}",
        "{toEntities: [all, world, world-ipv4, world-ipv6, cluster, host, remote-node, kube-apiserver, ingress, init, health, unmanaged, none]}",
        r#"{toPorts: [{ports: [{port: "80", protocol: TCP}], rules: {http: [{host: "*.example.com"}]}}]}"#,
        r#"{toPorts: [{ports: [{port: "80", protocol: TCP}], rules: {http: []}}]}"#,
        "{toPorts: [{rules: {http: [{method: GET}]}}]}",
        r#"{toPorts: [{ports: [{port: "53", protocol: SCTP}], rules: {dns: [{matchPattern: "*"}]}}]}"#,
        r#"{toPorts: [{ports: [{port: "443", protocol: TCP}], serverNames: [example.com, "*.a.b", "**.c"]}]}"#,
        r#"{toPorts: [{ports: [{port: "443", protocol: TCP}], listener: {envoyConfig: {name: e}, name: l, priority: 100}}]}"#,
        r#"{toPorts: [{ports: [{port: "443", protocol: TCP}], terminatingTLS: {secret: {name: s}}, serverNames: [a], rules: {http: [{}]}}]}"#,
        r#"{toPorts: [{ports: [{port: "9092", protocol: TCP}], rules: {kafka: [{role: produce, topic: t}, {apiKey: Fetch, apiVersion: "5", clientID: c}]}}]}"#,
        r#"{toPorts: [{ports: [{port: "1_000", endPort: 2_000, protocol: TCP}]}]}"#,
        r#"{toPorts: [{ports: [{port: "80", endPort: 90.0}]}]}"#,
        r#"{toPorts: [{ports: [{port: "53", protocol: UDP}, {port: "0"}], rules: {dns: []}}]}"#,
        r#"{toPorts: [{ports: [], rules: {dns: []}}]}"#,
        r#"{toPorts: [{ports: [{port: "443"}], serverNames: [a], rules: {http: []}}]}"#,
        r#"{toPorts: [{ports: [{port: "443"}], listener: {envoyConfig: {name: e}, name: l}, rules: {kafka: []}}]}"#,
        "{toRequires: [], toEndpoints: [{}]}",
        "{toEndpoints: [{matchLabels: {_a: b, ':c': d, 'k8s:a.b/c_d': ''}}]}",
        "{icmps: [{fields: [{type: -1}]}]}",
        "{icmps: [{fields: [{type: 8, family: IPv4}, {type: EchoRequest, family: IPv6}, {type: '0'}]}]}",
        "{toEndpoints: [{}], authentication: {mode: disabled}}",
        "{toEndpoints: [{}], authentication: {mode: required}}",
        "{toGroups: [{aws: {labels: {a: b}, region: r, securityGroupsIds: [s], securityGroupsNames: [g]}}]}",
        "{toNodes: [{matchLabels: {role: ingress}}]}",
    ] {
        assert_eq!(in_entry(entry), Vec::<String>::new(), "{entry}");
    }
}

#[test]
fn refuses_what_cilium_refuses() {
    for (entry, problem) in [
        (
            "{toFQDNs: [{matchName: example.com}], toCIDR: [10.0.0.0/8]}",
            "toFQDNs: toCIDR and toFQDNs must not stand in one entry: write one for each",
        ),
        (
            "{toCIDR: [10.0.0.0/8], toCIDRSet: [{cidr: 10.0.0.0/8}]}",
            "toCIDRSet: toCIDR and toCIDRSet must not stand in one entry: write one for each",
        ),
        (
            "{toServices: [{k8sService: {serviceName: s, namespace: default}}], toEndpoints: [{}]}",
            "toServices: toEndpoints and toServices must not stand in one entry: write one for each",
        ),
        (
            "{toRequires: [{matchLabels: {a: b}}]}",
            "toRequires: must be empty: Cilium has no such requirements any more",
        ),
        (
            r#"{toFQDNs: [{matchName: "https://example.com"}]}"#,
            "toFQDNs[0].matchName: `:` is not allowed; use letters, digits, `-`, `_` and `.`",
        ),
        (
            r#"{toFQDNs: [{matchName: ".example.com"}]}"#,
            "toFQDNs[0].matchName: has an empty label: it must not begin with a dot nor have two in a row",
        ),
        (
            r#"{toFQDNs: [{matchPattern: "foo[a-z].com"}]}"#,
            "toFQDNs[0].matchPattern: `[` is not allowed; use letters, digits, `-`, `_` and `.`, and `*` for any part of a label",
        ),
        (
            "{toCIDR: [10.0.0.1]}",
            "toCIDR[0]: `10.0.0.1` has no `/`; write `10.0.0.1/32` for this address alone",
        ),
        ("{toCIDR: [10.0.0.0/33]}", "toCIDR[0]: `33` is not a prefix length from 0 to 32"),
        (
            "{toCIDR: [10.0.0.0/255.0.0.0]}",
            "toCIDR[0]: `255.0.0.0` is not a prefix length from 0 to 32",
        ),
        ("{toEndpoints: [null]}", "toEndpoints[0]: must be a map, not null"),
        (
            "{toCIDRSet: [{}]}",
            "toCIDRSet[0]: one of cidr, cidrGroupRef and cidrGroupSelector must be set",
        ),
        (
            "{toCIDRSet: [{cidrGroupRef: a_b}]}",
            "toCIDRSet[0].cidrGroupRef: `a_b` is no Kubernetes name: up to 253 lower-case letters, \
             digits, `-`, `.`",
        ),
        (
            "{toCIDRSet: [{cidrGroupSelector: {matchLabels: {'k8s:a': b}}}]}",
            "toCIDRSet[0].cidrGroupSelector.matchLabels[k8s:a]: `k8s:a` is no label key: up to 59 \
             letters, digits, `-`, `_`, `.`, the last one a letter or digit, perhaps with a domain \
             and `/` before",
        ),
        (
            "{toCIDRSet: [{cidr: 10.0.0.0/8, cidrGroupRef: g}]}",
            "toCIDRSet[0]: must have one of cidr, cidrGroupRef and cidrGroupSelector only",
        ),
        (
            "{toCIDRSet: [{cidr: 10.0.0.0/8, except: [11.0.0.0/16]}]}",
            "toCIDRSet[0].except[0]: `11.0.0.0/16` does not lie inside of `10.0.0.0/8`",
        ),
        (
            "{toCIDRSet: [{cidr: 10.0.0.0/8, except: ['fd00::/16']}]}",
            "toCIDRSet[0].except[0]: `fd00::/16` does not lie inside of `10.0.0.0/8`",
        ),
        (
            "{toEntities: [World]}",
            "toEntities[0]: `World` is none of all, cluster, health, host, ingress, init, \
             kube-apiserver, none, remote-node, unmanaged, world, world-ipv4, world-ipv6; did you \
             mean world?",
        ),
        (
            "{toEndpoints: [{}], authentication: {mode: mtls}}",
            "authentication.mode: `mtls` is none of disabled, required, test-always-fail",
        ),
        ("{toEndpoints: [{}], authentication: {}}", "authentication: mode must be set"),
        (
            "{icmps: [{fields: [{type: Foo, family: IPv4}]}]}",
            "icmps[0].fields[0].type: `Foo` is none of DestinationUnreachable, Echo, EchoReply, \
             EchoRequest, ExtendedEchoRequest, ParameterProblem, Photuris, Redirect, \
             RouterAdvertisement, RouterSelection, TimeExceeded, Timestamp, TimestampReply",
        ),
        (
            "{icmps: [{fields: [{type: 8, family: ipv4}]}]}",
            "icmps[0].fields[0].family: `ipv4` is none of IPv4, IPv6; did you mean IPv4?",
        ),
        (
            r#"{icmps: [{fields: [{type: 8}]}], toPorts: [{ports: [{port: "80", protocol: TCP}]}]}"#,
            "icmps: must not stand beside toPorts: write an entry for each",
        ),
        (
            "{toServices: [{k8sServiceSelector: {namespace: a}}]}",
            "toServices[0].k8sServiceSelector: selector must be set; `{}` selects every service",
        ),
        (
            "{fromEndpoints: [{}]}",
            "fromEndpoints: is no field that is known here; did you mean toEndpoints?",
        ),
    ] {
        assert_eq!(in_entry(entry), [format!("spec.egress[0].{problem}")], "{entry}");
    }
    let long = format!("{{toFQDNs: [{{matchPattern: \"*{}.com\"}}]}}", ".a".repeat(130));
    assert_eq!(
        in_entry(&long),
        ["spec.egress[0].toFQDNs[0].matchPattern: has 265 characters, at most 255 are allowed"]
    );
}

#[test]
fn refuses_ports_that_cilium_refuses() {
    for (port, problem) in [
        (
            "{port: 443, protocol: TCP}",
            "port: must be text, not the number 443; quote it if text is meant",
        ),
        (
            r#"{port: "my_port", protocol: TCP}"#,
            "port: `my_port` is no port from 0 to 65535, nor the name of one",
        ),
        (
            r#"{port: " 80", protocol: TCP}"#,
            "port: ` 80` is no port from 0 to 65535, nor the name of one",
        ),
        (r#"{port: "128", protocol: ICMPv6}"#, "protocol: `ICMPv6` is none of TCP, UDP, SCTP, ANY"),
        (r#"{port: "5", protocol: GRE}"#, "protocol: `GRE` is none of TCP, UDP, SCTP, ANY"),
        (r#"{port: "2000", endPort: -1, protocol: TCP}"#, "endPort: -1 is no port from 0 to 65535"),
    ] {
        let expected = format!("spec.egress[0].toPorts[0].ports[0].{problem}");
        assert_eq!(in_port(port), [expected], "{port}");
    }
}

#[test]
fn refuses_rules_that_cilium_refuses() {
    let in_rules = |item: &str| in_entry(&format!("{{toPorts: [{{{item}}}]}}"));
    for (item, problems) in [
        (
            r#"ports: [{port: "80", protocol: TCP}], rules: {grpc: [{}]}"#,
            &[
                "rules: must have one of dns, http, kafka",
                "rules.grpc: is no field that is known here",
            ][..],
        ),
        (r#"ports: [{port: "53"}], rules: {}"#, &["rules: must have one of dns, http, kafka"]),
        (
            r#"ports: [{port: "53", protocol: UDP}], rules: {dns: [{}]}"#,
            &["rules.dns[0]: one of matchName and matchPattern must be set"],
        ),
        (
            r#"ports: [{port: "53"}], rules: {dns: [{matchName: a, matchPattern: b}]}"#,
            &["rules.dns[0].matchPattern: must not stand beside matchName: write an item for each"],
        ),
        (
            r#"ports: [{port: "53", protocol: UDP}], rules: {dns: [{matchPattern: "^foo$"}]}"#,
            &["rules.dns[0].matchPattern: `^` is not allowed; use letters, digits, `-`, `_` and \
               `.`, and `*` for any part of a label"],
        ),
        (
            r#"ports: [{port: "0"}], rules: {dns: [{matchName: a}]}"#,
            &["ports[0]: must not be port 0 beside rules.dns: name the port"],
        ),
        (
            r#"ports: [{port: "53", endPort: 54}], rules: {dns: [{matchName: a}]}"#,
            &["ports[0]: must not be a range beside rules.dns"],
        ),
        (
            "ports: [], rules: {dns: [{matchName: a}]}",
            &["rules.dns: needs a port: `ports` is empty; left out, it means port 53"],
        ),
        (
            r#"ports: [{port: "80", protocol: TCP}], rules: {http: [{method: GET}], kafka: [{role: produce}]}"#,
            &["rules.kafka: must not stand beside rules for another protocol: write an item for \
               each"],
        ),
        (
            r#"ports: [{port: "80", protocol: UDP}], rules: {http: [{method: GET}]}"#,
            &["ports[0]: must be TCP beside rules.http"],
        ),
        (
            r#"ports: [{port: "80", protocol: ANY}, {port: "81"}], rules: {kafka: [{}]}"#,
            &[
                "ports[0]: must be TCP beside rules.kafka",
                "ports[1]: must be TCP beside rules.kafka",
            ],
        ),
        (
            r#"ports: [{port: "0", protocol: TCP}], rules: {http: [{method: GET}]}"#,
            &["ports[0]: must not be port 0 beside rules: name the port"],
        ),
        (
            r#"ports: [{port: "80", protocol: TCP}], rules: {http: [{path: "(", headerMatches: [{name: X, mismatch: FOO}, {value: a}]}]}"#,
            &[
                "rules.http[0].path: `(` is no regular expression: unclosed group",
                "rules.http[0].headerMatches[0].mismatch: `FOO` is none of ADD, DELETE, LOG, REPLACE",
                "rules.http[0].headerMatches[1]: name must be set",
            ],
        ),
        (
            r#"ports: [{port: "80", protocol: TCP}], rules: {http: [{path: "*/a"}]}"#,
            &["rules.http[0].path: `*/a` is no regular expression: repetition operator missing \
               expression; for any text write `.*/a`"],
        ),
        (
            r#"ports: [{port: "1", protocol: TCP}], rules: {kafka: [{role: produce, apiKey: fetch}, {role: ""}, {apiVersion: "-1"}, {topic: "a b"}]}"#,
            &[
                "rules.kafka[0].role: must not stand beside apiKey: write an item for each",
                "rules.kafka[1].role: `` is none of consume, produce",
                "rules.kafka[2].apiVersion: `-1` is no version from 0 to 32767",
                "rules.kafka[3].topic: `a b` is no topic: letters, digits, `.`, `_` and `-`",
            ],
        ),
        (
            r#"ports: [{port: "1", protocol: TCP}], rules: {l7proto: x}"#,
            &[
                "rules: must have one of dns, http, kafka",
                "rules.l7proto: is no field that is known here",
            ],
        ),
        (
            r#"ports: [{port: "443", protocol: TCP}], serverNames: []"#,
            &["serverNames: must not be empty: leave the field out where any name will do"],
        ),
        (
            r#"ports: [{port: "443", protocol: TCP}], serverNames: [""]"#,
            &["serverNames[0]: must not be empty"],
        ),
        (
            r#"ports: [{port: "443", protocol: TCP}], serverNames: [a], rules: {http: [{method: GET}]}"#,
            &["serverNames: must not stand beside rules unless terminatingTLS is there"],
        ),
        (
            r#"ports: [{port: "443", protocol: TCP}], listener: {envoyConfig: {name: e}, name: l, priority: 1000}"#,
            &["listener.priority: 1000 is no priority from 1 to 100"],
        ),
        (
            r#"ports: [{port: "443", protocol: TCP}], listener: {name: l}, originatingTLS: {}"#,
            &["listener: envoyConfig must be set", "originatingTLS: secret must be set"],
        ),
    ] {
        let expected: Vec<String> =
            problems.iter().map(|problem| format!("spec.egress[0].toPorts[0].{problem}")).collect();
        assert_eq!(in_rules(item), expected, "{item}");
    }
}

#[test]
fn an_item_has_at_most_forty_ports() {
    let ports = |count| vec![r#"{port: "1"}"#; count].join(", ");
    assert_eq!(in_port(&ports(40)), Vec::<String>::new());
    assert_eq!(
        in_port(&ports(41)),
        ["spec.egress[0].toPorts[0].ports: has 41 items, at most 40 are allowed"]
    );
}

#[test]
fn checks_the_other_direction_without_enforcing_it() {
    let in_ingress = |entry: &str| {
        in_spec(&format!("endpointSelector: {{}}, egress: [{{}}], ingress: [{entry}]"))
    };
    for legal in [
        "{}",
        "{fromEndpoints: [{matchLabels: {app: web}}], toPorts: [{ports: [{port: '80', protocol: TCP}]}]}",
        "{fromEntities: [cluster], icmps: [{fields: [{type: 8}]}]}",
        "{fromCIDRSet: [{cidr: 10.0.0.0/8, except: [10.1.0.0/16]}], authentication: {mode: required}}",
        "{toPorts: [{ports: [{port: '80', protocol: TCP}], rules: {http: [{method: GET}]}}]}",
        "{fromEndpoints: [], fromCIDR: [10.0.0.0/8]}",
    ] {
        assert_eq!(in_ingress(legal), Vec::<String>::new(), "{legal}");
    }
    for (entry, problem) in [
        (
            "{toEndpoints: [{}]}",
            "toEndpoints: is no field that is known here; did you mean fromEndpoints?",
        ),
        (
            "{fromCIDR: [10.0.0.1]}",
            "fromCIDR[0]: `10.0.0.1` has no `/`; write `10.0.0.1/32` for this address alone",
        ),
        ("{fromEntities: web}", "fromEntities: must be a list, not text"),
        (
            "{fromEntities: [all], fromCIDR: [10.0.0.0/8]}",
            "fromEntities: fromCIDR and fromEntities must not stand in one entry: write one for each",
        ),
        (
            "{toPorts: [{ports: [{port: '53', protocol: UDP}], rules: {dns: [{matchName: a.com}]}}]}",
            "toPorts[0].rules.dns: is for egress only",
        ),
        (
            "{toPorts: [{listener: {name: l, envoyConfig: {name: e}}}]}",
            "toPorts[0].listener: is for egress only",
        ),
        (
            "{fromRequires: [{}]}",
            "fromRequires: must be empty: Cilium has no such requirements any more",
        ),
    ] {
        assert_eq!(in_ingress(entry), [format!("spec.ingress[0].{problem}")], "{entry}");
    }
    let denied = in_spec(
        "endpointSelector: {}, egress: [{}], ingressDeny: [{authentication: {mode: required}}]",
    );
    let problem = "is for what is allowed: a denial has no such field";
    assert_eq!(denied, [format!("spec.ingressDeny[0].authentication: {problem}")]);
}

#[test]
fn checks_selectors_and_sections() {
    let none: &[&str] = &[];
    for (spec, problems) in [
        ("endpointSelector: {matchLabels: {'foo:a': b}}, egress: [{}]", none),
        ("endpointSelector: {}, labels: [{key: a, value: b, source: k8s}], egress: [{}]", none),
        ("endpointSelector: {}, enableDefaultDeny: {egress: no}, egress: [{}]", none),
        ("endpointSelector: {}, log: {value: a tag}, egress: [{}]", none),
        ("endpointSelector: {}, egress: [], ingress: [{fromEntities: [all]}]", none),
        ("endpointSelector: {}, egress: [{}], egressDeny: []", none),
        ("egress: [{}]", &["spec: endpointSelector must be set; `{}` selects every pod"]),
        (
            "endpointSelector: {}, egress: []",
            &["spec: needs at least one of egress, egressDeny, ingress, ingressDeny"],
        ),
        (
            "endpointSelector: {}, egressDeny: [{toFQDNs: [{matchName: example.com}]}]",
            &["spec.egressDeny[0].toFQDNs: is for what is allowed: a denial has no such field"],
        ),
        (
            "endpointSelector: {}, egress: [{}], policyTypes: [Egress]",
            &["spec.policyTypes: is no field that is known here"],
        ),
        (
            "endpointSelector: {}, egres: [{}], egress: null",
            &[
                "spec: needs at least one of egress, egressDeny, ingress, ingressDeny",
                "spec.egres: is no field that is known here; did you mean egress?",
                "spec.egress: must not be null: leave the field out, or give it a value",
            ],
        ),
        (
            "endpointSelector: {}, enableDefaultDeny: {egress: 'false'}, egress: [{}]",
            &["spec.enableDefaultDeny.egress: must be true or false, not text"],
        ),
        (
            "endpointSelector: {}, labels: [{value: b}, {key: a, cidr: x}], egress: [{}]",
            &[
                "spec.labels[0]: key must be set",
                "spec.labels[1].cidr: is no field that is known here",
            ],
        ),
        (
            "endpointSelector: {}, log: {value: 0123456789012345678901234567890123x}, egress: [{}]",
            &["spec.log.value: must be at most 32 characters that can be printed"],
        ),
        (
            "endpointSelector: {matchLabels: {a: yes}}, egress: [{}]",
            &["spec.endpointSelector.matchLabels.a: must be text, not `yes`, a boolean to YAML \
               1.1; quote it, or write true or false"],
        ),
        (
            "endpointSelector: {matchLabels: {a: 1}}, egress: [{}]",
            &["spec.endpointSelector.matchLabels.a: must be text, not the number 1; quote it if \
               text is meant"],
        ),
        (
            "endpointSelector: {matchLabels: {a b: c}}, egress: [{}]",
            &["spec.endpointSelector.matchLabels[a b]: `a b` is no label key: up to 59 letters, \
               digits, `-`, `_`, `.`, the last one a letter or digit, perhaps with a domain and \
               `/` before"],
        ),
        (
            "endpointSelector: {matchLabels: {a: -b}}, egress: [{}]",
            &["spec.endpointSelector.matchLabels.a: `-b` is no label value: up to 63 letters, \
               digits, `-`, `_`, `.`, first and last a letter or digit"],
        ),
        (
            "endpointSelector: {matchExpressions: [{key: a, operator: Equals, values: [b]}]}, \
             egress: [{}]",
            &[
                "spec.endpointSelector.matchExpressions[0].operator: `Equals` is none of In, NotIn, \
               Exists, DoesNotExist",
            ],
        ),
        (
            "endpointSelector: {matchExpressions: [{key: a, operator: In}, {key: a, operator: \
             Exists, values: [b]}, {key: a}]}, egress: [{}]",
            &[
                "spec.endpointSelector.matchExpressions[0]: In needs at least one value",
                "spec.endpointSelector.matchExpressions[1].values: Exists takes no values",
                "spec.endpointSelector.matchExpressions[2]: key and operator must be set",
            ],
        ),
    ] {
        assert_eq!(in_spec(spec), problems, "{spec}");
    }
}

#[test]
fn checks_what_stands_around_the_spec() {
    let spec = "{endpointSelector: {}, egress: [{}]}";
    assert_eq!(in_policy(&format!("specs: [{spec}]")), Vec::<String>::new());
    assert_eq!(in_policy("specs: []"), Vec::<String>::new());
    assert_eq!(in_policy(""), [": has neither spec nor specs"]);
    assert_eq!(in_policy(&format!("spec: {spec}\nstatus: {{nodes: {{}}}}")), Vec::<String>::new());
    assert_eq!(
        in_policy(&format!("spec: {spec}\nstatus: []")),
        ["status: must be a map, not a list"]
    );
    assert_eq!(
        in_policy(&format!("spec: {spec}\nextra: 1")),
        ["extra: is no field that is known here"]
    );
    assert_eq!(
        in_clusterwide("spec: {nodeSelector: {}, endpointSelector: {}, egress: [{}]}"),
        ["spec.nodeSelector: must not stand beside endpointSelector"]
    );
    assert_eq!(
        in_clusterwide(
            r#"spec: {nodeSelector: {}, egress: [{toPorts: [{ports: [{port: "53", protocol: UDP}], rules: {dns: [{matchPattern: "*"}]}}]}]}"#
        ),
        Vec::<String>::new()
    );
    assert_eq!(
        in_clusterwide(
            r#"spec: {nodeSelector: {}, egress: [{toPorts: [{ports: [{port: "80", protocol: TCP}], rules: {http: [{}]}}]}]}"#
        ),
        ["spec.egress[0].toPorts[0].rules.http: is not for nodes"]
    );
    assert_eq!(
        in_policy("spec: {nodeSelector: {}, egress: [{}]}"),
        ["spec.nodeSelector: is for a CiliumClusterwideNetworkPolicy only; use endpointSelector"]
    );
    let metadata = |version: &str, metadata: &str| {
        problems(&format!(
            "apiVersion: {version}\nkind: CiliumNetworkPolicy\nmetadata: {metadata}\nspec: {spec}"
        ))
    };
    assert_eq!(metadata("cilium.io/v2", "{name: t}"), Vec::<String>::new());
    assert_eq!(metadata("cilium.io/v3", "{name: t}"), ["apiVersion: must be cilium.io/v2"]);
    assert_eq!(metadata("cilium.io/v2", "{}"), ["metadata: name must be set"]);
    assert_eq!(metadata("cilium.io/v2", "{name: t, annotations: {a: }}"), Vec::<String>::new());
    assert_eq!(
        metadata("cilium.io/v2", "{name: t, labels: {a: 1}}"),
        ["metadata.labels.a: must be text, not the number 1; quote it if text is meant"]
    );
    assert_eq!(
        metadata("cilium.io/v2", "{name: t, annotations: {fqdnd.io/allow-private: 'yes'}}"),
        ["metadata.annotations[fqdnd.io/allow-private]: must be \"true\" or \"false\""]
    );
    assert_eq!(
        metadata("cilium.io/v2", "{name: T, nmespace: x}"),
        [
            "metadata.name: `T` is no Kubernetes name: up to 253 lower-case letters, digits, `-`, \
             `.`",
            "metadata.nmespace: is no field that is known here; did you mean namespace?",
        ]
    );
}
