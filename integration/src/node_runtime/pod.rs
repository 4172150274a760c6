//! Pods, as a kubelet makes them: a sandbox with its network, one container in it, and commands
//! that run there.

use std::{
    io,
    net::{IpAddr, TcpStream},
    path::PathBuf,
    sync::Arc,
};

use super::{
    NodeRuntime, NodeRuntimeError, image,
    proto::{
        Capability, ContainerConfig, ContainerMetadata, CreateContainerRequest, DnsConfig,
        ExecRequest, ExecSyncRequest, Int64Value, KeyValue, LinuxContainerConfig,
        LinuxContainerSecurityContext, LinuxPodSandboxConfig, LinuxSandboxSecurityContext, Mount,
        MountPropagation, NamespaceMode, NamespaceOption, PodSandboxConfig, PodSandboxMetadata,
        PodSandboxStatusRequest, RemovePodSandboxRequest, RunPodSandboxRequest, SecurityProfile,
        StartContainerRequest, StopPodSandboxRequest, security_profile::ProfileType,
    },
};
use crate::{
    kube_api::{Kubelet, PodCommand},
    plan::DNS_SERVICE,
};

/// How long a command in a pod may take, in seconds.
const COMMAND: i64 = 20;

/// A pod's container that runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container {
    /// The pod's addresses; none of its own where its network is the node's.
    pub addresses: Vec<IpAddr>,
    sandbox: String,
    id: String,
}

/// What came of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Executed {
    /// Its exit code.
    pub code: i32,
    /// What it printed, errors last.
    pub said: String,
}

/// A directory of the node's that a container sees.
#[derive(Clone, Debug)]
pub struct Exposed {
    /// Where it is on the node.
    pub on_node: PathBuf,
    /// Where the container sees it.
    pub inside: String,
    /// Whether the container may not write there.
    pub read_only: bool,
    /// Whether what the node mounts there later is seen as well.
    pub follows: bool,
}

/// A container to be made, where it is not just a client.
#[derive(Clone, Debug)]
pub struct ContainerSpec {
    /// Its name in its pod.
    pub name: String,
    /// The image.
    pub image: String,
    /// The program with its arguments; the image's own if there is none.
    pub command: Vec<String>,
    /// Its environment.
    pub environment: Vec<(String, String)>,
    /// Whether its network is the node's.
    pub host_network: bool,
    /// What it sees of the node's.
    pub exposed: Vec<Exposed>,
    /// Its only capabilities: without such a list, those that the runtime gives to everybody. Who
    /// has a list runs as a manifest with these alone, without a profile for system calls, with no
    /// way to gain more, on a root that it cannot write.
    pub rights: Option<Vec<String>>,
}

impl Default for ContainerSpec {
    fn default() -> Self {
        Self {
            name: "main".to_owned(),
            image: image::BUSYBOX.to_owned(),
            command: Vec::new(),
            environment: Vec::new(),
            host_network: false,
            exposed: Vec::new(),
            rights: None,
        }
    }
}

impl NodeRuntime {
    /// Makes the pod `namespace/name` with a container that has busybox and sleeps.
    pub fn run(&self, pod: &str, uid: &str) -> Result<Container, NodeRuntimeError> {
        self.run_as(pod, uid, &ContainerSpec::default())
    }

    /// Makes a pod with another container.
    pub fn run_as(
        &self,
        pod: &str,
        uid: &str,
        spec: &ContainerSpec,
    ) -> Result<Container, NodeRuntimeError> {
        let config = self.sandbox(pod, uid, spec.host_network);
        let request = RunPodSandboxRequest { config: Some(config.clone()) };
        let sandbox =
            self.calls.make("run a sandbox", async |mut c| c.run_pod_sandbox(request).await)?;
        let sandbox = sandbox.pod_sandbox_id;
        let request = CreateContainerRequest {
            pod_sandbox_id: sandbox.clone(),
            config: Some(spec.config()),
            sandbox_config: Some(config),
        };
        let created = self
            .calls
            .make("create a container", async |mut c| c.create_container(request).await)?;
        let id = created.container_id;
        let request = StartContainerRequest { container_id: id.clone() };
        self.calls.make("start a container", async |mut c| c.start_container(request).await)?;
        Ok(Container { addresses: self.addresses(&sandbox)?, sandbox, id })
    }

    /// Takes a pod away, with its network.
    pub fn end(&self, container: &Container) -> Result<(), NodeRuntimeError> {
        let pod_sandbox_id = container.sandbox.clone();
        let request = StopPodSandboxRequest { pod_sandbox_id: pod_sandbox_id.clone() };
        self.calls.make("stop a sandbox", async |mut c| c.stop_pod_sandbox(request).await)?;
        let request = RemovePodSandboxRequest { pod_sandbox_id };
        self.calls.make("remove a sandbox", async |mut c| c.remove_pod_sandbox(request).await)?;
        Ok(())
    }

    /// Runs a command in a container, to its end.
    pub fn exec(
        &self,
        container: &Container,
        command: &[&str],
    ) -> Result<Executed, NodeRuntimeError> {
        let request = ExecSyncRequest {
            container_id: container.id.clone(),
            cmd: command.iter().map(|&own| own.to_owned()).collect(),
            timeout: COMMAND,
        };
        let ran = self.calls.make("run a command", async |mut c| c.exec_sync(request).await)?;
        let said = [ran.stdout, ran.stderr].concat();
        let said = String::from_utf8_lossy(&said).into_owned();
        Ok(Executed { code: ran.exit_code, said })
    }

