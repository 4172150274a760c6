//! dnsperf, a client that others wrote: the highest rate once more, so that it does not rest on the
//! benchmark's own client alone.
//!
//! Its latencies are averages, and its queries at a steady rate come in bursts, so percentiles are
//! the own client's.

use std::fs;
use std::io;
use std::net::SocketAddrV4;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use integration::Namespace;

use super::names::Names;

/// How many sockets ask.
const CLIENTS: &str = "8";

/// dnsperf with its list of questions.
pub struct Dnsperf {
    questions: PathBuf,
    window: String,
}

/// What it says of a run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Report {
    pub answered: u64,
    pub lost: u64,
    /// Queries answered in a second.
    pub rate: f64,
}

impl Dnsperf {
    /// Writes the questions into `directory`; `window` of them will be open at a time.
    pub fn new(directory: &Path, window: usize) -> io::Result<Self> {
        let questions = directory.join("questions");
        let lines = Names::working().map(|name| name + " A\n");
        fs::write(&questions, lines.collect::<String>())?;
        Ok(Self { questions, window: window.to_string() })
    }

    /// Asks `server` from `client` for `time`, which is rounded up to seconds.
    pub fn ask(&self, client: &Namespace, server: SocketAddrV4, time: Duration) -> Result<Report> {
        let seconds = time.as_secs_f64().ceil().max(1.0).to_string();
        let mut command = client.command("dnsperf");
        command.args(["-s", &server.ip().to_string(), "-p", &server.port().to_string()]);
        command.args([
            "-l",
            &seconds,
            "-c",
            CLIENTS,
            "-q",
            &self.window,
            "-T",
            "1",
            "-t",
            "1",
            "-d",
        ]);
        let output = command.arg(&self.questions).output().context("start dnsperf")?;
        let text = String::from_utf8_lossy(&output.stdout);
        ensure!(output.status.success(), "dnsperf: {}", String::from_utf8_lossy(&output.stderr));
        Report::read(&text).with_context(|| format!("dnsperf said something else: {text}"))
    }
}

impl Report {
    /// Reads the statistics at the end of what dnsperf says; none if it does not say all of them.
    fn read(text: &str) -> Option<Self> {
        let value = |name: &str| {
            let line = text.lines().find_map(|line| line.trim().strip_prefix(name))?;
            line.split_whitespace().next()
        };
        let completed: u64 = value("Queries completed:")?.parse().ok()?;
        let lost: u64 = value("Queries lost:")?.parse().ok()?;
        let rate: f64 = value("Queries per second:")?.parse().ok()?;
        // "Response codes: NOERROR 100 (100.00%), SERVFAIL 3 (0.01%)"
        let codes = text.lines().find_map(|line| line.trim().strip_prefix("Response codes:"))?;
        let good = codes.split(',').find_map(|code| code.trim().strip_prefix("NOERROR "));
        let answered: u64 = good.map_or(Some(0), |code| code.split(' ').next()?.parse().ok())?;
        let refused = completed.saturating_sub(answered);
        let share = answered as f64 / completed.max(1) as f64;
        Some(Self { answered, lost: lost + refused, rate: rate * share })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_dnsperf_says() {
        let text = "[Status] Testing complete (time limit)\n\nStatistics:\n\n  \
            Queries sent:         1010\n  Queries completed:    1000 (99.01%)\n  \
            Queries lost:         10 (0.99%)\n\n  \
            Response codes:       SERVFAIL 100 (10.00%), NOERROR 900 (90.00%)\n  \
            Run time (s):         2.000\n  Queries per second:   500.000000\n";
        let report = Report { answered: 900, lost: 110, rate: 450.0 };
        assert_eq!(Report::read(text), Some(report));
        assert_eq!(Report::read("usage"), None);
    }
}
