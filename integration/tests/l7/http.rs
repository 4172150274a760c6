//! HTTP without TLS: requests by curl, and what they come to.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{IpAddr, SocketAddr, TcpStream},
    time::Duration,
};

use hickory_proto::{op::ResponseCode, rr::RecordType};
use integration::{BACKEND, Daemon, Lab, Reach, Resolver, WebServer, python, take_over};
use serde_json::json;

use crate::{
    foreign::{script, websocket_server},
    ground::{CLIENT, Ground, PLAIN, WWW, WWW6, policy},
};

const RULES: &str = r#"  - toCIDR: [203.0.113.10/32, "2001:db8:1::10/128"]
    toPorts:
    - ports: [{port: "8080", protocol: TCP}]
      rules:
        http:
        - {method: GET, path: "/v1/.*"}
        - {method: POST, path: /upload, headers: ["X-Key: yes"]}
"#;

#[test]
fn requests_pass_by_method_path_and_header_and_others_get_403_on_the_same_connection() {
    let ground = Ground::new(&policy(RULES));
    let url = |path: &str| format!("http://{WWW}:{PLAIN}{path}");
    let (status, body) = ground.curl(&[&url("/v1/users?all=1")]);
    assert_eq!(status, 200, "{body}");
    assert!(body.starts_with("HTTP/1.1 GET /v1/users?all=1 from "), "{body}");
    let node = ground.lab.node_addresses().0.to_string();
    assert!(body.lines().next().unwrap().ends_with(&node), "the node asks: {body}");
    assert_eq!(ground.curl(&[&url("/v2/users")]), (403, "Access denied\n".replace('\n', "\r\n")));
    assert_eq!(ground.status(&["--request", "DELETE", &url("/v1/users")]), 403);
    let upload = ["--data", "12345", &url("/upload")];
    assert_eq!(ground.status(&upload), 403);
    let (status, body) = ground.curl(&[&["--header", "X-Key: yes"], &upload[..]].concat());
    assert!(status == 200 && body.contains("5 bytes: 12345"), "{body}");
    let v6 = format!("http://[{WWW6}]:{PLAIN}");
    assert_eq!(ground.status(&[&format!("{v6}/v1/x")]), 200);
    assert_eq!(ground.status(&[&format!("{v6}/x")]), 403);
    // One connection, whatever is refused on it.
    let paths = ["/v1/a", "/no", "/v1/b"].map(&url);
    let counting = ["--output", "/dev/null", "--write-out", "%{num_connects}"];
    let mut arguments = Vec::new();
    for path in &paths {
        arguments.push("--next");
        arguments.extend(counting);
        arguments.push(path);
    }
    assert_eq!(ground.output(&arguments[1..]), "100");
    let passed = ["GET /v1/users?all=1", "POST /upload", "GET /v1/x", "GET /v1/a", "GET /v1/b"];
    assert_eq!(ground.web.requests(), passed);
}

