//! Runs `nft`, with its JSON in and out, within bounds of time and size.

use std::io;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};

/// Far longer than a small transaction takes, even beside a large ruleset that another tool loads.
const PATIENCE: Duration = Duration::from_secs(10);

/// Our own table is a few hundred bytes; more than this is not ours to read.
const LARGEST_OUTPUT: u64 = 1 << 20;

/// Why `nft` did not do what it was told.
#[derive(Debug, thiserror::Error)]
pub enum NftError {
    /// It is not installed.
    #[error("the program `nft` is missing: install the package nftables")]
    Missing,
    /// It could not be run.
    #[error("running nft: {0}")]
    Run(#[source] io::Error),
    /// It ran too long, and was ended.
    #[error("nft did not finish within {}s", PATIENCE.as_secs())]
    TimedOut,
    /// It failed.
    #[error("nft failed ({status}): {stderr}")]
    Failed {
        /// How it ended.
        status: ExitStatus,
        /// What it said.
        stderr: String,
    },
    /// What it printed is not what it prints.
    #[error("nft's output: {0}")]
    Output(#[from] serde_json::Error),
}

/// Applies commands in one transaction: all or none.
pub(crate) async fn apply(commands: Vec<Value>) -> Result<(), NftError> {
    let transaction = serde_json::json!({ "nftables": commands }).to_string();
    run(&["-j", "-f", "-"], transaction.as_bytes()).await.map(|_| ())
}

/// The table's objects as nft lists them, the table itself first; none if there is no such table.
pub(crate) async fn list(family: &str, name: &str) -> Result<Option<Vec<Value>>, NftError> {
    let tables = objects(&run(&["-j", "list", "tables"], b"").await?)?;
    let there = tables
        .iter()
        .filter_map(|object| object.get("table"))
        .any(|table| table["family"] == family && table["name"] == name);
    if !there {
        return Ok(None);
    }
    let mut listed = objects(&run(&["-j", "list", "table", family, name], b"").await?)?;
    listed.retain(|object| object.get("metainfo").is_none());
    Ok(Some(listed))
}

/// What `nft --version` prints.
pub(crate) async fn version() -> Result<String, NftError> {
    Ok(run(&["--version"], b"").await?.trim().to_owned())
}

fn objects(text: &str) -> Result<Vec<Value>, NftError> {
    let mut document: Value = serde_json::from_str(text)?;
    Ok(serde_json::from_value(document["nftables"].take())?)
}

async fn run(arguments: &[&str], input: &[u8]) -> Result<String, NftError> {
    let child = Command::new("nft")
        .args(arguments)
        .env("LC_ALL", "C")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => NftError::Missing,
            _ => NftError::Run(error),
        })?;
    tokio::time::timeout(PATIENCE, converse(child, input)).await.map_err(|_| NftError::TimedOut)?
}

async fn converse(mut child: Child, input: &[u8]) -> Result<String, NftError> {
    let mut stdin = child.stdin.take().expect("stdin is piped");
    let stdout = child.stdout.take().expect("stdout is piped");
    let stderr = child.stderr.take().expect("stderr is piped");
    let write = async {
        match stdin.write_all(input).await {
            // It has failed before it read everything; its status says so.
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error),
            Ok(()) | Err(_) => {
                drop(stdin);
                Ok(())
            }
        }
    };
    let ((), stdout, stderr) =
        tokio::try_join!(write, bounded(stdout), bounded(stderr)).map_err(NftError::Run)?;
    let status = child.wait().await.map_err(NftError::Run)?;
    if status.success() {
        return Ok(stdout);
    }
    Err(NftError::Failed { status, stderr: stderr.trim().to_owned() })
}

async fn bounded(stream: impl AsyncRead + Unpin) -> io::Result<String> {
    let mut bytes = Vec::new();
    stream.take(LARGEST_OUTPUT).read_to_end(&mut bytes).await?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
