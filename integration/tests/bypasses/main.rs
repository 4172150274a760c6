//! Packets that go past the programs because of somebody else's: what does not hold then, and that
//! it is told with the program's name, number and place.

use std::{
    env, fs,
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use aya::{
    Ebpf,
    programs::{
        LinkOrder, SchedClassifier, TcAttachType,
        tc::{self, NlOptions, TcAttachOptions},
    },
};
use integration::{Daemon, Lab, LabOptions, Ports, Reach, soon, wait_until};
use nix::net::if_::if_nametoindex;

const CLIENT: &str = "default/client";
const BACKEND: &str = "prod/backend";
/// Flows are looked at every few seconds, and some time after they ended.
const LOOKS: Duration = Duration::from_secs(90);

/// The client may send to the backend and nowhere else.
const POLICY: &str = "
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: backend-alone, namespace: default}
spec:
  endpointSelector: {}
  egress:
  - toEndpoints:
    - matchLabels: {k8s:io.kubernetes.pod.namespace: prod}
    toPorts:
    - ports: [{port: \"80\", protocol: TCP}]
";

#[test]
fn a_program_that_hands_packets_into_a_pod_is_named_and_answers_are_dropped_for_it() {
    let lab = Lab::new(LabOptions::default()).unwrap();
    lab.policy("backend-alone", POLICY).unwrap();
    let daemon = Daemon::start(&lab, &[]).unwrap();
    let client = lab.pod(CLIENT);
    let web = lab.outside("web").namespace();
    let inbound = SocketAddr::new(client.ipv4().into(), Ports::ECHO);
    assert_eq!(Reach::tcp(web, inbound).unwrap(), Reach::Open);
    assert_eq!(told(&daemon), [] as [Told; 0]);

    let object = compile(&lab, client.host_interface(), client.ipv4());
    attach_filter(&lab, "uplink", &object);
    soon("the program is found", || told(&daemon).iter().any(|own| own.kind == "into-pod"));
    let found = told(&daemon);
    let cause = &found[0].cause;
    assert!(cause.starts_with("the program `to_pod` (id "), "{found:?}");
    assert!(cause.ends_with(") at ingress of uplink calls bpf_redirect_peer"), "{found:?}");
    let health = daemon.ctl(&["health"]).unwrap();
    assert!(health.starts_with("in charge, ready\n  the program `to_pod`"), "{health}");
    assert!(daemon.ctl(&["status"]).unwrap().contains(cause), "status shows it");
    let check = daemon.plain_command().unwrap().arg("check").output().unwrap();
    let check = String::from_utf8_lossy(&check.stdout).into_owned();
    let line = check.lines().find(|line| line.contains("other programs")).expect("a line of it");
    assert!(line.starts_with("note") && line.contains("`to_pod`"), "{line}");

    // What comes in was not seen, so what answers it is judged as what the pod begins.
    assert_eq!(Reach::tcp(web, inbound).unwrap(), Reach::Silent);
    assert!(daemon.dropped(CLIENT, "policy-denied") > 0);
    // What the pod begins is judged as ever; that it was answered is not seen.
    let backend = lab.pod(BACKEND);
    attach_filter(&lab, backend.host_interface(), &object);
    assert_eq!(client.connect(backend.ipv4().into(), Ports::ECHO), Reach::Silent);
    for _ in 0..3 {
        connect_and_end(&lab, SocketAddr::new(backend.ipv4().into(), Ports::HTTP));
    }
    let unanswered = || told(&daemon).iter().any(|own| own.kind == "unanswered");
    wait_until("connections without answers are told", LOOKS, unanswered).unwrap();
    let found = told(&daemon);
    assert_eq!(
        found[1].cause,
        "3 connections that ended without an answer being seen, of default/client"
    );

    for interface in ["uplink", backend.host_interface()] {
        delete_filters(&lab, interface);
    }
    soon("the program is gone", || told(&daemon).iter().all(|own| own.kind != "into-pod"));
    assert_eq!(Reach::tcp(web, inbound).unwrap(), Reach::Open);
    let log = daemon.log();
    let lines = log.lines().filter(|line| line.contains("to_pod")).count();
    assert_eq!(lines, 2, "told once when it came and once when it was gone:\n{log}");
}

#[test]
fn a_program_that_was_put_before_ours_is_named() {
    let lab = Lab::new(LabOptions::default()).unwrap();
    lab.policy("backend-alone", POLICY).unwrap();
    let daemon = Daemon::start(&lab, &["--bpf-attach", "tcx"]).unwrap();
    let client = lab.pod(CLIENT);
    let interface = client.host_interface().to_owned();
    let object = compile(&lab, "uplink", client.ipv4());
    let mut object = Ebpf::load(&fs::read(object).unwrap()).unwrap();
    let program: &mut SchedClassifier = object.program_mut("to_pod").unwrap().try_into().unwrap();
    program.load().unwrap();
    let first = TcAttachOptions::TcxOrder(LinkOrder::first());
    let attach = || program.attach_with_options(&interface, TcAttachType::Ingress, first);
    let link = lab.node().run(attach).unwrap().unwrap();
    soon("the program is found", || told(&daemon).iter().any(|own| own.kind == "first"));
    let found = told(&daemon);
    let first = found.iter().find(|own| own.kind == "first").unwrap();
    let ending = format!(") at ingress of {interface} comes before fqdnd's");
    assert!(first.cause.starts_with("the program `to_pod` (id "), "{found:?}");
    assert!(first.cause.ends_with(&ending), "{found:?}");
    program.detach(link).unwrap();
    soon("the program is gone", || told(&daemon).is_empty());
}

/// The rights of the chart: programs of others may not be read.
#[test]
fn a_daemon_that_may_not_read_programs_says_so() {
    const RIGHTS: [&str; 7] =
        ["BPF", "PERFMON", "NET_ADMIN", "NET_RAW", "SETUID", "SETGID", "SETPCAP"];
    let lab = Lab::new(LabOptions::default()).unwrap();
    let client = lab.pod(CLIENT);
    let object = compile(&lab, client.host_interface(), client.ipv4());
    attach_filter(&lab, "uplink", &object);
    let daemon = Daemon::start_with_rights(&lab, &[], &RIGHTS).unwrap();
    soon("it is told", || !told(&daemon).is_empty());
    let found = told(&daemon);
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].kind, "unread");
    assert_eq!(found[0].cause, "programs of others at ingress of uplink");
    assert_eq!(daemon.ctl(&["health"]).unwrap(), "in charge, ready\n", "nothing is known of it");
}

