//! The items of `toServices`.

use crate::rule::ServicePeer;
use crate::spec::fields::{At, Check};
use crate::spec::selector;

/// Reads an item. `k8sService` and `k8sServiceSelector` together must both fit.
pub(super) fn read(check: &mut Check, at: &At<'_>) -> Option<ServicePeer> {
    let fields = check.fields(at, &["k8sService", "k8sServiceSelector"])?;
    let mut peer = ServicePeer::default();
    if let Some(service) = check.present(&fields, "k8sService") {
        let own = check.fields(&service, &["namespace", "serviceName"])?;
        let name = check.optional_text(&own, "serviceName").filter(|(_, name)| !name.is_empty());
        let Some((_, name)) = name else {
            check.warn(&service, "has no serviceName, so it selects nothing");
            return Some(ServicePeer::default());
        };
        peer.name = Some(name.to_owned());
        peer.namespace = non_empty(check.optional_text(&own, "namespace"));
        if peer.namespace.is_none() {
            check.warn(&service, format!("has no namespace, so `{name}` is meant in all of them"));
        }
    }
    if let Some(services) = check.present(&fields, "k8sServiceSelector") {
        let own = check.fields(&services, &["namespace", "selector"])?;
        let Some(selector) = check.present(&own, "selector") else {
            check.problem(&services, "selector must be set; `{}` selects every service");
            return None;
        };
        peer.selector = Some(selector::read(check, &selector)?.into_selector());
        let namespace = non_empty(check.optional_text(&own, "namespace"));
        if peer.namespace.is_some() && namespace.is_some() && peer.namespace != namespace {
            check.warn(at, "names two namespaces, so it selects nothing");
            return Some(ServicePeer::default());
        }
        peer.namespace = peer.namespace.or(namespace);
    }
    if peer == ServicePeer::default() {
        check.warn(at, "names no service, so it selects nothing");
    }
    Some(peer)
}

fn non_empty(text: Option<(At<'_>, &str)>) -> Option<String> {
    text.map(|(_, text)| text.to_owned()).filter(|text| !text.is_empty())
}
