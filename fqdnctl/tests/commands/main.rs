//! The real binary against a daemon that answers what it is told to: what is asked, what is
//! printed, and the exit codes.

mod daemon;
mod help;
mod policies;

use std::io::Read;
use std::process::{Command, Output, Stdio};

use api::{
    AttachMode, CacheEntry, Cleaned, Endpoint, EndpointCounts, Enforcement, Hubble, Listener,
    MapInfo, MapRow, NameEntry, Problem, StaleFile, Status,
};
use model::{EndpointId, EndpointName, Identity, TableId};

use crate::daemon::Daemon;

#[test]
fn status_shows_revisions_counters_and_problems() {
    let daemon = Daemon::answering(&status());
    let output = daemon.run(&["status"]);
    assert_eq!(
        stdout(&output),
        "\
Version:     1.2.3
Uptime:      3h12m
Kernel:      6.18.0, attached by tcx
Policies:    2, revision 6 enforced, 7 pending
Endpoints:   2 enforced, 1 open, 1 denied
Manifests:   3 files, 1 problem, 0 warnings
Stale:       /m/web.yaml, as it was 1m0s ago
L7 proxy:    off
Hubble:      unix:///run/fqdnd/hubble.sock, 2 clients
Unserved:    127.0.0.1:4245: cannot listen: Address already in use
Metrics:     127.0.0.1:9965
Page:        off

DNS
queries:   20
refused:   3

Dropped packets
policy-denied:   17

Problems
/m/web.yaml:7:15: spec.egress[0].toFQDNs[0].matchName: must not be empty
"
    );
    assert_eq!(daemon.requests(), ["GET /v1/status"]);
}

#[test]
fn what_is_audited_is_said_where_enforcement_is() {
    let status = Status {
        audit: true,
        endpoints: EndpointCounts { audited: 3, ..EndpointCounts::default() },
        audits: [("policy-denied".to_owned(), 5)].into(),
        ..status()
    };
    let text = stdout(&Daemon::answering(&status).run(&["status"]));
    assert!(text.contains("Audit:       every policy is audited: nothing is enforced\n"), "{text}");
    assert!(text.contains("Endpoints:   0 enforced, 3 audited, 0 open, 0 denied\n"), "{text}");
    assert!(text.contains("\nAudited packets\npolicy-denied:   5\n"), "{text}");
    let [web, _] = endpoints().try_into().unwrap();
    let web = Endpoint {
        enforcement: Enforcement::Audited,
        audited_policies: vec!["prod/web".into()],
        audits: [("deny-rule".to_owned(), 5)].into(),
        ..web
    };
    let text = stdout(&Daemon::answering(&[web]).run(&["endpoint", "get", "prod/web"]));
    for line in
        ["Enforcement:   audited\n", "Audited:       prod/web\n", "Audits:        deny-rule=5\n"]
    {
        assert!(text.contains(line), "{text}");
    }
}

#[test]
fn endpoints_are_listed_and_a_denied_one_says_why() {
    let daemon = Daemon::answering(&endpoints());
    assert_eq!(
        stdout(&daemon.run(&["endpoint", "list"])),
        "\
ID   NAMESPACE   NAME   ENFORCEMENT                  INTERFACE   ADDRESSES          POLICIES   NAMES   LEASES   DROPS
1    prod        web    enforced                     lxc1        10.0.0.1,fd00::1   1          4       9        3
2    prod        db     denied (endpoint-conflict)   <none>      <none>             0          0       0        0
"
    );
    let wide = stdout(&daemon.run(&["endpoint", "list", "-o", "wide"]));
    let rows: Vec<Vec<&str>> = wide.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0][10..], ["AUDITS", "IDENTITY", "TABLE", "GENERATION", "BRIDGE", "LABELS"]);
    assert_eq!(rows[1][10..], ["0", "256", "5", "8", "cni0", "k8s:app=web,k8s:tier=front"]);
}

#[test]
fn json_output_is_what_the_daemon_said() {
    let daemon = Daemon::answering(&endpoints());
    let output = daemon.run(&["endpoint", "list", "-o", "json"]);
    assert_eq!(serde_json::from_slice::<Vec<Endpoint>>(&output.stdout).unwrap(), endpoints());

    let daemon = Daemon::answering(&status());
    let output = daemon.run(&["-o", "json", "status"]);
    assert_eq!(serde_json::from_slice::<Status>(&output.stdout).unwrap(), status());
}

