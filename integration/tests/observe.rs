//! Flows through the API, as an operator sees them: what each filter selects, the forms of output,
//! following, what was lost, who may ask, and a client that is not ours.

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    net::{IpAddr, Ipv4Addr},
    os::unix::fs::MetadataExt,
    path::Path,
    process::{Child, Output, Stdio},
    time::Duration,
};

use hickory_proto::rr::RecordType;
use integration::{
    Authority, Daemon, Lab, LabOptions, ONE_NAME, Reach, Resolver, Terminal, wait_until,
};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

const CLIENT: &str = "default/client";
const OTHER: &str = "default/other";
const SOON: Duration = Duration::from_secs(60);
/// How many times the client is dropped where losses are wanted.
const MANY: usize = 60;

/// What [`ONE_NAME`] is without: 203.0.113.40 is denied by a rule.
const DENIAL: &str = "  egressDeny:\n  - toCIDR: [203.0.113.40/32]\n";

const WWW: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 10));
const UNKNOWN: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 12));
const FORBIDDEN: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 40));

/// A name that resolves and one that must not; a connection to the name, to an address that was
/// never resolved, and to one that a rule denies; and a connection that no policy is about.
fn tell_a_story(lab: &Lab) {
    let (client, resolver) = (lab.pod(CLIENT), Resolver::new(lab.dns_service()[0]));
    assert_eq!(client.ask(resolver, "www.example.com", RecordType::A).addresses, [WWW]);
    client.ask(resolver, "secret.example.org", RecordType::A);
    assert_eq!(client.connect(WWW, 80), Reach::Open);
    assert_eq!(client.connect(UNKNOWN, 80), Reach::Silent);
    assert_eq!(client.connect(FORBIDDEN, 443), Reach::Silent);
    assert_eq!(lab.pod(OTHER).connect(WWW, 80), Reach::Open);
}

fn begin(flags: &[&str]) -> (Lab, Daemon) {
    let lab = Lab::new(LabOptions::default()).unwrap();
    lab.policy("one-name", &[ONE_NAME, DENIAL].concat()).unwrap();
    let daemon = Daemon::start(&lab, flags).unwrap();
    (lab, daemon)
}

/// The story, once all of it is recorded, up to its end.
struct Story {
    lab: Lab,
    daemon: Daemon,
    until: String,
}

fn story() -> Story {
    let (lab, daemon) = begin(&[]);
    tell_a_story(&lab);
    let seen =
        |daemon: &Daemon, flags: &[&str]| !flows(daemon, &[&["--all"], flags].concat()).is_empty();
    for last in [
        &["--verdict", "dropped", "--to-ip", "203.0.113.40"][..],
        &["--verdict", "forwarded", "--from-pod", OTHER, "--to-port", "80"],
        &["--protocol", "dns", "--verdict", "dropped"],
        &["--protocol", "dns", "--verdict", "forwarded"],
    ] {
        wait_until("the story is recorded", SOON, || seen(&daemon, last)).unwrap();
    }
    let newest = flows(&daemon, &["--last", "1"]).remove(0);
    let until = newest["time"].as_str().unwrap().to_owned();
    Story { lab, daemon, until }
}

impl Story {
    /// The flows of the story that these filters select.
    fn flows(&self, filters: &[&str]) -> Vec<Value> {
        flows(&self.daemon, &[&["--all", "--until", &self.until], filters].concat())
    }

    /// What a filter selects, once it is sure that its negation selects the rest.
    fn selected(&self, filter: &[&str]) -> Vec<Value> {
        let selected = self.flows(filter);
        let negated = [&["--not"], filter].concat();
        let (all, rest) = (self.flows(&[]).len(), self.flows(&negated).len());
        assert_eq!(selected.len() + rest, all, "{filter:?} and its negation");
        selected
    }

    /// That a filter selects some flows, and those for which `holds`.
    fn check(&self, filter: &[&str], holds: impl Fn(&Value) -> bool) {
        let selected = self.selected(filter);
        let expected: Vec<Value> = self.flows(&[]).into_iter().filter(holds).collect();
        assert!(!expected.is_empty(), "the story has none for {filter:?}");
        assert_eq!(uuids(&selected), uuids(&expected), "{filter:?}");
    }
}