#[test]
fn where_nothing_asks_for_default_deny_requests_and_lookups_are_read_and_none_is_refused() {
    let rules = policy(RULES).replace(r#"matchPattern: "*""#, "matchName: www.example.com");
    let open = rules.replace("spec:\n", "spec:\n  enableDefaultDeny: {egress: false}\n");
    let ground = Ground::new(&open);
    let resolver = Resolver::new(ground.lab.dns_service()[0]);
    let ask = || ground.client().ask(resolver, "secret.example.org", RecordType::A).code;
    let url = |path: &str| format!("http://{WWW}:{PLAIN}{path}");
    assert_eq!(ground.status(&[&url("/v2/x")]), 200);
    assert_eq!(ground.told("/v2/x")["verdict"], "FORWARDED");
    assert_eq!(ask(), ResponseCode::NoError);
    // The same rules in a policy that asks for it.
    ground.change(&rules);
    assert_eq!(ground.status(&[&url("/v2/x")]), 403);
    assert_eq!(ask(), ResponseCode::Refused);
}

#[test]
fn the_example_lets_its_path_through_as_the_regular_expression_that_it_is() {
    let lab = Lab::cluster().unwrap();
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/seed/http.yaml");
    lab.policy("http", &fs::read_to_string(path).unwrap()).unwrap();
    let web = WebServer::start(lab.outside("web").namespace(), 443, None).unwrap();
    let daemon = Daemon::start(&lab, &[]).unwrap();
    let ground = Ground { daemon, web, lab, client: BACKEND };
    let url = |path: &str| format!("http://{WWW}:443{path}");
    assert_eq!(ground.status(&["--path-as-is", &url("/v1//")]), 200);
    assert_eq!(ground.status(&[&url("/v1/users")]), 403);
    assert_eq!(ground.status(&["--request", "POST", "--path-as-is", &url("/v1/")]), 403);
    assert_eq!(ground.status(&["--insecure", &format!("https://{WWW}/v1/")]), 0);
    ground.told("tls-not-terminated");
    assert_eq!(ground.web.requests(), ["GET /v1//"]);
}

#[test]
fn a_request_is_a_flow_with_its_url_status_latency_and_policy() {
    let ground = Ground::new(&policy(RULES));
    assert_eq!(ground.status(&[&format!("http://{WWW}:{PLAIN}/v1/seen")]), 200);
    assert_eq!(ground.status(&[&format!("http://{WWW}:{PLAIN}/hidden")]), 403);
    let seen = ground.told("/v1/seen");
    let http = &seen["l7"]["http"];
    assert_eq!(seen["verdict"], "FORWARDED");
    assert_eq!((http["code"].as_u64(), http["method"].as_str()), (Some(200), Some("GET")));
    assert_eq!(http["url"], format!("http://{WWW}:{PLAIN}/v1/seen"));
    assert_eq!(http["protocol"], "HTTP/1.1");
    assert!(seen["l7"]["latency_ns"].is_string(), "{seen}");
    assert_eq!(seen["source"]["pod_name"], "client");
    assert_eq!(seen["egress_allowed_by"][0]["name"], "l7");
    let hidden = ground.told("/hidden");
    assert_eq!(hidden["l7"]["http"]["code"], 403, "what its client got");
    assert_eq!(
        (&*hidden["verdict"].to_string(), hidden["l7"]["type"].as_str()),
        ("\"DROPPED\"", Some("REQUEST"))
    );
    assert!(hidden["Summary"].as_str().unwrap().ends_with("(request-denied)"), "{hidden}");
    let first = ground.flow(&["--verdict", "redirected"], |_| true);
    assert_eq!(first["l4"]["TCP"]["destination_port"], u64::from(PLAIN));
    let by_protocol = ground.flow(&["--protocol", "http", "--http-status", "200"], |_| true);
    assert_eq!(by_protocol["l7"]["http"]["code"], 200);
    let line = ground.daemon.ctl(&["observe", "--from-pod", CLIENT, "--protocol", "http"]).unwrap();
    assert!(line.contains("http-request") && line.contains("DROPPED"), "{line}");
}

#[test]
fn what_has_no_http_in_it_reaches_nobody() {
    let ground = Ground::new(&policy(RULES));
    let mut stream = raw(&ground, WWW.parse().unwrap(), PLAIN);
    stream.write_all(b"\x00\x01 anything but HTTP\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    // A reset is an end too.
    let _ = stream.read_to_end(&mut answer);
    assert!(!String::from_utf8_lossy(&answer).contains("200"), "{answer:?}");
    assert_eq!(ground.web.requests(), [""; 0]);
    // Another port of the same host is nobody's business: no rule opens it.
    assert_eq!(ground.client().connect(WWW.parse().unwrap(), 80), Reach::Silent);
}

#[test]
fn http2_is_judged_request_by_request_and_a_plain_allow_leaves_nothing_to_judge() {
    let ground = Ground::new(&policy(RULES));
    let h2 = |path: &str| {
        ground.curl(&["--http2-prior-knowledge", &format!("http://{WWW}:{PLAIN}{path}")])
    };
    let (status, body) = h2("/v1/two");
    assert!(status == 200 && body.starts_with("HTTP/2.0 GET /v1/two"), "{status} {body}");
    assert_eq!(h2("/v2/two").0, 403);
    let plain = r#"  - toCIDR: [203.0.113.10/32]
    toPorts:
    - ports: [{port: "8080", protocol: TCP}]
"#;
    ground.change(&policy(&format!("{RULES}{plain}")));
    assert_eq!(h2("/v2/two").0, 200);
    let port = PLAIN.to_string();
    ground.flow(&["--verdict", "forwarded", "--type", "policy-verdict", "--port", &port], |_| true);
}

#[test]
fn a_websocket_is_judged_as_the_request_that_begins_it() {
    let rules = RULES.replace("/v1/.*", "/chat");
    let ground = Ground::new(&policy(&rules));
    let web = ground.lab.outside("web").namespace();
    let _server = websocket_server(web.command(python()), 28_081);
    take_over(web, PLAIN, 28_081).unwrap();
    let talk = |path: &str| {
        let url = format!("ws://{WWW}:{PLAIN}{path}");
        let client = ground.client().namespace().command(python());
        script(client, "websocket.py", &["talk", &url, "one", "two"])
    };
    assert_eq!(talk("/chat"), json!({"answers": ["one", "two"]}));
    assert_eq!(talk("/other"), json!({"status": 403}));
    ground.told("101 (GET");
}

#[test]
fn a_change_of_the_policy_holds_for_the_next_request_of_a_living_connection() {
    let ground = Ground::new(&policy(RULES));
    let mut stream = raw(&ground, WWW.parse().unwrap(), PLAIN);
    assert_eq!(ask(&mut stream, "/v1/x"), 200);
    assert_eq!(ask(&mut stream, "/v2/x"), 403);
    ground.change(&policy(&RULES.replace("/v1/", "/v2/")));
    assert_eq!(ask(&mut stream, "/v1/x"), 403);
    assert_eq!(ask(&mut stream, "/v2/x"), 200);
}

#[test]
fn requests_through_a_bridge_and_to_a_pod_on_it_are_judged_too() {
    let rules = r#"  - toCIDR: [203.0.113.10/32]
    toPorts: [{ports: [{port: "8080", protocol: TCP}], rules: {http: [{path: /yes}]}}]
  - toEndpoints: [{matchLabels: {app: other}}]
    toPorts: [{ports: [{port: "8080", protocol: TCP}], rules: {http: [{path: /yes}]}}]
"#;
    let ground = Ground::bridged(&policy(rules), &[]);
    let other = ground.lab.pod("default/other");
    let _inside = WebServer::start(other.namespace(), PLAIN, None).unwrap();
    for host in [WWW.to_owned(), other.ipv4().to_string(), format!("[{}]", other.ipv6())] {
        let url = |path: &str| format!("http://{host}:{PLAIN}{path}");
        assert_eq!(ground.status(&[&url("/yes")]), 200, "{host}");
        assert_eq!(ground.status(&[&url("/no")]), 403, "{host}");
    }
}

/// A connection of the client pod's.
pub fn raw(ground: &Ground, address: IpAddr, port: u16) -> TcpStream {
    let to = SocketAddr::new(address, port);
    let connect = || TcpStream::connect_timeout(&to, Duration::from_secs(10));
    let stream = ground.client().namespace().run(connect).unwrap().unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream
}

/// The status of one more request on a living connection.
pub fn ask(stream: &mut TcpStream, path: &str) -> u16 {
    write!(stream, "GET {path} HTTP/1.1\r\nhost: {WWW}:{PLAIN}\r\n\r\n").unwrap();
    let mut reader = BufReader::new(stream);
    let (mut status, mut length) = (0, 0);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        let line = line.trim_end().to_ascii_lowercase();
        if let Some(rest) = line.strip_prefix("http/1.1 ") {
            status = rest[..3].parse().unwrap();
        } else if let Some(rest) = line.strip_prefix("content-length: ") {
            length = rest.parse().unwrap();
        } else if line.is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    status
}
