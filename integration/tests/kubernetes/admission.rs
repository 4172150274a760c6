//! What the schemas refuse, and what they leave to the daemon.

use kubernetes::crd;
use policy::{Document, Policy};
use serde_json::Value;

use crate::ground::{Ground, policy};

/// Rules of one spec that the schema and the daemon refuse alike.
const REFUSED: &[&str] = &[
    "egress: [{toCIDR: [10.0.0.0/40]}]",
    "egress: [{toCIDR: [ten]}]",
    "egress: [{toEntities: [everything]}]",
    "egress: [{toFQDNs: [{matchName: a.example, matchPattern: '*.example'}]}]",
    "egress: [{toFQDNs: [{}]}]",
    "egress: [{toFQDNs: [{matchName: 'a b'}]}]",
    "egress: [{toFQDNs: [{matchPattern: '.example'}]}]",
    "egress: [{toPorts: [{ports: [{port: '70000'}]}]}]",
    "egress: [{toPorts: [{ports: [{protocol: TCP}]}]}]",
    "egress: [{toPorts: [{ports: [{port: '80', protocol: QUIC}]}]}]",
    "egress: [{toPorts: [{ports: [{port: 80}]}]}]",
    "egress: [{toCIDRSet: [{cidr: 10.0.0.0/8, cidrGroupRef: a}]}]",
    "egress: [{toEndpoints: [{matchExpressions: [{key: a, operator: Like}]}]}]",
    "egress: {}",
    "description: nothing else",
];

/// Rules that both take.
const TAKEN: &[&str] = &[
    "egress: [{}]",
    "egress: [{toFQDNs: [{matchPattern: '*'}, {matchPattern: '**.example.com'}, {matchName: Example.com.}]}]",
    "egress: [{toCIDR: [10.0.0.0/8, 'fd00::/8']}]",
    "egress: [{toPorts: [{ports: [{port: '0'}, {port: '8000', endPort: 8010}, {port: https}]}]}]",
    "egress: [{icmps: [{fields: [{type: 8}, {family: IPv6, type: EchoRequest}]}]}]",
    "egressDeny: [{toEntities: [world]}]",
    "egress: [{toPorts: [{ports: [{port: '53', protocol: ANY}], rules: {dns: [{matchPattern: '*'}]}}]}]",
];

#[tokio::test]
async fn the_schema_refuses_early_what_the_daemon_would_refuse_and_takes_what_it_takes() {
    let ground = Ground::any().await;
    for (index, rules) in REFUSED.iter().chain(TAKEN).enumerate() {
        let text = format!(
            "{{apiVersion: cilium.io/v2, kind: CiliumNetworkPolicy, metadata: {{name: p{index}, \
             namespace: {}}}, spec: {{endpointSelector: {{}}, {rules}}}}}",
            ground.namespace
        );
        let taken = index >= REFUSED.len();
        assert_eq!(is_policy(&text), taken, "the daemon: {rules}");
        let admitted = ground.try_apply(&text).await;
        assert_eq!(admitted.is_ok(), taken, "the schema: {rules}: {admitted:?}");
    }
    ground.end().await;
}

#[tokio::test]
async fn a_mistyped_field_is_not_taken_out_without_a_word() {
    let ground = Ground::own().await;
    let text = policy(&ground.namespace, "typo", "203.0.113.1/32") + "    toPort: []\n";
    ground.apply(&text).await;
    let watched = ground.watch().await;
    let now = watched.now();
    let [problem] = &now.problems[..] else { panic!("{:?}", now.problems) };
    assert_eq!(problem.field, "spec.egress[0].toPort");
    assert!(now.policies.is_empty());
}

#[test]
fn every_example_is_admitted() {
    let api = integration::KubeApi::start(None).unwrap();
    for definition in crd::definitions() {
        api.put(definition).unwrap();
    }
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
    let mut admitted = 0;
    for directory in [root.clone(), root.join("seed")] {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_none_or(|end| end != "yaml") {
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap();
            for mut document in serde_saphyr::from_multiple::<Value>(&text).unwrap() {
                let kind = document["kind"].as_str().unwrap_or_default().to_owned();
                if !kind.starts_with("Cilium") {
                    continue;
                }
                if kind == "CiliumNetworkPolicy" && document["metadata"]["namespace"].is_null() {
                    document["metadata"]["namespace"] = "default".into();
                }
                let put = api.put(document);
                assert!(put.is_ok(), "{}: {put:?}", path.display());
                admitted += 1;
            }
        }
    }
    assert!(admitted >= 20, "{admitted}");
}

fn is_policy(text: &str) -> bool {
    let file = std::sync::Arc::from(std::path::Path::new("test"));
    let (documents, _) = Document::read_all(&file, text);
    documents.first().is_some_and(|document| Policy::read(document).is_ok())
}
