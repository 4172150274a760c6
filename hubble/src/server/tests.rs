use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tonic::Code;

use super::*;
use crate::client::{Certificates, Target, connect};
use crate::proto::flow::FlowFilter;
use crate::proto::observer::{GetAgentEventsRequest, GetFlowsRequest, ServerStatusRequest};
use crate::samples::{Recorded, dropped, entry, forwarded};
use crate::tls::Files;

/// A server in a task, which ends with it.
struct Running {
    task: JoinHandle<Result<(), tonic::transport::Error>>,
    clients: Arc<Clients>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn run(listener: Listener) -> Running {
    let recorded = Recorded::new(15, [entry(dropped(1)), entry(forwarded(2))]);
    let clients = Arc::new(Clients::default());
    let task = tokio::spawn(serve(recorded, vec![listener], Arc::clone(&clients)));
    Running { task, clients }
}

fn run_unix(directory: &TempDir) -> (Running, Target) {
    let path = directory.path().join("hubble.sock");
    let running = run(Listener::Unix(UnixListener::bind(&path).unwrap()));
    (running, Target::Unix(path))
}

#[tokio::test]
async fn flows_and_status_are_told_over_a_unix_socket() {
    let directory = TempDir::new().unwrap();
    let (_running, target) = run_unix(&directory);
    let mut client = connect(&target, &Certificates::default()).await.unwrap();
    let status = client.server_status(ServerStatusRequest {}).await.unwrap().into_inner();
    assert_eq!((status.num_flows, status.max_flows, status.seen_flows), (2, 15, 2));
    assert_eq!(status.uptime_ns, 5_000_000_000);
    assert_eq!(status.num_connected_nodes, Some(1));
    let mut flows = client.get_flows(GetFlowsRequest::default()).await.unwrap().into_inner();
    let mut count = 0;
    while let Some(response) = flows.message().await.unwrap() {
        assert_eq!(response.node_name, "node-1");
        count += 1;
    }
    assert_eq!(count, 2);
}

#[tokio::test]
async fn what_is_wrong_with_a_request_is_said() {
    let directory = TempDir::new().unwrap();
    let (_running, target) = run_unix(&directory);
    let mut client = connect(&target, &Certificates::default()).await.unwrap();
    let filter = FlowFilter { source_ip: vec!["10.0.0".to_owned()], ..Default::default() };
    let request = GetFlowsRequest { whitelist: vec![filter], ..Default::default() };
    let error = client.get_flows(request).await.unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument);
    assert!(error.message().contains("`10.0.0`"), "{error}");
    let error = client.get_agent_events(GetAgentEventsRequest::default()).await.unwrap_err();
    assert_eq!(error.code(), Code::Unimplemented);
}

#[tokio::test]
async fn a_request_that_is_too_long_is_refused() {
    let directory = TempDir::new().unwrap();
    let (_running, target) = run_unix(&directory);
    let mut client = connect(&target, &Certificates::default()).await.unwrap();
    let filter = FlowFilter { uuid: vec!["x".repeat(MAX_REQUEST)], ..Default::default() };
    let request = GetFlowsRequest { whitelist: vec![filter], ..Default::default() };
    assert_eq!(client.get_flows(request).await.unwrap_err().code(), Code::OutOfRange);
}

#[tokio::test]
async fn clients_beyond_the_last_place_are_turned_away_and_counted() {
    let directory = TempDir::new().unwrap();
    let (running, target) = run_unix(&directory);
    let mut connected = Vec::new();
    for _ in 0..CLIENTS {
        let mut client = connect(&target, &Certificates::default()).await.unwrap();
        client.server_status(ServerStatusRequest {}).await.unwrap();
        connected.push(client);
    }
    assert_eq!((running.clients.connected(), running.clients.refused()), (CLIENTS, 0));
    let refused = match connect(&target, &Certificates::default()).await {
        Ok(mut client) => client.server_status(ServerStatusRequest {}).await.is_err(),
        Err(_) => true,
    };
    assert!(refused && running.clients.refused() > 0);
    connected.pop();
    while running.clients.connected() == CLIENTS {
        tokio::task::yield_now().await;
    }
    let mut client = connect(&target, &Certificates::default()).await.unwrap();
    client.server_status(ServerStatusRequest {}).await.unwrap();
}

