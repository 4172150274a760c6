//! A download by curl that goes on while things happen: a numbered line every 100 ms.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context, Result};
use integration::wait_until;

/// At 10 lines a second, long, on a busy machine too.
const STALLED: Duration = Duration::from_secs(10);
const FEW: u32 = 3;

/// A running download; dropping it ends it.
#[derive(Debug)]
pub(super) struct Download {
    child: Child,
    lines: Arc<AtomicU32>,
    reader: Option<JoinHandle<()>>,
}

impl Download {
    /// Starts it, and waits for its first lines.
    pub(super) fn start(mut command: Command) -> Result<Download> {
        let mut child = command.stdout(Stdio::piped()).spawn().context("start curl")?;
        let lines = Arc::new(AtomicU32::new(0));
        let stdout = child.stdout.take();
        let reader = thread::spawn({
            let lines = Arc::clone(&lines);
            move || {
                let received = stdout.into_iter().flat_map(|stdout| BufReader::new(stdout).lines());
                received.map_while(Result::ok).for_each(|_| {
                    lines.fetch_add(1, Ordering::Relaxed);
                });
            }
        });
        let download = Download { child, lines, reader: Some(reader) };
        download.goes_on()?;
        Ok(download)
    }

    /// The lines that have arrived.
    pub(super) fn lines(&self) -> u32 {
        self.lines.load(Ordering::Relaxed)
    }

    /// Waits until a few more lines have arrived than by now.
    pub(super) fn goes_on(&self) -> Result<()> {
        let before = self.lines();
        wait_until("more lines of the download", STALLED, || self.lines() >= before + FEW)?;
        Ok(())
    }
}

impl Drop for Download {
    fn drop(&mut self) {
        // Already gone is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }
}
