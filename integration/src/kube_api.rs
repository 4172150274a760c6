//! An API server for tests: real HTTP over TLS, and a Kubernetes API server's behaviour where
//! whoever watches and writes meets it, kubectl among them.
//!
//! Lists in pages that are snapshots, watches with bookmarks and selectors, versions that are
//! forgotten (410), optimistic locking, status subresources, server-side apply with owners and
//! conflicts, bearer tokens, admission of custom objects by the schemas of their definitions, tables,
//! discovery, and commands in pods that somebody really runs.
//! What goes wrong in a real cluster is switched on by [`Faults`].

mod apply;
mod definition;
mod described;
mod discovery;
mod error;
mod event;
mod exec;
mod faults;
mod http;
mod resources;
mod schema;
mod selectors;
mod table;
mod world;

use std::{
    collections::BTreeMap,
    fmt, io,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::Value;
use socket2::{Domain, Socket, Type};
use tokio::sync::watch;

pub use error::ApiError;
pub use exec::{Kubelet, PodCommand};
pub use faults::{Faults, Refusal};

use crate::{authority::Authority, namespace::Namespace, web};
use world::World;

/// Why the server could not be started.
#[derive(Debug, thiserror::Error)]
pub enum KubeApiError {
    /// It could not listen, or its thread could not be made.
    #[error("the API server: {0}")]
    System(#[from] io::Error),
    /// A namespace could not be entered.
    #[error(transparent)]
    Namespace(#[from] crate::namespace::NamespaceError),
    /// Its certificate could not be made.
    #[error("the API server's certificate: {0}")]
    Certificate(#[from] rcgen::Error),
}

/// A running API server. It ends when it is dropped.
#[derive(Debug)]
pub struct KubeApi {
    shared: Arc<Shared>,
    address: SocketAddr,
    /// The certificate of who vouches for it.
    authority: String,
    stop: watch::Sender<bool>,
    thread: Option<thread::JoinHandle<()>>,
    /// Has the port while nobody listens there, so that nobody else is given it.
    _port: Socket,
}

/// What requests and tests share.
pub(crate) struct Shared {
    world: Mutex<World>,
    faults: Mutex<Faults>,
    /// Who runs commands in pods, by the pods' `namespace/name`.
    kubelets: Mutex<BTreeMap<String, Arc<Kubelet>>>,
    /// Counts up with each change of objects or faults.
    changes: watch::Sender<u64>,
    /// Counts up when connections are to be cut.
    cuts: watch::Sender<u64>,
}

impl fmt::Debug for Shared {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Shared").field("faults", &self.faults).finish_non_exhaustive()
    }
}

impl Shared {
    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn faults(&self) -> MutexGuard<'_, Faults> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn kubelet(&self, pod: &str) -> Option<Arc<Kubelet>> {
        let kubelets = self.kubelets.lock().unwrap_or_else(PoisonError::into_inner);
        kubelets.get(pod).cloned()
    }

    fn changed(&self) {
        self.changes.send_modify(|count| *count += 1);
    }
}

impl KubeApi {
    /// The token that is good at the start.
    pub const TOKEN: &'static str = "a-token-for-tests";

    /// Starts a server on this machine's loopback address, or inside a namespace on its own.
    pub fn start(namespace: Option<Arc<Namespace>>) -> Result<Self, KubeApiError> {
        let (port, address) = reserve(namespace.as_deref())?;
        let listener = listen(namespace.as_deref(), address)?;
        let authority = Authority::new("lab cluster")?;
        let acceptor = web::acceptor(&authority.issue(&["127.0.0.1", "localhost"])?)?;
        let shared = Arc::new(Shared {
            world: Mutex::new(World::default()),
            faults: Mutex::new(Faults::new(Self::TOKEN)),
            kubelets: Mutex::default(),
            changes: watch::channel(0).0,
            cuts: watch::channel(0).0,
        });
        let (stop, stopped) = watch::channel(false);
        let again = move || listen(namespace.as_deref(), address);
        let served = Arc::clone(&shared);
        let thread = thread::Builder::new()
            .name("kube-api".into())
            .spawn(move || http::serve(&served, &acceptor, listener, again, stopped))?;
        let authority = authority.certificate();
        Ok(Self { shared, address, authority, stop, thread: Some(thread), _port: port })
    }

    /// Where it listens.
    pub fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    /// The certificate, in PEM, of who vouches for it.
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// Writes a kubeconfig that reads its token from a file beside it, and gives its path.
    pub fn write_kubeconfig(&self, directory: &Path) -> io::Result<PathBuf> {
        let (path, token) = (directory.join("kubeconfig"), directory.join("token"));
        std::fs::write(&token, Self::TOKEN)?;
        let text = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: test\n\
             clusters:\n- name: test\n  \
             cluster: {{server: '{}', certificate-authority-data: '{}'}}\n\
             users:\n- name: test\n  user: {{tokenFile: {}}}\n\
             contexts:\n- name: test\n  context: {{cluster: test, user: test}}\n",
            self.url(),
            STANDARD.encode(&self.authority),
            token.display()
        );
        std::fs::write(&path, text)?;
        Ok(path)
    }

    /// Puts an object in the place of the one with its name, as its owner would: with its status.
    pub fn put(&self, object: Value) -> Result<Value, ApiError> {
        let put = self.shared.world().put(object)?;
        self.shared.changed();
        Ok(put)
    }

    /// Takes an object away.
    pub fn delete(
        &self,
        plural: &str,
        namespace: Option<&str>,
        name: &str,
    ) -> Result<(), ApiError> {
        self.shared.world().delete(plural, namespace, name)?;
        self.shared.changed();
        Ok(())
    }

    /// Has somebody run the commands that clients want to run in a pod.
    pub fn run_commands(&self, pod: &str, kubelet: Arc<Kubelet>) {
        let kubelets = &self.shared.kubelets;
        kubelets.lock().unwrap_or_else(PoisonError::into_inner).insert(pod.to_owned(), kubelet);
    }

    /// All objects of a kind, by its plural.
    pub fn all(&self, plural: &str) -> Vec<Value> {
        self.shared.world().all(plural)
    }

    /// Forgets all versions but the present one, as a server does after some minutes.
    pub fn compact(&self) {
        self.shared.world().compact();
        self.cut();
    }

    /// Changes what goes wrong.
    pub fn fault(&self, change: impl FnOnce(&mut Faults)) {
        change(&mut self.shared.faults());
        self.shared.changed();
    }

    /// Cuts every connection in the middle of what it says.
    pub fn cut(&self) {
        self.shared.cuts.send_modify(|count| *count += 1);
    }

    /// Method and path of each request.
    pub fn asked(&self) -> Vec<(String, String)> {
        self.shared.faults().requests.clone()
    }

    /// How many requests were made with this method to paths that contain this.
    pub fn requests(&self, method: &str, part: &str) -> usize {
        let faults = self.shared.faults();
        faults.requests.iter().filter(|(own, path)| own == method && path.contains(part)).count()
    }
}

impl Drop for KubeApi {
    fn drop(&mut self) {
        let _ = self.stop.send(true);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Takes a port of the loopback address, at which nobody listens yet.
fn reserve(namespace: Option<&Namespace>) -> Result<(Socket, SocketAddr), KubeApiError> {
    let take = || -> io::Result<(Socket, SocketAddr)> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        // With that set on both, another one of the same address may listen.
        socket.set_reuse_address(true)?;
        socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
        let address = socket.local_addr()?.as_socket().ok_or(io::ErrorKind::AddrNotAvailable)?;
        Ok((socket, address))
    };
    Ok(match namespace {
        Some(namespace) => namespace.run(take)??,
        None => take()?,
    })
}

fn listen(namespace: Option<&Namespace>, address: SocketAddr) -> Result<TcpListener, KubeApiError> {
    let bind = || TcpListener::bind(address);
    Ok(match namespace {
        Some(namespace) => namespace.run(bind)??,
        None => bind()?,
    })
}
