//! TLS: spliced by name, or ended and begun again.

use std::net::SocketAddr;
use std::sync::Arc;

use l7proxy_core::Reason;
use l7proxy_core::control::Asked;
use model::{Hidden, KeyPair, L7Rule, Requests};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa};
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

use crate::rules::{intercepted, names, ok, request, rule, rules};
use crate::servers::Echo;
use crate::stage::{Stage, run};

/// An authority.
pub struct Authority(CertifiedIssuer<'static, rcgen::KeyPair>);

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let name = rcgen::DnType::CommonName;
        params.distinguished_name.push(name, "an authority");
        let key = rcgen::KeyPair::generate().unwrap();
        Self(CertifiedIssuer::self_signed(params, key).unwrap())
    }

    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// The authority as a Secret holds it.
    pub fn pair(&self) -> KeyPair {
        KeyPair { chain: self.pem(), key: Hidden(self.0.key().serialize_pem()) }
    }

    /// A server of this name.
    pub fn server(&self, name: &str, alpn: &[&str]) -> ServerConfig {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = CertificateParams::new([name.to_owned()]).unwrap();
        let leaf = params.signed_by(&key, &self.0).unwrap();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![leaf.der().clone()], key)
            .unwrap();
        config.alpn_protocols = alpn.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        config
    }

    /// The authority's certificate in a file.
    fn file(&self) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), self.pem()).unwrap();
        file
    }
}

pub const NAME: &str = "api.example";

