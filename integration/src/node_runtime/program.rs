//! Which container runtime it is, and what follows from that.

use std::{
    env, fs, io,
    io::Write as _,
    path::{Path, PathBuf},
    process::Command,
    sync::Once,
};

use super::{NodeRuntimeError, containerd, crio, system};

/// Names the CRI-O to run in containerd's place.
const NAMED: &str = "FQDND_TEST_CRIO";
/// What it is told, in the runtime's directory.
pub(super) const CONFIGURATION: &str = "config.toml";

/// A container runtime's program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Program {
    /// The machine's containerd.
    Containerd,
    /// A CRI-O, with its `pinns` beside it.
    Crio(PathBuf),
}

impl Program {
    /// The one that the environment asks for.
    pub(super) fn chosen() -> Result<Program, NodeRuntimeError> {
        let program = match env::var_os(NAMED).map(PathBuf::from) {
            None => Program::Containerd,
            Some(program) => match fs::canonicalize(&program) {
                Ok(program) => Program::Crio(program),
                Err(source) => return Err(NodeRuntimeError::Named { program, source }),
            },
        };
        program.say_once().map_err(system("ask the container runtime for its version"))?;
        Ok(program)
    }

    /// What is run.
    pub(super) fn path(&self) -> &Path {
        match self {
            Program::Containerd => Path::new("containerd"),
            Program::Crio(program) => program,
        }
    }

    /// How it is run.
    pub(super) fn flags(&self, directory: &Path) -> Vec<String> {
        let configuration = directory.join(CONFIGURATION).display().to_string();
        let flags = vec!["--config".to_owned(), configuration];
        match self {
            Program::Containerd => flags,
            // Nothing that the machine has for another one.
            Program::Crio(_) => [flags, vec!["--config-dir".to_owned(), String::new()]].concat(),
        }
    }

    /// Where it listens, below `/run`.
    pub(super) fn socket(&self) -> &'static str {
        match self {
            Program::Containerd => "containerd/containerd.sock",
            Program::Crio(_) => "crio/crio.sock",
        }
    }

    /// Writes what it is told into its directory.
    pub(super) fn configure(&self, directory: &Path, networks: &Path) -> io::Result<()> {
        match self {
            Program::Containerd => containerd::configure(directory, networks),
            Program::Crio(program) => crio::configure(program, directory, networks),
        }
    }

    /// The command by which an archive becomes an image of its.
    pub(super) fn import(&self, archive: &Path, name: &str) -> Vec<String> {
        match self {
            Program::Containerd => containerd::import(archive),
            Program::Crio(_) => crio::import(archive, name),
        }
    }

    /// Says which one runs, past what keeps the output of tests that succeed.
    fn say_once(&self) -> io::Result<()> {
        static SAID: Once = Once::new();
        let output = Command::new(self.path()).arg("--version").output()?;
        let told = String::from_utf8_lossy(&output.stdout).into_owned();
        let first = told.lines().next().unwrap_or_default();
        SAID.call_once(|| {
            let _ = writeln!(io::stderr(), "container runtime: {first}");
        });
        Ok(())
    }
}
