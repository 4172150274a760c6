//! The proxy's process ends, does not come, is full: nothing passes that nobody judged.

use std::{
    io::{Read, Write},
    time::{Duration, Instant},
};

use integration::{Reach, soon, wait_until};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{
    ground::{CLIENT, Ground, PLAIN, WWW, policy},
    http::{ask, raw},
};

const RULES: &str = r#"  - toCIDR: [203.0.113.10/32]
    toPorts:
    - ports: [{port: "8080", protocol: TCP}]
      rules: {http: [{method: GET, path: /drip}, {path: /yes}]}
"#;

#[test]
fn a_killed_proxy_ends_its_connections_and_is_back_within_a_second() {
    let ground = Ground::new(&policy(RULES));
    let before = ground.proxy(None);
    let mut stream = raw(&ground, WWW.parse().unwrap(), PLAIN);
    stream.write_all(format!("GET /drip HTTP/1.1\r\nhost: {WWW}\r\n\r\n").as_bytes()).unwrap();
    let mut buffer = [0; 512];
    for _ in 0..3 {
        assert_ne!(stream.read(&mut buffer).unwrap(), 0);
    }
    kill(Pid::from_raw(before), Signal::SIGKILL).unwrap();
    let killed = Instant::now();
    // What was under way ends: a reset is an end too.
    while stream.read(&mut buffer).is_ok_and(|count| count > 0) {}
    let after = ground.proxy(Some(before));
    let url = |path: &str| format!("http://{WWW}:{PLAIN}{path}");
    let began = Instant::now();
    assert_eq!(ground.status(&[&url("/yes")]), 200);
    assert_eq!(ground.status(&[&url("/no")]), 403);
    let (gap, works) = (began - killed, began.elapsed());
    assert!(gap < Duration::from_secs(30), "it was away for {gap:?}");
    assert!(works < Duration::from_secs(30), "new connections took {works:?}");
    assert_eq!(ground.proxy(None), after);
    assert_eq!(ground.daemon.ctl_json(&["status"]).unwrap()["l7"]["restarts"], 1);
    assert_eq!(ground.web.requests(), ["GET /drip", "GET /yes"]);
}

#[test]
fn the_process_is_nobodys_and_keeps_no_right_that_it_does_not_need() {
    for (whose, kept) in [("node", "0000000000000000"), ("pod", "0000000000002000")] {
        let flags = ["--l7-upstream-address", whose];
        let ground = Ground::with(integration::LabOptions::default(), &policy(RULES), &flags);
        let status = std::fs::read_to_string(format!("/proc/{}/status", ground.proxy(None)));
        let status = status.unwrap();
        let line = |key: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(key)).unwrap();
            line.split_whitespace().collect::<Vec<_>>().join(" ")
        };
        assert_eq!(line("Uid:"), "65534 65534 65534 65534");
        assert_eq!(line("Groups:"), "");
        assert_eq!([line("CapEff:"), line("CapPrm:")], [kept, kept], "{whose}");
        assert_eq!(line("CapBnd:"), "0000000000000000");
        assert_eq!(line("NoNewPrivs:"), "1");
    }
}

#[test]
fn connections_are_dropped_with_a_reason_as_long_as_there_is_no_proxy() {
    let ground = Ground::with(
        integration::LabOptions::default(),
        &policy(RULES),
        &["--l7-program", "/nowhere/fqdnd-l7"],
    );
    assert_eq!(ground.client().connect(WWW.parse().unwrap(), PLAIN), Reach::Silent);
    assert!(ground.daemon.dropped(CLIENT, "proxy-unavailable") > 0);
    soon("the reason", || {
        let status = ground.daemon.ctl_json(&["status"]).unwrap();
        let failure = status["l7"]["failure"].as_str().unwrap_or_default();
        failure.contains("/nowhere/fqdnd-l7 cannot be started")
    });
    assert_eq!(ground.web.requests(), [""; 0]);
}

#[test]
fn without_the_proxy_its_rules_open_nothing_and_say_so() {
    let ground = Ground::with(
        integration::LabOptions::default(),
        &policy(RULES),
        &["--l7-enabled", "false"],
    );
    assert_eq!(ground.client().connect(WWW.parse().unwrap(), PLAIN), Reach::Silent);
    let status = ground.daemon.ctl_json(&["status"]).unwrap();
    assert!(status["l7"].is_null(), "{status}");
    assert_eq!(status["unenforced"].as_array().unwrap().len(), 1);
}

#[test]
fn one_endpoints_connections_are_bounded_and_anothers_are_not_its_own() {
    let policies = policy(RULES).replace("{app: client}", "{}");
    let flags = ["--l7-connections-per-endpoint", "2"];
    let ground = Ground::with(integration::LabOptions::default(), &policies, &flags);
    let mut held: Vec<_> = (0..2).map(|_| raw(&ground, WWW.parse().unwrap(), PLAIN)).collect();
    for stream in &mut held {
        assert_eq!(ask(stream, "/yes"), 200);
    }
    assert_eq!(ground.status(&[&format!("http://{WWW}:{PLAIN}/yes")]), 0);
    ground.told("over-endpoint-connections");
    let mut other = ground.lab.pod("default/other").command("curl");
    let url = format!("http://{WWW}:{PLAIN}/yes");
    let passed = other.args(["--silent", "--fail", "--max-time", "20", &url]).output().unwrap();
    assert!(passed.status.success(), "{passed:?}");
    let reached =
        || ground.daemon.ctl_json(&["status"]).unwrap()["l7"]["limits"]["connections"] == 1;
    soon("the limit is counted", reached);
    drop(held);
    let room = wait_until("there is room again", Duration::from_secs(60), || {
        ground.status(&[&url]) == 200
    });
    room.unwrap();
}
