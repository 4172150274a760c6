//! What is read of a cluster, whichever it is.

use model::EndpointName;
use policy::PolicyKey;

use crate::ground::{Ground, policy};

#[tokio::test]
async fn what_a_cluster_has_is_read_whole_and_then_followed() {
    let ground = Ground::any().await;
    let namespace = ground.namespace.clone();
    let name = |name: &str| EndpointName { namespace: namespace.clone(), name: name.into() };
    ground.apply(&policy(&namespace, "first", "203.0.113.1/32")).await;
    ground.apply(&service(&namespace, "db")).await;
    ground.apply(&slice(&namespace, "db", "10.9.0.1")).await;
    let mut watched = ground.watch().await;

    let now = watched.now();
    let key = |name: &str| PolicyKey { namespace: Some(namespace.clone()), name: name.into() };
    assert!(now.policies.contains_key(&key("first")));
    let backends = |now: &kubernetes::Inventory, wanted: &str| {
        let service = now.services.get(&name("db"));
        service.is_some_and(|service| {
            service.backends == [wanted.parse::<std::net::IpAddr>().unwrap()]
        })
    };
    assert!(backends(&now, "10.9.0.1"), "{:?}", now.services.get(&name("db")));
    assert!(!now.nodes.is_empty());

    ground.apply(&policy(&namespace, "second", "203.0.113.2/32")).await;
    let later =
        watched.until("a new policy", |now| now.policies.contains_key(&key("second"))).await;
    let same = |key: &PolicyKey| {
        let (before, after) = (now.policies.get(key).unwrap(), later.policies.get(key).unwrap());
        std::sync::Arc::ptr_eq(before, after)
    };
    assert!(same(&key("first")), "what did not change is the same object");
    ground.apply(&slice(&namespace, "db", "10.9.0.2")).await;
    watched.until("a new backend", |now| backends(now, "10.9.0.2")).await;
    ground.end().await;
}

#[tokio::test]
async fn a_pod_elsewhere_has_its_namespaces_labels_and_they_follow_the_namespace() {
    let ground = Ground::any().await;
    let namespace = ground.namespace.clone();
    ground
        .apply(&format!(
            "{{apiVersion: v1, kind: Pod, metadata: {{name: a, namespace: {namespace}, \
             labels: {{app: web}}}}, spec: {{containers: [{{name: c, image: none.invalid/none}}]}}}}"
        ))
        .await;
    let mut watched = ground.watch().await;
    let name = EndpointName { namespace: namespace.clone(), name: "a".into() };
    let has = |now: &kubernetes::Inventory, label: &str| {
        let labels = now.pods.get(&name).map(|pod| pod.labels.clone()).unwrap_or_default();
        labels.iter().any(|own| own.to_string() == label)
    };
    watched.until("the pod", |now| has(now, "k8s:app=web")).await;
    let team = "k8s:io.cilium.k8s.namespace.labels.team=";
    assert!(has(&watched.now(), &format!("{team}a")));
    ground
        .apply(&format!(
            "{{apiVersion: v1, kind: Namespace, metadata: {{name: {namespace}, labels: {{team: b}}}}}}"
        ))
        .await;
    let changed = watched.until("the new label", |now| has(now, &format!("{team}b"))).await;
    assert!(!has(&changed, &format!("{team}a")));
    ground.end().await;
}

#[tokio::test]
async fn a_policy_that_cannot_be_read_is_told_by_its_field_and_what_it_said_before_stands() {
    let ground = Ground::any().await;
    let namespace = ground.namespace.clone();
    ground.apply(&policy(&namespace, "web", "203.0.113.1/32")).await;
    let mut watched = ground.watch().await;
    let good = watched.now();
    // No schema can tell that the two fields do not go together.
    let broken = policy(&namespace, "web", "203.0.113.1/32") + "    toEntities: [world]\n";
    ground.apply(&broken).await;
    let told = |now: &kubernetes::Inventory| {
        let source = format!("ciliumnetworkpolicy {namespace}/web");
        now.problems.iter().find(|own| own.file.to_str() == Some(&source)).cloned()
    };
    let now = watched.until("its problem", |now| told(now).is_some()).await;
    assert_eq!(told(&now).unwrap().field, "spec.egress[0].toEntities");
    let key = PolicyKey { namespace: Some(namespace.clone()), name: "web".into() };
    assert_eq!(now.policies.get(&key), good.policies.get(&key));
    ground.apply(&policy(&namespace, "web", "203.0.113.2/32")).await;
    watched.until("its repair", |now| told(now).is_none()).await;
    ground.end().await;
}

/// The same tests against a cluster that somebody names: here it is the lab's own server, met as
/// any other.
#[tokio::test]
async fn these_tests_use_the_cluster_that_is_named_and_say_so() {
    const NAMED: &str = "FQDND_TEST_KUBECONFIG";
    if std::env::var_os(NAMED).is_some() {
        println!("a cluster is named: the other tests show it");
        return;
    }
    let ground = Ground::bare().await;
    let mut tests = std::process::Command::new(std::env::current_exe().unwrap());
    let kubectl = ["kubectl::a_watch", "kubectl::kubectl_is_told", "kubectl::what_became"];
    let shared = [&["cluster::", "secrets::", "admission::the_schema"], &kubectl[..]].concat();
    tests.args(shared).args(["--nocapture", "--test-threads=1"]);
    tests.env(NAMED, &ground.kubeconfig);
    let output = tokio::task::spawn_blocking(move || tests.output()).await.unwrap().unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{told}{}", String::from_utf8_lossy(&output.stderr));
    let named = format!("cluster: the one of {}", ground.kubeconfig.display());
    assert_eq!(told.matches(&named).count(), 8, "{told}");
    assert!(!told.contains("the lab's own"), "{told}");
    let left = ground.api().all("namespaces");
    assert_eq!(left.len(), 1, "each test has taken its namespace away: {left:?}");
}

/// A service without a selector: its backends are written by hand.
fn service(namespace: &str, name: &str) -> String {
    format!(
        "{{apiVersion: v1, kind: Service, metadata: {{name: {name}, namespace: {namespace}}}, \
         spec: {{clusterIP: None, ports: [{{port: 80, protocol: TCP}}]}}}}"
    )
}

fn slice(namespace: &str, name: &str, backend: &str) -> String {
    format!(
        "{{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {{name: {name}-1, \
         namespace: {namespace}, labels: {{kubernetes.io/service-name: {name}}}}}, \
         addressType: IPv4, endpoints: [{{addresses: [{backend}], conditions: {{ready: true}}}}], \
         ports: [{{name: '', port: 80, protocol: TCP}}]}}"
    )
}
