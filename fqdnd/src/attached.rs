//! This node's pods: those whose record says how they are bound, and where that leads.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use model::{Attachment, EndpointName, Interface, Objects, Pod, changes};

/// Which interface leads into each namespace that a pod's record names, or why none.
pub type Namespaces = BTreeMap<PathBuf, Result<Interface, String>>;

/// The pods whose record says how they are bound.
///
/// Followed by what changes, so that pods elsewhere cost nothing.
#[derive(Debug, Default)]
pub struct Attached {
    known: Objects<EndpointName, Pod>,
    pods: BTreeMap<EndpointName, Arc<Pod>>,
    namespaces: Namespaces,
}

impl Attached {
    /// Takes in all pods there are.
    pub fn take(&mut self, pods: &Objects<EndpointName, Pod>) {
        for changed in changes(&self.known, pods) {
            match changed.new.filter(|pod| pod.attachment.is_some() && !pod.host_network) {
                Some(pod) => drop(self.pods.insert(changed.key.clone(), Arc::clone(pod))),
                None => drop(self.pods.remove(changed.key)),
            }
        }
        self.known = pods.clone();
    }

    /// Looks where namespaces lead: at those not found yet, and at all when links or mounts have
    /// changed. Says whether any leads elsewhere now.
    pub async fn look(&mut self, again: bool) -> bool {
        let before = self.namespaces.clone();
        let wanted: Vec<PathBuf> = self.paths().map(Path::to_owned).collect();
        let mut found = Namespaces::new();
        for path in wanted {
            let known = self.namespaces.remove(&path).filter(|known| !again && known.is_ok());
            let interface = match known {
                Some(known) => known,
                None => {
                    let found = host::namespace::host_side(&path).await;
                    found.map_err(|error| error.to_string())
                }
            };
            found.insert(path, interface);
        }
        self.namespaces = found;
        self.namespaces != before
    }

    /// The pods.
    pub fn pods(&self) -> impl Iterator<Item = &Pod> {
        self.pods.values().map(|pod| &**pod)
    }

    /// Where namespaces lead.
    pub fn namespaces(&self) -> &Namespaces {
        &self.namespaces
    }

    fn paths(&self) -> impl Iterator<Item = &Path> {
        self.pods().filter_map(|pod| match &pod.attachment {
            Some(Attachment::Namespace(path)) => Some(path.as_path()),
            Some(Attachment::Interface(_)) | None => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_leads_where_it_led_before_is_no_change() {
        let name = EndpointName { namespace: "default".into(), name: "web".into() };
        let pod = Pod {
            name: name.clone(),
            uid: String::new(),
            labels: [].into_iter().collect(),
            addresses: Vec::new(),
            extra_sources: Vec::new(),
            attachment: Some(Attachment::Namespace("/nowhere".into())),
            host_network: false,
            ports: Arc::default(),
        };
        let mut attached = Attached::default();
        assert!(!attached.look(true).await, "no pod's record names a namespace");
        attached.take(&[(name, Arc::new(pod))].into_iter().collect());
        assert!(attached.look(true).await);
        assert!(!attached.look(true).await && !attached.look(false).await);
    }
}
