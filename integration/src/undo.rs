//! Undoing: whatever the lab makes on the machine is entered here first, and taken away on drop,
//! on panic (which drops) and on SIGINT, SIGTERM and SIGHUP.
//!
//! - An entry is made before the thing itself, so that no moment lies between.
//! - Each entry runs exactly once: whoever takes it out of the ledger runs it.
//! - On a signal the entries run latest first, on the watcher's thread alone, and the process then
//!   dies of that same signal. No entry's work owns another entry.

use std::{
    collections::BTreeMap,
    io::{self, Read},
    os::fd::IntoRawFd,
    sync::{
        Mutex, MutexGuard, Once, PoisonError,
        atomic::{AtomicI32, Ordering},
    },
    thread,
};

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, raise, sigaction};

type Work = Box<dyn FnOnce() + Send>;

/// What is still to be undone, in the order in which it was made.
struct Ledger {
    next: u64,
    entries: BTreeMap<u64, Work>,
    leaving: bool,
}

static LEDGER: Mutex<Ledger> =
    Mutex::new(Ledger { next: 0, entries: BTreeMap::new(), leaving: false });

/// Where the signal handler writes the signal's number; -1 until the watcher runs.
static SIGNALS: AtomicI32 = AtomicI32::new(-1);

/// An entry in the ledger; dropping it undoes what it stands for.
#[derive(Debug)]
#[must_use = "dropping an entry undoes it at once"]
pub(crate) struct Undo(u64);

impl Undo {
    /// Enters `work`. Once a signal has arrived nothing more is made: the caller waits for the
    /// end of the process.
    pub(crate) fn enter(work: impl FnOnce() + Send + 'static) -> Undo {
        let mut ledger = ledger_unless_leaving();
        let id = ledger.next;
        ledger.next += 1;
        ledger.entries.insert(id, Box::new(work));
        Undo(id)
    }
}

impl Drop for Undo {
    fn drop(&mut self) {
        // What a signal takes away under a thread makes it fail: it must not end the process first.
        let work = ledger_unless_leaving().entries.remove(&self.0);
        if let Some(work) = work {
            work();
        }
    }
}

/// The ledger; once a signal has arrived, the caller waits for the end of the process.
fn ledger_unless_leaving() -> MutexGuard<'static, Ledger> {
    let ledger = LEDGER.lock().unwrap_or_else(PoisonError::into_inner);
    if !ledger.leaving {
        return ledger;
    }
    drop(ledger);
    loop {
        thread::park();
    }
}

/// Starts to watch for signals, once a process.
pub(crate) fn watch_signals() -> io::Result<()> {
    static ONCE: Once = Once::new();
    let mut outcome = Ok(());
    ONCE.call_once(|| outcome = start_watcher());
    outcome
}

fn start_watcher() -> io::Result<()> {
    let (mut reader, writer) = io::pipe()?;
    SIGNALS.store(writer.into_raw_fd(), Ordering::Release);
    thread::Builder::new().name("signals".to_owned()).spawn(move || {
        let mut number = [0_u8; 1];
        if reader.read_exact(&mut number).is_ok() {
            undo_all();
            die_of(i32::from(number[0]));
        }
    })?;
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        install(signal)?;
    }
    Ok(())
}

/// Takes the signal over, unless someone (nohup, say) has already decided otherwise.
fn install(signal: Signal) -> io::Result<()> {
    let ours = SigAction::new(SigHandler::Handler(note), SaFlags::SA_RESTART, SigSet::empty());
    // SAFETY: `note` only calls write(2) and reads an atomic, both async-signal-safe.
    let before = unsafe { sigaction(signal, &ours)? };
    if !matches!(before.handler(), SigHandler::SigDfl) {
        // SAFETY: puts back the action that was in force a moment ago.
        unsafe { sigaction(signal, &before)? };
    }
    Ok(())
}

extern "C" fn note(signal: libc::c_int) {
    let number = [u8::try_from(signal).unwrap_or(0)];
    // SAFETY: write(2) is async-signal-safe, the buffer outlives the call, and a bad descriptor
    // is an error that a handler can do nothing about.
    unsafe { libc::write(SIGNALS.load(Ordering::Acquire), number.as_ptr().cast(), 1) };
}

fn undo_all() {
    loop {
        let last = {
            let mut ledger = LEDGER.lock().unwrap_or_else(PoisonError::into_inner);
            ledger.leaving = true;
            ledger.entries.pop_last()
        };
        match last {
            Some((_, work)) => work(),
            None => return,
        }
    }
}

fn die_of(number: i32) -> ! {
    if let Ok(signal) = Signal::try_from(number) {
        let default = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
        // SAFETY: the default action runs no code of ours.
        let _ = unsafe { sigaction(signal, &default) };
        let _ = raise(signal);
    }
    std::process::exit(128 + number)
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };

    use super::*;

    #[test]
    fn an_entry_is_undone_once_when_it_is_dropped() {
        let count = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&count);
        let entry = Undo::enter(move || {
            counted.fetch_add(1, Ordering::Relaxed);
        });
        assert_eq!(count.load(Ordering::Relaxed), 0);
        drop(entry);
        assert_eq!(count.load(Ordering::Relaxed), 1);
    }
}
