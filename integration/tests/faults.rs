//! Faults around the daemon: servers that misbehave, maps that are full, writes that the kernel
//! refuses, a stepped clock, a second daemon. Nothing opens, what is in force stays, and it is told.
//!
//! The table of `docs/failure-modes.md` names these tests.

use std::{
    fs,
    net::IpAddr,
    path::Path,
    process::{Child, Stdio},
    time::SystemTime,
};

use hickory_proto::{op::ResponseCode, rr::RecordType};
use integration::{
    Daemon, ECHO, Lab, LabOptions, OddServer, Ports, Reach, Resolver, WallClock, begun, freeze,
    fresh_address, ip, soon,
};

const CLIENT: &str = "default/client";
const ODD: &str = "198.51.100.53";
/// Of the same host, where nothing serves DNS.
const NOBODY: &str = "198.51.100.54";

/// Names of an odd server and fresh ones may be asked for and reached at port 80.
const NAMES: &str = r#"
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: names, namespace: default}
spec:
  endpointSelector: {matchLabels: {app: client}}
  egress:
  - toEndpoints:
    - matchLabels: {k8s:io.kubernetes.pod.namespace: kube-system, k8s-app: kube-dns}
    toPorts:
    - ports: [{port: "53", protocol: ANY}]
      rules:
        dns:
        - matchPattern: "**.fresh.example"
  - toCIDR: [198.51.100.53/32, 198.51.100.54/32]
    toPorts:
    - ports: [{port: "53", protocol: ANY}]
      rules:
        dns:
        - matchPattern: "**.odd.example"
  - toFQDNs:
    - matchPattern: "**.odd.example"
    - matchPattern: "**.fresh.example"
    toPorts:
    - ports: [{port: "80", protocol: TCP}]
"#;

#[test]
fn whatever_a_server_does_its_client_hears_of_it_and_learns_what_it_was_told_alone() {
    let (lab, daemon) = begin(&["--dns-upstream-timeout", "3s"]);
    let _server = OddServer::start(lab.outside("cdn").namespace(), ip(ODD)).unwrap();
    let client = lab.pod(CLIENT);
    let address = IpAddr::from(OddServer::ADDRESS);
    let (good, failed) = (ResponseCode::NoError, ResponseCode::ServFail);
    for tcp in [false, true] {
        let only_udp = |count: &'static str| if tcp { "" } else { count };
        // Whether the client gets an address, the code, and what is counted.
        for (label, learned, code, counted) in [
            ("slow", true, good, "learned"),
            ("silent", false, failed, "timeouts"),
            ("late", false, failed, "timeouts"),
            ("late", false, failed, only_udp("unsolicited-id")),
            ("twice", true, good, only_udp("unsolicited-id")),
            ("refusing", false, ResponseCode::Refused, "answered"),
            ("failing", false, failed, "answered"),
            ("truncating", tcp, good, "answered"),
            ("garbage", false, failed, "malformed-answers"),
            ("cut", false, failed, "malformed-answers"),
            ("plain", true, good, "learned"),
        ] {
            let name = format!("{label}.tcp-{tcp}.odd.example");
            let before = (!counted.is_empty()).then(|| daemon.count("dns", counted));
            let resolver = Resolver::new(ip(ODD)).over_tcp(tcp);
            let answer = client.ask(resolver, &name, RecordType::A);
            assert_eq!(answer.code, code, "{name}");
            assert_eq!(answer.truncated, label == "truncating" && !tcp, "{name}");
            let told: &[IpAddr] = if learned { &[address] } else { &[] };
            assert_eq!(answer.addresses, told, "{name}");
            assert_eq!(daemon.learned_for(CLIENT, &format!("{name}.")), told, "{name}");
            if let Some(before) = before {
                soon(&format!("{name}: {counted}"), || daemon.count("dns", counted) > before);
            }
        }
    }
    assert_eq!(client.connect(address, Ports::HTTP), Reach::Open);
    assert_eq!(client.connect(OddServer::SECOND.into(), Ports::HTTP), Reach::Silent);
}

#[test]
fn a_server_that_is_not_there_is_a_failed_lookup() {
    let (lab, daemon) = begin(&["--dns-upstream-timeout", "1s"]);
    let client = lab.pod(CLIENT);
    for (tcp, counted) in [(false, "timeouts"), (true, "unreachable")] {
        let resolver = Resolver::new(ip(NOBODY)).over_tcp(tcp);
        let answer = client.ask(resolver, "plain.odd.example", RecordType::A);
        assert_eq!(answer.code, ResponseCode::ServFail);
        soon(counted, || daemon.count("dns", counted) == 1);
    }
}

