//! How long a load lasts: short where everything is tested, full where it is meant to last.

use std::{env, fmt::Debug};

const VARIABLE: &str = "FQDND_SOAK";

/// The short length, or the full one if `FQDND_SOAK` is 1; says which it is.
pub fn length<T: Debug>(what: &str, short: T, full: T) -> T {
    let soak = env::var_os(VARIABLE).is_some_and(|value| value == "1");
    let (kind, chosen) = if soak { ("full", full) } else { ("short", short) };
    println!("{what}: {chosen:?} ({kind} length)");
    chosen
}
