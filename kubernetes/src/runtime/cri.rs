//! The record as the container runtime has it.
//!
//! Sandboxes are listed by every reading; what one of them is, is asked once, since it does not
//! change while it lives.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use model::EndpointName;
use serde::Deserialize;
use tonic::transport::{Channel, Endpoint};

use crate::runtime::{RuntimeError, Sandbox, Sandboxes};

mod proto {
    #![allow(missing_docs, unused_qualifications, clippy::all, reason = "it is generated")]
    tonic::include_proto!("runtime.v1");
}

use proto::runtime_service_client::RuntimeServiceClient;
use proto::{
    ListPodSandboxRequest, PodSandbox, PodSandboxFilter, PodSandboxState, PodSandboxStateValue,
    PodSandboxStatusRequest,
};

/// How many sandboxes one node may have.
const MAX_SANDBOXES: usize = 4096;

/// A container runtime.
pub(super) struct Cri {
    socket: PathBuf,
    client: Option<RuntimeServiceClient<Channel>>,
    /// The namespaces of sandboxes that were asked for, by id.
    known: BTreeMap<String, Option<PathBuf>>,
}

/// What containerd and CRI-O say of a sandbox beyond the interface's own fields. CRI-O has a process
/// for those sandboxes alone whose containers share their processes, unless told otherwise.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Info {
    pid: u32,
    runtime_spec: RuntimeSpec,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct RuntimeSpec {
    linux: Linux,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Linux {
    namespaces: Vec<Namespace>,
}

#[derive(Debug, Deserialize)]
struct Namespace {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    path: PathBuf,
}

impl Cri {
    /// A runtime that is not asked anything yet.
    pub fn new(socket: PathBuf) -> Self {
        Self { socket, client: None, known: BTreeMap::new() }
    }

    /// What it has.
    pub async fn read(&mut self) -> Result<Sandboxes, RuntimeError> {
        let read = self.read_by_client().await;
        if read.is_err() {
            self.client = None;
        }
        read
    }

    async fn read_by_client(&mut self) -> Result<Sandboxes, RuntimeError> {
        let socket = self.socket.clone();
        let failed =
            |source| RuntimeError::Cri { socket: socket.clone(), source: Box::new(source) };
        let mut client = self.connect().await?;
        let ready = PodSandboxStateValue { state: PodSandboxState::SandboxReady.into() };
        let request =
            ListPodSandboxRequest { filter: Some(PodSandboxFilter { state: Some(ready) }) };
        let mut items = client.list_pod_sandbox(request).await.map_err(failed)?.into_inner().items;
        items.retain(|item| item.state == i32::from(PodSandboxState::SandboxReady));
        if items.len() > MAX_SANDBOXES {
            let reason = format!("there are over {MAX_SANDBOXES} pod sandboxes");
            return Err(failed(tonic::Status::resource_exhausted(reason)));
        }
        items.sort_by_key(|item| item.metadata.as_ref().map_or(0, |own| own.attempt));
        self.known.retain(|id, _| items.iter().any(|item| item.id == *id));
        for item in &items {
            if self.known.get(&item.id).is_some_and(Option::is_some) {
                continue;
            }
            let request =
                PodSandboxStatusRequest { pod_sandbox_id: item.id.clone(), verbose: true };
            match client.pod_sandbox_status(request).await {
                Ok(status) => {
                    let info = status.into_inner().info.remove("info").unwrap_or_default();
                    self.known.insert(item.id.clone(), namespace(&info));
                }
                // It went between the two questions.
                Err(status) if status.code() == tonic::Code::NotFound => {}
                Err(status) => return Err(failed(status)),
            }
        }
        Ok(Sandboxes(items.into_iter().filter_map(|item| self.record(item)).collect()))
    }

    /// The later of two attempts for one pod counts: it comes last.
    fn record(&self, item: PodSandbox) -> Option<(String, Sandbox)> {
        let namespace = self.known.get(&item.id)?.clone()?;
        let metadata = item.metadata.filter(|own| !own.uid.is_empty())?;
        let pod = EndpointName { namespace: metadata.namespace, name: metadata.name };
        Some((metadata.uid, Sandbox { pod: Some(pod), namespace }))
    }

    async fn connect(&mut self) -> Result<RuntimeServiceClient<Channel>, RuntimeError> {
        if let Some(client) = &self.client {
            return Ok(client.clone());
        }
        let failed = |source| RuntimeError::Connect { socket: self.socket.clone(), source };
        let address = format!("unix://{}", self.socket.display());
        let channel =
            Endpoint::from_shared(address).map_err(failed)?.connect().await.map_err(failed)?;
        let client = RuntimeServiceClient::new(channel).max_decoding_message_size(16 << 20);
        Ok(self.client.insert(client).clone())
    }
}

/// The network namespace that a runtime's account of a sandbox names: where it is mounted, or
/// that of the sandbox's first process. Of a pod in the node's own network containerd names none,
/// and CRI-O a mount of the node's.
fn namespace(info: &str) -> Option<PathBuf> {
    let info: Info = serde_json::from_str(info).ok()?;
    let named = info.runtime_spec.linux.namespaces.into_iter();
    let network = named.into_iter().find(|namespace| namespace.kind == "network")?;
    if network.path.is_absolute() {
        return Some(network.path);
    }
    (info.pid != 0).then(|| Path::new("/proc").join(info.pid.to_string()).join("ns/net"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_namespace_is_where_the_runtime_mounted_it_or_its_first_process_is() {
        let mounted = r#"{"pid": 7, "runtimeSpec": {"linux": {"namespaces": [
            {"type": "pid"}, {"type": "network", "path": "/var/run/netns/cni-1"}]}}}"#;
        assert_eq!(namespace(mounted), Some("/var/run/netns/cni-1".into()));
        let running =
            r#"{"pid": 7, "runtimeSpec": {"linux": {"namespaces": [{"type": "network"}]}}}"#;
        assert_eq!(namespace(running), Some("/proc/7/ns/net".into()));
        assert_eq!(namespace(r#"{"pid": 7, "runtimeSpec": {"linux": {"namespaces": []}}}"#), None);
        assert_eq!(namespace("not json"), None);
    }

    /// CRI-O's account of a sandbox, as 1.36 gives it, with a process for it or without; the rest
    /// of its specification is shortened.
    fn crio(process: &str, user: &str) -> String {
        let place = |kind: &str| format!("/var/run/{kind}/0f5c8f1e-6a1b-4c58-9a53-d1f0a7c8e2b4");
        format!(
            r#"{{{process}"runtimeSpec": {{
                "ociVersion": "1.3.0",
                "process": {{"user": {{"uid": 0, "gid": 0}}, "args": ["/pause"], "cwd": "/",
                    "oomScoreAdj": -998}},
                "root": {{"path": "/var/lib/containers/storage/overlay/c4/merged",
                    "readonly": true}},
                "hostname": "web-0",
                "mounts": [{{"destination": "/proc", "type": "proc", "source": "proc"}}],
                "annotations": {{"io.kubernetes.cri-o.HostNetwork": "false",
                    "io.kubernetes.cri-o.Namespace": "shop", "spoofed.crio.io": "true"}},
                "linux": {{"cgroupsPath": "kubepods-podu1.slice:crio:c4", "namespaces": [
                    {{"type": "pid"}}, {{"type": "network", "path": "{}"}},
                    {{"type": "ipc", "path": "{}"}}, {{"type": "uts", "path": "{}"}},
                    {{"type": "mount"}}{user}]}}}}}}"#,
            place("netns"),
            place("ipcns"),
            place("utsns"),
        )
    }

    #[test]
    fn crio_mounts_the_namespace_of_each_sandbox_whether_it_has_a_process_or_a_user_of_its_own() {
        let netns = PathBuf::from("/var/run/netns/0f5c8f1e-6a1b-4c58-9a53-d1f0a7c8e2b4");
        let process = r#""image": "registry.example.com/pause:3", "pid": 4711, "#;
        let user = r#", {"type": "user", "path": "/var/run/userns/0f5c8f1e"}"#;
        for account in [crio("", ""), crio(process, ""), crio("", user)] {
            assert_eq!(namespace(&account), Some(netns.clone()), "{account}");
        }
    }
}
