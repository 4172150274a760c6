//! The real daemon inside a lab's node, as a service manager would run it.
//!
//! - Its pins lie in a directory of the lab's own and go with this value, however the test ends.
//! - It is ready when it says so on its notification socket, not when some time has passed.

use std::{
    env,
    fs::{self, File},
    io,
    os::unix::net::UnixDatagram,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::{
        Arc,
        atomic::{AtomicI32, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{
    lab::Lab,
    namespace::Namespace,
    node_files::NodeFiles,
    sweep::{BPF_DIRECTORY, LAB_PREFIX},
    undo::Undo,
    wait::wait_until,
    wall_clock::WallClock,
};

/// Seconds that a daemon may take to get ready, where the machine is slower still.
const READY_VARIABLE: &str = "FQDND_LAB_READY_SECONDS";
const READY: Duration = Duration::from_secs(60);
const STOP: Duration = Duration::from_secs(60);
const SHOWN_LINES: usize = 60;

/// Why the daemon, or its client, did not do as it was told.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// A program has not been built.
    #[error("{program} is not beside {}: build the workspace first", beside.display())]
    NotBuilt {
        /// The program.
        program: &'static str,
        /// Where it was looked for.
        beside: PathBuf,
    },
    /// The system refused something.
    #[error("{what}: {source}")]
    System {
        /// What was being done.
        what: &'static str,
        /// The system's reason.
        source: io::Error,
    },
    /// The daemon ended instead of getting ready.
    #[error("fqdnd ended with {status} before it was ready; it last said:\n{log}")]
    Ended {
        /// How it ended.
        status: ExitStatus,
        /// The end of its log.
        log: String,
    },
    /// The daemon was not ready in time.
    #[error("fqdnd was not ready in time; it last said:\n{log}")]
    NotReady {
        /// The end of its log.
        log: String,
    },
    /// The client failed.
    #[error("fqdnctl {arguments}: {message}")]
    Client {
        /// What it was asked.
        arguments: String,
        /// What it said.
        message: String,
    },
    /// The client's answer is no JSON.
    #[error("fqdnctl {arguments}: not JSON: {source}")]
    Json {
        /// What it was asked.
        arguments: String,
        /// The parser's reason.
        source: serde_json::Error,
    },
}

fn system(what: &'static str) -> impl FnOnce(io::Error) -> DaemonError {
    move |source| DaemonError::System { what, source }
}

/// The daemon of a lab; dropping it stops it and detaches everything.
#[derive(Debug)]
pub struct Daemon {
    node: Arc<Namespace>,
    directory: PathBuf,
    flags: Vec<String>,
    surroundings: Surroundings,
    child: Option<Child>,
    /// The process that a signal's cleaning has to end; 0 when there is none.
    pid: Arc<AtomicI32>,
    started_in: Duration,
    pins: PathBuf,
    _undo: Undo,
}

/// What its process is given beside its flags.
#[derive(Debug, Default)]
struct Surroundings {
    environment: Vec<(&'static str, PathBuf)>,
    /// The only capabilities that it may have; none where it may have all.
    capabilities: Option<String>,
    /// The files among which it runs, where they are not the machine's.
    files: Option<Arc<NodeFiles>>,
}

impl Daemon {
    /// Starts it on the lab's manifests, with `flags` on top, and waits until it is ready.
    pub fn start(lab: &Lab, flags: &[&str]) -> Result<Daemon, DaemonError> {
        Daemon::start_in(lab, flags, Surroundings::default())
    }

    /// The same with no other capabilities than these, named without `CAP_`, and no way to gain any.
    pub fn start_with_rights(
        lab: &Lab,
        flags: &[&str],
        capabilities: &[&str],
    ) -> Result<Daemon, DaemonError> {
        let rights = capabilities.iter().map(|name| format!(",+{}", name.to_lowercase()));
        let rights = format!("-all{}", rights.collect::<String>());
        let surroundings = Surroundings { capabilities: Some(rights), ..Surroundings::default() };
        Daemon::start_in(lab, flags, surroundings)
    }

    /// The same, by a wall clock that a test may step.
    pub fn start_by(lab: &Lab, flags: &[&str], clock: &WallClock) -> Result<Daemon, DaemonError> {
        let environment = clock.environment().map(|(name, value)| (name, value.to_owned()));
        let environment = environment.into();
        Daemon::start_in(lab, flags, Surroundings { environment, ..Surroundings::default() })
    }

    /// The same, beside what runs among these files of the node's own.
    pub fn start_among(
        lab: &Lab,
        flags: &[&str],
        files: &Arc<NodeFiles>,
    ) -> Result<Daemon, DaemonError> {
        let files = Some(Arc::clone(files));
        Daemon::start_in(lab, flags, Surroundings { files, ..Surroundings::default() })
    }

    fn start_in(
        lab: &Lab,
        flags: &[&str],
        surroundings: Surroundings,
    ) -> Result<Daemon, DaemonError> {
        let pins = Path::new(BPF_DIRECTORY).join(format!(
            "{LAB_PREFIX}{}-{}",
            std::process::id(),
            lab.number()
        ));
        let pid = Arc::new(AtomicI32::new(0));
        let undo = Undo::enter({
            let (pid, pins) = (Arc::clone(&pid), pins.clone());
            move || {
                end(pid.load(Ordering::Acquire));
                let _ = fs::remove_dir_all(pins);
            }
        });
        let mut daemon = Daemon {
            node: Arc::clone(lab.node()),
            directory: lab.directory().to_owned(),
            flags: flags.iter().map(|&flag| flag.to_owned()).collect(),
            surroundings,
            child: None,
            pid,
            started_in: Duration::ZERO,
            pins,
            _undo: undo,
        };
        let manifests = format!("manifests:\n- {}\n", lab.manifests().directory().display());
        let configuration = format!(
            "{}socket: {}\nstateDirectory: {}\nbpf:\n  pinDirectory: {}\nhubble:\n  \
             socket: {}\n",
            // A cluster stands in their place.
            if flags.contains(&"--kubeconfig") { "" } else { &manifests },
            daemon.socket().display(),
            daemon.state_directory().display(),
            daemon.pins.display(),
            daemon.hubble_socket().display()
        );
        fs::write(daemon.configuration(), configuration).map_err(system("write fqdnd.yaml"))?;
        daemon.launch()?;
        Ok(daemon)
    }

    /// The admin socket.
    pub fn socket(&self) -> PathBuf {
        self.directory.join("fqdnd.sock")
    }

    /// The socket of the Hubble API.
    pub fn hubble_socket(&self) -> PathBuf {
        self.directory.join("hubble.sock")
    }

    /// Where it keeps what a restart needs.
    pub fn state_directory(&self) -> PathBuf {
        self.directory.join("state")
    }

    /// Where its maps, programs and links are pinned.
    pub fn pin_directory(&self) -> &Path {
        &self.pins
    }

    /// The configuration file.
    pub fn configuration(&self) -> PathBuf {
        self.directory.join("fqdnd.yaml")
    }

    /// How long the last start took until it was ready.
    pub fn started_in(&self) -> Duration {
        self.started_in
    }

    /// Its process, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// What it has logged, over all its starts.
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    /// Kills it as the kernel would: no handler runs, nothing is tidied.
    pub fn kill9(&mut self) -> Result<(), DaemonError> {
        let Some(mut child) = self.child.take() else { return Ok(()) };
        child.kill().and_then(|()| child.wait()).map_err(system("kill fqdnd"))?;
        self.pid.store(0, Ordering::Release);
        Ok(())
    }

    /// Asks it to end and waits for it; what it enforces stays enforced.
    pub fn stop(&mut self) -> Result<Option<ExitStatus>, DaemonError> {
        let Some(child) = self.child.as_mut() else { return Ok(None) };
        let _ = kill(pid_of(child), Signal::SIGTERM);
        let ended = wait_until("fqdnd ends", STOP, || !matches!(child.try_wait(), Ok(None)));
        if ended.is_err() {
            eprintln!("fqdnd did not end within {STOP:?} and is killed");
            self.kill9()?;
            return Ok(None);
        }
        let status = child.wait().map_err(system("wait for fqdnd"))?;
        self.child = None;
        self.pid.store(0, Ordering::Release);
        Ok(Some(status))
    }

    /// Starts it again, on what it left in the kernel.
    pub fn restart(&mut self) -> Result<(), DaemonError> {
        self.stop()?;
        self.launch()
    }

    /// The same with other flags, from now on.
    pub fn restart_with(&mut self, flags: &[&str]) -> Result<(), DaemonError> {
        self.flags = flags.iter().map(|&flag| flag.to_owned()).collect();
        self.restart()
    }

    /// Runs fqdnctl and returns what it printed; an exit code other than 0 is an error.
    pub fn ctl(&self, arguments: &[&str]) -> Result<String, DaemonError> {
        let output = self.ctl_output(arguments)?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        Err(DaemonError::Client {
            arguments: arguments.join(" "),
            message: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        })
    }

    /// Runs fqdnctl with `-o json` and reads its answer.
    pub fn ctl_json(&self, arguments: &[&str]) -> Result<serde_json::Value, DaemonError> {
        let text = self.ctl(&[arguments, &["-o", "json"]].concat())?;
        serde_json::from_str(&text)
            .map_err(|source| DaemonError::Json { arguments: arguments.join(" "), source })
    }

    /// Runs fqdnctl, whatever comes of it.
    pub fn ctl_output(&self, arguments: &[&str]) -> Result<Output, DaemonError> {
        self.ctl_command()?.args(arguments).output().map_err(system("run fqdnctl"))
    }

    /// Runs fqdnctl inside the node, where the daemon's addresses are.
    pub fn ctl_command(&self) -> Result<Command, DaemonError> {
        let mut command = self.node.command(program("fqdnctl")?);
        command.arg("--socket").arg(self.socket());
        Ok(command)
    }

    /// Runs another program inside the node.
    pub fn command_inside(&self, program: &Path) -> Command {
        self.node.command(program)
    }

    /// Runs a subcommand of fqdnd itself, such as `check` or `detach`, inside the node.
    pub fn command(&self, subcommand: &str) -> Result<Command, DaemonError> {
        let mut command = self.plain_command()?;
        command.arg(subcommand).arg("--config").arg(self.configuration());
        Ok(command)
    }

    /// Runs fqdnd inside the node, with no argument yet.
    pub fn plain_command(&self) -> Result<Command, DaemonError> {
        Ok(self.node.command(program("fqdnd")?))
    }

    fn launch(&mut self) -> Result<(), DaemonError> {
        let start = Instant::now();
        let notify = self.directory.join("notify.sock");
        let _ = fs::remove_file(&notify);
        let notified = UnixDatagram::bind(&notify).map_err(system("bind the notify socket"))?;
        notified
            .set_read_timeout(Some(Duration::from_millis(50)))
            .map_err(system("prepare the notify socket"))?;
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.log_file())
            .map_err(system("open fqdnd.log"))?;
        let also = log.try_clone().map_err(system("open fqdnd.log"))?;
        let mut command = match &self.surroundings.capabilities {
            None => self.node.command(program("fqdnd")?),
            Some(rights) => {
                let mut command = self.node.command("setpriv");
                command.arg(format!("--bounding-set={rights}")).args(["--no-new-privs", "--"]);
                command.arg(program("fqdnd")?);
                command
            }
        };
        command.arg("--config").arg(self.configuration()).args(&self.flags);
        if let Some(files) = &self.surroundings.files {
            files.show_to(&mut command);
        }
        command.envs(self.surroundings.environment.iter().map(|(name, value)| (name, value)));
        command.env("NOTIFY_SOCKET", &notify).stdin(Stdio::null()).stdout(log).stderr(also);
        let child = command.spawn().map_err(system("start fqdnd"))?;
        self.pid.store(pid_of(&child).as_raw(), Ordering::Release);
        let child = self.child.insert(child);
        wait_ready(child, &notified, &self.directory)?;
        self.started_in = start.elapsed();
        Ok(())
    }

    fn log_file(&self) -> PathBuf {
        log_file(&self.directory)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Err(error) = self.stop() {
            eprintln!("{error}");
        }
        match self.command("detach").map(|mut command| command.output()) {
            Ok(Ok(output)) if output.status.success() => {}
            Ok(Ok(output)) => {
                eprintln!("fqdnd detach: {}", String::from_utf8_lossy(&output.stderr).trim());
            }
            Ok(Err(error)) => eprintln!("fqdnd detach: {error}"),
            Err(error) => eprintln!("fqdnd detach: {error}"),
        }
        if thread::panicking() {
            eprintln!("fqdnd last said:\n{}", tail(&self.directory));
        }
    }
}

fn wait_ready(
    child: &mut Child,
    notified: &UnixDatagram,
    directory: &Path,
) -> Result<(), DaemonError> {
    let start = Instant::now();
    let mut message = [0; 1024];
    let given = env::var(READY_VARIABLE).ok().and_then(|seconds| seconds.parse().ok());
    let limit = given.map_or(READY, Duration::from_secs);
    while start.elapsed() < limit {
        if let Ok(length) = notified.recv(&mut message)
            && message[..length].split(|&octet| octet == b'\n').any(|line| line == b"READY=1")
        {
            return Ok(());
        }
        if let Some(status) = child.try_wait().map_err(system("wait for fqdnd"))? {
            return Err(DaemonError::Ended { status, log: tail(directory) });
        }
    }
    Err(DaemonError::NotReady { log: tail(directory) })
}

/// A program of the workspace: beside this one, or beside the tests' directory.
fn program(name: &'static str) -> Result<PathBuf, DaemonError> {
    let here = env::current_exe().map_err(system("find this program"))?;
    let found = here.ancestors().skip(1).take(2).map(|beside| beside.join(name));
    found
        .into_iter()
        .find(|path| path.is_file())
        .ok_or(DaemonError::NotBuilt { program: name, beside: here })
}

fn end(pid: i32) {
    if pid > 0 {
        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
    }
}

fn pid_of(child: &Child) -> Pid {
    Pid::from_raw(child.id().cast_signed())
}

fn log_file(directory: &Path) -> PathBuf {
    directory.join("fqdnd.log")
}

fn tail(directory: &Path) -> String {
    let log = fs::read_to_string(log_file(directory)).unwrap_or_default();
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(SHOWN_LINES)..].join("\n")
}