#[test]
fn each_filter_selects_what_it_says_and_its_negation_the_rest() {
    let story = story();
    let address = |flow: &Value, end: &str| flow["IP"][end].as_str().unwrap_or_default().to_owned();
    let text =
        |flow: &Value, end: &str, key: &str| flow[end][key].as_str().unwrap_or_default().to_owned();
    let port = |flow: &Value, key: &str| {
        let l4 = &flow["l4"];
        let own = ["TCP", "UDP", "SCTP"].iter().find_map(|name| l4.get(*name));
        own.map_or(0, |own| own[key].as_u64().unwrap_or(0))
    };
    let is = |flow: &Value, key: &str, value: &str| flow[key] == value;
    let event = |flow: &Value| flow["event_type"]["type"].as_u64().unwrap();
    let named = |flow: &Value, name: &str| {
        flow["destination_names"].as_array().is_some_and(|all| all.iter().any(|own| own == name))
    };

    for drop in ["drop", "dropped", "DROPPED"] {
        story.check(&["--verdict", drop], |flow| is(flow, "verdict", "DROPPED"));
    }
    story.check(&["--verdict", "forwarded"], |flow| is(flow, "verdict", "FORWARDED"));
    story.check(&["--verdict", "redirected"], |flow| is(flow, "verdict", "REDIRECTED"));
    for flag in ["--direction", "--traffic-direction"] {
        story.check(&[flag, "EGRESS"], |flow| is(flow, "traffic_direction", "EGRESS"));
    }
    story.check(&["--direction", "ingress"], |flow| is(flow, "traffic_direction", "INGRESS"));
    let reason = |own: &'static str| move |flow: &Value| flow["drop_reason_desc"] == own;
    story.check(&["--drop-reason", "policy-denied"], reason("POLICY_DENIED"));
    story.check(&["--drop-reason", "deny-rule"], reason("POLICY_DENY"));
    story.check(&["--type", "drop:POLICY_DENY"], reason("POLICY_DENY"));
    story.check(&["--type", "drop"], |flow| event(flow) == 1);
    story.check(&["--type", "policy-verdict"], |flow| event(flow) == 5);
    story.check(&["--type", "l7"], |flow| event(flow) == 129);
    story.check(&["--protocol", "dns"], |flow| flow["l7"].get("dns").is_some());
    story.check(&["--protocol", "TCP"], |flow| flow["l4"].get("TCP").is_some());
    story.check(&["--protocol", "udp"], |flow| flow["l4"].get("UDP").is_some());
    story.check(&["--tcp-flags", "syn"], |flow| flow["l4"]["TCP"]["flags"]["SYN"] == true);
    story.check(&["--dns-query", "^secret\\."], |flow| {
        flow["l7"]["dns"]["query"] == "secret.example.org."
    });

    let pod = |flow: &Value, end: &str, name: &str| text(flow, end, "pod_name") == name;
    story.check(&["--from-pod", CLIENT], |flow| pod(flow, "source", "client"));
    story.check(&["--pod", "other"], |flow| pod(flow, "source", "other"));
    story.check(&["--to-pod", "/core"], |flow| pod(flow, "destination", "coredns"));
    let of_system = |flow: &Value, end: &str| text(flow, end, "namespace") == "kube-system";
    story.check(&["-n", "kube-system"], |flow| {
        of_system(flow, "source") || of_system(flow, "destination")
    });
    story.check(&["--to-service", "kube-system/kube-dns"], |flow| {
        flow["destination_service"]["name"] == "kube-dns"
    });
    story.check(&["--from-label", "app=client"], |flow| pod(flow, "source", "client"));
    story.check(&["-l", "k8s:app in (other,nobody)"], |flow| pod(flow, "source", "other"));
    let identity = |flow: &Value, own: u64| flow["destination"]["identity"] == own;
    story.check(&["--to-identity", "world-ipv4"], |flow| identity(flow, 9));
    story.check(&["--to-identity", "world"], |flow| identity(flow, 9) || identity(flow, 10));
    story.check(&["--to-label", "reserved:world-ipv4"], |flow| {
        address(flow, "destination").starts_with("203.0.113.")
    });
    story.check(&["--to-cluster", "default"], |flow| {
        text(flow, "destination", "cluster_name") == "default"
    });
    story.check(&["--from-all-namespaces"], |flow| !text(flow, "source", "namespace").is_empty());
    story.check(&["--to-fqdn", "*.example.com"], |flow| named(flow, "www.example.com"));
    story.check(&["--fqdn", "www.example.com"], |flow| named(flow, "www.example.com"));
    story.check(&["--ip", "203.0.113.12"], |flow| address(flow, "destination") == "203.0.113.12");
    story.check(&["--to-ip", "203.0.113.0/24"], |flow| {
        address(flow, "destination").starts_with("203.0.113.")
    });
    story.check(&["--port", "443"], |flow| port(flow, "destination_port") == 443);
    story.check(&["--to-port", "53"], |flow| port(flow, "destination_port") == 53);
    for v4 in [&["--ip-version", "v4"][..], &["-4"]] {
        story.check(v4, |flow| flow["IP"]["ipVersion"] == "IPv4");
    }
    let interface = story.lab.pod(CLIENT).host_interface();
    story.check(&["--interface", interface], |flow| flow["interface"]["name"] == interface);
    let uuid = story.flows(&[])[0]["uuid"].as_str().unwrap().to_owned();
    story.check(&["--uuid", &uuid], |flow| flow["uuid"] == uuid);

    // The commands of the seed's own guide, and several filters at once.
    let drops = story.flows(&["--verdict", "drop", "--direction", "egress"]);
    let allowed = story.flows(&["--verdict", "forwarded", "--direction", "egress"]);
    assert!(!drops.is_empty() && drops.iter().all(|flow| is(flow, "verdict", "DROPPED")));
    assert!(!allowed.is_empty() && allowed.iter().all(|flow| is(flow, "verdict", "FORWARDED")));
    let raw = r#"{"source_pod":["default/client"],"verdict":["DROPPED"],"protocol":["tcp"]}"#;
    let by_flags = ["--from-pod", CLIENT, "--verdict", "drop", "--protocol", "tcp"];
    assert_eq!(story.flows(&["--allowlist", raw]), story.flows(&by_flags));
    assert!(story.flows(&["--http-status", "200"]).is_empty());
    let anywhere = story.flows(&["-A", "--from-pod", "oth"]);
    assert_eq!(anywhere, story.flows(&["-n", "default", "--from-pod", "oth"]));
    assert!(!anywhere.is_empty());
}

