//! Which server of flows is asked.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use clap::Args;
use hubble::client::{Certificates, Target, connect};
use hubble::proto::observer::observer_client::ObserverClient;
use tonic::transport::Channel;

/// The file name of the socket beside the admin socket.
const SOCKET: &str = "hubble.sock";

/// The server's address, and what it takes to be let in.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Server")]
pub(crate) struct Server {
    /// The server of flows: unix:///PATH, HOST:PORT or tls://HOST:PORT. Default: hubble.sock
    /// beside the admin socket.
    #[arg(long, value_name = "SERVER", env = "FQDND_HUBBLE_SERVER")]
    server: Option<Target>,
    /// Use TLS, as tls:// before the server's name does.
    #[arg(long)]
    tls: bool,
    /// The authority that signed the server's certificate.
    #[arg(long, value_name = "FILE")]
    tls_ca_cert_files: Vec<PathBuf>,
    /// The certificate to show to the server.
    #[arg(long, value_name = "FILE", requires = "tls_client_key_file")]
    tls_client_cert_file: Option<PathBuf>,
    /// The certificate's key.
    #[arg(long, value_name = "FILE", requires = "tls_client_cert_file")]
    tls_client_key_file: Option<PathBuf>,
    /// The name in the server's certificate, where it is not the server's.
    #[arg(long, value_name = "NAME")]
    tls_server_name: Option<String>,
}

impl Server {
    /// Connects to the server, or to the one beside the admin socket.
    pub async fn connect(&self, admin: &Path) -> anyhow::Result<ObserverClient<Channel>> {
        let target = match self.server.clone() {
            Some(Target::Tcp(address)) if self.tls => Target::Tls(address),
            Some(target) => target,
            None => Target::Unix(admin.with_file_name(SOCKET)),
        };
        let certificates = self.certificates()?;
        let connected = connect(&target, &certificates).await;
        connected.map_err(|error| anyhow!("{error}. {}", hint(&target)))
    }

    fn certificates(&self) -> anyhow::Result<Certificates> {
        let authorities: Vec<String> =
            self.tls_ca_cert_files.iter().map(|path| read(path)).collect::<Result<_, _>>()?;
        let own = match (&self.tls_client_cert_file, &self.tls_client_key_file) {
            (Some(certificate), Some(key)) => Some((read(certificate)?, read(key)?)),
            (_, _) => None,
        };
        Ok(Certificates {
            authority: (!authorities.is_empty()).then(|| authorities.concat()),
            own,
            server_name: self.tls_server_name.clone(),
        })
    }
}

fn read(path: &Path) -> anyhow::Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

fn hint(target: &Target) -> &'static str {
    match target {
        Target::Unix(_) => {
            "Is fqdnd running (`systemctl start fqdnd`), and are you root? If its hubble.socket is \
             elsewhere, use --server or FQDND_HUBBLE_SERVER."
        }
        Target::Tcp(_) | Target::Tls(_) => "Is that what its hubble.listen says?",
    }
}
