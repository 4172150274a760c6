//! `fqdnctl crd`: the definitions of the policies for a cluster's API server.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use kubernetes::Access;
use kubernetes::crd::{self, Outcome};

use crate::output::Output;

/// Print or install the custom resource definitions.
///
/// Group, version and names are Cilium's, so that its documents work unchanged.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  fqdnctl crd install
  fqdnctl crd print | kubectl apply --server-side -f -")]
pub(crate) struct Crd {
    #[command(subcommand)]
    command: CrdCommand,
}

#[derive(Debug, Subcommand)]
enum CrdCommand {
    Print(Print),
    Install(Install),
}

/// Print the definitions, as a list that `kubectl apply -f -` takes.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  fqdnctl crd print | kubectl apply --server-side -f -")]
struct Print {}

/// Install the definitions.
///
/// A definition that is there already is brought up to date if it is ours. Any other, such as
/// Cilium's own, is left alone.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  fqdnctl crd install
  fqdnctl crd install --kubeconfig ~/.kube/config

Exit codes:
  0  every definition that is needed is there
  1  an error; a definition of another's does not serve the version that is needed")]
struct Install {
    /// The kubeconfig that names the API server; without one, that of the pod this runs in.
    #[arg(long, value_name = "FILE", env = "KUBECONFIG")]
    kubeconfig: Option<PathBuf>,
}

impl Crd {
    pub fn run(&self, output: &Output) -> anyhow::Result<ExitCode> {
        match &self.command {
            CrdCommand::Print(_) => print(output),
            CrdCommand::Install(install) => install.run(output),
        }
    }
}

fn print(output: &Output) -> anyhow::Result<ExitCode> {
    let items = crd::definitions();
    let list = serde_json::json!({"apiVersion": "v1", "kind": "List", "items": items});
    output.data(&list)?;
    Ok(ExitCode::SUCCESS)
}

impl Install {
    fn run(&self, output: &Output) -> anyhow::Result<ExitCode> {
        let access = self.kubeconfig.clone().map_or(Access::InCluster, Access::Kubeconfig);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let installed = runtime.block_on(crd::install(&access))?;
        output.lines(installed.iter().map(|own| format!("{}: {}", own.name, own.outcome)))?;
        let fit = installed.iter().all(|own| own.outcome != Outcome::Unfit);
        Ok(if fit { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}