#[test]
fn yaml_output_says_the_same() {
    let daemon = Daemon::answering(&[MapRow { key: "on".into(), value: "a: b".into() }]);
    assert_eq!(
        stdout(&daemon.run(&["map", "dump", "names", "-o", "yaml"])),
        "- key: \"on\"\n  value: \"a: b\"\n"
    );
    let daemon = Daemon::answering(&endpoints());
    let output = daemon.run(&["endpoint", "list", "-o", "yaml"]);
    let read: Vec<Endpoint> = serde_saphyr::from_str(&stdout(&output)).unwrap();
    assert_eq!(read, endpoints());
}

#[test]
fn counters_that_count_nothing_are_shown_where_all_are_wanted() {
    let quiet = Status {
        dns: [("queries".to_owned(), 0)].into(),
        drops: [("policy-denied".to_owned(), 0)].into(),
        ..status()
    };
    let daemon = Daemon::answering(&quiet);
    let narrow = stdout(&daemon.run(&["status"]));
    assert!(!narrow.contains("DNS") && !narrow.contains("Dropped"), "{narrow}");
    let wide = stdout(&daemon.run(&["status", "-o", "wide"]));
    assert!(wide.contains("DNS\nqueries:   0\n"), "{wide}");
}

#[test]
fn an_identity_is_shown_by_its_number() {
    let client = api::Identity {
        identity: Identity(257),
        kind: api::IdentityKind::Labels,
        meaning: vec!["k8s:app=client".into(), "k8s:tier=front".into()],
    };
    let daemon = Daemon::answering(&[client]);
    assert_eq!(
        stdout(&daemon.run(&["identity", "get", "257"])),
        "Identity:   257\nKind:       labels\nMeaning:    k8s:app=client,k8s:tier=front\n"
    );
    let output = daemon.run(&["identity", "get", "4"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(stderr(&output), "Error: no identity `4` is in use here\n");
}

#[test]
fn cache_list_asks_for_what_is_wanted_and_tells_states_apart() {
    let daemon = Daemon::answering(&cache());
    let output = daemon.run(&["cache", "list", "-e", "prod/web", "-p", "*.Example.com."]);
    assert_eq!(
        stdout(&output),
        "\
ENDPOINT   NAME             ADDRESS      EXPIRES   STATE
prod/web   a.example.com.   192.0.2.1    4m30s     leased
prod/web   b.example.com.   192.0.2.2    -12s      kept
prod/web   c.example.com.   192.0.2.3    -1s       expired
prod/web   d.example.com.   2001:db8::   5s        pending
"
    );
    daemon.run(&["cache", "list", "-e", "12"]);
    daemon.run(&["cache", "list"]);
    assert_eq!(
        daemon.requests(),
        [
            "GET /v1/cache?endpoint=prod%2Fweb&pattern=%2A.example.com",
            "GET /v1/cache?endpoint=12",
            "GET /v1/cache",
        ]
    );
}

#[test]
fn an_empty_list_leaves_standard_output_empty() {
    let daemon = Daemon::answering(&Vec::<CacheEntry>::new());
    let output = daemon.run(&["cache", "list"]);
    assert_eq!((stdout(&output), stderr(&output)), (String::new(), "No addresses found.\n".into()));
    assert_eq!(stdout(&daemon.run(&["cache", "list", "-o", "json"])), "[]\n");
}

#[test]
fn cache_clean_without_a_terminal_needs_force() {
    let daemon = Daemon::answering(&Cleaned { count: 3 });
    let output = daemon.run(&["cache", "clean"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        stderr(&output),
        "Error: there is no terminal to ask on; use --force to forget addresses without a \
         question\n"
    );
    assert_eq!(daemon.requests(), Vec::<String>::new());

    let output = daemon.run(&["cache", "clean", "-p", "**.example.com", "-f"]);
    assert_eq!(stdout(&output), "3 addresses forgotten.\n");
    assert_eq!(
        stdout(&daemon.run(&["cache", "clean", "-f", "-o", "json"])),
        "{\n  \"count\": 3\n}\n"
    );
    assert_eq!(
        daemon.requests(),
        ["DELETE /v1/cache?pattern=%2A%2A.example.com", "DELETE /v1/cache"]
    );
}

#[test]
fn names_come_with_their_selectors() {
    let daemon = Daemon::answering(&[NameEntry {
        name: "a.example.com.".into(),
        endpoints: vec![endpoint_name("web"), endpoint_name("db")],
        selectors: vec!["*.example.com".into()],
    }]);
    assert_eq!(
        stdout(&daemon.run(&["cache", "names"])),
        "\
NAME             ENDPOINTS          SELECTORS
a.example.com.   prod/web,prod/db   *.example.com
"
    );
    assert_eq!(daemon.requests(), ["GET /v1/names"]);
}

#[test]
fn maps_are_listed_and_dumped() {
    let info = MapInfo { name: "leases".into(), kind: "lpm_trie".into(), entries: 7, size: 1000 };
    let daemon = Daemon::answering(&[info]);
    assert_eq!(
        stdout(&daemon.run(&["map", "list"])),
        "NAME     KIND       ENTRIES   SIZE\nleases   lpm_trie   7         1000\n"
    );
    let row = MapRow { key: "endpoint 1, 192.0.2.1".into(), value: "expires 12.5s".into() };
    let daemon = Daemon::answering(&[row]);
    assert_eq!(
        stdout(&daemon.run(&["map", "dump", "leases"])),
        "KEY                     VALUE\nendpoint 1, 192.0.2.1   expires 12.5s\n"
    );
    assert_eq!(daemon.requests(), ["GET /v1/maps/leases"]);
}

#[test]
fn what_the_daemon_refuses_is_said_with_its_reason() {
    let error = api::Error { message: "there is no map `x`".into() };
    let daemon = Daemon::refusing(404, &error);
    let output = daemon.run(&["map", "dump", "x"]);
    assert_eq!(
        (output.status.code(), stderr(&output)),
        (Some(1), "Error: there is no map `x`\n".into())
    );
}

#[test]
fn an_absent_daemon_is_named_with_its_socket() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("no.sock");
    let output = fqdnctl().arg("--socket").arg(&socket).arg("status").output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        stderr(&output),
        format!(
            "Error: cannot reach fqdnd at {}: No such file or directory (os error 2). Is it \
             running? If it listens elsewhere, use --socket or FQDND_SOCKET.\n",
            socket.display()
        )
    );
}

#[test]
fn colour_is_used_when_asked_for_and_not_into_a_pipe() {
    let daemon = Daemon::answering(&cache());
    assert!(!stdout(&daemon.run(&["cache", "list"])).contains('\u{1b}'));
    assert!(!stdout(&daemon.run(&["cache", "list", "--color", "never"])).contains('\u{1b}'));
    assert!(stdout(&daemon.run(&["cache", "list", "--color", "always"])).contains("\u{1b}["));
}

#[test]
fn control_characters_from_elsewhere_are_shown_not_obeyed() {
    let row = MapRow { key: "a\u{1b}[2J".into(), value: "b\rc".into() };
    let daemon = Daemon::answering(&[row]);
    assert_eq!(
        stdout(&daemon.run(&["map", "dump", "names"])),
        "KEY          VALUE\na\\u{1b}[2J   b\\rc\n"
    );
}

#[test]
fn a_closed_pipe_ends_it_quietly() {
    let rows: Vec<MapRow> =
        (0..20_000).map(|n| MapRow { key: n.to_string(), value: "x".repeat(20) }).collect();
    let daemon = Daemon::answering(&rows);
    let mut child = daemon
        .command(&["map", "dump", "rows"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut first = [0; 10];
    child.stdout.take().unwrap().read_exact(&mut first).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), stderr(&output)), (Some(0), String::new()));

    let health = api::Health {
        phase: api::Phase::InCharge,
        ready: false,
        live: true,
        reasons: vec!["a reason".into()],
    };
    let daemon = Daemon::answering(&health);
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let child = daemon.command(&["health"]).stdout(writer).stderr(Stdio::piped()).spawn().unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), stderr(&output)), (Some(1), String::new()));
}

