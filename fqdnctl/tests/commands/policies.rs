//! `fqdnctl policy` and what goes with it: on files it needs no daemon.
//!
//! What is printed stands in `expected/`, to the letter. With `EXPECT=write` in the environment
//! the files are written anew, to be read before they are committed.

use std::path::Path;
use std::process::{Output, Stdio};

use api::{Identity, IdentityKind, Policy, PolicyRule, Problem, Selector};
use serde_json::{Value, json};

use super::{Daemon, fqdnctl, stderr, stdout};

const HERE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/commands");
const OFFLINE: [&str; 6] =
    ["policy", "explain", "--manifests", "cluster", "--service-prefixes", "10.96.0.0/16"];

#[test]
fn policies_are_checked_with_the_place_of_each_problem() {
    let output = run(&["policy", "check", "checked/mixed.yaml"]);
    expect("check.txt", &stdout(&output));
    assert_eq!((output.status.code(), stderr(&output)), (Some(1), String::new()));
    let output = run(&["policy", "check", "cluster/policies.yaml"]);
    assert_eq!(output.status.code(), Some(0), "{}", stdout(&output));
    let colored = run(&["policy", "check", "checked/mixed.yaml", "--color", "always"]);
    assert!(stdout(&colored).contains("\u{1b}[31mrejected\u{1b}[0m"));
}

#[test]
fn checks_are_an_array_for_programs() {
    let output = run(&["policy", "check", "-o", "json", "checked/mixed.yaml"]);
    expect("check.json", &stdout(&output));
    assert_eq!(output.status.code(), Some(1));
    let none = run(&["policy", "check", "-o", "json", "cluster/objects.yaml"]);
    assert_eq!((none.status.code(), &*stdout(&none)), (Some(0), "[]\n"));
}

#[test]
fn standard_input_is_checked_and_a_missing_file_does_not_hide_the_others() {
    let file = std::fs::File::open(Path::new(HERE).join("cluster/policies.yaml")).unwrap();
    let output = fqdnctl().args(["policy", "check", "-"]).stdin(Stdio::from(file)).output();
    let output = output.unwrap();
    let lines = stdout(&output);
    assert_eq!(lines.lines().next(), Some("ok        -#0  CiliumNetworkPolicy prod/web"));
    assert_eq!(output.status.code(), Some(0));
    let output = run(&["policy", "check", "none.yaml", "cluster/policies.yaml"]);
    assert_eq!(
        stderr(&output),
        "Error: cannot read none.yaml: No such file or directory (os error 2)\n"
    );
    assert!(stdout(&output).contains("ok        cluster/policies.yaml#0"));
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn what_is_audited_is_said_to_drop_nothing() {
    let policy = r#"{apiVersion: cilium.io/v2, kind: CiliumNetworkPolicy, metadata: {name: web, annotations:
        {fqdnd.io/audit: "true"}}, spec: {endpointSelector: {}, egress: [{}]}}"#;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("audited.yaml");
    std::fs::write(&path, policy).unwrap();
    let file = path.to_str().unwrap();
    let said = stdout(&run(&["policy", "check", file]));
    assert!(said.ends_with("CiliumNetworkPolicy web  audited: it drops nothing\n"), "{said}");
    let told: Value =
        serde_json::from_slice(&run(&["policy", "check", "-o", "json", file]).stdout).unwrap();
    assert_eq!(told[0]["audited"], true);
}

#[test]
fn a_directory_is_checked_as_the_daemon_reads_it() {
    let output = run(&["policy", "check", "cluster", "-o", "json"]);
    let checked: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    assert!(!checked.is_empty());
    assert!(checked.iter().all(|own| own["file"] == "cluster/policies.yaml"), "{checked:#?}");
    let empty = tempfile::tempdir().unwrap();
    let output = run(&["policy", "check", empty.path().to_str().unwrap()]);
    assert_eq!(
        (output.status.code(), stdout(&output), stderr(&output)),
        (Some(0), String::new(), "No policies found.\n".into())
    );
}

