//! Who is measured: all of them running at once, and idle while it is not their turn.

use std::fs;
use std::net::SocketAddr;
use std::process::Stdio;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use integration::{Binding, Daemon, Lab, LabOptions, Namespace, PodSpec, Ports, wait_until};

use super::load::{self, Connection, NAME, Spoken};
use crate::process::{Process, cpu_time, memory};

/// The pod whose connections are judged, one that no daemon knows, and the one that serves.
const JUDGED: &str = "default/client";
const FREE: &str = "default/free";
const SERVER: &str = "default/other";
/// Where the server and nginx's two proxies listen.
const WEB: u16 = 8000;
const NGINX_HTTP: u16 = 9001;
const NGINX_TCP: u16 = 9002;

/// By which way a client reaches the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Contender {
    /// HTTP without a proxy.
    DirectHttp,
    /// nginx carries HTTP.
    NginxHttp,
    /// fqdnd judges HTTP.
    FqdndHttp,
    /// TCP without a proxy.
    DirectTcp,
    /// nginx carries TCP.
    NginxTcp,
    /// fqdnd judges TLS by its name.
    FqdndTls,
}

impl Contender {
    pub const ALL: [Self; 6] = [
        Self::DirectHttp,
        Self::NginxHttp,
        Self::FqdndHttp,
        Self::DirectTcp,
        Self::NginxTcp,
        Self::FqdndTls,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Self::DirectHttp => "HTTP, direct",
            Self::NginxHttp => "HTTP, nginx",
            Self::FqdndHttp => "HTTP, fqdnd-l7",
            Self::DirectTcp => "TCP, direct",
            Self::NginxTcp => "TCP, nginx",
            Self::FqdndTls => "TLS by name, fqdnd-l7",
        }
    }

    pub const fn speaks(self) -> Spoken {
        match self {
            Self::DirectHttp | Self::NginxHttp | Self::FqdndHttp => Spoken::Http,
            Self::DirectTcp | Self::NginxTcp | Self::FqdndTls => Spoken::Tcp,
        }
    }
}

/// The lab with everything running in it.
pub struct Stage {
    // The order of the end.
    nginx: [Process; 2],
    _web: Process,
    proxy: u32,
    _daemon: Daemon,
    lab: Lab,
}

impl Stage {
    pub fn new() -> Result<Self> {
        let lab = Lab::new(LabOptions::default().pod(PodSpec::new(FREE).bound_by(Binding::None)))?;
        lab.policy("bench", &policy())?;
        let server = lab.pod(SERVER);
        let (web, echo) = (format!("{}:{WEB}", server.ipv4()), server.ipv4());
        let serves = format!("server {{ listen {WEB}; location / {{ return 200 ok; }} }}");
        let _web = nginx(&lab, server.namespace(), "web", &format!("http {{ {HTTP} {serves} }}"))?;
        let carries = format!(
            "http {{ {HTTP} upstream web {{ server {web}; keepalive 64; keepalive_requests 1000000000; }} \
             server {{ listen {NGINX_HTTP}; location / {{ proxy_pass http://web; \
             proxy_http_version 1.1; proxy_set_header Connection ''; }} }} }}"
        );
        let stream = format!(
            "stream {{ server {{ listen {NGINX_TCP}; tcp_nodelay on; proxy_pass {echo}:{}; }} }}",
            Ports::ECHO
        );
        let nginx =
            [nginx(&lab, lab.node(), "http", &carries)?, nginx(&lab, lab.node(), "tcp", &stream)?];
        let daemon = Daemon::start(&lab, &["--l7-threads", "1"])?;
        let proxy = daemon.ctl_json(&["status"])?["l7"]["pid"].as_u64().context("no L7 proxy")?;
        let stage = Self { nginx, _web, proxy: u32::try_from(proxy)?, _daemon: daemon, lab };
        for contender in Contender::ALL {
            let answers = || stage.alone(contender, 1).is_ok();
            wait_until(contender.name(), Duration::from_secs(10), answers)
                .map_err(|_| anyhow!("{} does not answer", contender.name()))?;
        }
        Ok(stage)
    }