#[test]
fn first_last_and_times_bound_what_is_shown() {
    let story = story();
    let all = story.flows(&[]);
    let shown = |flags: &[&str]| flows(&story.daemon, flags);
    assert_eq!(shown(&["--first", "2"]), all[..2]);
    let until = ["--until", story.until.as_str()];
    assert_eq!(shown(&[&["--last", "3"], &until[..]].concat()), all[all.len() - 3..]);
    let third = all[2]["time"].as_str().unwrap();
    let since = shown(&[&["--since", third], &until[..]].concat());
    let later = |flow: &&Value| flow["time"].as_str() >= Some(third);
    assert_eq!(uuids(&since), uuids(all.iter().filter(later)));
    assert_eq!(shown(&[&["--since", "1h"], &until[..]].concat()), all);
    assert!(shown(&["--until", "2020-01-01T00:00:00Z"]).is_empty());
}

#[test]
fn every_form_tells_the_same_with_reason_and_policy() {
    let story = story();
    let print = |form: &str, flags: &[&str]| {
        story.daemon.ctl(&[&["observe", "--all", "-o", form], flags].concat()).unwrap()
    };
    let denied = ["--drop-reason", "deny-rule"];
    let compact = print("compact", &denied);
    let words = "-> 203.0.113.40:443 ";
    assert!(compact.contains("default/client:"), "{compact}");
    assert!(compact.contains(words) || compact.contains(&words.replace("->", "<>")), "{compact}");
    let end = "drop:deny-rule EGRESS DROPPED by default/one-name (policy-one-name.yaml:25) (TCP Flags: SYN)";
    assert!(compact.lines().all(|line| line.ends_with(end)), "{compact}");
    let forwarded =
        print("compact", &["--verdict", "forwarded", "--tcp-flags", "syn", "--pod", CLIENT]);
    assert!(forwarded.contains("-> www.example.com:80 "), "{forwarded}");
    assert!(forwarded.contains(" EGRESS FORWARDED by default/one-name "), "{forwarded}");
    let refused = print("compact", &["--protocol", "dns", "--verdict", "drop"]);
    assert!(
        refused.contains("dns-request EGRESS DROPPED (DNS Query secret.example.org. A"),
        "{refused}"
    );

    let dict = print("dict", &denied);
    for line in ["    VERDICT: DROPPED", "     REASON: deny-rule", "DESTINATION: 203.0.113.40:443"]
    {
        assert!(dict.lines().any(|own| own == line), "{dict}");
    }
    let table = print("table", &denied);
    let header: Vec<&str> = table.lines().next().unwrap().split_whitespace().collect();
    assert_eq!(header, ["TIMESTAMP", "SOURCE", "DESTINATION", "TYPE", "VERDICT", "SUMMARY"]);
    let node = nix::unistd::gethostname().unwrap().into_string().unwrap();
    for (form, place) in [
        ("compact", format!(" [{node}]: default/client:")),
        ("dict", format!("       NODE: {node}\n")),
        ("table", format!("   {node} ")),
    ] {
        let text = print(form, &[&denied[..], &["--print-node-name"]].concat());
        assert!(text.contains(&place), "{text}");
    }
    let numeric = print("compact", &["--numeric", "--verdict", "forwarded", "--to-port", "80"]);
    assert!(!numeric.contains("default/client:") && numeric.contains(":80 "), "{numeric}");
    assert_eq!(
        print("json", &["--until", &story.until]),
        print("jsonpb", &["--until", &story.until])
    );
    let colored = print("compact", &["--color", "always"]);
    assert!(colored.contains("\u{1b}[31mDROPPED\u{1b}[0m"), "{colored}");
    assert!(!print("compact", &[]).contains('\u{1b}'), "no terminal, no colour");
}

