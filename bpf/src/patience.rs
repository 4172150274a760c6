//! Waiting a moment where the kernel has no memory at hand.
//!
//! Elements of maps are made of memory that is free at once. On a node whose memory is full of cached
//! files, a burst of updates uses that up: the kernel makes more in the background, and the update that
//! failed succeeds a moment later.

use std::io;
use std::thread::sleep;
use std::time::Duration;

/// How long is waited the first time; each time it is twice as long.
const FIRST: Duration = Duration::from_millis(1);
/// How often: 127 ms together. Whoever waits may be a DNS worker.
const TIMES: u32 = 7;

/// Tries an update again while it fails for want of memory.
pub fn patiently<T>(mut update: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    for time in 0..TIMES {
        match update() {
            Err(error) if error.raw_os_error() == Some(libc::ENOMEM) => sleep(FIRST * (1 << time)),
            done => return done,
        }
    }
    update()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failing(times: u32, code: i32) -> (io::Result<u32>, u32) {
        let mut tried = 0;
        let done = patiently(|| {
            tried += 1;
            if tried > times { Ok(tried) } else { Err(io::Error::from_raw_os_error(code)) }
        });
        (done, tried)
    }

    #[test]
    fn memory_that_comes_is_waited_for_and_nothing_else_is() {
        assert_eq!(failing(0, libc::ENOMEM).0.unwrap(), 1);
        assert_eq!(failing(3, libc::ENOMEM).0.unwrap(), 4);
        let (done, tried) = failing(100, libc::ENOMEM);
        assert_eq!((done.unwrap_err().raw_os_error(), tried), (Some(libc::ENOMEM), TIMES + 1));
        let (done, tried) = failing(100, libc::E2BIG);
        assert_eq!((done.unwrap_err().raw_os_error(), tried), (Some(libc::E2BIG), 1));
    }
}