#[test]
fn explanations_show_the_lines_that_decide() {
    for (name, from, arguments) in [
        ("allowed", "prod/web", &["--to", "service:prod/db", "--port", "5432/TCP"][..]),
        ("denied", "prod/web", &["--to", "prod/db", "--port", "22/TCP"]),
        ("other-pod", "prod/web", &["--to", "lab/free", "--port", "8/ICMP"]),
        ("redirected", "prod/web", &["--to", "10.96.0.10", "--port", "53/udp"]),
        ("deny-rule", "lab/free", &["--to", "169.254.169.254", "--port", "80/TCP"]),
        ("not-enforced", "lab/free", &["--to", "198.51.100.1", "--port", "80/TCP"]),
        ("name", "prod/web", &["--to", "example.org", "--port", "443/TCP"]),
        (
            "resolved",
            "prod/web",
            &[
                "--to",
                "www.example.com",
                "--resolved",
                "www.example.com=203.0.113.5",
                "--port",
                "443/TCP",
            ],
        ),
        (
            "refused",
            "prod/web",
            &["--to", "kube-system/dns", "--port", "53/UDP", "--asks", "a.com"],
        ),
    ] {
        let output = run(&[&OFFLINE[..], &["--from", from], arguments].concat());
        assert_eq!((output.status.code(), stderr(&output)), (Some(0), String::new()), "{name}");
        expect(&format!("explain-{name}.txt"), &stdout(&output));
    }
}

#[test]
fn explanations_are_an_object_for_programs() {
    let to = ["--from", "prod/web", "--to", "prod/db", "--port", "22/TCP", "-o", "json"];
    let output = run(&[&OFFLINE[..], &to[..]].concat());
    expect("explain.json", &stdout(&output));
    let to = ["--from", "prod/web", "--to", "10.96.0.20", "--port", "5432/TCP", "-o", "json"];
    let explanation: Value = read(&run(&[&OFFLINE[..], &to[..]].concat()));
    let rules = explanation["rules"].as_array().unwrap();
    let short =
        |rule: &Value| json!([rule["file"], rule["line"], rule["policy"], rule["direction"]]);
    assert_eq!(
        rules.iter().map(short).collect::<Vec<_>>(),
        [json!(["cluster/policies.yaml", 28, "prod/web", "allow"])]
    );
    let (verdict, enforced) = (&explanation["verdict"], &explanation["enforced"]);
    assert_eq!((verdict, enforced), (&json!("allow"), &json!(true)));
}

#[test]
fn what_cannot_be_explained_is_an_error_and_what_cannot_be_read_wrong_usage() {
    let said = |arguments: &[&str]| {
        let output = run(&[&OFFLINE[..], arguments].concat());
        (output.status.code().unwrap(), stderr(&output).lines().next().unwrap_or("").to_owned())
    };
    let to = |to| ["--from", "prod/web", "--port", "1/TCP", "--to", to];
    let cannot = "Error: cannot explain by cluster: there is no";
    assert_eq!(said(&to("prod/no")), (1, format!("{cannot} pod `prod/no`")));
    assert_eq!(said(&to("service:prod/no")), (1, format!("{cannot} service `prod/no`")));
    let usage =
        |value: &str, option: &str| (2, format!("error: invalid value '{value}' for '{option}'"));
    let begins = |(code, line): (i32, String)| (code, line.split(": `").next().unwrap().to_owned());
    assert_eq!(begins(said(&to("entity:moon"))), usage("entity:moon", "--to <TARGET>"));
    assert_eq!(begins(said(&to("10.0.0.0/8"))), usage("10.0.0.0/8", "--to <TARGET>"));
    let port = ["--from", "prod/web", "--to", "prod/db", "--port", "65536/TCP"];
    assert_eq!(begins(said(&port)), usage("65536/TCP", "--port <PORT/PROTOCOL>"));
}

#[test]
fn the_daemon_is_asked_where_no_manifests_are_named() {
    let offline = ["--from", "prod/web", "--to", "prod/db", "--port", "22/TCP", "-o", "json"];
    let explanation: Value = read(&run(&[&OFFLINE[..], &offline[..]].concat()));
    let daemon = Daemon::answering(&explanation);
    let output = daemon.run(&[&["policy", "explain"], &offline[..]].concat());
    assert_eq!(read(&output), explanation);
    assert_eq!(daemon.requests(), ["POST /v1/explain"]);
    let gone = ["policy", "explain", "--from", "prod/web", "--to", "prod/db", "--port", "22/TCP"];
    let output =
        Daemon::refusing(404, &json!({"message": "there is no pod `prod/web`"})).run(&gone);
    assert_eq!(stderr(&output), "Error: there is no pod `prod/web`\n");
}