#[test]
fn a_terminal_gets_colours_unless_they_are_not_wanted() {
    let story = story();
    let uses_color = |flags: &[&str], environment: Option<(&str, &str)>| {
        let mut program = story.daemon.ctl_command().unwrap();
        program
            .args(["observe", "--last", "20", "--until", &story.until])
            .args(flags)
            .envs(environment);
        let script = story.daemon.command_inside(Path::new("script"));
        let terminal = Terminal::open(script, &program, story.lab.directory(), (200, 50));
        terminal.wait_for_text("DROPPED");
        let uses_color = terminal.uses_color();
        assert_eq!(terminal.end().code, 0);
        uses_color
    };
    assert!(uses_color(&[], None));
    assert!(uses_color(&["-o", "dict"], None));
    assert!(!uses_color(&["-o", "json"], None));
    assert!(!uses_color(&["--color", "never"], None));
    assert!(!uses_color(&[], Some(("NO_COLOR", "1"))));
}

#[test]
fn a_flow_says_all_that_is_known_of_it() {
    let story = story();
    let node = nix::unistd::gethostname().unwrap().into_string().unwrap();
    let connection = &story.flows(&["--from-pod", CLIENT, "--to-ip", "203.0.113.10"])[0];
    let expected = json!({
        "verdict": "FORWARDED", "Type": "L3_L4", "traffic_direction": "EGRESS", "is_reply": false,
        "node_name": node, "destination_names": ["www.example.com"],
        "event_type": {"type": 5}, "policy_match_type": 2, "Summary": "TCP Flags: SYN",
    });
    for (key, value) in expected.as_object().unwrap() {
        assert_eq!(&connection[key], value, "{key} of {connection:#}");
    }
    assert_eq!(connection["source"]["namespace"], "default");
    assert!(connection["source"]["labels"].as_array().unwrap().contains(&json!("k8s:app=client")));
    let policy = &connection["egress_allowed_by"][0];
    assert_eq!((&policy["name"], &policy["namespace"]), (&json!("one-name"), &json!("default")));
    assert_eq!(policy["kind"], "CiliumNetworkPolicy");
    let labels = policy["labels"].as_array().unwrap();
    let place = labels.iter().find_map(|label| label.as_str()?.strip_prefix("fqdnd:file="));
    assert!(place.unwrap().contains("policy-one-name.yaml:"), "{labels:?}");

    let answer = &story.flows(&["--protocol", "dns", "--verdict", "forwarded"])[0];
    assert_eq!(answer["l7"]["type"], "RESPONSE");
    let dns = &answer["l7"]["dns"];
    assert_eq!((&dns["query"], &dns["qtypes"]), (&json!("www.example.com."), &json!(["A"])));
    assert_eq!((&dns["ips"], &dns["rrtypes"]), (&json!(["203.0.113.10"]), &json!(["A"])));
    assert!(dns["ttl"].as_u64().unwrap() > 0 && answer["l7"]["latency_ns"].is_string());
    assert_eq!(
        answer["destination_service"],
        json!({"name": "kube-dns", "namespace": "kube-system"})
    );
}

