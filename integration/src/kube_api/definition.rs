//! What an API server refuses of a definition of custom objects.
//!
//! Schemas have to be structural. Where the status is written by requests of its own, the schema's
//! root may only say what leaves the status' schema as it is when that is taken out.

use serde_json::Value;

/// What the root of a schema beside a status may have.
const AT_ROOT: &[&str] =
    &["type", "description", "required", "properties", "x-kubernetes-preserve-unknown-fields"];

/// What is wrong with a definition.
pub(crate) fn wrong(definition: &Value) -> Vec<String> {
    let mut wrong = Vec::new();
    for version in definition["spec"]["versions"].as_array().into_iter().flatten() {
        let root = &version["schema"]["openAPIV3Schema"];
        let path = "spec.validation.openAPIV3Schema";
        let others = root.as_object().into_iter().flatten().map(|(key, _)| key.as_str());
        if !version["subresources"]["status"].is_null()
            && others.clone().any(|key| !AT_ROOT.contains(&key))
        {
            let message = "fields are allowed at the root of the schema if the status subresource";
            wrong.push(format!("{path}: Invalid value: only {AT_ROOT:?} {message} is enabled"));
        }
        if root["type"] != "object" {
            wrong.push(format!("{path}.type: Invalid value: must be object at the root"));
        }
        visit(root, path, &mut wrong);
    }
    wrong
}

fn visit(schema: &Value, path: &str, wrong: &mut Vec<String>) {
    let free = schema["x-kubernetes-int-or-string"] == true;
    if !free && !schema["type"].is_string() {
        wrong.push(format!("{path}.type: Required value: must not be empty for specified fields"));
    }
    if schema["properties"].is_object() && !schema["additionalProperties"].is_null() {
        wrong.push(format!(
            "{path}.additionalProperties: Forbidden: mutually exclusive with properties"
        ));
    }
    if schema["type"] == "array" && !schema["items"].is_object() {
        wrong.push(format!("{path}.items: Required value: must be specified"));
    }
    if schema["x-kubernetes-validations"].is_array() {
        wrong.push(format!("{path}.x-kubernetes-validations: rules are not known here"));
    }
    if let Some(pattern) = schema["pattern"].as_str()
        && regex::Regex::new(pattern).is_err()
    {
        wrong.push(format!("{path}.pattern: Invalid value: must be a valid regular expression"));
    }
    for (place, inner) in schema["properties"].as_object().into_iter().flatten() {
        visit(inner, &format!("{path}.properties[{place}]"), wrong);
    }
    for key in ["items", "additionalProperties"] {
        if schema[key].is_object() {
            visit(&schema[key], &format!("{path}.{key}"), wrong);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(schema: &Value, subresources: &Value) -> Vec<String> {
        let schema = json!({"openAPIV3Schema": schema});
        let version = json!({"name": "v1", "schema": schema, "subresources": subresources});
        wrong(&json!({"spec": {"versions": [version]}}))
    }

    #[test]
    fn the_root_of_a_schema_beside_a_status_says_nothing_that_the_status_would_lose() {
        let mut root = json!({"type": "object", "properties": {"spec": {"type": "object"}}});
        let status = json!({"status": {}});
        assert_eq!(of(&root, &status), [""; 0]);
        root["anyOf"] = json!([{"required": ["spec"]}]);
        assert_eq!(of(&root, &json!({})), [""; 0]);
        let wrong = of(&root, &status);
        assert!(wrong[0].contains("allowed at the root of the schema"), "{wrong:?}");
    }

    #[test]
    fn a_schema_that_is_not_structural_is_refused_by_its_place() {
        let root = json!({"type": "object", "properties": {
            "a": {}, "b": {"type": "array"}, "c": {"type": "string", "pattern": "("},
            "d": {"type": "object", "properties": {}, "additionalProperties": {"type": "string"}},
        }});
        let wrong = of(&root, &Value::Null);
        let places: Vec<&str> = wrong.iter().filter_map(|own| own.split(':').next()).collect();
        let under = |place: &str| format!("spec.validation.openAPIV3Schema.properties{place}");
        assert_eq!(
            places,
            ["[a].type", "[b].items", "[c].pattern", "[d].additionalProperties"].map(under)
        );
    }
}
