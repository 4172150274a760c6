//! A server of the lab: an asynchronous task on a thread of its own inside a namespace.
//!
//! It is ready when `start` returns, and stopped and joined when it is dropped.

use std::{io, sync::mpsc, thread::JoinHandle};

use tokio::{runtime::Builder, sync::oneshot};

use crate::namespace::Namespace;

/// How a server says that its sockets are open; dropped unsaid, the start has failed.
pub(crate) struct Ready(mpsc::Sender<()>);

impl Ready {
    pub(crate) fn say(self) {
        // The one who waits is gone only if the start was given up.
        let _ = self.0.send(());
    }
}

/// Comes when the server is to stop.
pub(crate) struct Stop(oneshot::Receiver<()>);

impl Stop {
    pub(crate) async fn wait(self) {
        // A word and the sender's end mean the same.
        let _ = self.0.await;
    }
}

/// A running server.
#[derive(Debug)]
pub(crate) struct Background {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<io::Result<io::Result<()>>>>,
}

impl Background {
    /// Runs `serve` inside `namespace` and waits until it is ready.
    pub(crate) fn start<F: Future<Output = io::Result<()>>>(
        namespace: &Namespace,
        thread_name: &str,
        serve: impl FnOnce(Ready, Stop) -> F + Send + 'static,
    ) -> io::Result<Background> {
        let (ready, started) = mpsc::channel();
        let (stop, stopped) = oneshot::channel();
        let thread = namespace.spawn(thread_name, move || {
            let runtime = Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(serve(Ready(ready), Stop(stopped)))
        })?;
        let mut server = Background { stop: Some(stop), thread: Some(thread) };
        if started.recv().is_ok() {
            return Ok(server);
        }
        server.join()?;
        Err(io::Error::other("the server ended before it was ready"))
    }

    fn join(&mut self) -> io::Result<()> {
        drop(self.stop.take());
        let Some(thread) = self.thread.take() else { return Ok(()) };
        match thread.join() {
            Ok(outcome) => outcome.and_then(std::convert::identity),
            Err(_) => Err(io::Error::other("the server's thread panicked")),
        }
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        if let Err(error) = self.join() {
            eprintln!("a server of the lab: {error}");
        }
    }
}
