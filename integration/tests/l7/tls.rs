//! TLS by server name, as `openssl s_client` asks for it, and QUIC, which would hide it.

use std::{
    net::UdpSocket,
    process::{Output, Stdio},
};

use integration::{WebServer, soon};

use crate::ground::{CLIENT, Ground, policy, public};

const NAMES: &str = r#"  - toFQDNs: [{matchPattern: "*.example.com"}]
    toPorts:
    - ports: [{port: "443", protocol: TCP}]
      serverNames: ["www.example.com", "shop.example.com"]
"#;

fn s_client(ground: &Ground, address: &str, arguments: &[&str]) -> Output {
    let mut client = ground.client().command("timeout");
    client.args(["20", "openssl", "s_client", "-connect", &format!("{address}:443")]);
    client.args(arguments).stdin(Stdio::null()).output().unwrap()
}

#[test]
fn tls_passes_untouched_by_the_name_that_the_pod_resolved_and_by_no_other() {
    let ground = Ground::new(&policy(NAMES));
    let (_, certificate) = public(&["www.example.com"]);
    let web = ground.lab.outside("web").namespace();
    let server = WebServer::start(web, 443, Some(&certificate)).unwrap();
    let address = ground.resolve("www.example.com").to_string();
    let shown = |output: &Output| String::from_utf8_lossy(&output.stdout).into_owned();
    let passed = s_client(&ground, &address, &["-servername", "www.example.com"]);
    assert!(shown(&passed).contains("issuer=CN = the world's authority"), "{passed:?}");
    let told = ground.told("TLS SNI: www.example.com");
    assert_eq!(told["verdict"], "FORWARDED");
    for (arguments, reason) in [
        (&["-servername", "github.com"][..], "server-name-denied"),
        (&["-servername", "shop.example.com"], "server-name-not-resolved"),
        (&["-noservername"], "server-name-missing"),
    ] {
        let refused = s_client(&ground, &address, arguments);
        assert!(!shown(&refused).contains("BEGIN CERTIFICATE"), "{arguments:?}: {refused:?}");
        ground.told(reason);
    }
    assert_eq!(ground.status(&["--insecure", "https://www.example.com/"]), 200);
    assert_eq!(server.requests(), ["GET /"]);
    // Without TLS there is no name.
    assert_eq!(ground.status(&["http://www.example.com:443/"]), 0);
    ground.told("not-tls");
}

#[test]
fn quic_is_dropped_with_a_reason_where_tls_is_judged() {
    let ground = Ground::new(&policy(NAMES));
    let address = ground.resolve("www.example.com");
    let send = || {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        socket.send_to(&[0xc0; 1200], (address, 443)).unwrap();
    };
    ground.client().namespace().run(send).unwrap();
    soon("the drop", || ground.daemon.dropped(CLIENT, "quic-not-inspected") == 1);
    let flow = ground.flow(&["--verdict", "dropped", "--protocol", "udp"], |_| true);
    assert!(flow["Summary"].as_str().unwrap().contains("quic-not-inspected"), "{flow}");
}
