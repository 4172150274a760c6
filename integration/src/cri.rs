//! A container runtime as the kubelet and the daemon meet it: the interface on a unix socket, and
//! sandboxes that a test puts there.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
};

use serde_json::json;
use tokio::{net::UnixListener, sync::watch};
use tonic::{Request, Response, Status, transport::Server};

mod proto {
    #![allow(missing_docs, unused_qualifications, clippy::all, reason = "it is generated")]
    tonic::include_proto!("runtime.v1");
}

use proto::runtime_service_server::{RuntimeService, RuntimeServiceServer};
use proto::{
    ListPodSandboxRequest, ListPodSandboxResponse, PodSandbox, PodSandboxMetadata, PodSandboxState,
    PodSandboxStatus, PodSandboxStatusRequest, PodSandboxStatusResponse,
};

/// A running container runtime. It ends when it is dropped.
#[derive(Debug)]
pub struct ContainerRuntime {
    socket: PathBuf,
    sandboxes: Sandboxes,
    stop: watch::Sender<bool>,
    thread: Option<thread::JoinHandle<()>>,
}

#[derive(Clone, Debug, Default)]
struct Sandboxes(Arc<Mutex<BTreeMap<String, Sandbox>>>);

#[derive(Clone, Debug)]
struct Sandbox {
    metadata: PodSandboxMetadata,
    namespace: PathBuf,
}

impl ContainerRuntime {
    /// Starts one that has no sandboxes and listens at a new socket.
    pub fn start(socket: PathBuf) -> io::Result<Self> {
        let listener = std::os::unix::net::UnixListener::bind(&socket)?;
        listener.set_nonblocking(true)?;
        let sandboxes = Sandboxes::default();
        let (stop, stopped) = watch::channel(false);
        let served = sandboxes.clone();
        let thread = thread::Builder::new()
            .name("container-runtime".into())
            .spawn(move || serve(listener, served, stopped))?;
        Ok(Self { socket, sandboxes, stop, thread: Some(thread) })
    }

    /// Where it listens.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Makes a pod's sandbox around a network namespace.
    pub fn put(&self, pod: &str, uid: &str, namespace: &Path) {
        let (pod_namespace, name) = pod.split_once('/').unwrap_or(("default", pod));
        let metadata = PodSandboxMetadata {
            name: name.to_owned(),
            uid: uid.to_owned(),
            namespace: pod_namespace.to_owned(),
            attempt: 0,
        };
        let sandbox = Sandbox { metadata, namespace: namespace.to_owned() };
        self.sandboxes.lock().insert(format!("sandbox-{uid}"), sandbox);
    }

    /// Takes a pod's sandbox away.
    pub fn remove(&self, uid: &str) {
        self.sandboxes.lock().remove(&format!("sandbox-{uid}"));
    }
}

impl Drop for ContainerRuntime {
    fn drop(&mut self) {
        let _ = self.stop.send(true);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Sandboxes {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Sandbox>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn serve(
    listener: std::os::unix::net::UnixListener,
    sandboxes: Sandboxes,
    mut stopped: watch::Receiver<bool>,
) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let Ok(runtime) = runtime else { return };
    runtime.block_on(async {
        let Ok(listener) = UnixListener::from_std(listener) else { return };
        let incoming = futures::stream::unfold(listener, |listener| async {
            let accepted = listener.accept().await.map(|(stream, _)| stream);
            Some((accepted, listener))
        });
        let service = RuntimeServiceServer::new(sandboxes);
        let serving = Server::builder().add_service(service).serve_with_incoming(incoming);
        tokio::select! {
            _ = serving => {}
            _ = stopped.wait_for(|stopped| *stopped) => {}
        }
    });
}

#[tonic::async_trait]
impl RuntimeService for Sandboxes {
    async fn list_pod_sandbox(
        &self,
        _: Request<ListPodSandboxRequest>,
    ) -> Result<Response<ListPodSandboxResponse>, Status> {
        let sandboxes = self.lock();
        let items = sandboxes.iter().map(|(id, sandbox)| PodSandbox {
            id: id.clone(),
            metadata: Some(sandbox.metadata.clone()),
            state: PodSandboxState::SandboxReady.into(),
            created_at: 0,
        });
        Ok(Response::new(ListPodSandboxResponse { items: items.collect() }))
    }

    async fn pod_sandbox_status(
        &self,
        request: Request<PodSandboxStatusRequest>,
    ) -> Result<Response<PodSandboxStatusResponse>, Status> {
        let id = request.into_inner().pod_sandbox_id;
        let sandbox = self.lock().get(&id).cloned();
        let Some(sandbox) = sandbox else { return Err(Status::not_found(id)) };
        let info = json!({"pid": 1, "runtimeSpec": {"linux": {"namespaces": [
            {"type": "pid"}, {"type": "network", "path": sandbox.namespace},
        ]}}});
        let status = PodSandboxStatus {
            id,
            metadata: Some(sandbox.metadata),
            state: PodSandboxState::SandboxReady.into(),
        };
        Ok(Response::new(PodSandboxStatusResponse {
            status: Some(status),
            info: [("info".to_owned(), info.to_string())].into(),
        }))
    }
}
