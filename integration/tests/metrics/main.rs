//! Metrics as Prometheus sees them: what promtool says of them, whether the manual lists them, and
//! what a real Prometheus makes of a real run.

mod prometheus;
mod shipped;

use std::{
    collections::BTreeMap,
    io::Write,
    net::{IpAddr, Ipv4Addr},
    process::{Command, Output, Stdio},
    time::Duration,
};

use hickory_proto::rr::RecordType;
use integration::{Daemon, Lab, LabOptions, ONE_NAME, Reach, Resolver, wait_until};
use serde_json::Value;

const CLIENT: &str = "default/client";
const SOON: Duration = Duration::from_secs(60);
/// Where the daemon serves metrics, inside the lab's node.
const LISTEN: &str = "127.0.0.1:9965";
/// Query limits that nobody here comes near, so that they have a metric.
const LIMITS: [&str; 2] = ["--query-limits-label-length", "60"];

const WWW: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 10));
const UNKNOWN: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 12));

/// A daemon that serves everything it can.
fn serving() -> Vec<&'static str> {
    [&["--metrics-listen", LISTEN][..], &LIMITS].concat()
}

fn begin(flags: &[&str]) -> (Lab, Daemon) {
    let lab = Lab::new(LabOptions::default()).unwrap();
    lab.policy("one-name", ONE_NAME).unwrap();
    let daemon = Daemon::start(&lab, flags).unwrap();
    (lab, daemon)
}

/// A name that resolves, one that is not there and one that must not be asked for; a connection to
/// the first, and one that is dropped.
fn tell_a_story(lab: &Lab) {
    let (client, resolver) = (lab.pod(CLIENT), Resolver::new(lab.dns_service()[0]));
    assert_eq!(client.ask(resolver, "www.example.com", RecordType::A).addresses, [WWW]);
    client.ask(resolver, "absent.example.com", RecordType::A);
    client.ask(resolver, "secret.example.org", RecordType::A);
    assert_eq!(client.connect(WWW, 80), Reach::Open);
    assert_eq!(client.connect(UNKNOWN, 80), Reach::Silent);
}

fn run(command: &mut Command, input: &str) -> Output {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

fn said(output: &Output) -> String {
    [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text).into_owned()).concat()
}

/// What is served, as curl gets it.
fn scrape(lab: &Lab) -> String {
    let address = format!("http://{LISTEN}/metrics");
    let arguments = ["--silent", "--show-error", "--fail-with-body", "--max-time", "30", &address];
    let output = run(lab.node().command("curl").args(arguments), "");
    assert!(output.status.success(), "{}", said(&output));
    String::from_utf8(output.stdout).unwrap()
}

/// The readings of a scrape, by name and labels as they stand there.
fn readings(text: &str) -> BTreeMap<&str, f64> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let readings = lines.map(|line| line.rsplit_once(' ').unwrap());
    readings.map(|(name, value)| (name, value.parse().unwrap())).collect()
}

/// The families of a scrape as the manual's table has them: name, type, labels, meaning.
fn families(text: &str) -> Vec<String> {
    let lines: Vec<&str> = text.lines().collect();
    let mut families = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let Some(help) = line.strip_prefix("# HELP ") else { continue };
        let (name, help) = help.split_once(' ').unwrap();
        let kind = lines[at + 1].rsplit_once(' ').unwrap().1;
        let labels = lines[at + 2].split_once('{').map_or("", |(_, rest)| rest);
        let labels = labels.split_once('}').map_or("", |(labels, _)| labels);
        let labels = labels.split(',').filter_map(|label| label.split_once('='));
        // A bucket's bound is no label of the family.
        let labels = labels.map(|(name, _)| name).filter(|name| *name != "le");
        let labels = labels.map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        families.push(format!("| `{name}` | {kind} | {labels} | {help} |"));
    }
    families
}