#[test]
fn policies_in_force_are_listed_and_one_is_shown_whole() {
    let daemon = Daemon::answering(&[policy("web"), policy("db")]);
    assert_eq!(
        stdout(&daemon.run(&["policy", "get"])),
        "\
NAMESPACE   NAME   RULES   ENDPOINTS   ENFORCED   WARNINGS   FILE
prod        web    1       1           partly     1          /m/web.yaml
prod        db     1       1           partly     1          /m/web.yaml
"
    );
    assert_eq!(
        stdout(&daemon.run(&["policy", "get", "prod/db"])),
        "\
Policy:      prod/db
File:        /m/web.yaml
Enforced:    partly
Endpoints:   prod/db
Rule:        line 5: for any:app=db: 2 allow, 1 deny, denies the rest

Warnings
/m/web.yaml:9:5: spec.egress[0].authentication: is not enforced
"
    );
    let output = daemon.run(&["policy", "get", "prod/none"]);
    assert_eq!(
        (output.status.code(), &*stderr(&output)),
        (Some(1), "Error: no policy `prod/none` is in force\n")
    );
    assert_eq!(daemon.requests(), ["GET /v1/policies"; 3]);
}

#[test]
fn selectors_and_identities_are_listed() {
    let selector = Selector {
        field: "toFQDNs".into(),
        selector: "*.a.com".into(),
        policies: vec!["prod/web".into()],
        identities: Vec::new(),
        names: vec!["x.a.com.".into(), "y.a.com.".into()],
    };
    assert_eq!(
        stdout(&Daemon::answering(&[selector]).run(&["policy", "selectors"])),
        "\
FIELD     SELECTOR   POLICIES   IDENTITIES   NAMES
toFQDNs   *.a.com    prod/web   <none>       x.a.com.,y.a.com.
"
    );
    let identity = Identity {
        identity: model::Identity(16_777_216),
        kind: IdentityKind::Prefix,
        meaning: vec!["192.0.2.0/24".into()],
    };
    assert_eq!(
        stdout(&Daemon::answering(&[identity]).run(&["identity", "list"])),
        "IDENTITY   KIND     MEANING\n16777216   prefix   192.0.2.0/24\n"
    );
}

#[test]
fn an_endpoint_is_shown_whole() {
    let daemon = Daemon::answering(&super::endpoints());
    let output = stdout(&daemon.run(&["endpoint", "get", "prod/web"]));
    let lines: Vec<&str> = output.lines().collect();
    assert_eq!(
        lines[..3],
        ["Name:          prod/web", "ID:            1", "Enforcement:   enforced"]
    );
    assert_eq!(stdout(&daemon.run(&["endpoint", "get", "1"])), output);
    let output = daemon.run(&["endpoint", "get", "prod/none"]);
    assert_eq!(stderr(&output), "Error: no endpoint `prod/none` on this node\n");
}

fn policy(name: &str) -> Policy {
    let problem = Problem {
        file: "/m/web.yaml".into(),
        line: 9,
        column: 5,
        field: "spec.egress[0].authentication".into(),
        message: "is not enforced".into(),
    };
    Policy {
        audited: false,
        namespace: Some("prod".into()),
        name: name.into(),
        file: "/m/web.yaml".into(),
        rules: vec![PolicyRule {
            line: 5,
            subject: format!("any:app={name}"),
            default_deny: true,
            allows: 2,
            denies: 1,
        }],
        endpoints: vec![super::endpoint_name(name)],
        unenforced: vec![problem.clone()],
        warnings: vec![problem],
    }
}

/// fqdnctl, among the files of this test.
fn run(arguments: &[&str]) -> Output {
    fqdnctl().current_dir(HERE).args(arguments).output().unwrap()
}

fn read(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap()
}

fn expect(name: &str, printed: &str) {
    let path = Path::new(HERE).join("expected").join(name);
    if std::env::var_os("EXPECT").is_some_and(|value| value == "write") {
        std::fs::write(&path, printed).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(printed, expected, "{name}");
}