/// What the daemon tells.
#[derive(Debug, PartialEq, Eq)]
struct Told {
    kind: String,
    cause: String,
}

fn told(daemon: &Daemon) -> Vec<Told> {
    let status = daemon.ctl_json(&["status"]).unwrap();
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    let found = status["bypasses"].as_array().unwrap().iter();
    found.map(|own| Told { kind: text(&own["kind"]), cause: text(&own["cause"]) }).collect()
}

/// A connection that the client opens and ends.
fn connect_and_end(lab: &Lab, to: SocketAddr) {
    let work = || {
        let stream = TcpStream::connect_timeout(&to, LOOKS).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
    };
    lab.pod(CLIENT).namespace().run(work).unwrap();
}

/// Attaches the program as a CNI does; it stays for as long as its interface.
fn attach_filter(lab: &Lab, interface: &str, object: &Path) {
    let mut object = Ebpf::load(&fs::read(object).unwrap()).unwrap();
    let program: &mut SchedClassifier = object.program_mut("to_pod").unwrap().try_into().unwrap();
    program.load().unwrap();
    let attach = || {
        tc::qdisc_add_clsact(interface).unwrap();
        let filter = TcAttachOptions::Netlink(NlOptions { priority: 5, ..NlOptions::default() });
        let id = program.attach_with_options(interface, TcAttachType::Ingress, filter).unwrap();
        // Dropped in another namespace, it would be looked for there.
        std::mem::forget(program.take_link(id).unwrap());
    };
    lab.node().run(attach).unwrap();
}

fn delete_filters(lab: &Lab, interface: &str) {
    let arguments = ["filter", "delete", "dev", interface, "ingress"];
    let output = lab.node().command("tc").args(arguments).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "tc {arguments:?}: {said}");
}

/// Compiles the program that hands what comes for an address to the other end of an interface.
fn compile(lab: &Lab, interface: &str, address: Ipv4Addr) -> PathBuf {
    let index = lab.node().run(|| if_nametoindex(interface).unwrap()).unwrap();
    let address = u32::from_ne_bytes(address.octets());
    let object = lab.directory().join("to_pod.o");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bypasses/to_pod.c");
    let mut command = Command::new(clang());
    command.args(["-target", "bpf", "-O2", "-Wall", "-Werror"]);
    command.arg(format!("-DINTERFACE={index}")).arg(format!("-DADDRESS={address}u"));
    let output = command.arg("-c").arg(source).arg("-o").arg(&object).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "the program does not compile: {said}");
    object
}

/// The compiler that the daemon's own programs are built with.
fn clang() -> String {
    let chosen = env::var("CLANG").ok();
    let known = (14..=19).rev().map(|version| format!("clang-{version}"));
    let mut all = chosen.into_iter().chain(known).chain(["clang".to_owned()]);
    let runs = |name: &String| Command::new(name).arg("--version").output().is_ok();
    all.find(runs).expect("a clang, without which nothing here was built")
}