#[test]
fn an_address_that_finds_its_map_full_is_not_answered_and_others_stay() {
    for (flag, map) in [("--bpf-leases", "leases"), ("--bpf-names", "names")] {
        let (lab, daemon) = begin(&[flag, "8"]);
        let client = lab.pod(CLIENT);
        let resolver = Resolver::new(lab.dns_service()[0]);
        let ask =
            |number| client.ask(resolver, &format!("f{number}.fresh.example"), RecordType::A).code;
        for number in 0..8 {
            assert_eq!(ask(number), ResponseCode::NoError, "{map}: {number}");
        }
        for number in 8..12 {
            assert_eq!(ask(number), ResponseCode::ServFail, "{map}: {number}");
        }
        let withheld: Vec<_> = (8..12).map(fresh_address).collect();
        assert_eq!(client.connect_all(&withheld, Ports::HTTP), [Reach::Silent; 4], "{map}");
        assert_eq!(daemon.count("limits", "map-full"), 4);
        assert_eq!(daemon.count("dns", "learn-failed"), 4);
        let told = |log: &str| log.contains("WARN") && log.contains("full") && log.contains(map);
        assert!(daemon.log().lines().any(told), "{}", daemon.log());
        let told_of: Vec<_> = (0..8).map(fresh_address).collect();
        assert_eq!(client.connect_all(&told_of, Ports::HTTP), [Reach::Open; 8], "{map}");
        // What is there already takes no room.
        assert_eq!(ask(3), ResponseCode::NoError);
        // Room is made by what goes.
        daemon.ctl(&["cache", "clean", "-f"]).unwrap();
        assert_eq!(ask(9), ResponseCode::NoError);
        assert_eq!(client.connect(fresh_address(9), Ports::HTTP), Reach::Open);
    }
}

#[test]
fn a_policy_that_finds_its_map_full_is_not_in_force_and_the_one_before_is() {
    let (lab, daemon) = begin(&["--bpf-rows", "128"]);
    let client = lab.pod(CLIENT);
    let resolver = Resolver::new(lab.dns_service()[0]);
    client.ask(resolver, "f1.fresh.example", RecordType::A);
    let transfer = begun(client, fresh_address(1));
    lab.policy("echo", &(ECHO.to_owned() + &many_ports(200))).unwrap();
    soon("it is told", || daemon.problems().iter().any(|own| own.contains("is not in force")));
    println!("{:?}", daemon.problems());
    transfer.goes_on().unwrap();
    assert_eq!(client.connect(fresh_address(1), Ports::HTTP), Reach::Open);
    assert_eq!(client.connect(fresh_address(1), Ports::HTTP_ALT), Reach::Silent);
    assert_eq!(client.echo(ip("192.0.2.10")), Reach::Silent);
    client.ask(resolver, "f2.fresh.example", RecordType::A);
    assert_eq!(client.connect(fresh_address(2), Ports::HTTP), Reach::Open);

    daemon.settle("what fits is in force", || lab.policy("echo", ECHO).unwrap());
    assert_eq!(client.echo(ip("192.0.2.10")), Reach::Open);
    assert_eq!(daemon.problems(), [""; 0]);
    assert_eq!(client.connect(fresh_address(1), Ports::HTTP), Reach::Open);
    transfer.goes_on().unwrap();
}

