//! The items of `toServices`.

use crate::rule::ServicePeer;
use crate::spec::fields::{At, Check};
use crate::spec::selector;

/// Reads an item. As in Cilium, `k8sServiceSelector` alone counts where both are there.
pub(super) fn read(check: &mut Check, at: &At<'_>) -> Option<ServicePeer> {
    let fields = check.fields(at, &["k8sService", "k8sServiceSelector"])?;
    let service = check.present(&fields, "k8sService");
    let named = match &service {
        Some(service) => Some(by_name(check, service)?),
        None => None,
    };
    let Some(services) = check.present(&fields, "k8sServiceSelector") else {
        if named.is_none() {
            check.warn(at, "names no service, so it selects nothing");
        }
        return Some(named.unwrap_or_default());
    };
    if let Some(service) = service {
        check.warn(&service, "has no meaning beside k8sServiceSelector");
    }
    by_labels(check, &services)
}

fn by_name(check: &mut Check, at: &At<'_>) -> Option<ServicePeer> {
    let own = check.fields(at, &["namespace", "serviceName"])?;
    let Some(name) = non_empty(check.optional_text(&own, "serviceName")) else {
        check.warn(at, "has no serviceName, so it selects nothing");
        return Some(ServicePeer::default());
    };
    let namespace = non_empty(check.optional_text(&own, "namespace"));
    if namespace.is_none() {
        check.warn(at, format!("has no namespace, so `{name}` is meant in all of them"));
    }
    Some(ServicePeer { name: Some(name), namespace, selector: None })
}

fn by_labels(check: &mut Check, at: &At<'_>) -> Option<ServicePeer> {
    let own = check.fields(at, &["namespace", "selector"])?;
    let Some(selector) = check.present(&own, "selector") else {
        check.problem(at, "selector must be set; `{}` selects every service");
        return None;
    };
    let selector = selector::read(check, &selector)?.into_selector();
    let namespace = non_empty(check.optional_text(&own, "namespace"));
    Some(ServicePeer { name: None, namespace, selector: Some(selector) })
}

fn non_empty(text: Option<(At<'_>, &str)>) -> Option<String> {
    text.map(|(_, text)| text.to_owned()).filter(|text| !text.is_empty())
}
