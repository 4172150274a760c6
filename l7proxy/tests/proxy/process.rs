//! The process itself: what it is given, what it gives up, how it ends.

use std::net::TcpListener;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use l7proxy_core::control::{FromProxy, Inbox};
use nix::fcntl::{FcntlArg, FdFlag, fcntl};

/// A process that is killed when the test is over.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn inherited(socket: impl Into<OwnedFd>) -> OwnedFd {
    let socket = socket.into();
    fcntl(&socket, FcntlArg::F_SETFD(FdFlag::empty())).unwrap();
    socket
}

fn start(more: &[&str]) -> (Process, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let control = inherited(theirs);
    let listener = inherited(TcpListener::bind("127.0.0.1:0").unwrap());
    let child = Command::new(env!("CARGO_BIN_EXE_fqdnd-l7"))
        .args(["--control", &control.as_raw_fd().to_string()])
        .args(["--listener", &listener.as_raw_fd().to_string()])
        .args(more)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    (Process(child), ours)
}

/// Waits until the process says that it is well.
fn hear(control: &mut UnixStream) {
    use std::io::Read;
    control.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let (mut inbox, mut buffer) = (Inbox::default(), [0; 4096]);
    loop {
        let count = control.read(&mut buffer).unwrap();
        assert!(count > 0, "it ended");
        inbox.push(&buffer[..count]);
        if let Some(FromProxy::Tally(tally)) = inbox.take().unwrap() {
            assert_eq!(tally.accepted, 0);
            return;
        }
    }
}

fn code(process: &mut Process) -> Option<i32> {
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(30) {
        if let Some(status) = process.0.try_wait().unwrap() {
            return status.code();
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("it does not end");
}

fn status(process: &Process) -> String {
    std::fs::read_to_string(format!("/proc/{}/status", process.0.id())).unwrap()
}

fn field<'s>(status: &'s str, name: &str) -> &'s str {
    let line = status.lines().find(|line| line.starts_with(name)).unwrap();
    line.split_once(':').unwrap().1.trim()
}

#[test]
fn it_has_no_rights_but_those_that_it_was_told_to_keep() {
    let (process, mut control) = start(&[]);
    hear(&mut control);
    let text = status(&process);
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(field(&text, set), "0000000000000000", "{set}");
    }
    assert_eq!(field(&text, "NoNewPrivs"), "1");
    assert_eq!(field(&text, "Uid").split_whitespace().next(), Some("65534"));
    let (process, mut control) = start(&["--keep", "net-raw"]);
    hear(&mut control);
    let text = status(&process);
    assert_eq!(field(&text, "CapEff"), "0000000000002000");
    assert_eq!(field(&text, "CapBnd"), "0000000000000000");
}

#[test]
fn it_ends_with_the_daemon() {
    let (mut process, mut control) = start(&[]);
    hear(&mut control);
    drop(control);
    assert_eq!(code(&mut process), Some(0));
}

#[test]
fn it_does_not_go_on_with_a_daemon_it_cannot_understand() {
    use std::io::Write;
    let (mut process, mut control) = start(&[]);
    hear(&mut control);
    control.write_all(&[0, 0, 0, 2, b'{', b'}']).unwrap();
    assert_eq!(code(&mut process), Some(1));
}

#[test]
fn it_refuses_options_it_does_not_know() {
    let (mut process, _control) = start(&["--options", r#"{"conections": 1}"#]);
    assert_eq!(code(&mut process), Some(2));
    let (mut process, mut control) = start(&["--options", r#"{"connections": 1}"#]);
    hear(&mut control);
    drop(control);
    assert_eq!(code(&mut process), Some(0));
}
