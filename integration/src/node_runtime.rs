//! A real container runtime on a lab's node, with real containers, pod networks and plugins, and the
//! part of a kubelet that makes pods on it.
//!
//! - It is the machine's containerd, or the CRI-O that `FQDND_TEST_CRIO` names; it says which.
//! - Its root, state, sockets, networks and configuration are the lab's: it runs among the node's
//!   own files ([`NodeFiles`]) and in the node's network, at its usual places there.
//! - Images are made from programs of this machine; no registry is asked.
//! - Its containers stand in cgroups of the lab's, and end with these, however the lab ends.

mod containerd;
mod crio;
mod image;
mod network;
mod pod;
mod program;

use std::{
    ffi::OsStr,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tonic::transport::{Channel, Endpoint};

use crate::{
    lab::Lab,
    namespace::Namespace,
    node_files::NodeFiles,
    pod_cgroups::PodCgroups,
    undo,
    wait::{TimedOut, wait_until},
};

mod proto {
    #![allow(missing_docs, unused_qualifications, clippy::all, reason = "it is generated")]
    include!(concat!(env!("OUT_DIR"), "/kubelet/runtime.v1.rs"));
}

use proto::{
    ImageStatusRequest, StatusRequest, image_service_client::ImageServiceClient,
    runtime_service_client::RuntimeServiceClient,
};

pub use network::PodNetwork;
pub use pod::{Container, ContainerSpec, Executed, Exposed};

use program::Program;

/// How long it may take to answer, to end, and to see an image.
const PATIENCE: Duration = Duration::from_secs(60);
const SHOWN_LINES: usize = 40;

/// Why the runtime did not do as it was told.
#[derive(Debug, thiserror::Error)]
pub enum NodeRuntimeError {
    /// A program could not be run, or a file not be written.
    #[error("{what}: {source}")]
    System {
        /// What was being done.
        what: &'static str,
        /// The system's reason.
        source: io::Error,
    },
    /// The variable names no program.
    #[error("FQDND_TEST_CRIO names {}: {source}", program.display())]
    Named {
        /// What it names.
        program: PathBuf,
        /// Why that is none.
        source: io::Error,
    },
    /// An archive was not taken.
    #[error("import {archive}: {message}")]
    Import {
        /// The archive.
        archive: String,
        /// What was said to it.
        message: String,
    },
    /// It cannot be connected.
    #[error("connect to the container runtime: {0}")]
    Connect(#[from] tonic::transport::Error),
    /// It refused a request.
    #[error("the container runtime: {what}: {source}")]
    Refused {
        /// The request.
        what: &'static str,
        /// Its reason.
        source: Box<tonic::Status>,
    },
    /// It was not ready in time.
    #[error("{timed_out}; it last said:\n{log}")]
    NotReady {
        /// What was waited for.
        timed_out: TimedOut,
        /// The end of its log.
        log: String,
    },
}

fn system(what: &'static str) -> impl FnOnce(io::Error) -> NodeRuntimeError {
    move |source| NodeRuntimeError::System { what, source }
}

fn refused(what: &'static str) -> impl FnOnce(tonic::Status) -> NodeRuntimeError {
    move |source| NodeRuntimeError::Refused { what, source: Box::new(source) }
}

/// A running container runtime. Dropping it ends it with all of its containers.
#[derive(Debug)]
pub struct NodeRuntime {
    program: Program,
    node: Arc<Namespace>,
    directory: PathBuf,
    child: Option<Child>,
    calls: Calls,
    cgroups: PodCgroups,
    files: Arc<NodeFiles>,
}

impl NodeRuntime {
    /// Starts one on the lab's node and waits until pods can be made on it.
    pub fn start(lab: &Lab, network: PodNetwork) -> Result<NodeRuntime, NodeRuntimeError> {
        undo::watch_signals().map_err(system("watch for signals"))?;
        let program = Program::chosen()?;
        let directory = lab.directory().join("runtime");
        let files = NodeFiles::new(&directory).map_err(system("make the node's files"))?;
        let socket = files.run().join(program.socket());
        let mut runtime = NodeRuntime {
            program,
            node: Arc::clone(lab.node()),
            directory,
            child: None,
            calls: Calls { socket },
            cgroups: PodCgroups::of_lab(lab.number()),
            files: Arc::new(files),
        };
        runtime.configure(network).map_err(system("configure the container runtime"))?;
        runtime.resume()?;
        let archive = image::busybox(&runtime.directory).map_err(system("pack busybox"))?;
        runtime.import(&archive, image::BUSYBOX)?;
        Ok(runtime)
    }

    /// Where it listens, as the node has it.
    pub fn socket(&self) -> PathBuf {
        Path::new("/run").join(self.program.socket())
    }

    /// The files among which it runs.
    pub fn files(&self) -> &Arc<NodeFiles> {
        &self.files
    }

    /// Kills it; its containers and their networks live on.
    pub fn kill9(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Asks it to end, and waits for that; its containers and their networks live on.
    pub fn stop(&mut self) -> Result<(), NodeRuntimeError> {
        let Some(child) = self.child.as_mut() else { return Ok(()) };
        let _ = kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGTERM);
        let ended = wait_until("the container runtime ends", PATIENCE, || {
            !matches!(child.try_wait(), Ok(None))
        });
        self.kill9();
        ended.map(drop).map_err(|timed_out| self.not_ready(timed_out))
    }

    /// Starts it again, on what it left.
    pub fn resume(&mut self) -> Result<(), NodeRuntimeError> {
        let log = File::options().create(true).append(true).open(self.log_file());
        let log = log.map_err(system("open the container runtime's log"))?;
        let also = log.try_clone().map_err(system("open the container runtime's log"))?;
        let mut command = self.command(self.program.path());
        command.args(self.program.flags(&self.directory));
        command.stdin(Stdio::null()).stdout(log).stderr(also);
        self.child = Some(command.spawn().map_err(system("start the container runtime"))?);
        let ready = wait_until("the container runtime is ready", PATIENCE, || self.is_ready());
        ready.map(drop).map_err(|timed_out| self.not_ready(timed_out))
    }

    /// Makes a directory into an image, and takes the directory away.
    pub fn take_image(&self, root: &Path, name: &str) -> Result<(), NodeRuntimeError> {
        let archive = image::pack(root, name, &[]).map_err(system("pack an image"))?;
        self.import(&archive, name)
    }

    /// Makes a directory on the node, below those that are its own.
    pub fn make_directory(&self, path: &Path) -> Result<(), NodeRuntimeError> {
        let status = self.command("mkdir").arg("-p").arg(path).status();
        let made = status.and_then(|status| match status.success() {
            true => Ok(()),
            false => Err(io::Error::other(format!("mkdir {}: {status}", path.display()))),
        });
        made.map_err(system("make a directory on the node"))
    }

    /// Moves a process into a pod's cgroup, as runtimes may have it with what watches containers.
    pub fn admit(&self, uid: &str, pid: u32) -> Result<(), NodeRuntimeError> {
        self.cgroups.admit(uid, pid).map_err(system("move a process into a pod's cgroup"))
    }

    /// A command on the node, among its files.
    fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = self.node.command(program);
        self.files.show_to(&mut command);
        command
    }

    fn configure(&self, network: PodNetwork) -> io::Result<()> {
        let networks = self.directory.join("net.d");
        fs::create_dir_all(&networks)?;
        fs::write(networks.join("10-lab.conflist"), network.configuration())?;
        self.program.configure(&self.directory, &networks)
    }

    fn import(&self, archive: &Path, name: &str) -> Result<(), NodeRuntimeError> {
        let [program, arguments @ ..] = &self.program.import(archive, name)[..] else {
            return Ok(());
        };
        let output = self.command(program).args(arguments).output();
        let output = output.map_err(system("run what takes images"))?;
        fs::remove_file(archive).map_err(system("take an archive away"))?;
        if !output.status.success() {
            let message = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            let archive = archive.display().to_string();
            return Err(NodeRuntimeError::Import { archive, message });
        }
        let is_there = || self.calls.has_image(name).is_ok_and(|there| there);
        let seen = wait_until("the image is seen", PATIENCE, is_there);
        seen.map(drop).map_err(|timed_out| self.not_ready(timed_out))
    }

    fn is_ready(&self) -> bool {
        let status = self.calls.make("status", async |mut c| c.status(StatusRequest {}).await);
        let conditions = status.map(|own| own.status.unwrap_or_default().conditions);
        conditions.is_ok_and(|own| !own.is_empty() && own.iter().all(|own| own.status))
    }

    fn not_ready(&self, timed_out: TimedOut) -> NodeRuntimeError {
        let log = fs::read_to_string(self.log_file()).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let log = lines[lines.len().saturating_sub(SHOWN_LINES)..].join("\n");
        NodeRuntimeError::NotReady { timed_out, log }
    }

    fn log_file(&self) -> PathBuf {
        self.directory.join("runtime.log")
    }
}

/// Requests to the runtime, each on a connection of its own.
#[derive(Clone, Debug)]
struct Calls {
    socket: PathBuf,
}

impl Calls {
    fn make<T>(
        &self,
        what: &'static str,
        request: impl AsyncFnOnce(
            RuntimeServiceClient<Channel>,
        ) -> Result<tonic::Response<T>, tonic::Status>,
    ) -> Result<T, NodeRuntimeError> {
        self.run(async {
            let client = RuntimeServiceClient::new(self.connect().await?);
            request(client).await.map(tonic::Response::into_inner).map_err(refused(what))
        })
    }

    fn has_image(&self, name: &str) -> Result<bool, NodeRuntimeError> {
        let request = ImageStatusRequest { image: Some(image::named(name)) };
        self.run(async {
            let mut client = ImageServiceClient::new(self.connect().await?);
            let status = client.image_status(request).await.map_err(refused("image status"))?;
            Ok(status.into_inner().image.is_some())
        })
    }

    fn run<T>(
        &self,
        call: impl Future<Output = Result<T, NodeRuntimeError>>,
    ) -> Result<T, NodeRuntimeError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.map_err(system("prepare a call"))?.block_on(call)
    }

    async fn connect(&self) -> Result<Channel, NodeRuntimeError> {
        let address = format!("unix://{}", self.socket.display());
        Ok(Endpoint::from_shared(address)?.connect().await?)
    }
}

impl Drop for NodeRuntime {
    fn drop(&mut self) {
        self.kill9();
    }
}
