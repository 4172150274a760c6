//! A cluster to test against, and what is watched of it.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use integration::KubeApi;
use kube::api::{DeleteParams, Patch, PatchParams};
use kube::core::{ApiResource, DynamicObject, TypeMeta};
use kube::{Api, Client};
use kubernetes::{Access, Cluster, ClusterOptions, Inventory, Kind, RuntimeSource, WatchState};
use serde_json::Value;
use tempfile::TempDir;
use tokio::sync::watch;

/// How long anything may take.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// The node that watches, where the cluster is the lab's own.
pub const NODE: &str = "here";

static NAMESPACES: AtomicU32 = AtomicU32::new(0);

/// A cluster.
pub struct Ground {
    /// The lab's own server; none where the cluster is a real one.
    pub own: Option<KubeApi>,
    pub kubeconfig: PathBuf,
    pub client: Client,
    /// A namespace of the test's own.
    pub namespace: String,
    pub directory: TempDir,
}

impl Ground {
    /// A real cluster, if one is named.
    pub async fn any() -> Self {
        match std::env::var_os("FQDND_TEST_KUBECONFIG") {
            Some(path) => {
                let path = PathBuf::from(path);
                println!("cluster: the one of {}", path.display());
                // Definitions that Cilium owns stay as they are.
                kubernetes::crd::install(&Access::Kubeconfig(path.clone())).await.unwrap();
                Self::new(None, path, tempfile::tempdir().unwrap()).await
            }
            None => Self::own().await,
        }
    }

    /// The lab's own server, with our definitions in place.
    pub async fn own() -> Self {
        let ground = Self::bare().await;
        for definition in kubernetes::crd::definitions() {
            ground.api().put(definition).unwrap();
        }
        ground
    }

    /// The lab's own server as it is before anything is installed.
    pub async fn bare() -> Self {
        println!("cluster: the lab's own API server");
        let directory = tempfile::tempdir().unwrap();
        let api = KubeApi::start(None).unwrap();
        let kubeconfig = api.write_kubeconfig(directory.path()).unwrap();
        let node = "{apiVersion: v1, kind: Node, metadata: {name: here}, status: {addresses: [{type: InternalIP, address: 192.0.2.1}]}}";
        api.put(yaml(node)).unwrap();
        Self::new(Some(api), kubeconfig, directory).await
    }

    async fn new(own: Option<KubeApi>, kubeconfig: PathBuf, directory: TempDir) -> Self {
        let client = Access::Kubeconfig(kubeconfig.clone()).client().await.unwrap();
        let number = NAMESPACES.fetch_add(1, Ordering::Relaxed);
        let namespace = format!("fqdnd-{}-{number}", std::process::id());
        let ground = Self { own, kubeconfig, client, namespace, directory };
        let text = format!(
            "{{apiVersion: v1, kind: Namespace, metadata: {{name: {}, labels: {{team: a}}}}}}",
            ground.namespace
        );
        ground.apply(&text).await;
        ground
    }

    /// The lab's own server.
    pub fn api(&self) -> &KubeApi {
        self.own.as_ref().expect("the cluster is the lab's own")
    }

    /// Watches the cluster, and waits until all of it was read once.
    pub async fn watch(&self) -> Watched {
        let start = Cluster::watch(self.options());
        let cluster = tokio::time::timeout(PATIENCE, start).await.expect("it is read").unwrap();
        Watched::new(cluster)
    }

    /// How the cluster is watched, pods by their cgroups.
    pub fn options(&self) -> ClusterOptions {
        ClusterOptions {
            access: Access::Kubeconfig(self.kubeconfig.clone()),
            node: NODE.to_owned(),
            runtime: RuntimeSource::Cgroups("/sys/fs/cgroup".into()),
            policies: policy::Options::default(),
            spread: Duration::ZERO,
            state: None,
        }
    }

    /// Writes an object as kubectl does; what the server says to it.
    pub async fn try_apply(&self, text: &str) -> Result<(), kube::Error> {
        self.patch(text, &PatchParams::apply("tests").force()).await
    }

    /// Has the server say what would come of an object.
    pub async fn dry_run(&self, text: &str) -> Result<(), kube::Error> {
        self.patch(text, &PatchParams::apply("tests").force().dry_run()).await
    }