#[test]
fn a_write_that_the_kernel_refuses_opens_nothing_and_closes_nothing() {
    let (lab, mut daemon) = begin(&[]);
    let client = lab.pod(CLIENT);
    let resolver = Resolver::new(lab.dns_service()[0]);
    let ask =
        |number| client.ask(resolver, &format!("f{number}.fresh.example"), RecordType::A).code;
    let version = fs::read_dir(daemon.pin_directory()).unwrap().next().unwrap().unwrap().path();
    let map = |name: &str| version.join(name);
    assert_eq!(ask(1), ResponseCode::NoError);
    let transfer = begun(client, fresh_address(1));

    freeze(&map("leases")).unwrap();
    for number in 2..5 {
        assert_eq!(ask(number), ResponseCode::ServFail);
        assert_eq!(client.connect(fresh_address(number), Ports::HTTP), Reach::Silent);
    }
    assert_eq!(daemon.count("limits", "map-write-failed"), 3);
    assert_eq!(daemon.count("limits", "map-full"), 0);
    assert_eq!(daemon.count("dns", "learn-failed"), 3);
    let told = |log: &str| log.contains("WARN") && log.contains("leases");
    assert!(daemon.log().lines().any(told), "{}", daemon.log());
    assert_eq!(ask(1), ResponseCode::NoError, "what is there needs no write");
    assert_eq!(client.connect(fresh_address(1), Ports::HTTP), Reach::Open);

    freeze(&map("rows")).unwrap();
    lab.policy("echo", ECHO).unwrap();
    soon("it is told", || daemon.problems().iter().any(|own| own.contains("is not in force")));
    println!("{:?}", daemon.problems());
    assert_eq!(client.echo(ip("192.0.2.10")), Reach::Silent);
    assert_eq!(client.connect(fresh_address(1), Ports::HTTP), Reach::Open);
    transfer.goes_on().unwrap();

    // The maps stay as they are for good: only new ones help.
    daemon.stop().unwrap();
    assert!(daemon.command("detach").unwrap().output().unwrap().status.success());
    daemon.restart().unwrap();
    assert_eq!(client.echo(ip("192.0.2.10")), Reach::Open);
    assert_eq!(ask(2), ResponseCode::NoError);
    assert_eq!(client.connect(fresh_address(2), Ports::HTTP), Reach::Open);
    assert_eq!(client.connect(fresh_address(3), Ports::HTTP), Reach::Silent);
}

/// Every second port of an address, so that no two make a range.
fn many_ports(count: u16) -> String {
    let rule = |from: u16| {
        let ports =
            (from..from + 40).map(|port| format!("{{port: \"{}\", protocol: TCP}}", 2 * port));
        let ports = ports.collect::<Vec<_>>().join(", ");
        format!("  - toCIDR: [192.0.2.11/32]\n    toPorts:\n    - ports: [{ports}]\n")
    };
    (0..count).step_by(40).map(|first| rule(1_000 + first)).collect()
}

#[test]
fn a_second_daemon_on_the_same_pins_ends_and_the_first_goes_on() {
    let (lab, daemon) = begin(&[]);
    let client = lab.pod(CLIENT);
    let aside = lab.directory().join("second");
    let mut second = daemon.plain_command().unwrap();
    second.arg("--config").arg(daemon.configuration());
    second.arg("--socket").arg(aside.join("fqdnd.sock"));
    second.arg("--state-directory").arg(aside.join("state"));
    let before = daemon.maps(&["settings", "endpoints", "rows"]);
    let output = second.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    let expected =
        format!("another process uses what is pinned at {}", daemon.pin_directory().display());
    assert!(said.contains(&expected), "{said}");
    assert_eq!(daemon.maps(&["settings", "endpoints", "rows"]), before);
    client.ask(Resolver::new(lab.dns_service()[0]), "f1.fresh.example", RecordType::A);
    assert_eq!(client.connect(fresh_address(1), Ports::HTTP), Reach::Open);
    assert_eq!(client.connect(fresh_address(2), Ports::HTTP), Reach::Silent);
}

#[test]
fn of_two_daemons_started_at_once_one_runs() {
    let (lab, mut daemon) = begin(&[]);
    let client = lab.pod(CLIENT);
    for round in 1..4 {
        daemon.stop().unwrap();
        let start = || {
            let mut command = daemon.plain_command().unwrap();
            command.arg("--config").arg(daemon.configuration());
            command.stdout(Stdio::null()).stderr(Stdio::null());
            Ended(command.spawn().unwrap())
        };
        let mut both = [start(), start()];
        let mut ended = Vec::new();
        soon("one of them ends", || {
            let status = |own: &mut Ended| own.0.try_wait().unwrap();
            ended = both.iter_mut().filter_map(status).map(|status| status.code()).collect();
            !ended.is_empty()
        });
        assert_eq!(ended, [Some(1)]);
        soon("the other one answers", || daemon.ctl(&["status"]).is_ok());
        let name = format!("f{round}.fresh.example");
        client.ask(Resolver::new(lab.dns_service()[0]), &name, RecordType::A);
        assert_eq!(client.connect(fresh_address(round), Ports::HTTP), Reach::Open);
        assert_eq!(client.connect(fresh_address(9), Ports::HTTP), Reach::Silent);
        drop(both);
        daemon.restart().unwrap();
        assert_eq!(daemon.learned(CLIENT).len(), round as usize);
    }
}

