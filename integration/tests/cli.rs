//! Every command of fqdnctl and fqdnd against the daemon itself, as an operator would type it.

use std::{
    fs,
    io::Write as _,
    net::IpAddr,
    os::unix::fs::{FileTypeExt, MetadataExt},
    process::{Command, Output, Stdio},
};

use hickory_proto::rr::RecordType;
use integration::{Daemon, Lab, LabOptions, Reach, Resolver};
use serde_json::Value;

const CLIENT: &str = "default/client";
const OTHER: &str = "default/other";

/// Two pods that may ask for anything under example.com and reach it on port 80.
const POLICY: &str = r#"
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata:
  name: two-names
  namespace: default
spec:
  endpointSelector:
    matchExpressions:
    - {key: app, operator: In, values: [client, other]}
  egress:
  - toEndpoints:
    - matchLabels:
        k8s:io.kubernetes.pod.namespace: kube-system
        k8s-app: kube-dns
    toPorts:
    - ports:
      - {port: "53", protocol: ANY}
      rules:
        dns:
        - matchPattern: "*.example.com"
  - toFQDNs:
    - matchName: www.example.com
    - matchName: api.example.com
    toPorts:
    - ports:
      - {port: "80", protocol: TCP}
"#;

#[test]
fn status_tells_how_the_daemon_fares() {
    let (_lab, daemon) = begin();
    let status = daemon.ctl_json(&["status"]).unwrap();
    assert_eq!(status["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(status["attachMode"], "tcx");
    assert_eq!(status["policies"], 1);
    assert_eq!(
        status["endpoints"],
        serde_json::json!({"open": 2, "enforced": 2, "denied": 0, "audited": 0})
    );
    assert_eq!(status["policyRevision"], status["appliedRevision"]);
    assert_eq!(status["problems"], serde_json::json!([]));
    assert_eq!(status["staleFiles"], serde_json::json!([]));
    assert_eq!(status["kernel"].as_str().unwrap(), said(&command("uname", &["-r"])).trim());
    let text = daemon.ctl(&["status"]).unwrap();
    assert!(text.contains("2 enforced"), "{text}");
}

#[test]
fn endpoints_are_listed_with_what_they_are_and_how_they_are_judged() {
    let (lab, daemon) = begin();
    let client = daemon.endpoint(CLIENT);
    let pod = lab.pod(CLIENT);
    assert_eq!(client["interface"], pod.host_interface());
    assert_eq!(client["enforcement"], "enforced");
    assert_eq!(client["policies"], serde_json::json!(["default/two-names"]));
    let addresses: Vec<IpAddr> = serde_json::from_value(client["addresses"].clone()).unwrap();
    assert_eq!(addresses, pod.addresses());
    let labels: Vec<&str> =
        client["labels"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    assert!(labels.contains(&"k8s:app=client"), "{labels:?}");
    // The same rules, so the same table.
    assert_eq!(client["table"], daemon.endpoint(OTHER)["table"]);
    assert_eq!(daemon.endpoint("prod/backend")["enforcement"], "open");

    let table = daemon.ctl(&["endpoint", "list"]).unwrap();
    let header: Vec<&str> = table.lines().next().unwrap().split_whitespace().collect();
    assert_eq!(header[..4], ["ID", "NAMESPACE", "NAME", "ENFORCEMENT"]);
    assert_eq!(table.lines().count(), 5, "{table}");
    let wide = daemon.ctl(&["endpoint", "list", "-o", "wide"]).unwrap();
    assert!(wide.contains("LABELS") && wide.contains("k8s:app=client"), "{wide}");
}

#[test]
fn the_cache_is_listed_by_endpoint_and_pattern_and_forgotten_by_the_kernel_too() {
    let (lab, daemon) = begin();
    let server = lab.dns_service()[0];
    let (client, other) = (lab.pod(CLIENT), lab.pod(OTHER));
    let (www, api): (IpAddr, IpAddr) =
        ("203.0.113.10".parse().unwrap(), "203.0.113.11".parse().unwrap());
    client.ask(Resolver::new(server), "www.example.com", RecordType::A);
    client.ask(Resolver::new(server), "api.example.com", RecordType::A);
    other.ask(Resolver::new(server), "www.example.com", RecordType::A);

    let listed = |arguments: &[&str]| {
        let rows = daemon.ctl_json(&[&["cache", "list"], arguments].concat()).unwrap();
        let line = |row: &Value| {
            let text = |value: &Value| value.as_str().unwrap().to_owned();
            let endpoint = [&row["endpoint"]["namespace"], &row["endpoint"]["name"]].map(text);
            format!("{} {} {}", endpoint.join("/"), text(&row["name"]), text(&row["address"]))
        };
        rows.as_array().unwrap().iter().map(line).collect::<Vec<_>>()
    };
    let client_api = "default/client api.example.com. 203.0.113.11";
    let client_www = "default/client www.example.com. 203.0.113.10";
    let other_www = "default/other www.example.com. 203.0.113.10";
    assert_eq!(listed(&[]), [client_api, client_www, other_www]);
    assert_eq!(listed(&["-e", CLIENT]), [client_api, client_www]);
    let number = daemon.endpoint(CLIENT)["id"].to_string();
    assert_eq!(listed(&["-e", &number, "-p", "w*.example.com"]), [client_www]);
    assert_eq!(listed(&["-p", "www.example.com"]), [client_www, other_www]);
    let table = daemon.ctl(&["cache", "list"]).unwrap();
    assert!(table.contains("leased"), "{table}");

    let names = daemon.ctl_json(&["cache", "names"]).unwrap();
    assert_eq!(
        names,
        serde_json::json!([
            {
                "name": "api.example.com.",
                "endpoints": [{"namespace": "default", "name": "client"}],
                "selectors": ["api.example.com"],
            },
            {
                "name": "www.example.com.",
                "endpoints": [
                    {"namespace": "default", "name": "client"},
                    {"namespace": "default", "name": "other"},
                ],
                "selectors": ["www.example.com"],
            },
        ])
    );

    assert_eq!(client.connect(www, 80), Reach::Open);
    assert_eq!(client.connect(api, 80), Reach::Open);
    let refused = daemon.ctl_output(&["cache", "clean"]).unwrap();
    assert_eq!(refused.status.code(), Some(1), "no question without a terminal");
    assert!(erred(&refused).contains("--force"), "{}", erred(&refused));

    let said = daemon.ctl(&["cache", "clean", "-p", "api.example.com", "-f"]).unwrap();
    assert_eq!(said, "1 address forgotten.\n");
    assert_eq!(client.connect(api, 80), Reach::Silent);
    assert_eq!(client.connect(www, 80), Reach::Open);
    let cleaned = daemon.ctl_json(&["cache", "clean", "-f"]).unwrap();
    assert_eq!(cleaned, serde_json::json!({"count": 2}));
    assert_eq!(listed(&[]), [""; 0]);
    assert_eq!(daemon.ctl_json(&["cache", "names"]).unwrap(), serde_json::json!([]));
    assert_eq!(client.connect(www, 80), Reach::Silent);
    assert_eq!(other.connect(www, 80), Reach::Silent);
    assert_eq!(daemon.maps(&["leases"])["leases"], []);

    // Asked for again, it is open again.
    client.ask(Resolver::new(server), "www.example.com", RecordType::A);
    assert_eq!(client.connect(www, 80), Reach::Open);
}

#[test]
fn every_map_is_listed_and_dumped() {
    let (lab, daemon) = begin();
    lab.pod(CLIENT).ask(Resolver::new(lab.dns_service()[0]), "www.example.com", RecordType::A);
    let list = daemon.ctl_json(&["map", "list"]).unwrap();
    let maps: Vec<(&str, u64, u64)> = list
        .as_array()
        .unwrap()
        .iter()
        .map(|map| {
            let number = |key: &str| map[key].as_u64().unwrap();
            (map["name"].as_str().unwrap(), number("entries"), number("size"))
        })
        .collect();
    for (name, entries, size) in &maps {
        assert!(entries <= size, "{name} holds {entries} of {size}");
        let rows = daemon.ctl_json(&["map", "dump", name]).unwrap();
        assert!(rows.is_array(), "{name}: {rows}");
        let text = daemon.ctl(&["map", "dump", name]).unwrap();
        assert!(!text.contains('{'), "{name} is not for people to read: {text}");
    }
    for wanted in ["endpoints", "sources", "prefixes", "frontends", "rows", "leases", "names"] {
        let found = maps.iter().find(|(name, ..)| *name == wanted);
        assert!(found.is_some_and(|(_, entries, _)| *entries > 0), "{wanted}: {found:?}");
    }
    let leases = &daemon.maps(&["leases"])["leases"];
    let [(key, value)] = &leases[..] else { panic!("{leases:?}") };
    assert!(key.contains("203.0.113.10"), "{key}");
    let names = &daemon.maps(&["names"])["names"];
    let [(number, name)] = &names[..] else { panic!("{names:?}") };
    assert_eq!(name, "www.example.com.");
    let number = number.rsplit(' ').next().unwrap();
    assert!(value.contains(&format!(" name {number} ")), "{value}, {names:?}");

    let number = daemon.endpoint(CLIENT)["id"].as_u64().unwrap();
    let entries = &daemon.maps(&["endpoints"])["endpoints"];
    let own = format!("endpoint {number} table ");
    let (key, value) = entries.iter().find(|(_, value)| value.starts_with(&own)).unwrap();
    assert!(key.starts_with("interface ") && value.contains(" generation "), "{key} {value}");

    let unknown = daemon.ctl_output(&["map", "dump", "nonsense"]).unwrap();
    assert_eq!(unknown.status.code(), Some(1));
    assert!(erred(&unknown).contains("no map `nonsense`; there are "), "{}", erred(&unknown));
}

#[test]
fn patterns_are_told_by_exit_codes() {
    let (_lab, daemon) = begin();
    for (arguments, code, out) in [
        (&["*.example.com", "a.example.com"][..], 0, "yes a.example.com\n"),
        (
            &["*.example.com", "a.example.com", "a.b.example.com"],
            1,
            "yes a.example.com\nno a.b.example.com\n",
        ),
        (&["**.example.com", "a.b.example.com"], 0, "yes a.b.example.com\n"),
        (&["a..b", "a.b"], 2, ""),
    ] {
        let output = daemon.ctl_output(&[&["pattern"], arguments].concat()).unwrap();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}");
        assert_eq!(said(&output), out, "{arguments:?}");
        assert_eq!(erred(&output).is_empty(), code != 2, "{arguments:?}: {}", erred(&output));
    }
}

#[test]
fn wrong_requests_end_with_1_and_a_reason() {
    let (_lab, daemon) = begin();
    for (arguments, code, reason) in [
        (&["cache", "list", "-e", "default/nobody"][..], 1, "no endpoint `default/nobody`"),
        (&["cache", "list", "-e", "4000000"], 1, "no endpoint `4000000` on this node"),
        (&["cache", "list", "-e", "nobody"], 2, "neither an endpoint's number nor namespace/name"),
        (&["cache", "list", "-p", "a..b"], 2, "a..b"),
        (&["cache", "clean", "-f", "-e", CLIENT], 2, "-e"),
    ] {
        let output = daemon.ctl_output(arguments).unwrap();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", erred(&output));
        assert!(erred(&output).contains(reason), "{arguments:?}: {}", erred(&output));
        assert_eq!(said(&output), "", "{arguments:?}");
    }
}

#[test]
fn the_socket_is_for_root_alone() {
    let (_lab, daemon) = begin();
    let socket = fs::metadata(daemon.socket()).unwrap();
    assert!(socket.file_type().is_socket());
    assert_eq!(socket.mode() & 0o7777, 0o660);
    assert_eq!((socket.uid(), socket.gid()), (0, 0));
}

#[test]
fn check_tells_that_this_machine_has_what_is_needed() {
    let (_lab, daemon) = begin();
    let json = daemon.plain_command().unwrap().args(["check", "-o", "json"]).output().unwrap();
    assert_eq!(json.status.code(), Some(0), "{} {}", said(&json), erred(&json));
    let lines: Value = serde_json::from_slice(&json.stdout).unwrap();
    let lines = lines.as_array().unwrap();
    assert!(lines.len() > 5, "{lines:?}");
    for line in lines {
        assert!(matches!(line["status"].as_str(), Some("ok" | "note")), "{line}");
        assert!(!line["subject"].as_str().unwrap().is_empty(), "{line}");
    }
}

#[test]
fn check_tells_which_policies_are_audited() {
    let (_lab, daemon) = begin();
    let manifests = tempfile::tempdir().unwrap();
    let told = |flags: &[&str]| {
        let mut check = daemon.plain_command().unwrap();
        check.arg("check").arg("--manifests").arg(manifests.path()).args(flags);
        let text = said(&check.output().unwrap());
        let line = text.lines().find(|line| line.contains(" audit "));
        line.expect("a line of it").split_whitespace().collect::<Vec<_>>().join(" ")
    };
    let write = |name: &str, annotation: &str| {
        let text = format!(
            "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: {{name: {name}, namespace: \
             prod, annotations: {{{annotation}}}}}\nspec: {{endpointSelector: {{}}, egress: [{{}}]}}\n"
        );
        fs::write(manifests.path().join(format!("{name}.yaml")), text).unwrap();
    };
    write("enforced", "");
    assert_eq!(told(&[]), "ok audit no policy is audited");
    (0..9).for_each(|number| write(&format!("p{number}"), "fqdnd.io/audit: 'true'"));
    let names = (0..8).map(|number| format!("prod/p{number}")).collect::<Vec<_>>().join(", ");
    let expected = format!("note audit audited, so that they drop nothing: {names} and 1 more");
    assert_eq!(told(&[]), expected);
    let all = "note audit every policy is audited: nothing is enforced";
    assert_eq!(told(&["--audit"]), all);
}

#[test]
fn the_daemons_pages_have_every_flag_and_a_closed_pipe_is_no_fault() {
    let (_lab, daemon) = begin();
    let directory = tempfile::tempdir().unwrap();
    let written = daemon.plain_command().unwrap().arg("manual").arg(directory.path()).output();
    assert_eq!(erred(&written.unwrap()), "");
    let page = fs::read_to_string(directory.path().join("fqdnd.8")).unwrap();
    for wanted in [".SH FILES\n", ".SH EXAMPLES\n", ".SH \"EXIT CODES\"\n", "fqdnd\\-detach(8)"] {
        assert!(page.contains(wanted), "{wanted} is not in:\n{page}");
    }
    let help = daemon.plain_command().unwrap().arg("--help").output().unwrap();
    let flags = said(&help);
    let flags = flags.lines().filter_map(|line| line.trim().strip_prefix("--"));
    let flags: Vec<&str> = flags.filter_map(|line| line.split([' ', '[']).next()).collect();
    assert!(flags.len() > 80, "{flags:?}");
    for flag in flags {
        let written = format!("\\-\\-{}", flag.replace('-', "\\-"));
        assert!(page.contains(&written), "{flag} is not in:\n{page}");
    }
    for arguments in [&["completion", "bash"][..], &["check"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = daemon.plain_command().unwrap();
        let output = command.args(arguments).stdout(writer).stderr(Stdio::piped()).spawn();
        let output = output.unwrap().wait_with_output().unwrap();
        assert_eq!((output.status.code(), erred(&output)), (Some(0), String::new()));
    }
}

#[test]
fn a_second_daemon_on_the_same_socket_is_refused_and_the_first_goes_on() {
    let (_lab, daemon) = begin();
    let mut command = daemon.plain_command().unwrap();
    let second = command.arg("--config").arg(daemon.configuration()).output().unwrap();
    assert_eq!(second.status.code(), Some(1));
    assert!(erred(&second).contains("another fqdnd answers at "), "{}", erred(&second));
    assert!(erred(&second).contains(daemon.socket().to_str().unwrap()), "{}", erred(&second));
    daemon.ctl(&["status"]).unwrap();
    assert_eq!(daemon.enforcement(CLIENT), "enforced");
}

#[test]
fn an_unknown_key_of_the_configuration_is_refused_with_its_place() {
    let (_lab, mut daemon) = begin();
    daemon.stop().unwrap();
    let text = fs::read_to_string(daemon.configuration()).unwrap();
    let lines = text.lines().count();
    let mut file = fs::File::options().append(true).open(daemon.configuration()).unwrap();
    file.write_all(b"dns:\n  maxTtll: 1h\n").unwrap();
    let error = daemon.restart().unwrap_err().to_string();
    assert!(error.contains("maxTtll"), "{error}");
    assert!(error.contains(&format!("line {}", lines + 2)), "{error}");
    assert!(error.contains("fqdnd.yaml is no valid configuration"), "{error}");
    fs::write(daemon.configuration(), text).unwrap();
    daemon.restart().unwrap();
}

#[test]
fn sigterm_ends_it_cleanly_and_takes_the_socket_away() {
    let (lab, mut daemon) = begin();
    let server = lab.dns_service()[0];
    lab.pod(CLIENT).ask(Resolver::new(server), "www.example.com", RecordType::A);
    let status = daemon.stop().unwrap().expect("it ends by itself");
    assert_eq!(status.code(), Some(0));
    assert!(!daemon.socket().exists());
    let output = daemon.ctl_output(&["status"]).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(erred(&output).contains("cannot reach fqdnd at "), "{}", erred(&output));
    // What is enforced stays enforced.
    let client = lab.pod(CLIENT);
    assert_eq!(client.connect("203.0.113.10".parse().unwrap(), 80), Reach::Open);
    assert_eq!(client.connect("203.0.113.12".parse().unwrap(), 80), Reach::Silent);
}

fn begin() -> (Lab, Daemon) {
    let lab = Lab::new(LabOptions::default()).unwrap();
    lab.policy("two-names", POLICY).unwrap();
    let daemon = Daemon::start(&lab, &["--log-level", "debug"]).unwrap();
    (lab, daemon)
}

fn command(program: &str, arguments: &[&str]) -> Output {
    Command::new(program).args(arguments).output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn erred(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}
