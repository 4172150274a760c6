//! Connections that the L7 proxy judges: real ones, from a pod's network namespace to its sockets.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::time::Duration;

use model::{Change, DropReason, EndpointEntry, Enforcement, PortPrefix, Protocol, Row, Verdict};
use nix::libc::linger;
use nix::sys::socket::{
    self, AddressFamily, SockFlag, SockType, SockaddrStorage, setsockopt, sockopt,
};
use nix::sys::time::TimeVal;

use super::attaching::{
    ENDPOINT, Lab, MODES, SERVERS, TABLE, connects, enforced_on_a_bridge, enforced_on_a_veth, ip,
    listen, on_a_node,
};
use super::{Fixture, settings};
use crate::AttachMode;

const PATIENCE: Duration = Duration::from_secs(60);
/// Servers that do not exist: only the proxy can have answered.
const NOBODY: [&str; 2] = ["192.0.2.53", "2001:db8::53"];

/// The L7 proxy's listeners, one for each family at one port, and another proxy's beside them.
struct Proxy {
    listeners: [TcpListener; 2],
    other: TcpListener,
}

impl Proxy {
    fn new() -> Self {
        let v4 = transparent("127.0.0.1:0");
        let port = v4.local_addr().unwrap().port();
        let v6 = transparent(&format!("[::1]:{port}"));
        Self { listeners: [v4, v6], other: transparent("127.0.0.1:0") }
    }

    fn settings(&self) -> crate::Settings {
        let port = |listener: &TcpListener| vec![listener.local_addr().unwrap().port()];
        let (l7_ports, tcp_ports) = (port(&self.listeners[0]), port(&self.other));
        crate::Settings { l7_ports, tcp_ports, ..settings() }
    }

    /// The connection that comes in, by which the proxy answers in the server's name.
    fn accept(&self, to: SocketAddr) -> TcpStream {
        let listener = &self.listeners[usize::from(to.is_ipv6())];
        let (stream, _) = listener.accept().unwrap();
        assert_eq!(stream.local_addr().unwrap(), to, "the proxy sees whom the pod meant");
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }
}

fn transparent(address: &str) -> TcpListener {
    let listener = TcpListener::bind(address).unwrap();
    setsockopt(&listener, sockopt::IpTransparent, &true).unwrap();
    setsockopt(&listener, sockopt::Mark, &settings().marks.answer).unwrap();
    listener
}

/// Leads what is marked for a proxy to this node's own sockets.
fn deliver_to_sockets() {
    for family in ["-4", "-6"] {
        ip(&format!("{family} rule add fwmark 0x2000/0x3000 table 77"));
        ip(&format!("{family} route add local default dev lo table 77"));
    }
}

/// What is said of port 80 by the pod's table, from a generation on.
fn port_80(fixture: &Fixture, lab: &Lab, verdict: Verdict, generation: u32) {
    let ports = PortPrefix::port(Protocol::TCP, 80);
    let row = Row { table: TABLE, identity: SERVERS, ports };
    let (enforcement, bridge) = (Enforcement::Table(TABLE), None);
    let entry = EndpointEntry { endpoint: ENDPOINT, enforcement, generation, bridge };
    let mut changes = vec![Change::PutRow(row, verdict.into())];
    if generation > 1 {
        changes.push(Change::PutEndpoint(lab.interface, entry));
    }
    fixture.datapath().apply(&changes).unwrap();
}

/// A pod on a routed veth, whose connections to port 80 have this verdict.
fn enforced(mode: AttachMode, verdict: Verdict) -> (Lab, Fixture) {
    let (lab, fixture) = enforced_on_a_veth(mode);
    port_80(&fixture, &lab, verdict, 1);
    deliver_to_sockets();
    (lab, fixture)
}

fn connect(lab: &Lab, to: SocketAddr) -> TcpStream {
    lab.pod.run(move || {
        let stream = TcpStream::connect_timeout(&to, PATIENCE).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    })
}