    async fn patch(&self, text: &str, parameters: &PatchParams) -> Result<(), kube::Error> {
        let mut object: DynamicObject = serde_json::from_value(yaml(text)).unwrap();
        let TypeMeta { api_version, kind } = object.types.clone().unwrap();
        let (group, version) = api_version.split_once('/').unwrap_or(("", &api_version));
        let plural = match kind.as_str() {
            "CiliumNetworkPolicy" => "ciliumnetworkpolicies".to_owned(),
            "CiliumClusterwideNetworkPolicy" => "ciliumclusterwidenetworkpolicies".to_owned(),
            other => format!("{}s", other.to_lowercase()),
        };
        let resource = ApiResource {
            group: group.to_owned(),
            version: version.to_owned(),
            api_version: api_version.clone(),
            kind,
            plural,
        };
        let name = object.metadata.name.clone().unwrap();
        let api: Api<DynamicObject> = match object.metadata.namespace.take() {
            Some(namespace) => Api::namespaced_with(self.client.clone(), &namespace, &resource),
            None => Api::all_with(self.client.clone(), &resource),
        };
        api.patch(&name, parameters, &Patch::Apply(&object)).await.map(drop)
    }

    /// Writes an object that the server takes.
    pub async fn apply(&self, text: &str) {
        self.try_apply(text).await.unwrap();
    }

    /// Takes the test's namespace away, where nobody else does.
    pub async fn end(self) {
        if self.own.is_none() {
            let namespaces: Api<k8s_openapi::api::core::v1::Namespace> = Api::all(self.client);
            namespaces.delete(&self.namespace, &DeleteParams::default()).await.unwrap();
        }
    }
}

/// A watched cluster.
pub struct Watched {
    _cluster: Cluster,
    inventory: watch::Receiver<Arc<Inventory>>,
}

impl Watched {
    /// What this one watches.
    pub fn new(cluster: Cluster) -> Self {
        Self { inventory: cluster.subscribe(), _cluster: cluster }
    }

    /// What is known now.
    pub fn now(&self) -> Arc<Inventory> {
        self.inventory.borrow().clone()
    }

    /// Waits until what is known fulfils this.
    pub async fn until(
        &mut self,
        what: &str,
        holds: impl Fn(&Inventory) -> bool,
    ) -> Arc<Inventory> {
        let found = self.inventory.wait_for(|inventory| holds(inventory));
        if let Ok(found) = tokio::time::timeout(PATIENCE, found).await {
            return found.expect("it goes on being watched").clone();
        }
        panic!("{what} did not come; there is {:#?}", self.now())
    }

    /// Waits until a list is not followed, and gives the reason.
    pub async fn until_interrupted(&mut self, kind: Kind, part: &str) -> String {
        let reason = |inventory: &Inventory| match &inventory.watched.get(&kind)?.state {
            WatchState::Interrupted { reason } => Some(reason.clone()),
            WatchState::Listing | WatchState::Live => None,
        };
        let inventory = self.until(part, |now| reason(now).is_some_and(|own| own.contains(part)));
        reason(&*inventory.await).unwrap()
    }

    /// Waits until every list is followed.
    pub async fn until_live(&mut self) -> Arc<Inventory> {
        let live = |now: &Inventory| {
            Kind::ALL.iter().all(|kind| {
                now.watched.get(kind).is_some_and(|watched| watched.state == WatchState::Live)
            })
        };
        self.until("that every list is followed", live).await
    }
}

/// A document as JSON.
pub fn yaml(text: &str) -> Value {
    serde_saphyr::from_str(text).unwrap()
}

/// A policy that allows one prefix to the pods with one label.
pub fn policy(namespace: &str, name: &str, prefix: &str) -> String {
    format!(
        "apiVersion: cilium.io/v2\n\
         kind: CiliumNetworkPolicy\n\
         metadata: {{name: {name}, namespace: {namespace}}}\n\
         spec:\n  endpointSelector: {{matchLabels: {{app: web}}}}\n  \
         egress:\n  - toCIDR: [{prefix}]\n"
    )
}