#[test]
fn a_follower_sees_what_comes_until_it_is_interrupted_or_the_daemon_ends() {
    let (lab, mut daemon) = begin(&[]);
    let mut follower = follow(&daemon, &["--verdict", "drop", "-o", "json"]);
    lab.pod(CLIENT).connect(UNKNOWN, 80);
    let flow = follower.next_line();
    let flow: Value = serde_json::from_str(&flow).unwrap();
    assert_eq!(flow["flow"]["IP"]["destination"], "203.0.113.12");
    follower.signal(Signal::SIGINT);
    let ended = follower.end();
    assert_eq!((ended.status.code(), said(&ended.stderr)), (Some(0), String::new()));

    let mut follower = follow(&daemon, &["--verdict", "drop"]);
    follower.close_output();
    lab.pod(CLIENT).connect(UNKNOWN, 80);
    let ended = follower.end();
    assert_eq!(
        (ended.status.code(), said(&ended.stderr)),
        (Some(0), String::new()),
        "as `head` does"
    );

    let follower = follow(&daemon, &[]);
    daemon.stop().unwrap();
    let ended = follower.end();
    assert_eq!(ended.status.code(), Some(1));
    assert!(said(&ended.stderr).contains("the server of flows is gone"), "{}", said(&ended.stderr));
    assert!(!daemon.hubble_socket().exists());
    let absent = daemon.ctl_output(&["observe"]).unwrap();
    let error = said(&absent.stderr);
    assert_eq!(absent.status.code(), Some(1));
    assert!(error.contains(daemon.hubble_socket().to_str().unwrap()), "{error}");
    assert!(error.contains("systemctl start fqdnd"), "{error}");
}

#[test]
fn what_was_lost_is_shown_as_lost() {
    let (lab, daemon) = begin(&["--flows-drops-per-second", "1"]);
    let addresses = vec![UNKNOWN; MANY];
    lab.pod(CLIENT).connect_all(&addresses, 80);
    let dropped = daemon.dropped(CLIENT, "policy-denied");
    assert!(dropped >= MANY as u64);
    // Each drop is either a flow or counted as lost.
    let accounted = || {
        let responses = observe(&daemon, &["--all", "--to-ip", &UNKNOWN.to_string()]);
        let lost = responses.iter().filter_map(|response| response.get("lost_events"));
        let lost = lost.filter(|lost| lost["source"] == "PERF_EVENT_RING_BUFFER");
        let lost: u64 = lost
            .map(|lost| lost["num_events_lost"].as_str().unwrap().parse::<u64>().unwrap())
            .sum();
        let seen = responses.iter().filter(|response| response.get("flow").is_some()).count();
        (seen as u64, lost)
    };
    wait_until("all drops are accounted for", SOON, || {
        let (seen, lost) = accounted();
        seen + lost >= dropped && lost > 0
    })
    .unwrap();
    let text = daemon.ctl_output(&["observe", "--all"]).unwrap();
    assert!(said(&text.stderr).contains("EVENTS LOST: PERF_EVENT_RING_BUFFER "), "{text:?}");
}

#[test]
fn what_the_daemon_does_not_understand_is_wrong_usage() {
    let (_lab, daemon) = begin(&[]);
    for (flags, culprit) in [
        (&["--ip", "203.0.113"][..], "`203.0.113` is no address"),
        (&["--dns-query", "("], "`(` is no regular expression"),
        (&["--protocol", "carrier-pigeon"], "`carrier-pigeon`"),
        (&["--port", "https"], "`https` is no port"),
        (&["--verdict", "perhaps"], "'perhaps' for '--verdict <VERDICT>'"),
        (&["-f", "-o", "table"], "--follow"),
    ] {
        let output = daemon.ctl_output(&[&["observe"], flags].concat()).unwrap();
        assert_eq!(output.status.code(), Some(2), "{flags:?}");
        assert!(said(&output.stderr).contains(culprit), "{}", said(&output.stderr));
    }
}

