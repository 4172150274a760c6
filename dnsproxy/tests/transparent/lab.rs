//! Three network namespaces in a row: a pod, a node that runs the proxy, a server.
//!
//! The node hands every DNS packet of the pod to the proxy by TPROXY and forwards nothing itself,
//! so whatever reaches the server came from the proxy. A namespace lives as long as the thread
//! that is inside it: nothing stays behind, whatever becomes of a test.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;

use nix::sched::{CloneFlags, unshare};

/// A network namespace with a thread in it.
pub struct Namespace {
    jobs: Option<Sender<Box<dyn FnOnce() + Send>>>,
    thread: Option<JoinHandle<()>>,
    path: PathBuf,
}

/// The pod, the node and the server.
pub struct Lab {
    pub pod: Namespace,
    pub node: Namespace,
    pub server: Namespace,
}

impl Namespace {
    pub fn new() -> Self {
        let (jobs, todo) = channel::<Box<dyn FnOnce() + Send>>();
        let (inside, path) = channel();
        let thread = std::thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace needs CAP_SYS_ADMIN");
            let thread = nix::unistd::gettid();
            let process = std::process::id();
            inside.send(format!("/proc/{process}/task/{thread}/ns/net").into()).unwrap();
            todo.into_iter().for_each(|job| job());
        });
        let path = path.recv().expect("the namespace could not be made");
        Self { jobs: Some(jobs), thread: Some(thread), path }
    }

    /// Runs `job` inside the namespace; threads and processes that it starts are inside too.
    pub fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> T {
        let (done, result) = channel();
        let jobs = self.jobs.as_ref().unwrap();
        let job = move || drop(done.send(job()));
        jobs.send(Box::new(job)).expect("a job before had panicked");
        result.recv().expect("the job panicked")
    }

    /// Runs one `ip` command a line; those that begin with `-6` after the others.
    pub fn ip(&self, commands: &str) {
        let trimmed = commands.lines().map(str::trim);
        let (v6, v4): (Vec<_>, Vec<_>) = trimmed.partition(|line| line.starts_with("-6 "));
        let (v4, v6) = (v4.join("\n"), v6.join("\n").replace("-6 ", ""));
        self.run(move || {
            feed("ip", &["-batch", "-"], &v4);
            feed("ip", &["-6", "-batch", "-"], &v6);
        });
    }

    /// Loads an nft ruleset.
    pub fn nft(&self, rules: &str) {
        let rules = rules.to_owned();
        self.run(move || feed("nft", &["-f", "-"], &rules));
    }

    /// What a command writes; its outcome is for the caller to read there.
    pub fn output(&self, program: &'static str, arguments: &str) -> String {
        let arguments: Vec<_> = arguments.split_whitespace().map(str::to_owned).collect();
        self.run(move || {
            let output = Command::new(program).args(&arguments).output().unwrap();
            String::from_utf8(output.stdout).unwrap()
        })
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        drop(self.jobs.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Lab {
    pub fn new() -> Self {
        let lab = Self { pod: Namespace::new(), node: Namespace::new(), server: Namespace::new() };
        lab.node.ip(&format!(
            "link set lo up
            link add pod0 type veth peer name eth0 netns {}
            link add server0 type veth peer name eth0 netns {}
            addr add 10.0.0.1/24 dev pod0
            addr add fd00:1::1/64 dev pod0 nodad
            addr add 192.0.2.1/24 dev server0
            addr add 2001:db8::1/64 dev server0 nodad
            link set pod0 up
            link set server0 up
            rule add fwmark 0x2000/0x3000 lookup 100
            -6 rule add fwmark 0x2000/0x3000 lookup 100
            route add local default dev lo table 100
            -6 route add local default dev lo table 100",
            lab.pod.path.display(),
            lab.server.path.display()
        ));
        lab.pod.ip("link set lo up
            addr add 10.0.0.2/24 dev eth0
            addr add 10.0.0.9/24 dev eth0
            addr add fd00:1::2/64 dev eth0 nodad
            link set eth0 up
            route add default via 10.0.0.1
            -6 route add default via fd00:1::1");
        lab.server.ip("link set lo up
            addr add 192.0.2.53/24 dev eth0
            addr add 2001:db8::53/64 dev eth0 nodad
            link set eth0 up");
        lab
    }

    /// Hands the pod's DNS packets to the proxy's ports. What the proxy sends with a wrong mark is
    /// dropped: answers must carry theirs, and packets upstream none.
    pub fn intercept(&self, udp: u16, tcp: u16) {
        self.node.nft(&format!(
            "table inet lab {{ chain divert {{
                type filter hook prerouting priority mangle; policy accept;
                iifname pod0 meta nfproto ipv4 udp dport 53 tproxy ip to 127.0.0.1:{udp} meta mark set 0x2000 accept
                iifname pod0 meta nfproto ipv6 udp dport 53 tproxy ip6 to [::1]:{udp} meta mark set 0x2000 accept
                iifname pod0 meta nfproto ipv4 tcp dport 53 tproxy ip to 127.0.0.1:{tcp} meta mark set 0x2000 accept
                iifname pod0 meta nfproto ipv6 tcp dport 53 tproxy ip6 to [::1]:{tcp} meta mark set 0x2000 accept
            }}
            chain marks {{
                type filter hook output priority filter; policy accept;
                oifname pod0 meta l4proto {{ tcp, udp }} th sport 53 meta mark & 0x3000 != 0x1000 drop
                oifname server0 meta l4proto {{ tcp, udp }} th dport 53 meta mark != 0 drop
            }}
            }}"
        ));
    }
}

fn feed(program: &str, arguments: &[&str], input: &str) {
    let mut child =
        Command::new(program).args(arguments).stdin(Stdio::piped()).spawn().expect(program);
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success(), "{program} failed on:\n{input}");
}
