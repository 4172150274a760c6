//! The clock of the kernel's programs, which every deadline here is measured by.

use model::Moment;
use nix::time::{ClockId, clock_gettime};

/// The present.
pub(crate) fn now() -> Moment {
    // The clock exists since Linux 2.6.39. Were it missing, every deadline would have passed:
    // queries would fail, none would hang.
    let Ok(time) = clock_gettime(ClockId::CLOCK_BOOTTIME) else { return Moment::MAX };
    let nanos = time.tv_sec().unsigned_abs() * 1_000_000_000 + time.tv_nsec().unsigned_abs();
    Moment::from_nanos(nanos)
}
