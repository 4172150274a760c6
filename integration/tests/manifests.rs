//! The lab's manifests as the daemon's own reader sees them.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use integration::{Binding, Lab, LabOptions, PodSpec};
use kubernetes::{Inventory, Manifests};
use model::Attachment;
use tokio::{sync::watch::Receiver, time::timeout};

const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn every_pod_and_service_of_a_lab_is_read_with_its_binding() {
    let lab = Lab::new(LabOptions::default()).unwrap();
    let manifests =
        Manifests::watch(&[lab.manifests().directory().to_owned()], kubernetes::Options::default())
            .await
            .unwrap();
    let inventory = Arc::clone(&manifests.subscribe().borrow());
    assert_eq!((&inventory.problems, &inventory.warnings), (&vec![], &vec![]));
    assert_eq!(inventory.pods.len(), lab.pods().count());
    for (name, pod) in &inventory.pods {
        let made = lab.pod(&name.to_string());
        assert_eq!(pod.addresses, made.addresses());
        let attachment = match made.spec().binding {
            Binding::Interface => Attachment::Interface(made.host_interface().to_owned()),
            Binding::Namespace => Attachment::Namespace(made.namespace().path().to_owned()),
            Binding::None => panic!("no such pod in this lab"),
        };
        assert_eq!(pod.attachment, Some(attachment));
    }
    let service = inventory.services.values().next().unwrap();
    assert_eq!(service.addresses, lab.dns_service());
    let backends = lab.dns_pod().addresses().map(|address| SocketAddr::new(address, 53));
    assert!(service.ports.iter().all(|port| port.backends == backends), "{service:?}");
}

#[tokio::test]
async fn a_pod_or_policy_that_comes_or_goes_is_seen_within_a_second() {
    let mut lab = Lab::new(LabOptions::default()).unwrap();
    let manifests =
        Manifests::watch(&[lab.manifests().directory().to_owned()], kubernetes::Options::default())
            .await
            .unwrap();
    let mut inventory = manifests.subscribe();

    lab.add_pod(PodSpec::new("prod/extra")).unwrap();
    until(&mut inventory, |now| now.pods.len() == 5).await;
    let example = include_str!("../../examples/one-name.yaml");
    lab.policy("one-name", example).unwrap();
    until(&mut inventory, |now| now.policies.len() == 1).await;
    lab.policy("one-name", "kind: [").unwrap();
    until(&mut inventory, |now| !now.problems.is_empty() && now.policies.len() == 1).await;
    lab.remove_policy("one-name").unwrap();
    until(&mut inventory, |now| now.policies.is_empty() && now.problems.is_empty()).await;
    lab.remove_pod("prod/extra").unwrap();
    until(&mut inventory, |now| now.pods.len() == 4).await;
}

/// Waits for what should take less than a second, and says how long it took.
async fn until(inventory: &mut Receiver<Arc<Inventory>>, reached: impl Fn(&Inventory) -> bool) {
    let start = Instant::now();
    timeout(PATIENCE, inventory.wait_for(|now| reached(now))).await.unwrap().unwrap();
    println!("seen after {:?}", start.elapsed());
}
