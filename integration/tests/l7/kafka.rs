//! Kafka by topic and kind of request: librdkafka before a real broker, in a pod.

use std::{fs, process::Command};

use integration::{BACKEND, Daemon, Lab, WebServer, python};
use serde_json::{Value, json};

use crate::{
    foreign::{broker, script},
    ground::Ground,
};

#[test]
fn topics_and_kinds_of_requests_are_told_apart_and_denied_in_kafkas_own_words() {
    let lab = Lab::cluster().unwrap();
    let _broker = broker(lab.pod("prod/kafka"), &["payments", "orders"]);
    lab.policy("kafka", &example()).unwrap();
    let web = WebServer::start(lab.outside("web").namespace(), 8080, None).unwrap();
    let daemon = Daemon::start(&lab, &[]).unwrap();
    let ground = Ground { daemon, web, lab, client: BACKEND };
    let place = format!("{}:9092", ground.lab.pod("prod/kafka").ipv4());
    let client = || -> Command { ground.client().namespace().command(python()) };
    let kafka = |arguments: &[&str]| -> Value {
        script(client(), "kafka.py", &[&[place.as_str()], arguments].concat())
    };

    // As it is written: of producing, the one request; a client that asks what there is gets none.
    assert!(!kafka(&["topics"])["error"].is_null());
    let asked = ground.flow(&["--protocol", "kafka"], |flow| flow["verdict"] == "DROPPED");
    assert_ne!(asked["l7"]["kafka"]["api_key"], "produce", "{asked}");

    let role = example().replace("apiKey: produce", "role: produce");
    ground.daemon.settle("a role", || ground.lab.policy("kafka", &role).unwrap());
    assert_eq!(kafka(&["produce", "payments", "one"]), json!({"offset": 0}));
    let denied = kafka(&["produce", "orders", "two"])["error"].as_str().unwrap().to_owned();
    assert!(denied.contains("TOPIC_AUTHORIZATION_FAILED"), "{denied}");
    assert!(!kafka(&["consume", "payments", "1"])["error"].is_null());
    let produced = ground.flow(&["--protocol", "kafka"], |flow| {
        flow["l7"]["kafka"]["api_key"] == "produce" && flow["verdict"] == "FORWARDED"
    });
    assert_eq!(produced["l7"]["kafka"]["topic"], "payments");
    let denied = ground.flow(&["--protocol", "kafka"], |flow| {
        flow["l7"]["kafka"]["topic"] == "orders" && flow["verdict"] == "DROPPED"
    });
    assert_eq!(denied["l7"]["kafka"]["error_code"], 29);
    assert!(denied["l7"]["kafka"]["correlation_id"].as_i64().unwrap() > 0, "{denied}");

    let reader = example().replace("apiKey: produce", "role: consume");
    let reader = reader.replace("name: kafka\n", "name: reader\n");
    ground.daemon.settle("another role", || ground.lab.policy("reader", &reader).unwrap());
    assert_eq!(kafka(&["consume", "payments", "1"]), json!({"messages": ["one"]}));
    let foreign = kafka(&["consume", "orders", "1"]);
    assert!(!foreign["error"].is_null(), "{foreign}");
}

/// The seed's example.
fn example() -> String {
    let path = format!("{}/../examples/seed/kafka.yaml", env!("CARGO_MANIFEST_DIR"));
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}
