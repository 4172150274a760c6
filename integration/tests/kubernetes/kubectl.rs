//! The cluster as kubectl shows it and writes to it, whichever version of kubectl this machine has.

use std::{
    io::{BufRead, BufReader, Write},
    process::{Child, Command, Output, Stdio},
};

use futures::StreamExt;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::{
    Api, ResourceExt,
    api::{WatchEvent, WatchParams},
};
use kubernetes::{Cluster, Reports};

use crate::ground::{Ground, PATIENCE, policy};

/// What came of a command.
struct Said {
    succeeded: bool,
    out: String,
    err: String,
}

impl Ground {
    fn kubectl_command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("kubectl");
        command.arg("--kubeconfig").arg(&self.kubeconfig);
        // What it remembers of servers is this one's alone.
        command.arg("--cache-dir").arg(self.directory.path().join("kubectl"));
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs kubectl, and gives it a document to read.
    async fn kubectl(&self, arguments: &[&str], document: &str) -> Said {
        let mut command = self.kubectl_command(arguments);
        let document = document.to_owned();
        let ran = tokio::task::spawn_blocking(move || -> std::io::Result<Output> {
            let mut child = command.spawn()?;
            // Who does not read it says why.
            let _ = child.stdin.take().map(|mut pipe| pipe.write_all(document.as_bytes()));
            child.wait_with_output()
        });
        let output = ran.await.unwrap().unwrap_or_else(|error| panic!("kubectl: {error}"));
        let said = Said {
            succeeded: output.status.success(),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        };
        println!("kubectl {arguments:?}:\n{}{}", said.out, said.err);
        said
    }

    /// Runs kubectl and gives what it printed.
    async fn kubectl_prints(&self, arguments: &[&str], document: &str) -> String {
        let said = self.kubectl(arguments, document).await;
        assert!(said.succeeded, "{arguments:?}: {}{}", said.out, said.err);
        said.out
    }