#[test]
fn a_client_that_is_not_ours_sees_the_same() {
    let story = story();
    let target = format!("unix:{}", story.daemon.hubble_socket().display());
    let call = |call: &str, request: &Value| python(&story.daemon, &target, call, request, &[]);
    assert_eq!(call("Health", &json!({})), [json!({"status": "SERVING"})]);
    let request = json!({
        "until": story.until,
        "whitelist": [{"source_pod": [CLIENT]}],
        "blacklist": [{"protocol": ["dns"]}],
    });
    let filters = ["--from-pod", CLIENT, "--not", "--protocol", "dns"];
    let ours =
        observe(&story.daemon, &[&["--all", "--until", &story.until], &filters[..]].concat());
    assert_eq!(call("GetFlows", &request), ours);
    // As Hubble's own client asks, which prints policies and leaves them out of its mask.
    let usual = json!({
        "until": story.until,
        "whitelist": [{"verdict": ["FORWARDED"], "source_pod": [CLIENT], "protocol": ["tcp"]}],
        "field_mask": "verdict,eventType",
    });
    let usual = call("GetFlows", &usual);
    assert_eq!(usual[0]["flow"]["egress_allowed_by"][0]["name"], "one-name", "{usual:?}");
    let masked = json!({
        "until": story.until,
        "whitelist": [{"verdict": ["DROPPED"], "source_pod": [CLIENT]}],
        "field_mask": "verdict,source.podName",
    });
    let masked = call("GetFlows", &masked);
    let fields = json!({"verdict": "DROPPED", "source": {"pod_name": "client"}});
    assert!(!masked.is_empty() && masked.iter().all(|own| own["flow"] == fields), "{masked:?}");
    let status = &call("ServerStatus", &json!({}))[0];
    assert_eq!((&status["max_flows"], &status["num_connected_nodes"]), (&json!("4095"), &json!(1)));
    assert!(status["version"].as_str().unwrap().starts_with("fqdnd v"));
    let nodes = &call("GetNodes", &json!({}))[0]["nodes"];
    assert_eq!(nodes[0]["state"], "NODE_CONNECTED");
    let namespaces = &call("GetNamespaces", &json!({}))[0]["namespaces"];
    assert_eq!(namespaces, &json!([{"namespace": "default"}, {"namespace": "kube-system"}]));
    let error = python_error(&story.daemon, &target, "GetAgentEvents");
    assert!(error.contains("UNIMPLEMENTED"), "{error}");
    let socket = fs::metadata(story.daemon.hubble_socket()).unwrap();
    assert_eq!((socket.mode() & 0o777, socket.uid()), (0o660, 0));
}