#[test]
fn patterns_answer_by_lines_and_exit_codes() {
    let run = |arguments: &[&str]| {
        let output = fqdnctl().arg("pattern").args(arguments).output().unwrap();
        (output.status.code().unwrap(), stdout(&output), stderr(&output))
    };
    let none = String::new;
    assert_eq!(
        run(&["*.a.com", "x.a.com", "Y.A.com."]),
        (0, "yes x.a.com\nyes Y.A.com.\n".into(), none())
    );
    assert_eq!(
        run(&["*.a.com", "x.a.com", "a.com"]),
        (1, "yes x.a.com\nno a.com\n".into(), none())
    );
    assert_eq!(run(&["*", "."]), (0, "yes .\n".into(), none()));
    assert_eq!(
        run(&["a b", "x"]),
        (
            2,
            none(),
            "Error: invalid pattern `a b`: ` ` is not allowed; use letters, digits, `-`, `_` and \
             `.`, and `*` for any part of a label\n"
                .into()
        )
    );
    assert_eq!(
        run(&["*.a.com", "x..com"]),
        (2, none(), "Error: invalid name `x..com`: a name must not have an empty label\n".into())
    );
    assert_eq!(run(&["*.a.com"]).0, 2);
    assert_eq!(
        run(&["-o", "json", "*.a.com", "x.a.com"]).1,
        "[\n  {\n    \"name\": \"x.a.com\",\n    \"matches\": true\n  }\n]\n"
    );
}

