//! The example of a whole policy of production, as it is written, and with what its manual says to
//! add for HTTPS.

use std::fs;

use integration::{Authority, BACKEND, Daemon, Lab, WebServer};

use crate::ground::{Ground, public, secret};

const PAYMENTS: &str = "https://api.stripe.com/v1/payments";

#[test]
fn one_request_of_production_passes_once_tls_is_ended_and_until_then_the_reason_is_told() {
    let (authority, certificate) = public(&["api.stripe.com", "www.example.com"]);
    let issuer = Authority::new("the cluster's own authority").unwrap();
    let lab = Lab::cluster().unwrap();
    lab.policy("production", &example("seed/production")).unwrap();
    let web = lab.outside("web").namespace();
    let web = WebServer::start(web, 443, Some(&certificate)).unwrap();
    let daemon = Daemon::start(&lab, &[]).unwrap();
    let ground = Ground { daemon, web, lab, client: BACKEND };
    let trusted = ground.lab.directory().join("issuer.pem");
    fs::write(&trusted, issuer.certificate()).unwrap();
    let trusted = trusted.to_str().unwrap();
    let curl = |arguments: &[&str]| ground.curl(&[&["--cacert", trusted], arguments].concat());
    let post = ["--request", "POST", "--data", "amount=1"];

    // As it is written: TLS hides what is asked, so nothing passes, and a flow says what to do.
    let warned = |words: &str| {
        let status = ground.daemon.ctl_json(&["status"]).unwrap();
        let mut warnings = status["warnings"].as_array().unwrap().iter();
        warnings.any(|own| own["message"].as_str().unwrap().contains(words))
    };
    assert_eq!(curl(&[&post[..], &[PAYMENTS]].concat()).0, 0);
    let refused = ground.told("tls-not-terminated: add terminatingTLS and originatingTLS");
    assert_eq!(refused["verdict"], "DROPPED");
    assert_eq!(refused["destination_names"][0], "api.stripe.com");

    // With the policy that handles TLS, and without its Secrets.
    let tls = example("payments-tls");
    ground.daemon.settle("TLS is handled", || ground.lab.policy("tls", &tls).unwrap());
    assert_eq!(curl(&[&post[..], &[PAYMENTS]].concat()).0, 0);
    ground.told("secret-unavailable");
    assert!(warned("Secret prod/payments-issuer is not there"));

    let own = issuer.identity();
    let issuing = [("tls.crt", own.chain.as_str()), ("tls.key", own.key.as_str())];
    let secrets = [
        secret("payments-issuer", "fqdnd.io/issuer: \"true\"", &issuing),
        secret("public-authorities", "", &[("ca.crt", &authority.certificate())]),
    ];
    let secrets = secrets.join("---\n").replace("namespace: default", "namespace: prod");
    ground.daemon.settle("the Secrets are there", || {
        ground.lab.manifests().write("secrets", &secrets).unwrap();
    });
    let (status, body) = curl(&[&post[..], &[PAYMENTS]].concat());
    assert!(status == 200 && body.contains("8 bytes: amount=1"), "{status} {body}");
    assert!(body.starts_with("HTTP/2.0 POST /v1/payments"), "agreed on by ALPN: {body}");
    let (status, body) = curl(&[&post[..], &["--http1.1", PAYMENTS]].concat());
    assert!(status == 200 && body.starts_with("HTTP/1.1 POST /v1/payments"), "{status} {body}");
    let refused = [
        &[PAYMENTS][..],
        &["--request", "PUT", PAYMENTS],
        &[&post[..], &["https://api.stripe.com/v1/payments/1"]].concat(),
        &[&post[..], &["https://api.stripe.com/v1/refunds"]].concat(),
    ];
    for arguments in refused {
        assert_eq!(curl(arguments).0, 403, "{arguments:?}");
    }
    // Another host inside the connection for this one, and another host altogether.
    let smuggled = [&post[..], &["--header", "Host: www.example.com", PAYMENTS]].concat();
    assert!([403, 421].contains(&curl(&smuggled).0));
    assert_eq!(curl(&[&post[..], &["https://www.example.com/v1/payments"]].concat()).0, 0);
    assert_eq!(ground.web.requests(), ["POST /v1/payments"; 2]);
    let told = ground.told("HTTP/2 200 (POST https://api.stripe.com/v1/payments)");
    assert_eq!(told["l7"]["http"]["url"], PAYMENTS);
    assert!(!warned("Secret"));
}

fn example(name: &str) -> String {
    let path = format!("{}/../examples/{name}.yaml", env!("CARGO_MANIFEST_DIR"));
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}