    /// Runs commands in a container for clients who stream to and from them.
    pub fn kubelet(&self, container: &Container) -> Arc<Kubelet> {
        let (calls, node) = (self.calls.clone(), Arc::clone(&self.node));
        let id = container.id.clone();
        Arc::new(move |wanted: &PodCommand| {
            let request = ExecRequest {
                container_id: id.clone(),
                cmd: wanted.command.clone(),
                tty: wanted.tty,
                stdin: wanted.stdin,
                stdout: true,
                stderr: !wanted.tty,
            };
            let prepared = calls.make("prepare a command", async |mut c| c.exec(request).await);
            let url = prepared.map_err(io::Error::other)?.url;
            let place = url.strip_prefix("http://").and_then(|place| place.split_once('/'));
            let (address, path) = place.ok_or_else(|| io::Error::other(url.clone()))?;
            let stream = node.run(|| TcpStream::connect(address)).map_err(io::Error::other)??;
            Ok((stream, format!("/{path}")))
        })
    }

    fn sandbox(&self, pod: &str, uid: &str, host_network: bool) -> PodSandboxConfig {
        let (namespace, name) = pod.split_once('/').unwrap_or(("default", pod));
        let search = |domain: &str| format!("{namespace}{domain}svc.cluster.local");
        let dns = DnsConfig {
            servers: vec![DNS_SERVICE.0.to_string()],
            searches: vec![search("."), "svc.cluster.local".into(), "cluster.local".into()],
            options: vec!["ndots:5".into()],
        };
        PodSandboxConfig {
            metadata: Some(PodSandboxMetadata {
                name: name.to_owned(),
                uid: uid.to_owned(),
                namespace: namespace.to_owned(),
                attempt: 0,
            }),
            hostname: if host_network { String::new() } else { name.to_owned() },
            log_directory: self.directory.join("logs").display().to_string(),
            dns_config: Some(dns),
            linux: Some(LinuxPodSandboxConfig {
                cgroup_parent: self.cgroups.of_pod(uid),
                security_context: Some(LinuxSandboxSecurityContext {
                    namespace_options: Some(namespaces(host_network)),
                }),
            }),
        }
    }

    fn addresses(&self, sandbox: &str) -> Result<Vec<IpAddr>, NodeRuntimeError> {
        let request = PodSandboxStatusRequest { pod_sandbox_id: sandbox.to_owned() };
        let status = self
            .calls
            .make("a sandbox's status", async |mut c| c.pod_sandbox_status(request).await)?;
        let network = status.status.unwrap_or_default().network.unwrap_or_default();
        let others = network.additional_ips.into_iter().map(|own| own.ip);
        Ok([network.ip].into_iter().chain(others).filter_map(|own| own.parse().ok()).collect())
    }
}

impl ContainerSpec {
    fn config(&self) -> ContainerConfig {
        let variable =
            |(key, value): &(String, String)| KeyValue { key: key.clone(), value: value.clone() };
        ContainerConfig {
            metadata: Some(ContainerMetadata { name: self.name.clone() }),
            image: Some(image::named(&self.image)),
            command: self.command.clone(),
            args: Vec::new(),
            envs: self.environment.iter().map(variable).collect(),
            mounts: self.exposed.iter().map(Exposed::mount).collect(),
            log_path: format!("{}.log", self.name),
            linux: Some(LinuxContainerConfig { security_context: Some(self.security()) }),
        }
    }

    fn security(&self) -> LinuxContainerSecurityContext {
        let root = |id| Some(Int64Value { value: id });
        let usual = LinuxContainerSecurityContext {
            namespace_options: Some(namespaces(self.host_network)),
            ..LinuxContainerSecurityContext::default()
        };
        let Some(rights) = &self.rights else { return usual };
        LinuxContainerSecurityContext {
            capabilities: Some(Capability {
                add_capabilities: rights.clone(),
                drop_capabilities: vec!["ALL".to_owned()],
            }),
            run_as_user: root(0),
            run_as_group: root(0),
            readonly_rootfs: true,
            no_new_privs: true,
            seccomp: Some(SecurityProfile { profile_type: ProfileType::Unconfined.into() }),
            ..usual
        }
    }
}

impl Exposed {
    fn mount(&self) -> Mount {
        let propagation = if self.follows {
            MountPropagation::PropagationHostToContainer
        } else {
            MountPropagation::PropagationPrivate
        };
        Mount {
            container_path: self.inside.clone(),
            host_path: self.on_node.display().to_string(),
            readonly: self.read_only,
            propagation: propagation.into(),
        }
    }
}

/// As a kubelet asks for them: processes by container, the rest by pod.
fn namespaces(host_network: bool) -> NamespaceOption {
    let network = if host_network { NamespaceMode::Node } else { NamespaceMode::Pod };
    NamespaceOption {
        network: network.into(),
        pid: NamespaceMode::Container.into(),
        ipc: NamespaceMode::Pod.into(),
    }
}