fn fqdnctl() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fqdnctl"));
    command.env_remove("FQDND_SOCKET").env_remove("NO_COLOR").stdin(Stdio::null());
    command
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn endpoint_name(name: &str) -> EndpointName {
    EndpointName { namespace: "prod".into(), name: name.into() }
}

fn status() -> Status {
    Status {
        version: "1.2.3".into(),
        started: 1_700_000_000,
        uptime_seconds: 11_520,
        kernel: "6.18.0".into(),
        attach_mode: AttachMode::Tcx,
        audit: false,
        read_revision: 5,
        policy_revision: 7,
        applied_revision: 6,
        endpoints: EndpointCounts { open: 1, enforced: 2, audited: 0, denied: 1 },
        policies: 2,
        files: 3,
        stale_files: vec![StaleFile { file: "/m/web.yaml".into(), last_good: 1_700_011_460 }],
        problems: vec![Problem {
            file: "/m/web.yaml".into(),
            line: 7,
            column: 15,
            field: "spec.egress[0].toFQDNs[0].matchName".into(),
            message: "must not be empty".into(),
        }],
        warnings: Vec::new(),
        unenforced: Vec::new(),
        bypasses: Vec::new(),
        dns: [("queries".to_owned(), 20), ("refused".to_owned(), 3)].into(),
        limits: [].into(),
        flows: [].into(),
        drops: [("policy-denied".to_owned(), 17)].into(),
        audits: [].into(),
        hubble: Some(Hubble {
            listeners: vec![
                Listener { address: "unix:///run/fqdnd/hubble.sock".into(), failure: None },
                Listener {
                    address: "127.0.0.1:4245".into(),
                    failure: Some("cannot listen: Address already in use".into()),
                },
            ],
            clients: 2,
            clients_refused: 0,
        }),
        metrics: vec![Listener { address: "127.0.0.1:9965".into(), failure: None }],
        page: Vec::new(),
        l7: None,
    }
}

fn endpoints() -> Vec<Endpoint> {
    let web = Endpoint {
        id: Some(EndpointId(1)),
        name: "web".into(),
        namespace: "prod".into(),
        identity: Identity(256),
        labels: vec!["k8s:app=web".into(), "k8s:tier=front".into()],
        interface: Some("lxc1".into()),
        bridge: Some("cni0".into()),
        addresses: vec!["10.0.0.1".parse().unwrap(), "fd00::1".parse().unwrap()],
        enforcement: Enforcement::Enforced,
        reason: None,
        table: Some(TableId(5)),
        generation: 8,
        policies: vec!["prod/web".into()],
        audited_policies: Vec::new(),
        names: 4,
        leases: 9,
        over_limits: [("query-rate".to_owned(), 6)].into(),
        connections: 12,
        drops: [("policy-denied".to_owned(), 2), ("spoofed-source".to_owned(), 1)].into(),
        audits: [].into(),
    };
    let db = Endpoint {
        id: Some(EndpointId(2)),
        name: "db".into(),
        interface: None,
        bridge: None,
        addresses: Vec::new(),
        enforcement: Enforcement::Denied,
        reason: Some("endpoint-conflict".into()),
        table: None,
        policies: Vec::new(),
        names: 0,
        leases: 0,
        over_limits: [].into(),
        drops: [].into(),
        ..web.clone()
    };
    vec![web, db]
}

fn cache() -> Vec<CacheEntry> {
    let entry = |name: &str, address: &str, expires_in_seconds, kept_alive, enforced| CacheEntry {
        endpoint: endpoint_name("web"),
        name: format!("{name}.example.com."),
        address: address.parse().unwrap(),
        expires_in_seconds,
        ttl: Some(300),
        kept_alive,
        enforced,
    };
    vec![
        entry("a", "192.0.2.1", 270, true, true),
        entry("b", "192.0.2.2", -12, true, true),
        entry("c", "192.0.2.3", -1, false, true),
        entry("d", "2001:db8::", 5, false, false),
    ]
}
