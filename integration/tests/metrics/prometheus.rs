//! A real Prometheus beside the daemon.

use std::fs;
use std::process::{Child, Stdio};

use integration::{Lab, wait_until};
use serde_json::Value;

use crate::{LISTEN, SOON, run, said};

/// Where it serves, inside the lab's node.
const PROMETHEUS: &str = "127.0.0.1:9090";

/// A Prometheus of the lab's node; it ends with this, and with the thread that started it.
pub struct Prometheus<'a> {
    lab: &'a Lab,
    child: Child,
}

impl<'a> Prometheus<'a> {
    /// Starts one that scrapes every few seconds, and gives a busy machine as long to answer.
    pub fn start(lab: &'a Lab) -> Self {
        let configuration = lab.directory().join("prometheus.yaml");
        let text = format!(
            "global: {{scrape_interval: 4s, scrape_timeout: 4s}}\n\
             scrape_configs:\n- job_name: fqdnd\n  static_configs:\n  - targets: ['{LISTEN}']\n"
        );
        fs::write(&configuration, text).unwrap();
        let log = fs::File::create(lab.directory().join("prometheus.log")).unwrap();
        let mut command = lab.node().command("setpriv");
        command.args(["--pdeathsig", "KILL", "prometheus"]);
        command.arg(format!("--config.file={}", configuration.display()));
        command.arg(format!("--storage.tsdb.path={}", lab.directory().join("tsdb").display()));
        command.arg(format!("--web.listen-address={PROMETHEUS}"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        Self { lab, child: command.spawn().unwrap() }
    }

    /// What an expression gives now; what Prometheus says of it where it gives nothing.
    pub fn query(&self, expression: &str) -> Result<Vec<Value>, String> {
        let server = format!("http://{PROMETHEUS}");
        let arguments = ["query", "instant", "-o", "json", &server, expression];
        let output = run(self.lab.node().command("promtool").args(arguments), "");
        if !output.status.success() {
            return Err(said(&output));
        }
        let found: Value = serde_json::from_slice(&output.stdout).map_err(|own| own.to_string())?;
        found.as_array().cloned().ok_or_else(|| found.to_string())
    }

    /// Waits until an expression gives something.
    pub fn wait_for(&self, expression: &str) {
        let found = || self.query(expression).is_ok_and(|found| !found.is_empty());
        let waited = wait_until(expression, SOON, found);
        waited.unwrap_or_else(|error| panic!("{error}: {:?}", self.query(expression)));
    }
}

impl Drop for Prometheus<'_> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
