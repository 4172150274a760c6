//! What is deployed: updates that one daemon hands over to the next, the chart, and the image.

use std::{
    fs::{self, File},
    net::IpAddr,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use hickory_proto::rr::RecordType;
use integration::{
    Daemon, DnsServer, FRESH_NAMES, Lab, LabOptions, Pod, Reach, Resolver, Transfer,
    fresh_addresses, soon,
};
use serde_json::Value;

const CLIENT: &str = "default/client";

/// A daemon beside the lab's own, on the same pins, with sockets of its own as another pod has.
/// It is killed when this is dropped.
struct Second {
    child: Child,
    ctl: PathBuf,
    socket: PathBuf,
    log: PathBuf,
}

impl Second {
    fn start(lab: &Lab, first: &Daemon, mut command: Command) -> Self {
        let directory = lab.directory();
        let (socket, log) = (directory.join("second.sock"), directory.join("second.log"));
        command.arg("--config").arg(first.configuration()).args(["--wait", "--socket"]);
        command.arg(&socket).arg("--hubble-socket").arg(directory.join("second-hubble.sock"));
        let output = File::create(&log).unwrap();
        command.stdin(Stdio::null()).stdout(output.try_clone().unwrap()).stderr(output);
        let child = command.spawn().unwrap();
        let ctl = PathBuf::from(first.ctl_command().unwrap().get_program());
        Self { child, ctl, socket, log }
    }

    fn ctl(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(&self.ctl);
        command.arg("--socket").arg(&self.socket).args(arguments).output().unwrap()
    }

    /// Its health; null while it does not answer.
    fn health(&self) -> Value {
        serde_json::from_slice(&self.ctl(&["health", "-o", "json"]).stdout).unwrap_or_default()
    }

    fn drops(&self) -> Value {
        let status: Value =
            serde_json::from_slice(&self.ctl(&["status", "-o", "json"]).stdout).unwrap();
        status["drops"].clone()
    }

    fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Second {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("the second fqdnd last said:\n{}", self.log());
        }
    }
}

/// Lookups of a pod without a pause, each asked again as stub resolvers do.
struct Lookups {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<std::io::Result<Outcome>>,
}

#[derive(Debug, Default)]
struct Outcome {
    answered: u32,
    repeated: u32,
    lost: u32,
    longest: Duration,
}

/// After how long a question is asked again, and given up.
const PAUSE: Duration = Duration::from_millis(200);
const PATIENCE: Duration = Duration::from_secs(60);

impl Lookups {
    fn begin(pod: &Pod, resolver: Resolver) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let resolver = resolver.with_timeout(PAUSE);
        let work = move || {
            let mut outcome = Outcome::default();
            for number in 1000.. {
                if stopped.load(Ordering::Relaxed) {
                    break;
                }
                let name = format!("f{number}.fresh.example");
                let begun = Instant::now();
                while !is_answered(resolver, &name) && begun.elapsed() < PATIENCE {
                    outcome.repeated += 1;
                }
                if begun.elapsed() < PATIENCE {
                    outcome.answered += 1;
                } else {
                    outcome.lost += 1;
                }
                outcome.longest = outcome.longest.max(begun.elapsed());
            }
            outcome
        };
        let thread = pod.namespace().spawn("lookups", work).unwrap();
        Self { stop, thread }
    }

    fn end(self) -> Outcome {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap().unwrap()
    }
}

fn is_answered(resolver: Resolver, name: &str) -> bool {
    resolver.ask(name, RecordType::A).is_ok_and(|answer| !answer.addresses.is_empty())
}

#[test]
fn a_daemon_that_stands_by_takes_over_when_the_one_before_it_ends() {
    for killed in [false, true] {
        let lab = Lab::new(LabOptions::default()).unwrap();
        lab.policy("names", FRESH_NAMES).unwrap();
        let mut first = Daemon::start(&lab, &[]).unwrap();
        let client = lab.pod(CLIENT);
        let resolver = Resolver::new(lab.dns_service()[0]);
        let address = |number| IpAddr::from(fresh_addresses(number).0);
        client.ask(resolver, "f1.fresh.example", RecordType::A);
        let transfer = Transfer::start(client.namespace(), address(1)).unwrap();

        let second = Second::start(&lab, &first, first.plain_command().unwrap());
        soon("the second stands by", || {
            let health = second.health();
            health["phase"] == "standing-by" && health["ready"] == true && health["live"] == true
        });
        assert_eq!(first.ctl(&["health"]).unwrap(), "in charge, ready\n");
        let refused = second.ctl(&["status"]);
        let said = String::from_utf8(refused.stderr).unwrap();
        assert!(!refused.status.success() && said.contains("standing by"), "{said}");

        let lookups = Lookups::begin(client, resolver);
        if killed {
            first.kill9().unwrap();
        } else {
            first.stop().unwrap();
        }
        let ended = Instant::now();
        soon("the second is in charge", || second.health()["phase"] == "in-charge");
        let gap = ended.elapsed();
        client.ask(resolver, "f2.fresh.example", RecordType::A);
        let outcome = lookups.end();
        println!("killed: {killed}; in charge after {gap:?}; lookups: {outcome:?}");
        assert_eq!(outcome.lost, 0);
        assert!(outcome.answered > 0);
        transfer.goes_on().unwrap();
        for number in [1, 2] {
            assert_eq!(client.connect(address(number), 80), Reach::Open, "f{number}");
        }
        assert_eq!(client.connect(address(3), 80), Reach::Silent);
        let drops = second.drops();
        let reasons: Vec<&String> = drops.as_object().unwrap().keys().collect();
        assert!(
            reasons
                .iter()
                .all(|own| ["policy-denied", "proxy-unavailable"].contains(&own.as_str())),
            "{drops}"
        );
    }
}

