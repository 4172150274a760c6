//! What the shipped manifests give the daemon is all that it needs, and it needs all of it.

use std::collections::BTreeSet;
use std::fs;
use std::net::IpAddr;
use std::path::Path;

use integration::{Daemon, DaemonError, Lab, Reach, WWW, soon};
use serde_json::Value;

use crate::ground::{policy, yaml};
use crate::node::{CLIENT, Node};

const WEB: &str = "203.0.113.10";

/// The objects of deploy/kubernetes/fqdnd.yaml.
fn shipped() -> Vec<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/kubernetes/fqdnd.yaml");
    serde_saphyr::from_multiple(&fs::read_to_string(path).unwrap()).unwrap()
}

fn of_kind<'a>(objects: &'a [Value], kind: &str) -> &'a Value {
    objects.iter().find(|object| object["kind"] == kind).unwrap()
}

fn container(objects: &[Value]) -> &Value {
    &of_kind(objects, "DaemonSet")["spec"]["template"]["spec"]["containers"][0]
}

fn strings(list: &Value) -> Vec<&str> {
    list.as_array().unwrap().iter().map(|own| own.as_str().unwrap()).collect()
}

#[test]
fn the_rights_of_the_manifests_are_enough_to_enforce_what_the_cluster_says() {
    let objects = shipped();
    let security = &container(&objects)["securityContext"];
    assert_eq!(security["allowPrivilegeEscalation"], false);
    assert_eq!(security["readOnlyRootFilesystem"], true);
    let rights = strings(&security["capabilities"]["add"]);
    assert!(!rights.contains(&"SYS_ADMIN"), "{rights:?}");

    let node =
        Node::begin(&[], |lab, flags| Daemon::start_with_rights(lab, flags, &rights).unwrap());
    node.api.put(yaml(WWW)).unwrap();
    let refused = policy("default", "bad", "203.0.113.1/32") + "    toEntities: [world]\n";
    node.api.put(yaml(&refused)).unwrap();
    soon("the policy is enforced", || node.enforcement(CLIENT) == "enforced");
    let client = node.lab.pod(CLIENT);
    let web: IpAddr = WEB.parse().unwrap();
    assert_eq!(client.connect(web, 80), Reach::Silent);
    node.resolves(CLIENT);
    assert_eq!(client.connect(web, 80), Reach::Open);

    soon("the proxy of requests has given up its rights", || {
        node.daemon.log().contains("the L7 proxy runs")
    });

    // The probes are what the manifests say, without the path in the image.
    for probe in ["readinessProbe", "livenessProbe"] {
        let command = strings(&container(&objects)[probe]["exec"]["command"]);
        assert_eq!(command[0], "/usr/bin/fqdnctl");
        let output = node.daemon.ctl_output(&command[1..]).unwrap();
        assert!(output.status.success(), "{probe}: {output:?}");
    }

    soon("the refused policy is told", || !node.api.all("events").is_empty());
    soon("what is enforced is told", || {
        node.api
            .all("ciliumnetworkpolicies")
            .iter()
            .any(|own| own["status"].to_string().contains("on 1 of 1 nodes"))
    });
    let asked = || -> BTreeSet<Access> {
        node.api.asked().iter().map(|(method, path)| Access::asked(method, path)).collect()
    };
    let granted = granted(&objects);
    soon("all that is granted is asked for", || asked().is_superset(&granted));
    assert_eq!(asked(), granted);
}

#[test]
fn without_any_one_of_the_rights_it_does_not_start() {
    let lab = Lab::new(integration::LabOptions::default()).unwrap();
    let needed = ["BPF", "PERFMON", "NET_ADMIN", "NET_RAW"];
    for missing in needed {
        let rest: Vec<&str> = needed.into_iter().filter(|own| *own != missing).collect();
        let started = Daemon::start_with_rights(&lab, &["--l7-enabled", "false"], &rest);
        let refused = matches!(started.map(drop), Err(DaemonError::Ended { .. }));
        assert!(refused, "it starts without {missing}");
    }
}

/// A verb, a group and a resource.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Access(String, String, String);

impl Access {
    /// What a request takes.
    fn asked(method: &str, path: &str) -> Self {
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let mut parts = path.trim_start_matches('/').split('/');
        let group = match parts.next() {
            Some("api") => "",
            Some("apis") => parts.next().unwrap(),
            other => panic!("{other:?} in {path}"),
        };
        let mut rest: Vec<&str> = parts.skip(1).collect();
        if rest.len() > 2 && rest[0] == "namespaces" {
            rest.drain(..2);
        }
        let verb = match (method, rest.len()) {
            ("GET", 1) if query.contains("watch=") => "watch",
            ("GET", 1) => "list",
            ("GET", _) => "get",
            ("POST", _) => "create",
            ("PUT", _) => "update",
            ("PATCH", _) => "patch",
            (other, _) => panic!("{other} {path}"),
        };
        let resource = match rest.as_slice() {
            [resource] | [resource, _] => (*resource).to_owned(),
            [resource, _, part] => format!("{resource}/{part}"),
            other => panic!("{other:?} in {path}"),
        };
        Self(verb.to_owned(), group.to_owned(), resource)
    }
}

/// What the roles of the manifests allow. Updates of the lease, which come after a while, and of
/// policies of the cluster, of which there are none here, are as those that were seen.
fn granted(objects: &[Value]) -> BTreeSet<Access> {
    let mut granted = BTreeSet::new();
    for role in objects.iter().filter(|own| own["kind"].as_str().unwrap().ends_with("Role")) {
        for rule in role["rules"].as_array().unwrap() {
            for verb in strings(&rule["verbs"]) {
                for group in strings(&rule["apiGroups"]) {
                    for resource in strings(&rule["resources"]) {
                        granted.insert(Access(verb.into(), group.into(), resource.into()));
                    }
                }
            }
        }
    }
    let later = |own: &Access| {
        own.0 == "update" && own.2 == "leases" || own.2 == "ciliumclusterwidenetworkpolicies/status"
    };
    assert_eq!(granted.iter().filter(|own| later(own)).count(), 2);
    granted.retain(|own| !later(own));
    granted
}
