//! Objects as the table that kubectl asks for: one row each, with the columns that the kind's
//! definition names.

use std::time::{Duration, SystemTime};

use jsonpath_rust::JsonPath;
use serde_json::{Value, json};

use super::{resources::Resource, world::World};

/// What a client accepts that would rather have a table.
const WANTED: &str = "as=Table";

/// Whether a client would rather have a table.
pub(crate) fn is_wanted(accepted: &str) -> bool {
    accepted.contains(WANTED)
}

/// An object, or a list of them, as a table; `whole` objects go with their rows.
pub(crate) fn of(world: &World, resource: &Resource, shown: &Value, whole: bool) -> Value {
    let columns = columns(world, resource);
    let headers: Vec<Value> = columns
        .iter()
        .map(|own| {
            let (name, kind) = (&own["name"], &own["type"]);
            let format = if name == "Name" { "name" } else { "" };
            let priority = own["priority"].as_u64().unwrap_or(0);
            json!({
                "name": name, "type": kind, "format": format, "priority": priority,
                "description": "",
            })
        })
        .collect();
    let one = std::slice::from_ref(shown);
    let items = shown["items"].as_array().map_or(one, Vec::as_slice);
    let rows: Vec<Value> = items
        .iter()
        .map(|object| {
            let cells: Vec<Value> = columns.iter().map(|column| cell(column, object)).collect();
            let mut shown = object.clone();
            if !whole {
                shown = json!({"metadata": object["metadata"]});
                shown["kind"] = "PartialObjectMetadata".into();
                shown["apiVersion"] = "meta.k8s.io/v1".into();
            }
            json!({"cells": cells, "object": shown})
        })
        .collect();
    json!({
        "kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": shown["metadata"],
        "columnDefinitions": headers, "rows": rows,
    })
}

fn columns(world: &World, resource: &Resource) -> Vec<Value> {
    let column =
        |name: &str, kind: &str, path: &str| json!({"name": name, "type": kind, "jsonPath": path});
    let age = || column("Age", "date", ".metadata.creationTimestamp");
    if resource.plural == "events" {
        let (object, note) = match resource.group.as_str() {
            "" => ("involvedObject", ".message"),
            _ => ("regarding", ".note"),
        };
        return vec![
            column("Last Seen", "date", ".eventTime"),
            column("Type", "string", ".type"),
            column("Reason", "string", ".reason"),
            column("Object", "reference", &format!(".{object}")),
            column("Message", "string", note),
        ];
    }
    let defined = world.definition(resource).map(|own| &own["additionalPrinterColumns"]);
    let named = defined.and_then(Value::as_array).filter(|own| !own.is_empty());
    let others = named.cloned().unwrap_or_else(|| vec![age()]);
    [column("Name", "string", ".metadata.name")].into_iter().chain(others).collect()
}

fn cell(column: &Value, object: &Value) -> Value {
    let path = format!("${}", column["jsonPath"].as_str().unwrap_or_default());
    let found = object.query(&path).unwrap_or_default();
    let Some(value) = found.first() else { return Value::Null };
    match column["type"].as_str() {
        Some("date") => age(value.as_str().unwrap_or_default()).into(),
        Some("reference") => {
            let text = |key: &str| value[key].as_str().unwrap_or_default();
            format!("{}/{}", text("kind").to_lowercase(), text("name")).into()
        }
        _ => (*value).clone(),
    }
}

/// How long ago that was, in the largest unit.
fn age(time: &str) -> String {
    let Ok(then) = humantime::parse_rfc3339_weak(time) else { return "<unknown>".to_owned() };
    let passed = SystemTime::now().duration_since(then).unwrap_or(Duration::ZERO).as_secs();
    match passed {
        0..120 => format!("{passed}s"),
        120..7_200 => format!("{}m", passed / 60),
        7_200..172_800 => format!("{}h", passed / 3_600),
        _ => format!("{}d", passed / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_is_told_in_its_largest_unit() {
        let ago = |seconds| {
            let then = SystemTime::now() - Duration::from_secs(seconds);
            age(&humantime::format_rfc3339_micros(then).to_string())
        };
        assert_eq!([ago(5), ago(300), ago(7_300), ago(200_000)], ["5s", "5m", "2h", "2d"]);
        assert_eq!(age("never"), "<unknown>");
    }
}
