//! The one clock: `CLOCK_BOOTTIME`, as the programs in the kernel read it.

use model::Moment;
use nix::time::{ClockId, clock_gettime};

/// The moment that it is.
pub fn now() -> Moment {
    let time =
        clock_gettime(ClockId::CLOCK_BOOTTIME).expect("the kernel has CLOCK_BOOTTIME since 2.6.39");
    let seconds = u64::try_from(time.tv_sec()).unwrap_or(0);
    let nanos = u64::try_from(time.tv_nsec()).unwrap_or(0);
    Moment::from_nanos(seconds.saturating_mul(1_000_000_000).saturating_add(nanos))
}
