//! The daemon's own process, by the names that Prometheus's libraries give these metrics.

use std::fs;

use nix::sys::resource::{Resource, UsageWho, getrlimit, getrusage};
use nix::sys::time::TimeVal;
use nix::unistd::{SysconfVar, sysconf};

use super::families::{Families, number};

/// What the kernel says of the process; what it does not say is left out.
pub fn add(families: &mut Families, started_at: u64) {
    families
        .gauge("process_start_time_seconds", "When the process began, in seconds since 1970.")
        .is(number(started_at));
    if let Ok(usage) = getrusage(UsageWho::RUSAGE_SELF) {
        families
            .counter("process_cpu_seconds_total", "Processor time spent, in seconds.")
            .is(seconds(usage.user_time()) + seconds(usage.system_time()));
    }
    if let Some(bytes) = resident_memory() {
        families.gauge("process_resident_memory_bytes", "Resident memory.").is(number(bytes));
    }
    if let Ok(open) = fs::read_dir("/proc/self/fd") {
        families
            .gauge("process_open_fds", "Open file descriptors.")
            .is(number(open.count() as u64));
    }
    if let Ok((limit, _)) = getrlimit(Resource::RLIMIT_NOFILE) {
        families.gauge("process_max_fds", "File descriptors that may be open.").is(number(limit));
    }
}

fn resident_memory() -> Option<u64> {
    let text = fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = text.split_whitespace().nth(1)?.parse().ok()?;
    let page = sysconf(SysconfVar::PAGE_SIZE).ok()??;
    Some(pages * u64::try_from(page).ok()?)
}

#[allow(clippy::cast_precision_loss, reason = "processor time is far below 2^53 microseconds")]
fn seconds(time: TimeVal) -> f64 {
    time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6
}