    /// Runs kubectl until it prints all of this.
    async fn kubectl_comes_to_print(&self, arguments: &[&str], parts: &[&str]) -> String {
        let printed = async {
            loop {
                let printed = self.kubectl_prints(arguments, "").await;
                if parts.iter().all(|part| printed.contains(part)) {
                    return printed;
                }
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
        };
        let printed = tokio::time::timeout(PATIENCE, printed).await;
        printed.unwrap_or_else(|_| panic!("{arguments:?} did not come to print {parts:?}"))
    }

    /// What kubectl says of a field, without the breaks of its lines.
    async fn kubectl_explains(&self, field: &str) -> String {
        let printed = self.kubectl_prints(&["explain", field], "").await;
        printed.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    /// Has a node say what became of policies.
    async fn report(&self) -> Cluster {
        let mut cluster = Cluster::watch(self.options()).await.unwrap();
        cluster.report(Reports { namespace: self.namespace.clone(), node: "here".to_owned() });
        cluster
    }
}

/// A kubectl that goes on printing until this is dropped.
struct Watching(Child);

impl Watching {
    fn start(ground: &Ground, arguments: &[&str]) -> Self {
        Self(ground.kubectl_command(arguments).spawn().unwrap())
    }

    async fn comes_to_print(&mut self, part: &'static str) {
        let mut lines = BufReader::new(self.0.stdout.take().unwrap()).lines();
        let found = tokio::task::spawn_blocking(move || {
            lines.any(|line| line.is_ok_and(|line| line.contains(part)))
        });
        let found = tokio::time::timeout(PATIENCE, found).await;
        assert!(found.is_ok_and(|found| found.unwrap()), "it did not come to print {part}");
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        // One that has ended already is as good.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The words of a table's row that begins with this name.
fn row(table: &str, name: &str) -> Vec<String> {
    let row = table.lines().find(|line| line.split_whitespace().next() == Some(name));
    let row = row.unwrap_or_else(|| panic!("no row {name} in\n{table}"));
    row.split("  ").filter(|own| !own.is_empty()).map(|own| own.trim().to_owned()).collect()
}

#[tokio::test]
async fn what_became_of_policies_stands_in_the_columns_events_and_descriptions_of_kubectl() {
    let ground = Ground::any().await;
    let namespace = ground.namespace.clone();
    let good = policy(&namespace, "good", "203.0.113.1/32");
    let applied = ground.kubectl_prints(&["apply", "-f", "-"], &good).await;
    assert_eq!(applied, "ciliumnetworkpolicy.cilium.io/good created\n");
    let again = ground.kubectl_prints(&["apply", "-f", "-"], &good).await;
    assert_eq!(again, "ciliumnetworkpolicy.cilium.io/good unchanged\n");
    let other = policy(&namespace, "good", "203.0.113.2/32");
    let changed = ground.kubectl_prints(&["apply", "-f", "-"], &other).await;
    assert_eq!(changed, "ciliumnetworkpolicy.cilium.io/good configured\n");
    // No schema can tell that the two fields do not go together.
    let bad = policy(&namespace, "bad", "203.0.113.1/32") + "    toEntities: [world]\n";
    ground.kubectl_prints(&["apply", "--server-side", "-f", "-"], &bad).await;

    let mut watching = Watching::start(&ground, &["get", "cnp", "-n", &namespace, "-w"]);
    let _reporting = ground.report().await;
    let wait = ["wait", "--for=condition=Valid", "cnp/good", "-n", &namespace, "--timeout=60s"];
    let waited = ground.kubectl_prints(&wait, "").await;
    assert!(waited.contains("condition met"), "{waited}");
    watching.comes_to_print("True").await;
    let wide = ["get", "cnp", "-n", &namespace, "-o", "wide"];
    let table = ground.kubectl_comes_to_print(&wide, &["True", "spec.egress[0].toEntities"]).await;
    let header = row(&table, "NAME");
    assert_eq!(header, ["NAME", "AGE", "VALID", "ENFORCED", "WHERE", "WHY"]);
    assert_eq!(row(&table, "good")[2], "True");
    let bad = row(&table, "bad");
    assert_eq!(bad[2], "False");
    let table =
        ground.kubectl_prints(&["get", "ciliumnetworkpolicies", "-n", &namespace], "").await;
    assert_eq!(row(&table, "NAME"), ["NAME", "AGE", "VALID", "ENFORCED"]);

    let events = ground
        .kubectl_comes_to_print(&["get", "events", "-n", &namespace], &["PolicyRefused"])
        .await;
    assert!(events.contains("ciliumnetworkpolicy/bad"), "{events}");
    let described = ["describe", "cnp", "bad", "-n", &namespace];
    let described = ground.kubectl_comes_to_print(&described, &["PolicyRefused"]).await;
    assert!(described.contains("spec.egress[0].toEntities: "), "{described}");
    ground.end().await;
}

#[tokio::test]
async fn kubectl_is_told_the_field_that_the_schema_refuses() {
    let ground = Ground::any().await;
    let namespace = &ground.namespace;
    let wrong = policy(namespace, "wrong", "203.0.113.1/40");
    for arguments in [&["apply", "-f", "-"][..], &["apply", "--server-side", "-f", "-"]] {
        let said = ground.kubectl(arguments, &wrong).await;
        assert!(!said.succeeded, "{arguments:?}: {}", said.out);
        assert!(said.err.contains("\"wrong\" is invalid"), "{}", said.err);
        assert!(said.err.contains("spec.egress[0].toCIDR[0]: Invalid value"), "{}", said.err);
    }
    assert!(ground.dry_run(&wrong).await.is_err());
    ground.dry_run(&policy(namespace, "good", "203.0.113.1/32")).await.unwrap();
    let none = ground.kubectl(&["get", "cnp", "-n", namespace], "").await;
    assert!(none.err.contains("No resources found"), "{}{}", none.out, none.err);
    ground.end().await;
}

/// kubectl takes what a watch of one object begins with for what it has shown already.
#[tokio::test]
async fn a_watch_that_names_no_version_begins_with_what_is_there() {
    let ground = Ground::any().await;
    let namespace = ground.namespace.clone();
    let slice = format!(
        "{{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {{name: there, \
         namespace: {namespace}}}, addressType: IPv4, endpoints: []}}"
    );
    ground.apply(&slice).await;
    let api: Api<EndpointSlice> = Api::namespaced(ground.client.clone(), &namespace);
    let events = api.watch(&WatchParams::default(), "0").await.unwrap();
    let first = events.boxed().next().await.unwrap().unwrap();
    assert!(matches!(first, WatchEvent::Added(own) if own.name_any() == "there"));
    ground.end().await;
}

#[tokio::test]
async fn our_definitions_and_examples_are_applied_by_kubectl_and_taken_away() {
    let ground = Ground::bare().await;
    let fqdnctl = std::env::current_exe().unwrap().with_file_name("../fqdnctl");
    let printed = Command::new(fqdnctl).args(["crd", "print"]).output().unwrap();
    let definitions = String::from_utf8(printed.stdout).unwrap();
    let server_side = ["apply", "--server-side", "-f", "-"];
    let applied = ground.kubectl_prints(&server_side, &definitions).await;
    assert_eq!(applied.lines().count(), 3, "{applied}");
    let kinds = ground.kubectl_prints(&["api-resources", "--api-group", "cilium.io"], "").await;
    let policies = row(&kinds, "ciliumnetworkpolicies");
    assert_eq!(policies[1..], ["cnp,ciliumnp", "cilium.io/v2", "true", "CiliumNetworkPolicy"]);

    let examples = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples");
    for example in std::fs::read_dir(examples).unwrap().map(|own| own.unwrap().path()) {
        if example.extension().is_none_or(|end| end != "yaml") {
            continue;
        }
        let path = example.to_str().unwrap();
        ground.kubectl_prints(&["apply", "-f", path], "").await;
        ground.kubectl_prints(&["delete", "-f", path], "").await;
    }
    let left = ground.api().all("ciliumnetworkpolicies");
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test]
async fn fields_of_policies_are_explained_by_kubectl() {
    let ground = Ground::own().await;
    let policy = ground.kubectl_explains("cnp").await;
    assert!(policy.contains("What pods of one namespace may send."), "{policy}");
    let spec = ground.kubectl_explains("ccnp.spec").await;
    assert!(spec.contains("What fqdnd does not enforce (ingress, "), "{spec}");
    let prefixes = ground.kubectl_explains("ccg.spec.externalCIDRs").await;
    assert!(prefixes.contains("IPv4 and IPv6 prefixes"), "{prefixes}");

    let ports = ground.kubectl_explains("cnp.spec.egress.toPorts.ports").await;
    if ground.api().requests("GET", "/openapi/v3/apis/cilium.io") == 0 {
        // Before 1.27 kubectl says of whatever is below `spec` what is said of that.
        assert!(ports.contains("What fqdnd does not enforce (ingress, "), "{ports}");
        return;
    }
    assert!(ports.contains("The ports, at most 40."), "{ports}");
    assert!(ports.contains("The last port of a range"), "{ports}");
    let ingress = ground.kubectl_explains("cnp.spec.ingress").await;
    assert!(ingress.contains("Not enforced: "), "{ingress}");
}
