//! What the shipped roles allow is enough for a daemon, as the cluster judges it. The lab's own
//! server judges nobody by roles; there `deployed` compares what is asked with what is allowed.

use std::fs;
use std::path::Path;
use std::time::Duration;

use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, ServiceAccount};
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding};
use k8s_openapi::serde::de::DeserializeOwned;
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::core::{DynamicObject, GroupVersionKind};
use kube::{Api, ResourceExt};
use kubernetes::{Access, Cluster, Reports};
use serde_json::Value;

use crate::ground::{Ground, PATIENCE, Watched, policy};

/// A daemon's own account in a cluster, with the shipped roles under a name of the test's own.
struct Account {
    name: String,
    access: Access,
}

impl Account {
    async fn new(ground: &Ground) -> Self {
        let name = ground.namespace.clone();
        if ground.own.is_some() {
            return Self { name, access: Access::Kubeconfig(ground.kubeconfig.clone()) };
        }
        for object in roles(&name) {
            ground.apply(&object.to_string()).await;
        }
        let accounts: Api<ServiceAccount> = Api::namespaced(ground.client.clone(), &name);
        let wanted = TokenRequest::default();
        let token = accounts.create_token_request(&name, &PostParams::default(), &wanted).await;
        let token = token.unwrap().status.unwrap().token;
        let path = ground.directory.path().join("account");
        fs::write(&path, as_whom(&ground.kubeconfig, &token)).unwrap();
        Self { name, access: Access::Kubeconfig(path) }
    }

    /// Takes away what no namespace takes along.
    async fn end(self, ground: &Ground) {
        if ground.own.is_some() {
            return;
        }
        let gone = DeleteParams::default();
        let bindings: Api<ClusterRoleBinding> = Api::all(ground.client.clone());
        bindings.delete(&self.name, &gone).await.unwrap();
        let roles: Api<ClusterRole> = Api::all(ground.client.clone());
        roles.delete(&self.name, &gone).await.unwrap();
    }
}

/// The shipped account and roles, in a namespace that gives all of them their name.
fn roles(name: &str) -> Vec<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/kubernetes/fqdnd.yaml");
    let objects = serde_saphyr::from_multiple(&fs::read_to_string(path).unwrap()).unwrap();
    let is_role = |own: &Value| {
        let kind = own["kind"].as_str().unwrap();
        kind == "ServiceAccount" || kind.contains("Role")
    };
    let mut roles: Vec<Value> = objects.into_iter().filter(is_role).collect();
    for role in &mut roles {
        role["metadata"]["name"] = name.into();
        if !role["metadata"]["namespace"].is_null() {
            role["metadata"]["namespace"] = name.into();
        }
        if let Some(subjects) = role.get_mut("subjects") {
            role_of(&mut subjects[0], name);
            role["roleRef"]["name"] = name.into();
        }
    }
    assert_eq!(roles.len(), 5);
    roles
}

fn role_of(subject: &mut Value, name: &str) {
    subject["name"] = name.into();
    subject["namespace"] = name.into();
}

/// A kubeconfig of the same cluster for whoever has this token.
fn as_whom(kubeconfig: &Path, token: &str) -> String {
    let text = fs::read_to_string(kubeconfig).unwrap();
    let mut config: Value = serde_saphyr::from_str(&text).unwrap();
    let context = config["current-context"].clone();
    let contexts = config["contexts"].as_array_mut().unwrap();
    let current = contexts.iter_mut().find(|own| own["name"] == context).unwrap();
    current["context"]["user"] = "account".into();
    config["users"] = serde_json::json!([{"name": "account", "user": {"token": token}}]);
    config.to_string()
}

/// Waits until the cluster has an object of which this holds.
async fn until<K>(api: &Api<K>, what: &str, holds: impl Fn(&K) -> bool)
where
    K: kube::Resource + Clone + std::fmt::Debug + DeserializeOwned,
{
    let found = async {
        while !api.list(&ListParams::default()).await.unwrap().iter().any(&holds) {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(PATIENCE, found).await.unwrap_or_else(|_| panic!("{what} did not come"));
}

#[tokio::test]
async fn the_shipped_roles_are_enough_to_follow_a_cluster_and_to_tell_it_what_is_in_force() {
    let ground = Ground::any().await;
    let namespace = ground.namespace.clone();
    let account = Account::new(&ground).await;
    ground.apply(&policy(&namespace, "good", "203.0.113.1/32")).await;
    let bad = policy(&namespace, "bad", "203.0.113.1/32") + "    toEntities: [world]\n";
    ground.apply(&bad).await;
    let nodes: Api<Node> = Api::all(ground.client.clone());
    let node = nodes.list(&ListParams::default()).await.unwrap().items.remove(0).name_any();

    let options = kubernetes::ClusterOptions { access: account.access.clone(), ..ground.options() };
    let mut cluster = Cluster::watch(options).await.unwrap();
    cluster.report(Reports { namespace: namespace.clone(), node: node.clone() });
    let inventory = cluster.subscribe().borrow().clone();
    cluster.is_in_force(&inventory);
    let mut watched = Watched::new(cluster);
    watched.until_live().await;

    let kind = GroupVersionKind::gvk("cilium.io", "v2", "CiliumNetworkPolicy");
    let resource = kube::core::ApiResource::from_gvk_with_plural(&kind, "ciliumnetworkpolicies");
    let policies =
        Api::<DynamicObject>::namespaced_with(ground.client.clone(), &namespace, &resource);
    let says = |own: &DynamicObject, name: &str, part: &str| {
        own.name_any() == name && own.data["status"].to_string().contains(part)
    };
    until(&policies, "the good one's status", |own| says(own, "good", "\"Enforced\"")).await;
    until(&policies, "the bad one's status", |own| says(own, "bad", "toEntities")).await;
    let leases: Api<Lease> = Api::namespaced(ground.client.clone(), &namespace);
    let holds = |own: &Lease| {
        own.spec.as_ref().and_then(|spec| spec.holder_identity.as_deref()) == Some(node.as_str())
    };
    until(&leases, "the lease", holds).await;
    let events: Api<Event> = Api::namespaced(ground.client.clone(), &namespace);
    let refused = |own: &Event| own.reason.as_deref() == Some("PolicyRefused");
    until(&events, "the event", refused).await;
    account.end(&ground).await;
    ground.end().await;
}