#[test]
fn by_tcp_only_those_with_a_certificate_are_told_anything() {
    let authority = Authority::new("authority").unwrap();
    let lab = Lab::new(LabOptions::default()).unwrap();
    lab.policy("one-name", &[ONE_NAME, DENIAL].concat()).unwrap();
    let file = |name: &str, text: &str| {
        let path = lab.directory().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let ca = file("ca.pem", &authority.certificate());
    let issued = |name: &str, role: &str| {
        let identity = authority.issue(&[name]).unwrap();
        (file(&format!("{role}.pem"), &identity.chain), file(&format!("{role}.key"), &identity.key))
    };
    let (certificate, key) = issued("node.fqdnd", "server");
    let (own, own_key) = issued("operator", "client");
    let address = format!("{}:4244", lab.node_addresses().0);
    let mut daemon = Daemon::start(
        &lab,
        &[
            "--hubble-listen",
            &address,
            "--hubble-tls-certificate",
            &certificate,
            "--hubble-tls-key",
            &key,
            "--hubble-tls-client-ca",
            &ca,
        ],
    )
    .unwrap();
    let listeners = &daemon.ctl_json(&["status"]).unwrap()["hubble"]["listeners"];
    assert_eq!(listeners[1], json!({"address": address, "failure": null}));
    tell_a_story(&lab);

    let target = format!("tls://{address}");
    let server =
        ["--server", &target, "--tls-ca-cert-files", &ca, "--tls-server-name", "node.fqdnd"];
    let own_files = ["--tls-client-cert-file", &own, "--tls-client-key-file", &own_key];
    let inside = |flags: &[&str]| {
        let mut command = daemon.ctl_command().unwrap();
        command.args(["observe", "--all", "-o", "json"]).args(flags).output().unwrap()
    };
    let told = inside(&[&server[..], &own_files].concat());
    assert!(told.status.success() && !told.stdout.is_empty(), "{}", said(&told.stderr));
    let stranger = inside(&server);
    assert_eq!((stranger.status.code(), stranger.stdout), (Some(1), Vec::new()));
    let plain = inside(&["--server", &address]);
    assert_eq!((plain.status.code(), plain.stdout), (Some(1), Vec::new()));
    let files = [
        ("CA", ca.as_str()),
        ("CERTIFICATE", &own),
        ("KEY", &own_key),
        ("SERVER_NAME", "node.fqdnd"),
    ];
    let status = python(&daemon, &address, "ServerStatus", &json!({}), &files);
    assert!(status[0]["version"].as_str().unwrap().starts_with("fqdnd v"));

    // A listener that cannot be opened is told of, and the rest goes on.
    daemon.stop().unwrap();
    fs::remove_file(&ca).unwrap();
    daemon.restart().unwrap();
    let hubble = &daemon.ctl_json(&["status"]).unwrap()["hubble"];
    assert!(hubble["listeners"][1]["failure"].as_str().unwrap().contains("ca.pem"), "{hubble}");
    assert_eq!(daemon.enforcement(CLIENT), "enforced");
    daemon.ctl(&["observe"]).unwrap();
}

/// The responses that fqdnctl prints as JSON.
fn observe(daemon: &Daemon, flags: &[&str]) -> Vec<Value> {
    let text = daemon.ctl(&[&["observe", "-o", "json"], flags].concat()).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The flows among them.
fn flows(daemon: &Daemon, flags: &[&str]) -> Vec<Value> {
    let responses = observe(daemon, flags).into_iter();
    responses.filter_map(|mut response| Some(response.get_mut("flow")?.take())).collect()
}

fn uuids<'a>(flows: impl IntoIterator<Item = &'a Value>) -> Vec<&'a str> {
    flows.into_iter().map(|flow| flow["uuid"].as_str().unwrap()).collect()
}

fn said(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A running `fqdnctl observe -f`, which ends with this value.
struct Follower {
    child: Child,
    output: Option<BufReader<std::process::ChildStdout>>,
}

/// Starts a follower and waits until the daemon serves it.
fn follow(daemon: &Daemon, flags: &[&str]) -> Follower {
    let clients = || daemon.ctl_json(&["status"]).unwrap()["hubble"]["clients"].as_u64().unwrap();
    wait_until("the last client is gone", SOON, || clients() == 0).unwrap();
    let mut command = daemon.ctl_command().unwrap();
    command.args(["observe", "-f"]).args(flags);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let output = child.stdout.take().map(BufReader::new);
    let follower = Follower { child, output };
    wait_until("the follower is served", SOON, || clients() == 1).unwrap();
    follower
}

impl Follower {
    fn next_line(&mut self) -> String {
        let mut line = String::new();
        self.output.as_mut().unwrap().read_line(&mut line).unwrap();
        line
    }

    fn close_output(&mut self) {
        self.output = None;
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().cast_signed()), signal).unwrap();
    }

    fn end(mut self) -> Output {
        wait_until("the follower ends", SOON, || self.child.try_wait().unwrap().is_some()).unwrap();
        let mut stderr = Vec::new();
        self.child.stderr.take().unwrap().read_to_end(&mut stderr).unwrap();
        Output { status: self.child.wait().unwrap(), stdout: Vec::new(), stderr }
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a client in Python gets, inside the node.
fn python(
    daemon: &Daemon,
    target: &str,
    call: &str,
    request: &Value,
    environment: &[(&str, &str)],
) -> Vec<Value> {
    let output = python_output(daemon, target, call, request, environment);
    assert!(output.status.success(), "{}", said(&output.stderr));
    said(&output.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn python_error(daemon: &Daemon, target: &str, call: &str) -> String {
    let output = python_output(daemon, target, call, &json!({}), &[]);
    assert!(!output.status.success());
    said(&output.stderr)
}

fn python_output(
    daemon: &Daemon,
    target: &str,
    call: &str,
    request: &Value,
    environment: &[(&str, &str)],
) -> Output {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut command = daemon.command_inside(integration::python());
    command.arg(repository.join("integration/clients/hubble.py"));
    command.arg(repository.join("hubble/proto")).args([target, call, &request.to_string()]);
    command.envs(environment.iter().copied()).output().unwrap()
}