/// The daemon's own wall clock, that is: the machine's is not a test's to step.
#[test]
fn a_wall_clock_that_is_stepped_changes_nothing_but_the_times_that_are_shown() {
    const YEAR: i64 = 365 * 86_400;
    let lab = Lab::new(LabOptions::default()).unwrap();
    lab.policy("names", NAMES).unwrap();
    let clock = WallClock::build(lab.directory()).unwrap();
    let brief = ["--dns-min-ttl", "1s", "--dns-grace", "1s", "--cache-recheck", "2s"];
    let mut daemon = Daemon::start_by(&lab, &brief, &clock).unwrap();
    let client = lab.pod(CLIENT);
    let resolver = Resolver::new(lab.dns_service()[0]);
    let ask = |name: &str| client.ask(resolver, name, RecordType::A).code;
    assert_eq!(ask("f1.fresh.example"), ResponseCode::NoError);
    let transfer = begun(client, fresh_address(1));
    let leases = daemon.maps(&["leases"]);
    for (step, seconds) in [5 * YEAR, -20 * YEAR, 0].into_iter().enumerate() {
        clock.step(seconds).unwrap();
        // What was learned before goes neither sooner nor later, and what is learned now lasts.
        assert_eq!(daemon.maps(&["leases"]), leases, "{seconds}");
        assert_eq!(client.connect(fresh_address(1), Ports::HTTP), Reach::Open, "{seconds}");
        transfer.goes_on().unwrap();
        let number = 10 + u32::try_from(step).unwrap();
        assert_eq!(client.connect(fresh_address(number), Ports::HTTP), Reach::Silent);
        assert_eq!(ask(&format!("f{number}.t4.fresh.example")), ResponseCode::NoError);
        assert_eq!(client.connect(fresh_address(number), Ports::HTTP), Reach::Open);
        soon("it is gone when its time is over", || daemon.maps(&["leases"]) == leases);
        assert_eq!(client.connect(fresh_address(number), Ports::HTTP), Reach::Silent);

        // Manifests are read as ever, and their times tell that the clock was stepped indeed.
        lab.policy("echo", ECHO).unwrap();
        soon("a policy", || client.echo(ip("192.0.2.10")) == Reach::Open);
        lab.policy("echo", "kind: [").unwrap();
        soon("it is told", || daemon.problems().len() == 1);
        let shown = daemon.ctl_json(&["status"]).unwrap()["staleFiles"][0]["lastGood"].as_i64();
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
        let off = shown.unwrap() - now.cast_signed();
        assert!((off - seconds).abs() < 60, "{off} instead of {seconds}");
        assert_eq!(client.echo(ip("192.0.2.10")), Reach::Open);
        lab.remove_policy("echo").unwrap();
        soon("its removal", || client.echo(ip("192.0.2.10")) == Reach::Silent);

        daemon.kill9().unwrap();
        daemon.restart().unwrap();
        assert_eq!(daemon.maps(&["leases"]), leases, "{seconds}");
    }
}

/// The manual's table stays true only as long as the tests that it names are there.
#[test]
fn every_failure_mode_in_the_manual_names_a_test_that_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let manual = fs::read_to_string(root.join("docs/failure-modes.md")).unwrap();
    let rows: Vec<_> = manual.lines().filter(|line| line.starts_with("| ")).skip(1).collect();
    assert!(rows.len() > 25);
    for row in rows {
        let named = row.trim_end_matches(" |").rsplit(" | ").next().unwrap();
        let (file, test) = named.split_once(": ").unwrap_or_else(|| panic!("{row}"));
        let text = fs::read_to_string(root.join(file.trim_matches('`'))).unwrap();
        assert!(text.contains(&format!("fn {}(", test.trim_matches('`'))), "{row}");
    }
}

/// A daemon beside the lab's own; it is killed with this value.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        // One that has ended already is as good.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn begin(flags: &[&str]) -> (Lab, Daemon) {
    let lab = Lab::new(LabOptions::default()).unwrap();
    lab.policy("names", NAMES).unwrap();
    let usual = ["--learning-resolvers", ODD];
    let daemon = Daemon::start(&lab, &[&usual, flags].concat()).unwrap();
    (lab, daemon)
}