/// Something is said and answered.
fn talk(client: &mut TcpStream, server: &mut TcpStream) {
    let mut said = [0; 7];
    client.write_all(b"request").unwrap();
    server.read_exact(&mut said).unwrap();
    server.write_all(b"answers").unwrap();
    client.read_exact(&mut said).unwrap();
    assert_eq!(&said, b"answers");
}

fn reach_the_proxy(lab: &Lab, fixture: &Fixture) {
    let proxy = Proxy::new();
    fixture.datapath().configure(&proxy.settings()).unwrap();
    for address in NOBODY {
        let to = SocketAddr::new(address.parse().unwrap(), 80);
        let mut client = connect(lab, to);
        let mut server = proxy.accept(to);
        talk(&mut client, &mut server);
    }
    let counted = fixture.datapath().counts().unwrap()[&ENDPOINT];
    assert_eq!((counted.inspected, counted.redirected), (2, 0));
    let drops = fixture.datapath().drops().unwrap();
    assert!(!drops.keys().any(|(_, own)| *own == DropReason::ProxyUnavailable), "{drops:?}");
}

#[test]
fn connections_reach_the_l7_proxy_on_a_routed_veth() {
    for (mode, _) in MODES {
        on_a_node(move || {
            let (lab, fixture) = enforced(mode, Verdict::Proxy);
            reach_the_proxy(&lab, &fixture);
        });
    }
}

#[test]
fn connections_reach_the_l7_proxy_through_a_bridge() {
    for (mode, _) in MODES {
        on_a_node(move || {
            let (lab, fixture, _bridge) = enforced_on_a_bridge(mode);
            port_80(&fixture, &lab, Verdict::Proxy, 1);
            deliver_to_sockets();
            reach_the_proxy(&lab, &fixture);
        });
    }
}

#[test]
fn nothing_passes_unjudged_while_the_l7_proxy_is_gone() {
    on_a_node(|| {
        let (lab, fixture) = enforced(AttachMode::Auto, Verdict::Proxy);
        let server = listen("10.1.0.1", 80);
        server.set_nonblocking(true).unwrap();
        let to = server.local_addr().unwrap();
        let proxy = Proxy::new();
        fixture.datapath().configure(&proxy.settings()).unwrap();
        let mut client = connect(&lab, to);
        let mut judged = proxy.accept(to);
        talk(&mut client, &mut judged);
        drop(proxy);
        // Its connections die with a process that is killed.
        setsockopt(&judged, sockopt::Linger, &linger { l_onoff: 1, l_linger: 0 }).unwrap();
        drop(judged);
        let error = client.read(&mut [0; 1]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        assert!(!connects(&lab, "10.1.0.1", 80));
        let refused = server.accept().unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::WouldBlock, "the server met nobody");
        let drops = fixture.datapath().drops().unwrap();
        assert!(drops[&(ENDPOINT, DropReason::ProxyUnavailable)] >= 1, "{drops:?}");
        let again = Proxy::new();
        fixture.datapath().configure(&again.settings()).unwrap();
        let mut client = connect(&lab, to);
        talk(&mut client, &mut again.accept(to));
    });
}