#[tokio::test]
async fn a_server_that_is_not_there_is_named_with_the_cause() {
    let target = Target::Unix("/nonexistent/hubble.sock".into());
    let error = connect(&target, &Certificates::default()).await.unwrap_err().to_string();
    assert!(error.contains("unix:///nonexistent/hubble.sock: No such file"), "{error}");
}

/// An authority, and certificates that it signs.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn sign(&self, name: &str) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        (certificate.pem(), key.serialize_pem())
    }
}

fn write(directory: &Path, name: &str, text: &str) -> PathBuf {
    let path = directory.join(name);
    std::fs::write(&path, text).unwrap();
    path
}

fn files(directory: &Path, authority: &Authority) -> Files {
    let (certificate, key) = authority.sign("node-1");
    Files {
        certificate: write(directory, "server.pem", &certificate),
        key: write(directory, "server.key", &key),
        client_ca: write(directory, "ca.pem", &authority.0.pem()),
    }
}

async fn run_tls(files: Files) -> (Running, Target) {
    let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
    let target = Target::Tls(listener.local_addr().unwrap().to_string());
    (run(Listener::Tls(listener, Arc::new(Tls::read(files).unwrap()))), target)
}

async fn is_served(target: &Target, certificates: &Certificates) -> bool {
    match connect(target, certificates).await {
        Ok(mut client) => client.server_status(ServerStatusRequest {}).await.is_ok(),
        Err(_) => false,
    }
}

#[tokio::test]
async fn only_clients_whose_certificate_the_authority_signed_are_served() {
    let (directory, authority) = (TempDir::new().unwrap(), Authority::new());
    let (_running, target) = run_tls(files(directory.path(), &authority)).await;
    let good = Certificates {
        authority: Some(authority.0.pem()),
        own: Some(authority.sign("operator")),
        server_name: Some("node-1".to_owned()),
    };
    assert!(is_served(&target, &good).await);
    assert!(!is_served(&target, &Certificates { own: None, ..good.clone() }).await);
    let stranger = Some(Authority::new().sign("operator"));
    assert!(!is_served(&target, &Certificates { own: stranger, ..good.clone() }).await);
    let elsewhere = Some("node-2".to_owned());
    assert!(!is_served(&target, &Certificates { server_name: elsewhere, ..good }).await);
}

#[tokio::test]
async fn renewed_certificates_are_used_and_broken_ones_are_not() {
    let (directory, old, new) = (TempDir::new().unwrap(), Authority::new(), Authority::new());
    let (_running, target) = run_tls(files(directory.path(), &old)).await;
    let of = |authority: &Authority| Certificates {
        authority: Some(authority.0.pem()),
        own: Some(authority.sign("operator")),
        server_name: Some("node-1".to_owned()),
    };
    assert!(is_served(&target, &of(&old)).await);
    write(directory.path(), "server.pem", "no certificate");
    assert!(is_served(&target, &of(&old)).await);
    files(directory.path(), &new);
    assert!(is_served(&target, &of(&new)).await);
    assert!(!is_served(&target, &of(&old)).await);
}

#[test]
fn a_file_that_is_no_certificate_is_named() {
    let (directory, authority) = (TempDir::new().unwrap(), Authority::new());
    let mut files = files(directory.path(), &authority);
    files.client_ca = write(directory.path(), "empty.pem", "");
    let error = Tls::read(files.clone()).unwrap_err().to_string();
    assert!(error.contains("empty.pem"), "{error}");
    files.client_ca = directory.path().join("absent.pem");
    let error = Tls::read(files).unwrap_err().to_string();
    assert!(error.contains("absent.pem"), "{error}");
}
