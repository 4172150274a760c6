//! What the fields of the definitions mean, as `kubectl explain` shows it.
//!
//! A text stands once for all places at which a field means the same: of those that belong to the
//! end of a field's path the longest counts. The bounds that it tells of are the schema's own. Only
//! descriptions are added; `apiVersion`, `kind` and `metadata` have none, since an API server
//! describes the former by itself and takes none of the latter.

mod texts;

use serde_json::Value;

use texts::TEXTS;

/// What a text may tell of its field's schema, or of that of the field's items.
const BOUNDS: [&str; 4] = ["maxItems", "maxLength", "minimum", "maximum"];

/// Describes what is at a path, and every field of it; a kind's own path is its name.
pub(super) fn describe(path: &str, schema: &mut Value) {
    if let Some((_, text)) = row_of(path) {
        schema["description"] = with_bounds(text, schema).into();
    }
    describe_fields(path, schema);
}

fn describe_fields(path: &str, schema: &mut Value) {
    if let Some(items) = schema.get_mut("items") {
        describe_fields(path, items);
    }
    let fields = schema.get_mut("properties").and_then(Value::as_object_mut);
    for (field, own) in fields.into_iter().flatten() {
        describe(&format!("{path}.{field}"), own);
    }
}

/// The row with the longest end of a path.
fn row_of(path: &str) -> Option<&'static (&'static str, &'static str)> {
    let is_end = |end: &str| {
        path.strip_suffix(end).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    };
    TEXTS.iter().filter(|(end, _)| is_end(end)).max_by_key(|(end, _)| end.len())
}

/// The text with the schema's bounds in the places that name them.
fn with_bounds(text: &str, schema: &Value) -> String {
    let inner = schema.get("items").or_else(|| schema.get("additionalProperties"));
    BOUNDS.iter().fold(text.to_owned(), |text, bound| {
        match schema.get(bound).or_else(|| inner?.get(bound)) {
            Some(value) => text.replace(&format!("{{{bound}}}"), &value.to_string()),
            None => text,
        }
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::crd::{definitions, schema};

    /// What kubectl keeps of an object in an annotation, in bytes.
    const MAX_ANNOTATION: usize = 262_144;

    /// Each field's path and schema.
    fn fields(path: &str, schema: &Value, found: &mut Vec<(String, Value)>) {
        if let Some(items) = schema.get("items") {
            fields(path, items, found);
        }
        for (field, own) in schema["properties"].as_object().into_iter().flatten() {
            let path = format!("{path}.{field}");
            found.push((path.clone(), own.clone()));
            fields(&path, own, found);
        }
    }

    fn kinds() -> Vec<(String, Value)> {
        let kind_of = |own: &Value| own["spec"]["names"]["kind"].as_str().unwrap().to_owned();
        let schema_of =
            |own: &Value| own["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone();
        definitions().iter().map(|own| (kind_of(own), schema_of(own))).collect()
    }

    #[test]
    fn every_field_is_described_but_those_that_servers_describe() {
        for (kind, schema) in kinds() {
            let mut all = vec![(kind.clone(), schema.clone())];
            fields(&kind, &schema, &mut all);
            let bare = all.iter().filter(|(_, own)| !own["description"].is_string());
            let bare: Vec<_> = bare.map(|(path, _)| path.clone()).collect();
            assert_eq!(bare, ["apiVersion", "kind", "metadata"].map(|own| format!("{kind}.{own}")));
        }
    }

    #[test]
    fn every_row_is_of_some_field_and_names_bounds_that_it_has() {
        let mut used: BTreeSet<&(&str, &str)> = BTreeSet::new();
        for (kind, schema) in kinds() {
            let mut all = vec![(kind.clone(), schema.clone())];
            fields(&kind, &schema, &mut all);
            used.extend(all.iter().filter_map(|(path, _)| row_of(path)));
            for (path, own) in all {
                let text = own["description"].as_str().unwrap_or_default();
                assert!(!BOUNDS.iter().any(|bound| text.contains(bound)), "{path}: {text}");
            }
        }
        let idle: Vec<_> = TEXTS.iter().filter(|row| !used.contains(row)).collect();
        assert!(idle.is_empty(), "{idle:?}");
    }

    /// Takes the descriptions out of a schema, and leaves fields of that name in.
    fn undescribed(mut schema: Value) -> Value {
        schema.as_object_mut().unwrap().remove("description");
        for inner in ["items", "additionalProperties"] {
            if let Some(inner) = schema.get_mut(inner) {
                *inner = undescribed(inner.take());
            }
        }
        let fields = schema.get_mut("properties").and_then(Value::as_object_mut);
        for (_, own) in fields.into_iter().flatten() {
            *own = undescribed(own.take());
        }
        schema
    }

    #[test]
    fn descriptions_change_nothing_else() {
        let before = [schema::policy(true), schema::policy(false), schema::cidr_group()];
        let after = kinds().into_iter().map(|(_, schema)| undescribed(schema));
        assert_eq!(after.collect::<Vec<_>>(), before);
    }

    #[test]
    fn bounds_are_those_of_the_schema() {
        let (kind, schema) = kinds().remove(0);
        let mut all = Vec::new();
        fields(&kind, &schema, &mut all);
        let of = |end: &str| {
            let (_, own) = all.iter().find(|(path, _)| path.ends_with(end)).unwrap();
            own["description"].as_str().unwrap().to_owned()
        };
        assert!(of("egress.toPorts.ports").contains("at most 40"), "{}", of("ports"));
        assert!(of("toFQDNs.matchName").contains("at most 255 characters"));
        assert!(of("endpointSelector.matchLabels").contains("at most 63 characters"));
        assert!(of("specs.egress.toFQDNs.matchName") == of("spec.egress.toFQDNs.matchName"));
    }

    /// kubectl keeps what it applied in an annotation, unless the server does it.
    #[test]
    fn definitions_fit_into_the_annotation_of_client_side_apply_twice() {
        for definition in definitions() {
            let length = definition.to_string().len();
            assert!(length < MAX_ANNOTATION / 2, "{}: {length}", definition["metadata"]["name"]);
        }
    }
}