#[test]
fn a_daemon_that_cannot_run_here_never_stands_by_and_leaves_nothing() {
    let lab = Lab::new(LabOptions::default()).unwrap();
    let first = Daemon::start(&lab, &[]).unwrap();
    let mut command = lab.node().command("setpriv");
    command.args(["--bounding-set=-all,+net_admin,+net_raw,+bpf", "--no-new-privs", "--"]);
    command.arg(first.plain_command().unwrap().get_program());
    let mut second = Second::start(&lab, &first, command);
    let mut was_ready = false;
    soon("the second has ended", || {
        was_ready |= second.health()["ready"] == true;
        second.ended().is_some()
    });
    assert!(!was_ready && !second.ended().unwrap().success(), "{}", second.log());
    assert!(second.log().contains("the kernel does not take the program `"), "{}", second.log());
    assert_eq!(first.ctl(&["health"]).unwrap(), "in charge, ready\n");
    let aside = format!("-aside-{}", second.child.id());
    let pins = fs::read_dir("/sys/fs/bpf").unwrap().flatten().map(|own| own.file_name());
    let left: Vec<_> =
        pins.filter(|name| name.to_str().is_some_and(|name| name.ends_with(&aside))).collect();
    assert!(left.is_empty(), "{left:?}");
}

/// As NodeLocal DNSCache is, where pods are told to ask it: on an address of a link of the node's own.
#[test]
fn a_cache_on_the_node_is_asked_by_prefix_and_teaches_once_it_is_named() {
    const CACHE: &str = "169.254.20.10";
    let lab = Lab::new(LabOptions::default()).unwrap();
    let arguments = ["address", "add", "169.254.20.10/32", "dev", "lo"];
    assert!(lab.node().command("ip").args(arguments).status().unwrap().success());
    let cache: IpAddr = CACHE.parse().unwrap();
    let _server = DnsServer::start(lab.node(), &[cache]).unwrap();
    let asked = "- toEndpoints:
    - matchLabels: {k8s:io.kubernetes.pod.namespace: kube-system, k8s-app: kube-dns}";
    let policy = FRESH_NAMES.replace(asked, "- toCIDR: [169.254.20.10/32]");
    assert_ne!(policy, FRESH_NAMES);
    lab.policy("names", &policy).unwrap();
    let mut daemon = Daemon::start(&lab, &[]).unwrap();
    let client = lab.pod(CLIENT);
    let [first, second] = [1, 2].map(|number| IpAddr::from(fresh_addresses(number).0));
    let answer = client.ask(Resolver::new(cache), "f1.fresh.example", RecordType::A);
    assert_eq!(answer.addresses, [first]);
    assert_eq!(client.connect(first, 80), Reach::Silent, "nobody said that it is to be trusted");

    daemon.restart_with(&["--learning-resolvers", CACHE]).unwrap();
    client.ask(Resolver::new(cache), "f2.fresh.example", RecordType::A);
    assert_eq!(client.connect(second, 80), Reach::Open);
}

#[test]
fn the_chart_is_what_kubernetes_takes_and_the_manifests_are_what_it_gives() {
    let python = Command::new(repository().join("scripts/python-clients")).output().unwrap();
    assert!(python.status.success(), "{}", String::from_utf8_lossy(&python.stderr));
    let python = String::from_utf8(python.stdout).unwrap();
    let mut command = Command::new(python.trim());
    command.arg(repository().join("scripts/render-chart")).arg("--check");
    let output = command.env("FQDNCTL", beside("fqdnctl")).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    println!("{}", String::from_utf8_lossy(&output.stdout).trim());
}

/// The image's root directory holds all that its programs are linked with.
#[test]
fn the_programs_of_the_image_run_with_nothing_but_the_image() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("root");
    let mut command = Command::new(repository().join("deploy/image-root"));
    command.arg(beside("fqdnd").parent().unwrap()).arg(&root);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    for program in [
        ["/usr/bin/fqdnd", "--version"],
        ["/usr/bin/fqdnctl", "--version"],
        ["/usr/bin/fqdnd-l7", "--help"],
        ["/usr/bin/kubectl-fqdn", "--version"],
        ["/usr/sbin/nft", "--version"],
    ] {
        let output = Command::new("chroot").arg(&root).args(program).output().unwrap();
        assert!(output.status.success(), "{program:?}: {output:?}");
    }
}

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// A program of the workspace, beside the directory of the tests.
fn beside(program: &str) -> PathBuf {
    let here = std::env::current_exe().unwrap();
    here.parent().unwrap().parent().unwrap().join(program)
}
