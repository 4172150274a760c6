//! The runtime's record of this node's pods: which network namespace is whose.
//!
//! It is read from the container runtime by the interface that the kubelet uses, or from the
//! cgroups in which the kubelet puts pods. Neither can be written from inside a pod, other than a
//! pod's addresses, and the names of its interfaces.

mod cgroup;
mod cri;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use model::EndpointName;
use tokio::sync::{Notify, mpsc};

/// How soon the record is read again after something hinted at a change, and how long at most
/// when nothing did.
const SOON: Duration = Duration::from_millis(50);
const LATE: Duration = Duration::from_secs(10);
/// How long one reading may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Where the record is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RuntimeSource {
    /// The socket of a container runtime: containerd's, CRI-O's.
    Cri(PathBuf),
    /// The root of the cgroup hierarchy.
    Cgroups(PathBuf),
}

/// Why the record cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// The runtime does not answer, or refuses.
    #[error("the container runtime at {}: {}", socket.display(), source.message())]
    Cri {
        /// The socket.
        socket: PathBuf,
        /// Why not.
        #[source]
        source: Box<tonic::Status>,
    },
    /// The socket cannot be connected.
    #[error("the container runtime at {}: {}", socket.display(), root(source))]
    Connect {
        /// The socket.
        socket: PathBuf,
        /// Why not.
        #[source]
        source: tonic::transport::Error,
    },
    /// The cgroups cannot be read.
    #[error("cgroups at {}: {source}", root.display())]
    Cgroups {
        /// The hierarchy's root.
        root: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// It takes too long.
    #[error("the runtime's record could not be read within {}s", PATIENCE.as_secs())]
    Slow,
}

/// What an error comes from: the transport's own words say no more than that it is one.
fn root(error: &dyn std::error::Error) -> &dyn std::error::Error {
    error.source().map_or(error, root)
}

/// The network namespaces of pods, by the pods' uid.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sandboxes(BTreeMap<String, Sandbox>);

/// A pod's record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sandbox {
    /// Whose it is, where the record says so.
    pub pod: Option<EndpointName>,
    /// The network namespace.
    pub namespace: PathBuf,
}

impl RuntimeSource {
    /// Where container runtimes listen, in the order in which they are looked for.
    pub const SOCKETS: [&str; 3] = [
        "/run/containerd/containerd.sock",
        "/run/crio/crio.sock",
        "/run/k3s/containerd/containerd.sock",
    ];

    /// The runtime that listens on this node; the cgroups if none does.
    pub fn found() -> Self {
        let socket = Self::listening().next();
        socket.map_or_else(|| Self::Cgroups("/sys/fs/cgroup".into()), Self::Cri)
    }

    fn listening() -> impl Iterator<Item = PathBuf> {
        Self::SOCKETS.iter().map(PathBuf::from).filter(|path| path.exists())
    }

    /// Says whose record it is, and who else is here, whose pods stay unknown.
    fn tell(&self) {
        let (Self::Cri(path) | Self::Cgroups(path)) = self;
        let others: Vec<PathBuf> = Self::listening().filter(|other| other != path).collect();
        tracing::info!(record = %path.display(), unasked = ?others, "pods are found");
    }
}

impl Sandboxes {
    /// The record of one pod.
    #[cfg(test)]
    pub(crate) fn one(uid: &str, pod: EndpointName, namespace: PathBuf) -> Self {
        Self(BTreeMap::from([(uid.to_owned(), Sandbox { pod: Some(pod), namespace })]))
    }

    /// The network namespace of the pod of this name and uid. A pod that came from a file of the
    /// kubelet's has another uid there; it counts where the record has the name, too.
    pub fn of(&self, pod: &EndpointName, uid: &str, mirrored: Option<&str>) -> Option<&PathBuf> {
        let own = self.0.get(uid).filter(|own| own.pod.as_ref().is_none_or(|name| name == pod));
        let copied = || {
            let record = self.0.get(mirrored?)?;
            (record.pod.as_ref() == Some(pod)).then_some(record)
        };
        own.or_else(copied).map(|record| &record.namespace)
    }
}

/// What reads the record.
enum Reader {
    Cri(Box<cri::Cri>),
    Cgroups(PathBuf),
}

impl Reader {
    async fn read(&mut self) -> Result<Sandboxes, RuntimeError> {
        match self {
            Self::Cri(cri) => cri.read().await,
            Self::Cgroups(root) => {
                let root = root.clone();
                let read = tokio::task::spawn_blocking(move || cgroup::read(&root));
                read.await.unwrap_or(Err(RuntimeError::Slow))
            }
        }
    }
}

/// Sends the record whenever it is another one, or cannot be read for another reason. It is read
/// when `hints` say that something may have changed, soon and then ever more rarely.
pub(crate) async fn follow(
    source: RuntimeSource,
    hints: Arc<Notify>,
    records: mpsc::Sender<Result<Sandboxes, String>>,
) {
    source.tell();
    let mut reader = match source {
        RuntimeSource::Cri(socket) => Reader::Cri(Box::new(cri::Cri::new(socket))),
        RuntimeSource::Cgroups(root) => Reader::Cgroups(root),
    };
    let (mut last, mut pause) = (None, SOON);
    loop {
        let read = tokio::time::timeout(PATIENCE, reader.read()).await;
        let read = read.unwrap_or(Err(RuntimeError::Slow)).map_err(|error| error.to_string());
        if last.as_ref() != Some(&read) {
            last = Some(read.clone());
            if records.send(read).await.is_err() {
                return;
            }
        }
        pause = match tokio::time::timeout(pause, hints.notified()).await {
            Ok(()) => SOON,
            Err(_) => LATE.min(pause * 2),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_runtime_that_is_away_is_told_of_with_the_systems_reason() {
        let socket = PathBuf::from("/nowhere/containerd.sock");
        let told = cri::Cri::new(socket).read().await.unwrap_err().to_string();
        let reason = "the container runtime at /nowhere/containerd.sock: No such file or directory";
        assert!(told.starts_with(reason), "{told}");
    }

    #[test]
    fn a_record_counts_for_the_pod_of_its_name_and_uid_alone() {
        let name = |name: &str| EndpointName { namespace: "n".into(), name: name.into() };
        let record = |pod| Sandbox { pod, namespace: "/run/netns/x".into() };
        let sandboxes = Sandboxes(BTreeMap::from([
            ("1".to_owned(), record(Some(name("a")))),
            ("2".to_owned(), record(None)),
        ]));
        assert!(sandboxes.of(&name("a"), "1", None).is_some());
        assert!(sandboxes.of(&name("b"), "1", None).is_none());
        assert!(sandboxes.of(&name("a"), "3", None).is_none());
        assert!(sandboxes.of(&name("b"), "2", None).is_some());
        assert!(sandboxes.of(&name("a"), "3", Some("1")).is_some());
        assert!(sandboxes.of(&name("b"), "3", Some("1")).is_none());
        assert!(sandboxes.of(&name("b"), "3", Some("2")).is_none());
    }
}
