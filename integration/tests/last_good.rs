//! What was in force before a restart is in force after it, whatever became of the manifests
//! meanwhile; and where that cannot be known, what was closed stays closed.

use std::{fs, time::SystemTime};

use integration::{Daemon, Lab, LabOptions, Reach, ip, soon};

const CLIENT: &str = "default/client";
const OTHER: &str = "default/other";
const BROKEN: &str = "kind: [";

/// The echo service of one address, for the client.
const POLICY: &str = r#"apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata:
  name: echo
  namespace: default
spec:
  endpointSelector:
    matchLabels:
      app: client
  egress:
  - toCIDR: [203.0.113.10/32]
    toPorts:
    - ports:
      - port: "7"
        protocol: UDP
"#;

#[test]
fn a_policy_that_broke_while_the_daemon_was_away_is_in_force_as_it_was() {
    let (lab, mut daemon) = begin();
    let client = lab.pod(CLIENT);
    for _ in 0..2 {
        daemon.kill9().unwrap();
        lab.policy("echo", BROKEN).unwrap();
        daemon.restart().unwrap();
        assert_eq!(daemon.enforcement(CLIENT), "enforced");
        assert_eq!(daemon.enforcement(OTHER), "open");
        assert_eq!(client.echo(ip("203.0.113.10")), Reach::Open);
        assert_eq!(client.echo(ip("203.0.113.11")), Reach::Silent);

        let problems = daemon.problems();
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(problems[0].starts_with("policy-echo.yaml:1:"), "{problems:?}");
        let status = daemon.ctl_json(&["status"]).unwrap();
        let stale = status["staleFiles"].as_array().unwrap();
        assert_eq!(stale.len(), 1);
        assert!(stale[0]["file"].as_str().unwrap().ends_with("/policy-echo.yaml"));
        let last_good = stale[0]["lastGood"].as_u64().unwrap();
        assert!(last_good.abs_diff(now()) < 60, "{last_good}");
    }
    lab.policy("echo", POLICY).unwrap();
    soon("the repaired file is read", || daemon.problems().is_empty());
    assert_eq!(daemon.enforcement(CLIENT), "enforced");

    daemon.kill9().unwrap();
    lab.remove_policy("echo").unwrap();
    daemon.restart().unwrap();
    assert_eq!(daemon.enforcement(CLIENT), "open");
}

#[test]
fn what_was_enforced_is_closed_while_nobody_can_tell_what_it_was() {
    let (lab, mut daemon) = begin();
    let (client, other) = (lab.pod(CLIENT), lab.pod(OTHER));
    daemon.kill9().unwrap();
    lab.policy("echo", BROKEN).unwrap();
    fs::remove_dir_all(daemon.state_directory()).unwrap();
    // However often it starts: a fault that stays does not become the rule.
    for _ in 0..2 {
        daemon.restart().unwrap();
        assert_eq!(daemon.enforcement(CLIENT), "denied (endpoint-pending)");
        assert_eq!(daemon.enforcement(OTHER), "open");
        let dropped = daemon.dropped(CLIENT, "endpoint-pending");
        // Not with each packet: one that waits for its neighbour's answer is never sent.
        soon("it is dropped", || {
            assert_ne!(client.echo(ip("203.0.113.10")), Reach::Open);
            daemon.dropped(CLIENT, "endpoint-pending") > dropped
        });
        assert_eq!(other.echo(ip("203.0.113.10")), Reach::Open);
        let problems = daemon.problems();
        let closed = "pod default/client: is closed: what was enforced on it may stand in what \
                      cannot be read";
        assert!(problems.iter().any(|problem| problem == closed), "{problems:?}");
        assert!(problems.iter().any(|problem| problem.starts_with("policy-echo.yaml:1:")));
        daemon.kill9().unwrap();
    }
    daemon.restart().unwrap();
    lab.policy("echo", POLICY).unwrap();
    soon("the repaired policy is in force", || daemon.enforcement(CLIENT) == "enforced");
    // Not at once: while it was closed, its neighbours may have given it up.
    soon("it reaches what it may", || client.echo(ip("203.0.113.10")) == Reach::Open);
    assert_eq!(client.echo(ip("203.0.113.11")), Reach::Silent);
    assert_eq!(daemon.problems(), [""; 0]);
}

#[test]
fn an_interface_is_not_let_go_of_because_its_pod_cannot_be_read() {
    let (lab, mut daemon) = begin();
    let client = lab.pod(CLIENT);
    let file = lab.manifests().directory().join("pod-default-client.yaml");
    let pod = fs::read_to_string(&file).unwrap();
    daemon.kill9().unwrap();
    fs::write(&file, BROKEN).unwrap();
    fs::remove_dir_all(daemon.state_directory()).unwrap();
    daemon.restart().unwrap();
    assert_eq!(daemon.enforcement(CLIENT), "absent");
    assert_ne!(client.echo(ip("203.0.113.10")), Reach::Open);
    assert_ne!(client.echo(ip("203.0.113.11")), Reach::Open);

    fs::write(&file, pod).unwrap();
    soon("the repaired pod is enforced", || daemon.enforcement(CLIENT) == "enforced");
    // Not at once: while it was closed, its neighbours may have given it up.
    soon("it reaches what it may", || client.echo(ip("203.0.113.10")) == Reach::Open);
    assert_eq!(client.echo(ip("203.0.113.11")), Reach::Silent);
    assert_eq!(daemon.problems(), [""; 0]);
}

#[test]
fn manifests_that_are_away_at_the_start_leave_everything_in_force() {
    let (lab, mut daemon) = begin();
    let client = lab.pod(CLIENT);
    let (here, aside) = (lab.manifests().directory(), lab.directory().join("aside"));
    daemon.kill9().unwrap();
    fs::rename(here, &aside).unwrap();
    daemon.restart().unwrap();
    assert_eq!(daemon.enforcement(CLIENT), "enforced");
    assert_eq!(client.echo(ip("203.0.113.10")), Reach::Open);
    assert_eq!(client.echo(ip("203.0.113.11")), Reach::Silent);
    fs::rename(&aside, here).unwrap();
    soon("they are back", || daemon.problems().is_empty());
    assert_eq!(daemon.enforcement(CLIENT), "enforced");
}

/// A lab under one policy, and its daemon when it has kept everything for its next start.
fn begin() -> (Lab, Daemon) {
    let lab = Lab::new(LabOptions::default()).unwrap();
    lab.policy("echo", POLICY).unwrap();
    let daemon = Daemon::start(&lab, &[]).unwrap();
    let kept = daemon.state_directory().join("last-good");
    let files = fs::read_dir(lab.manifests().directory()).unwrap().count();
    soon("every file is kept", || {
        let entries = fs::read_dir(&kept).into_iter().flatten().flatten();
        let finished =
            entries.filter(|entry| !entry.file_name().as_encoded_bytes().starts_with(b"."));
        finished.count() == files
    });
    (lab, daemon)
}

fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs()
}
