//! `fqdnd-l7`: the L7 proxy's process, started by fqdnd with its sockets.
//!
//! Exit codes: 0 the daemon closed the control connection; 1 it broke; 2 the arguments are wrong or
//! the sockets of no use; 3 rights could not be given up.

use std::net::TcpListener;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::process::ExitCode;

use caps::Capability;
use clap::Parser;
use l7proxy::{Options, Proxy, Stopped, Transparent, privileges};
use tracing_subscriber::EnvFilter;

/// Judges pods' connections request by request. Started by fqdnd.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// The descriptor of the connection to fqdnd.
    #[arg(long)]
    control: RawFd,
    /// The descriptor of a transparent TCP listener.
    #[arg(long = "listener", required = true)]
    listeners: Vec<RawFd>,
    /// The firewall mark of connections to destinations.
    #[arg(long)]
    mark: Option<u32>,
    /// The firewall mark of those that have a pod's address.
    #[arg(long)]
    pod_mark: Option<u32>,
    /// Keep the right to mark and to use pods' addresses: `net-raw`, or `net-admin` before
    /// Linux 5.17.
    #[arg(long, value_parser = capability)]
    keep: Option<Capability>,
    /// The user to become.
    #[arg(long, default_value_t = 65534)]
    user: u32,
    /// The bounds, as JSON.
    #[arg(long, value_parser = options)]
    options: Option<Options>,
    /// How many threads serve connections.
    #[arg(long, default_value_t = 2)]
    threads: usize,
}

fn capability(text: &str) -> Result<Capability, String> {
    match text {
        "net-raw" => Ok(Capability::CAP_NET_RAW),
        "net-admin" => Ok(Capability::CAP_NET_ADMIN),
        other => Err(format!("`{other}` is neither `net-raw` nor `net-admin`")),
    }
}

fn options(text: &str) -> Result<Options, serde_json::Error> {
    serde_json::from_str(text)
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::from_env("FQDND_LOG"))
        .with_writer(std::io::stderr)
        .init();
    if let Err(error) = privileges::raise_file_limit() {
        tracing::warn!(%error, "fewer connections than configured may be possible");
    }
    if let Err(error) = privileges::drop_all_but(arguments.keep, arguments.user) {
        tracing::error!(%error, "not started");
        return ExitCode::from(3);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(arguments.threads.max(1))
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, "not started");
            return ExitCode::from(2);
        }
    };
    match runtime.block_on(serve(arguments)) {
        Stopped::Socket(error) => {
            tracing::error!(%error, "not started");
            ExitCode::from(2)
        }
        Stopped::Control(l7proxy::ControlEnded::Closed) => ExitCode::SUCCESS,
        Stopped::Control(error) => {
            tracing::error!(%error, "stopped");
            ExitCode::FAILURE
        }
    }
}

async fn serve(arguments: Arguments) -> Stopped {
    let control = UnixStream::from(take(arguments.control));
    let listeners = arguments.listeners.iter().map(|fd| TcpListener::from(take(*fd))).collect();
    let dial = Transparent { mark: arguments.mark, pod_mark: arguments.pod_mark };
    match Proxy::new(arguments.options.unwrap_or_default(), control, listeners, dial) {
        Ok(proxy) => proxy.run().await,
        Err(stopped) => stopped,
    }
}

/// A descriptor that was passed to this process by its number.
fn take(fd: RawFd) -> OwnedFd {
    // SAFETY: the number names a descriptor that fqdnd passed for this use alone. If it names none,
    // or one of another kind, the first use of the socket fails.
    unsafe { OwnedFd::from_raw_fd(fd) }
}
