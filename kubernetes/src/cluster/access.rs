//! How the API server is reached, and what its refusals mean.

use std::path::PathBuf;
use std::time::Duration;

use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::Status;
use kube::{Client, Config, Error};

/// How long connecting may take, and a write or the pause between two parts of an answer.
const CONNECT: Duration = Duration::from_secs(10);
const WRITE: Duration = Duration::from_secs(30);

/// Where the credentials are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Access {
    /// In the files that every pod is given.
    InCluster,
    /// In this kubeconfig.
    Kubeconfig(PathBuf),
}

/// Why no client can be made at all.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// The kubeconfig cannot be used.
    #[error("kubeconfig {}: {source}", path.display())]
    Kubeconfig {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: Box<kube::config::KubeconfigError>,
    },
    /// This is no pod, or its service account is not mounted.
    #[error("no kubeconfig is given, and this is no pod with a service account: {0}")]
    InCluster(#[source] kube::config::InClusterError),
    /// The credentials cannot be used.
    #[error("no client can be made of the credentials: {0}")]
    Client(#[source] Box<Error>),
}

impl Access {
    /// A client with the credentials as they stand in their files now.
    pub async fn client(&self) -> Result<Client, AccessError> {
        let mut config = match self {
            Self::InCluster => Config::incluster().map_err(AccessError::InCluster)?,
            Self::Kubeconfig(path) => {
                let failed = |source| AccessError::Kubeconfig {
                    path: path.clone(),
                    source: Box::new(source),
                };
                let read = Kubeconfig::read_from(path).map_err(failed)?;
                let options = KubeConfigOptions::default();
                Config::from_custom_kubeconfig(read, &options).await.map_err(failed)?
            }
        };
        config.connect_timeout = Some(CONNECT);
        config.write_timeout = Some(WRITE);
        // A watch is silent between bookmarks; whoever reads keeps the time.
        config.read_timeout = None;
        // Whoever waits also says since when and why.
        config.default_retry = false;
        Client::try_from(config).map_err(|error| AccessError::Client(Box::new(error)))
    }
}

/// What to do about a request that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Remedy {
    /// Ask again later; the server may have said when.
    Wait(Option<Duration>),
    /// What is known is too old to go on from: read the list anew.
    Relist,
    /// The credentials are not good any more: read them anew.
    Reconnect,
    /// There is no such kind of objects in the cluster.
    Unknown,
}

impl Remedy {
    /// The remedy for an error.
    pub fn of(error: &Error) -> Self {
        match error {
            Error::Api(status) => Self::of_status(status),
            // Something was said that could not be read: it may have been a change.
            Error::SerdeError(_) => Self::Relist,
            Error::Auth(_) => Self::Reconnect,
            _ => Self::Wait(None),
        }
    }

    /// The remedy for what the server says of itself.
    pub fn of_status(status: &Status) -> Self {
        let after = status.details.as_ref().map_or(0, |details| details.retry_after_seconds);
        let after = (after > 0).then(|| Duration::from_secs(u64::from(after).min(300)));
        match (status.code, status.reason.as_str()) {
            (410, _) | (_, "Expired" | "Gone") => Self::Relist,
            (401, _) => Self::Reconnect,
            (404, _) => Self::Unknown,
            _ => Self::Wait(after),
        }
    }
}

/// An error in one line.
pub(crate) fn reason(error: &Error) -> String {
    match error {
        Error::Api(status) => reason_of(status),
        // The outer errors name only layers.
        Error::Service(error) => innermost(error.as_ref()),
        other => innermost(other),
    }
}

/// What the server says of itself, in one line.
pub(crate) fn reason_of(status: &Status) -> String {
    format!("{} ({})", crate::text::plain_line(&status.message), status.code)
}

fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut chain = vec![error.to_string()];
    let mut error = error;
    while let Some(source) = error.source() {
        let text = source.to_string();
        if !chain.iter().any(|known| known.contains(&text)) {
            chain.push(text);
        }
        error = source;
    }
    crate::text::plain_line(&chain.join(": "))
}
