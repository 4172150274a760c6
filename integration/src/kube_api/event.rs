//! Events, which two groups of the API show: the same objects with other names for their fields.

use serde_json::{Value, json};

use super::resources::Resource;

/// An object as it is asked for: an event of the core group in the words of that.
pub(crate) fn shown(resource: &Resource, object: &Value) -> Value {
    if resource.plural != "events" || !resource.group.is_empty() {
        return object.clone();
    }
    let mut event = json!({
        "apiVersion": "v1",
        "involvedObject": object["regarding"],
        "message": object["note"],
        "source": {"component": object["reportingController"]},
        "reportingComponent": object["reportingController"],
        "firstTimestamp": null,
        "lastTimestamp": null,
    });
    for same in ["kind", "metadata", "type", "reason", "action", "eventTime", "reportingInstance"] {
        event[same] = object[same].clone();
    }
    event
}
