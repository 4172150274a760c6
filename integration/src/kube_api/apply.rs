//! Server-side apply: who owns which field, and what two owners want of one.
//!
//! Lists of `conditions` are maps by their `type`; all other lists are owned whole.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::error::ApiError;

/// A field's path, as text.
type Fields = BTreeMap<String, Value>;

/// The object as it is once `manager` has said what it wants.
pub(crate) fn apply(
    mut base: Value,
    wanted: &Value,
    manager: &str,
    force: bool,
) -> Result<Value, ApiError> {
    let mut fields = Fields::new();
    flatten(wanted, "", &mut fields);
    fields.retain(|path, _| {
        !path.starts_with("/metadata/") && path != "/apiVersion" && path != "/kind"
    });
    let mut owners = owners(&base);
    for (other, owned) in owners.iter_mut().filter(|(name, _)| *name != manager) {
        for (path, value) in &fields {
            if owned.contains_key(path) && read(&base, path).as_ref() != Some(value) {
                if !force {
                    let message =
                        format!("Apply failed with 1 conflict: conflict with \"{other}\": {path}");
                    return Err(ApiError::new(409, message));
                }
                owned.remove(path);
            }
        }
    }
    let before = owners.insert(manager.to_owned(), fields.clone()).unwrap_or_default();
    for path in before.keys().filter(|path| !fields.contains_key(*path)) {
        if !owners.values().any(|owned| owned.contains_key(path)) {
            remove(&mut base, path);
        }
    }
    for (path, value) in fields {
        write(&mut base, &path, value);
    }
    for key in ["name", "namespace", "labels", "annotations"] {
        if !wanted["metadata"][key].is_null() {
            base["metadata"][key] = wanted["metadata"][key].clone();
        }
    }
    base["metadata"]["managedFields"] = owners
        .iter()
        .map(|(name, owned)| {
            let paths: Map<String, Value> =
                owned.keys().map(|path| (path.clone(), json!({}))).collect();
            json!({"manager": name, "operation": "Apply", "fieldsV1": paths})
        })
        .collect();
    Ok(base)
}

fn owners(object: &Value) -> BTreeMap<String, Fields> {
    let entries = object["metadata"]["managedFields"].as_array().cloned().unwrap_or_default();
    let fields = |entry: &Value| {
        let paths = entry["fieldsV1"].as_object().cloned().unwrap_or_default();
        paths.into_iter().map(|(path, _)| (path, Value::Null)).collect()
    };
    let manager = |entry: &Value| entry["manager"].as_str().unwrap_or_default().to_owned();
    entries.iter().map(|entry| (manager(entry), fields(entry))).collect()
}

fn flatten(value: &Value, path: &str, fields: &mut Fields) {
    match value {
        Value::Object(entries) if !entries.is_empty() => {
            for (key, value) in entries {
                flatten(value, &format!("{path}/{key}"), fields);
            }
        }
        Value::Array(items) if path.ends_with("/conditions") => {
            for item in items {
                let kind = item["type"].as_str().unwrap_or_default();
                flatten(item, &format!("{path}/{kind}"), fields);
            }
        }
        leaf => {
            fields.insert(path.to_owned(), leaf.clone());
        }
    }
}

/// The steps of a path; whether a step names an item of `conditions` is told by the one before.
fn steps(path: &str) -> Vec<&str> {
    path.split('/').skip(1).collect()
}

fn step<'a>(value: &'a Value, key: &str) -> Option<&'a Value> {
    match value {
        Value::Array(items) => items.iter().find(|item| item["type"] == key),
        value => value.get(key),
    }
}

fn read(object: &Value, path: &str) -> Option<Value> {
    steps(path).into_iter().try_fold(object, step).cloned()
}

fn write(object: &mut Value, path: &str, new: Value) {
    let mut place = object;
    let steps = steps(path);
    for (index, key) in steps.iter().enumerate() {
        let is_list = index > 0 && steps[index - 1] == "conditions";
        if is_list {
            if !place.is_array() {
                *place = json!([]);
            }
            let Value::Array(items) = place else { return };
            let known = items.iter().position(|item| item["type"] == *key);
            let at = known.unwrap_or_else(|| {
                items.push(json!({"type": key}));
                items.len() - 1
            });
            place = &mut items[at];
        } else {
            if !place.is_object() {
                *place = json!({});
            }
            place = &mut place[*key];
        }
    }
    *place = new;
}

fn remove(object: &mut Value, path: &str) {
    let steps = steps(path);
    let Some((last, way)) = steps.split_last() else { return };
    let mut place = object;
    for key in way {
        let next = match place {
            Value::Array(items) => items.iter_mut().find(|item| item["type"] == *key),
            value => value.get_mut(*key),
        };
        let Some(next) = next else { return };
        place = next;
    }
    if let Some(fields) = place.as_object_mut() {
        fields.remove(*last);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_another_owns_is_a_conflict_unless_it_is_forced_and_the_rest_stays() {
        let status =
            |value: &str| json!({"status": {"conditions": [{"type": "Valid", "status": value}]}});
        let base = json!({"metadata": {"name": "x"}, "spec": {"a": 1}});
        let one = apply(base, &status("True"), "one", false).unwrap();
        assert_eq!(one["status"]["conditions"][0]["status"], "True");
        assert_eq!(one["spec"]["a"], 1);
        let conflict = apply(one.clone(), &status("False"), "two", false).unwrap_err();
        assert_eq!(conflict.code, 409);
        let forced = apply(one.clone(), &status("False"), "two", true).unwrap();
        assert_eq!(forced["status"]["conditions"][0]["status"], "False");
        let other = json!({"status": {"conditions": [{"type": "Other", "status": "True"}]}});
        let both = apply(one, &other, "two", false).unwrap();
        assert_eq!(both["status"]["conditions"].as_array().unwrap().len(), 2);
    }
}