#[test]
fn promtool_finds_nothing_and_the_manual_has_every_metric() {
    let (lab, daemon) = begin(&serving());
    tell_a_story(&lab);
    let text = scrape(&lab);
    let checked = run(Command::new("promtool").args(["check", "metrics"]), &text);
    assert_eq!((checked.status.code(), said(&checked)), (Some(0), String::new()));

    let manual = include_str!("../../../docs/metrics.md");
    let listed: Vec<&str> = manual.lines().filter(|line| line.starts_with("| `")).collect();
    let served = families(&text);
    assert_eq!(listed, served, "docs/metrics.md should have:\n{}\n", served.join("\n"));

    let status = daemon.ctl_json(&["status"]).unwrap();
    assert_eq!(status["metrics"][0]["address"], LISTEN);
    assert_eq!(status["metrics"][0]["failure"], Value::Null);
}

#[test]
fn what_happens_is_counted_and_stays_counted_when_its_pod_goes() {
    let (mut lab, daemon) = begin(&serving());
    let before = scrape(&lab);
    tell_a_story(&lab);
    // What comes from the kernel is taken in a moment later.
    let mut after = String::new();
    let is_recorded = || {
        after = scrape(&lab);
        let (before, now) = (readings(&before), readings(&after));
        ["forwarded", "redirected"].iter().all(|verdict| {
            let flows = format!("fqdnd_flows_total{{direction=\"egress\",verdict=\"{verdict}\"}}");
            now[&*flows] > before[&*flows]
        })
    };
    wait_until("its flows are counted", SOON, is_recorded).unwrap();
    let (before, now) = (readings(&before), readings(&after));
    let grown = |name: &str| now[name] - before[name];
    assert_eq!(grown(r#"fqdnd_dns_verdicts_total{verdict="allowed"}"#), 2.0);
    assert_eq!(grown(r#"fqdnd_dns_verdicts_total{verdict="refused"}"#), 1.0);
    assert_eq!(grown(r#"fqdnd_dns_answers_total{rcode="noerror"}"#), 1.0);
    assert_eq!(grown(r#"fqdnd_dns_answers_total{rcode="nxdomain"}"#), 1.0);
    assert_eq!(grown(r#"fqdnd_dns_queries_total{protocol="udp"}"#), 3.0);
    let dropped = r#"fqdnd_dropped_packets_total{reason="policy-denied"}"#;
    assert!(grown(dropped) >= 1.0);
    assert_eq!((now["fqdnd_leases"], now["fqdnd_names"]), (1.0, 1.0));
    assert_eq!(now[r#"fqdnd_endpoints{state="enforced"}"#], 1.0);
    assert_eq!(now["fqdnd_revision_planned"], now["fqdnd_revision_applied"]);
    let counted = |stage| grown(&format!("fqdnd_dns_latency_seconds_count{{stage=\"{stage}\"}}"));
    assert_eq!(["policy", "upstream", "kernel-write", "total"].map(counted), [3.0, 2.0, 1.0, 2.0]);
    let spent = |stage| grown(&format!("fqdnd_dns_latency_seconds_sum{{stage=\"{stage}\"}}"));
    assert!(spent("upstream") > 0.0 && spent("total") >= spent("upstream"));
    assert!(!after.contains("example") && !after.contains("203.0.113."), "{after}");

    // Maps are not walked through at every scrape.
    let leases = || readings(&scrape(&lab))[r#"fqdnd_map_entries{map="leases"}"#] == 1.0;
    wait_until("the lease is counted", SOON, leases).unwrap();

    lab.remove_pod(CLIENT).unwrap();
    wait_until("the endpoint goes", SOON, || daemon.enforcement(CLIENT) == "absent").unwrap();
    let later = scrape(&lab);
    let later = readings(&later);
    assert!(later[dropped] >= now[dropped]);
    assert_eq!((later["fqdnd_leases"], later["fqdnd_names"]), (0.0, 0.0));
}

#[test]
fn an_address_that_cannot_be_had_is_told_and_gone_without() {
    let (lab, mut daemon) = begin(&["--metrics-listen", "203.0.113.250:9965"]);
    let told = daemon.ctl(&["status"]).unwrap();
    assert!(told.contains("203.0.113.250:9965: cannot listen: "), "{told}");
    tell_a_story(&lab);
    daemon.restart_with(&[]).unwrap();
    let told = daemon.ctl(&["status"]).unwrap();
    assert!(
        told.lines().any(|line| line.starts_with("Metrics:") && line.ends_with("off")),
        "{told}"
    );
}
