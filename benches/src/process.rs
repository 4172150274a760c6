//! Processes that are measured from outside.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

/// A process that ends with this value.
pub struct Process(Child);

impl Process {
    pub fn start(mut command: Command) -> Result<Self> {
        let program = command.get_program().to_owned();
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn();
        child.map(Self).with_context(|| format!("start {}", program.display()))
    }

    pub fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The CPU time that all threads of a process have used, as the scheduler counts it. A thread that
/// ends in between is missed; none of the proxies has such.
pub fn cpu_time(pid: u32) -> Result<Duration> {
    let mut total = Duration::ZERO;
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        let times = fs::read_to_string(task?.path().join("schedstat"))?;
        let used = times.split(' ').next().context("an empty schedstat")?;
        total += Duration::from_nanos(used.parse()?);
    }
    ensure!(!total.is_zero(), "process {pid} has not run");
    Ok(total)
}

/// The memory of a process's own that is in use, in bytes.
pub fn memory(pid: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    let kib = line.and_then(|line| line.split_whitespace().next()).context("no RssAnon")?;
    Ok(kib.parse::<u64>()? * 1024)
}