/// What curl says of `https://api.example`, whose address is the proxy's.
pub async fn curl(
    proxy: SocketAddr,
    trusted: &Authority,
    path: &str,
    more: &[&str],
) -> (bool, String) {
    let file = trusted.file();
    let to = format!("{NAME}:443:{}:{}", proxy.ip(), proxy.port());
    let url = format!("https://{NAME}{path}");
    let file = file.path().to_str().unwrap();
    let fixed = ["-sS", "--cacert", file, "--connect-to", &to, &url];
    run("curl", &[&fixed[..], more].concat()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_of_an_allowed_name_goes_on_untouched() {
    let authority = Authority::new();
    let server = Echo::tls(authority.server(NAME, &[])).await;
    let stage = Stage::new(server.address, rules([names(&["*.example"])]));
    let (_, text) = curl(stage.address, &authority, "/any", &[]).await;
    assert_eq!(text, "GET /any api.example\n");
    let record = stage.record(|record| record.request == Asked::Tls).await;
    assert_eq!(record.server_name.as_deref(), Some("api.example"));
}

#[tokio::test(flavor = "multi_thread")]
async fn openssl_is_told_that_another_name_is_denied() {
    let authority = Authority::new();
    let server = Echo::tls(authority.server(NAME, &[])).await;
    let stage = Stage::new(server.address, rules([names(&[NAME])]));
    let to = stage.address.to_string();
    let handshake = |name: &'static str| {
        let to = to.clone();
        async move { run("openssl", &["s_client", "-connect", &to, "-servername", name]).await }
    };
    let (_, text) = handshake(NAME).await;
    assert!(text.contains("Verification") && text.contains("Server certificate"), "{text}");
    let (_, text) = handshake("other.example").await;
    assert!(text.contains("alert access denied"), "{text}");
    stage.refusal(Reason::ServerNameDenied).await;
    let (_, text) = run("openssl", &["s_client", "-connect", &to, "-noservername"]).await;
    assert!(text.contains("alert access denied"), "{text}");
    stage.refusal(Reason::ServerNameMissing).await;
    assert_eq!(server.connections(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_the_pod_did_not_resolve_to_the_address_is_denied() {
    let authority = Authority::new();
    let server = Echo::tls(authority.server(NAME, &[])).await;
    let stage = Stage::new(server.address, rules([names(&["*.example"])]));
    stage.resolve(&["other.example"]);
    assert!(!curl(stage.address, &authority, "/", &[]).await.0);
    stage.refusal(Reason::ServerNameNotResolved).await;
    stage.resolve(&["other.example", "api.example"]);
    assert!(curl(stage.address, &authority, "/", &[]).await.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_under_http_rules_is_refused_with_advice() {
    let authority = Authority::new();
    let server = Echo::tls(authority.server(NAME, &[])).await;
    let stage = Stage::new(server.address, ok());
    let (succeeded, text) = curl(stage.address, &authority, "/ok", &[]).await;
    assert!(!succeeded && text.contains("alert access denied"), "{text}");
    let record = stage.refusal(Reason::TlsNotTerminated).await;
    assert!(record.fate.refused().unwrap().advice().unwrap().contains("terminatingTLS"));
    assert_eq!(server.connections(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_bytes_where_a_server_name_is_wanted_are_refused() {
    let stage = Stage::new(Echo::http1().await.address, rules([names(&[NAME])]));
    let mut client = stage.connect().await;
    client.send("GET / HTTP/1.1\r\nHost: api.example\r\n\r\n").await;
    assert_eq!(client.rest().await, "");
    stage.refusal(Reason::NotTls).await;
}

/// A proxy that ends TLS, and whom its clients trust.
async fn intercepting(alpn: &[&str]) -> (Stage, Authority, Echo) {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let server = Echo::tls(theirs.server(NAME, alpn)).await;
    let requests = Requests::Http(vec![request("GET|POST", "/ok.*")]);
    let stage =
        Stage::new(server.address, rules([intercepted(&ours.pair(), &theirs.pem(), requests)]));
    (stage, ours, server)
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_inside_tls_are_judged() {
    let (stage, ours, server) = intercepting(&["http/1.1"]).await;
    let code = ["-w", "%{http_version} %{http_code}"];
    let (_, text) = curl(stage.address, &ours, "/ok", &code).await;
    assert_eq!(text, "GET /ok api.example\n1.1 200");
    let (_, text) = curl(stage.address, &ours, "/no", &code).await;
    assert_eq!(text, "Access denied\r\n1.1 403");
    let record = stage.refusal(Reason::RequestDenied).await;
    assert_eq!(record.server_name.as_deref(), Some("api.example"));
    assert_eq!(server.connections(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn http2_is_agreed_on_where_both_sides_speak_it() {
    let (stage, ours, _server) = intercepting(&["h2", "http/1.1"]).await;
    let code = ["-w", "%{http_version} %{http_code}"];
    let (_, text) = curl(stage.address, &ours, "/ok", &code).await;
    assert_eq!(text, "GET /ok api.example\n2 200");
    let (_, text) = curl(stage.address, &ours, "/no", &code).await;
    assert_eq!(text, "Access denied\r\n2 403");
    let (_, text) = curl(stage.address, &ours, "/ok", &["--http1.1", code[0], code[1]]).await;
    assert_eq!(text, "GET /ok api.example\n1.1 200");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_host_than_the_one_asked_for_in_tls_is_misdirected() {
    let (stage, ours, _server) = intercepting(&[]).await;
    let more = ["-H", "Host: other.example", "-w", "%{http_code}"];
    let (_, text) = curl(stage.address, &ours, "/ok", &more).await;
    assert_eq!(text, "host-is-not-server-name\r\n421");
    stage.refusal(Reason::HostIsNotServerName).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_destination_that_is_not_trusted_is_not_spoken_to() {
    let (ours, theirs, others) = (Authority::new(), Authority::new(), Authority::new());
    let server = Echo::tls(theirs.server(NAME, &[])).await;
    let rule = intercepted(&ours.pair(), &others.pem(), Requests::Any);
    let stage = Stage::new(server.address, rules([rule]));
    assert!(!curl(stage.address, &ours, "/ok", &[]).await.0);
    stage.refusal(Reason::UpstreamUntrusted).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_of_no_use_open_nothing() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let server = Echo::tls(theirs.server(NAME, &[])).await;
    let broken = KeyPair { chain: "none".into(), key: Hidden("none".into()) };
    let rule = intercepted(&broken, &theirs.pem(), Requests::Any);
    let stage = Stage::new(server.address, rules([rule]));
    assert!(!curl(stage.address, &ours, "/ok", &[]).await.0);
    stage.refusal(Reason::SecretUnavailable).await;
    assert_eq!(server.connections(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn anything_may_be_said_inside_where_the_rule_says_so() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let server = Echo::tls(theirs.server(NAME, &["http/1.1"])).await;
    let rule = intercepted(&ours.pair(), &theirs.pem(), Requests::Any);
    let stage = Stage::new(server.address, rules([rule]));
    let (_, text) = curl(stage.address, &ours, "/whatever", &[]).await;
    assert_eq!(text, "GET /whatever api.example\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_requests_may_go_on_in_tls() {
    let theirs = Authority::new();
    let server = Echo::tls(theirs.server(NAME, &[])).await;
    let rule =
        L7Rule { terminate: None, ..intercepted(&theirs.pair(), &theirs.pem(), ok_requests()) };
    let stage = Stage::new(server.address, rules([rule]));
    let mut client = stage.connect().await;
    let (_, text) = client.ask("GET /ok HTTP/1.1\r\nHost: api.example\r\n\r\n").await;
    assert_eq!(text, "GET /ok api.example\n");
    let (status, _) = client.ask("GET /ok HTTP/1.1\r\nHost: other.example\r\n\r\n").await;
    assert_eq!(status, "HTTP/1.1 502 Bad Gateway");
    stage.refusal(Reason::UpstreamUntrusted).await;
}

fn ok_requests() -> Requests {
    Requests::Http(vec![request("GET", "/ok")])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spliced_connection_ends_when_it_is_no_longer_allowed() {
    let authority = Authority::new();
    let server = Echo::tls(authority.server(NAME, &[])).await;
    let stage = Stage::new(server.address, rules([names(&[NAME])]));
    let mut roots = rustls::RootCertStore::empty();
    roots.add(authority.0.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let stream = stage.connect().await.0;
    let mut stream = connector.connect(NAME.try_into().unwrap(), stream).await.unwrap();
    stage.change(rules([rule(ok_requests())]));
    let mut sink = Vec::new();
    let read = tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut sink);
    let _ = tokio::time::timeout(crate::stage::PATIENCE, read).await.expect("it ends");
    stage.refusal(Reason::TlsNotTerminated).await;
}