#[test]
fn a_direct_connection_that_must_be_judged_from_now_on_is_reset() {
    on_a_node(|| {
        let (lab, fixture) = enforced(AttachMode::Auto, Verdict::Allow);
        let proxy = Proxy::new();
        fixture.datapath().configure(&proxy.settings()).unwrap();
        let server = listen("10.1.0.1", 80);
        let to = server.local_addr().unwrap();
        let mut client = connect(&lab, to);
        let (mut direct, _) = server.accept().unwrap();
        talk(&mut client, &mut direct);
        port_80(&fixture, &lab, Verdict::Proxy, 2);
        client.write_all(b"more").unwrap();
        let error = client.read(&mut [0; 1]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        let mut client = connect(&lab, to);
        talk(&mut client, &mut proxy.accept(to));
    });
}

#[test]
fn a_judged_connection_stays_with_the_proxy_when_all_is_allowed_and_ends_when_nothing_is() {
    on_a_node(|| {
        let (lab, fixture) = enforced(AttachMode::Auto, Verdict::Proxy);
        let proxy = Proxy::new();
        fixture.datapath().configure(&proxy.settings()).unwrap();
        let server = listen("10.1.0.1", 80);
        let to = server.local_addr().unwrap();
        let mut client = connect(&lab, to);
        let mut judged = proxy.accept(to);
        talk(&mut client, &mut judged);
        port_80(&fixture, &lab, Verdict::Allow, 2);
        talk(&mut client, &mut judged);
        let mut fresh = connect(&lab, to);
        talk(&mut fresh, &mut server.accept().unwrap().0);
        port_80(&fixture, &lab, Verdict::Deny, 3);
        client.write_all(b"more").unwrap();
        judged.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        assert_eq!(judged.read(&mut [0; 1]).unwrap_err().kind(), ErrorKind::WouldBlock);
        let drops = fixture.datapath().drops().unwrap();
        assert!(drops[&(ENDPOINT, DropReason::DenyRule)] >= 1, "{drops:?}");
    });
}

#[test]
fn what_a_connection_left_behind_is_no_way_around_the_proxy() {
    on_a_node(|| {
        let (lab, fixture) = enforced(AttachMode::Auto, Verdict::Allow);
        let proxy = Proxy::new();
        fixture.datapath().configure(&proxy.settings()).unwrap();
        let server = listen("10.1.0.1", 80);
        let to = server.local_addr().unwrap();
        let client = connect_from(&lab, 40_100, to).unwrap();
        close_first(&lab, server.accept().unwrap().0, client);
        port_80(&fixture, &lab, Verdict::Proxy, 2);
        assert!(connect_from(&lab, 40_100, to).is_none(), "the server has answered");
        let client = connect_from(&lab, 40_101, to).unwrap();
        close_first(&lab, proxy.accept(to), client);
    });
}

#[test]
fn a_port_whose_connection_the_proxy_closed_is_soon_of_use_again() {
    on_a_node(|| {
        let (lab, fixture) = enforced(AttachMode::Auto, Verdict::Proxy);
        let proxy = Proxy::new();
        fixture.datapath().configure(&proxy.settings()).unwrap();
        let to = SocketAddr::new(NOBODY[0].parse().unwrap(), 80);
        for _ in 0..2 {
            let client = connect_from(&lab, 40_100, to).unwrap();
            close_first(&lab, proxy.accept(to), client);
        }
    });
}

/// A connection from a port of the pod's, if it comes about before long.
fn connect_from(lab: &Lab, port: u16, to: SocketAddr) -> Option<TcpStream> {
    lab.pod.run(move || {
        let (family, kind) = (AddressFamily::Inet, SockType::Stream);
        let socket = socket::socket(family, kind, SockFlag::empty(), None).unwrap();
        setsockopt(&socket, sockopt::ReuseAddr, &true).unwrap();
        setsockopt(&socket, sockopt::SendTimeout, &TimeVal::new(3, 0)).unwrap();
        let own = SockaddrStorage::from(SocketAddr::new("10.1.0.2".parse().unwrap(), port));
        socket::bind(socket.as_raw_fd(), &own).unwrap();
        let connected = socket::connect(socket.as_raw_fd(), &SockaddrStorage::from(to));
        connected.ok().map(|()| TcpStream::from(socket))
    })
}

/// Ends a connection from the server's side, which remembers it for a minute.
fn close_first(lab: &Lab, server: TcpStream, mut client: TcpStream) {
    drop(server);
    lab.pod.run(move || assert_eq!(client.read(&mut [0; 1]).unwrap(), 0));
}
