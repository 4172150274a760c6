//! The daemon's own process, by the names that Prometheus's libraries give these metrics.

use std::fs;

use metrics::{Unit, describe_counter};
use nix::sys::resource::{Resource, UsageWho, getrlimit, getrusage};
use nix::sys::time::TimeVal;
use nix::unistd::{SysconfVar, sysconf};

use super::family::gauge;

/// What the kernel says of the process; what it does not say is left out.
pub fn tell(started_at: u64) {
    gauge("process_start_time_seconds", "When the process began, in seconds since 1970.")
        .counts(started_at);
    if let Ok(usage) = getrusage(UsageWho::RUSAGE_SELF) {
        let spent = micros(usage.user_time()) + micros(usage.system_time());
        let (name, help) = ("process_cpu_seconds_total", "Processor time spent, in seconds.");
        describe_counter!(name, Unit::Microseconds, help);
        metrics::counter!(name).absolute(spent);
    }
    if let Some(bytes) = resident_memory() {
        gauge("process_resident_memory_bytes", "Resident memory.").counts(bytes);
    }
    if let Ok(open) = fs::read_dir("/proc/self/fd") {
        gauge("process_open_fds", "Open file descriptors.").counts(open.count() as u64);
    }
    if let Ok((limit, _)) = getrlimit(Resource::RLIMIT_NOFILE) {
        gauge("process_max_fds", "File descriptors that may be open.").counts(limit);
    }
}

fn resident_memory() -> Option<u64> {
    let text = fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = text.split_whitespace().nth(1)?.parse().ok()?;
    let page = sysconf(SysconfVar::PAGE_SIZE).ok()??;
    Some(pages * u64::try_from(page).ok()?)
}

fn micros(time: TimeVal) -> u64 {
    time.tv_sec().unsigned_abs() * 1_000_000 + time.tv_usec().unsigned_abs()
}
