//! Connects to a server of flows: fqdnd's, or Hubble's.

use std::error::Error;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

use crate::proto::observer::observer_client::ObserverClient;

/// How long connecting may take.
const CONNECT: Duration = Duration::from_secs(5);

/// Where a server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// `unix:///PATH`.
    Unix(PathBuf),
    /// `HOST:PORT` or `tcp://HOST:PORT`.
    Tcp(String),
    /// `tls://HOST:PORT`.
    Tls(String),
}

/// What a client needs for TLS, all in PEM.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Certificates {
    /// The authority that signed the server's certificate.
    pub authority: Option<String>,
    /// The client's own certificate and key.
    pub own: Option<(String, String)>,
    /// The name in the server's certificate, where it is not the target's.
    pub server_name: Option<String>,
}

/// A text that names no server.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no server: write unix:///PATH, HOST:PORT or tls://HOST:PORT")]
pub struct TargetError(String);

/// Why a server could not be connected to.
#[derive(Debug, thiserror::Error)]
#[error("cannot reach the server of flows at {target}: {cause}")]
pub struct ConnectError {
    /// Where it was looked for.
    target: Target,
    /// What was in the way.
    cause: String,
}

impl FromStr for Target {
    type Err = TargetError;

    fn from_str(text: &str) -> Result<Self, TargetError> {
        let wrong = || TargetError(text.to_owned());
        if let Some(path) = text.strip_prefix("unix://").or_else(|| text.strip_prefix("unix:")) {
            return if path.is_empty() { Err(wrong()) } else { Ok(Self::Unix(path.into())) };
        }
        let (is_tls, address) = match (text.strip_prefix("tls://"), text.strip_prefix("tcp://")) {
            (Some(address), _) => (true, address),
            (None, Some(address)) => (false, address),
            (None, None) => (false, text),
        };
        let (host, port) = address.rsplit_once(':').ok_or_else(wrong)?;
        if host.is_empty() || host.contains('/') || port.parse::<u16>().is_err() {
            return Err(wrong());
        }
        let address = address.to_owned();
        Ok(if is_tls { Self::Tls(address) } else { Self::Tcp(address) })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Tcp(address) => f.write_str(address),
            Self::Tls(address) => write!(f, "tls://{address}"),
        }
    }
}

/// Connects to the server at `target`; `certificates` count where that is TLS.
pub async fn connect(
    target: &Target,
    certificates: &Certificates,
) -> Result<ObserverClient<Channel>, ConnectError> {
    let failed = |error: tonic::transport::Error| ConnectError {
        target: target.clone(),
        cause: innermost(&error),
    };
    let endpoint = endpoint(target, certificates).map_err(failed)?;
    let channel = endpoint.connect_timeout(CONNECT).connect().await.map_err(failed)?;
    Ok(ObserverClient::new(channel))
}

fn endpoint(
    target: &Target,
    certificates: &Certificates,
) -> Result<Endpoint, tonic::transport::Error> {
    match target {
        Target::Unix(path) => Endpoint::from_shared(format!("unix://{}", path.display())),
        Target::Tcp(address) => Endpoint::from_shared(format!("http://{address}")),
        Target::Tls(address) => {
            Endpoint::from_shared(format!("https://{address}"))?.tls_config(certificates.config())
        }
    }
}

impl Certificates {
    fn config(&self) -> ClientTlsConfig {
        let mut config = ClientTlsConfig::new();
        if let Some(authority) = &self.authority {
            config = config.ca_certificate(Certificate::from_pem(authority));
        }
        if let Some((certificate, key)) = &self.own {
            config = config.identity(Identity::from_pem(certificate, key));
        }
        if let Some(name) = &self.server_name {
            config = config.domain_name(name);
        }
        config
    }
}

/// The cause of all: tonic's own words say only that something failed.
fn innermost(error: &tonic::transport::Error) -> String {
    let mut cause: &dyn Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_read_as_hubble_writes_them() {
        let unix = |path: &str| Ok(Target::Unix(path.into()));
        assert_eq!("unix:///run/fqdnd/hubble.sock".parse(), unix("/run/fqdnd/hubble.sock"));
        assert_eq!("unix:hubble.sock".parse(), unix("hubble.sock"));
        assert_eq!("localhost:4245".parse(), Ok(Target::Tcp("localhost:4245".into())));
        assert_eq!("tcp://[::1]:4245".parse(), Ok(Target::Tcp("[::1]:4245".into())));
        assert_eq!("tls://node-1:4244".parse(), Ok(Target::Tls("node-1:4244".into())));
        for wrong in ["", "unix://", "localhost", "http://localhost:80/", ":80", "a:b"] {
            assert_eq!(wrong.parse::<Target>(), Err(TargetError(wrong.to_owned())));
        }
    }
}