    /// Keeps connections busy: how many exchanges there were, and the proxy's processor time.
    pub fn load(
        &self,
        contender: Contender,
        connections: usize,
        time: Duration,
    ) -> Result<(u64, Duration)> {
        let used = || self.process(contender).map_or(Ok(Duration::ZERO), cpu_time);
        let before = used()?;
        let (client, to) = self.ends(contender);
        let count = client.run(|| load::crowd(to, contender.speaks(), connections, time))?;
        Ok((count.context(contender.name())?, used()?.saturating_sub(before)))
    }

    /// The median of single exchanges.
    pub fn alone(&self, contender: Contender, exchanges: usize) -> Result<Duration> {
        let (client, to) = self.ends(contender);
        client.run(|| load::alone(to, contender.speaks(), exchanges))?.context(contender.name())
    }

    /// What the proxy keeps for each of so many connections that have been used once, in bytes.
    pub fn idle(&self, contender: Contender, count: u32) -> Result<f64> {
        let Some(pid) = self.process(contender) else { return Ok(0.0) };
        let (client, to) = self.ends(contender);
        let before = memory(pid)?;
        let open = || (0..count).map(|_| Connection::open(to, contender.speaks())).collect();
        let held: Result<Vec<Connection>> = client.run(open)?;
        let held = held.context(contender.name())?;
        thread::sleep(Duration::from_millis(200));
        let taken = memory(pid)?.saturating_sub(before);
        drop(held);
        #[allow(clippy::cast_precision_loss, reason = "it is far below 2^53")]
        Ok(taken as f64 / f64::from(count))
    }

    /// Where the client is, and where it connects.
    fn ends(&self, contender: Contender) -> (&Namespace, SocketAddr) {
        let (node, server) = (self.lab.node_addresses().0, self.lab.pod(SERVER).ipv4());
        let (pod, to) = match contender {
            Contender::DirectHttp => (FREE, (server, WEB)),
            Contender::NginxHttp => (FREE, (node, NGINX_HTTP)),
            Contender::FqdndHttp => (JUDGED, (server, WEB)),
            Contender::DirectTcp => (FREE, (server, Ports::ECHO)),
            Contender::NginxTcp => (FREE, (node, NGINX_TCP)),
            Contender::FqdndTls => (JUDGED, (server, Ports::ECHO)),
        };
        (self.lab.pod(pod).namespace(), to.into())
    }

    fn process(&self, contender: Contender) -> Option<u32> {
        match contender {
            Contender::DirectHttp | Contender::DirectTcp => None,
            Contender::NginxHttp => Some(self.nginx[0].pid()),
            Contender::NginxTcp => Some(self.nginx[1].pid()),
            Contender::FqdndHttp | Contender::FqdndTls => Some(self.proxy),
        }
    }
}

/// What all of nginx's HTTP has in common.
const HTTP: &str = "access_log off; keepalive_requests 1000000000; keepalive_timeout 600s;";

/// nginx with these sections, as one process.
fn nginx(lab: &Lab, place: &Namespace, name: &str, sections: &str) -> Result<Process> {
    let directory = lab.directory().join(format!("nginx-{name}"));
    fs::create_dir_all(directory.join("logs"))?;
    let text = format!(
        "load_module /usr/lib/nginx/modules/ngx_stream_module.so;\n\
         daemon off; master_process off; user root; pid {0}/pid; error_log {0}/error.log;\n\
         events {{ worker_connections 4096; }}\n{sections}\n",
        directory.display()
    );
    let configuration = directory.join("nginx.conf");
    fs::write(&configuration, text)?;
    let mut command = place.command("nginx");
    command.arg("-p").arg(&directory).arg("-c").arg(configuration).stderr(Stdio::null());
    Process::start(command)
}

fn policy() -> String {
    format!(
        r#"apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {{name: bench, namespace: default}}
spec:
  endpointSelector: {{matchLabels: {{app: client}}}}
  egress:
  - toEndpoints: [{{matchLabels: {{app: other}}}}]
    toPorts:
    - ports: [{{port: "{WEB}", protocol: TCP}}]
      rules: {{http: [{{method: GET, path: "/v1/.*"}}]}}
    - ports: [{{port: "{}", protocol: TCP}}]
      serverNames: [{NAME}]
"#,
        Ports::ECHO
    )
}
