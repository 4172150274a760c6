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

/// What is wrong with an event that is to be made in the words of events.k8s.io.
pub(crate) fn wrong(event: &Value) -> Vec<String> {
    let text = |key: &str| event[key].as_str().unwrap_or_default();
    let mut wrong = Vec::new();
    for required in ["eventTime", "reportingController", "reportingInstance", "action", "reason"] {
        if text(required).is_empty() {
            wrong.push(format!("{required}: Required value"));
        }
    }
    if !matches!(text("type"), "Normal" | "Warning") {
        wrong.push(format!("type: Invalid value: has invalid value: {}", text("type")));
    }
    // The note goes by the name that it has in the core group.
    for (key, told, most) in [
        ("reportingInstance", "reportingInstance", 128),
        ("action", "action", 128),
        ("reason", "reason", 128),
        ("note", "message", 1024),
    ] {
        if text(key).len() > most {
            wrong.push(format!("{told}: Invalid value: can have at most {most} characters"));
        }
    }
    let (namespace, of) = (&event["metadata"]["namespace"], &event["regarding"]["namespace"]);
    if of.is_null() && namespace != "default" && namespace != "kube-system" {
        wrong.push("involvedObject.namespace: does not match event.namespace".to_owned());
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_that_says_too_much_or_too_little_is_refused_by_its_field() {
        let event = json!({
            "metadata": {"name": "a", "namespace": "n"}, "eventTime": "2026-01-01T00:00:00.000000Z",
            "reportingController": "tests", "reportingInstance": "here", "action": "Read",
            "reason": "Tested", "type": "Normal", "note": "x", "regarding": {"namespace": "n"},
        });
        assert_eq!(wrong(&event), [""; 0]);
        let mut long = event.clone();
        long["note"] = "x".repeat(1025).into();
        assert_eq!(wrong(&long), ["message: Invalid value: can have at most 1024 characters"]);
        let mut other = event;
        other["regarding"] = json!({});
        other["action"] = Value::Null;
        assert_eq!(wrong(&other).len(), 2);
    }
}
