//! Admission by the schema of a custom resource definition.

use serde_json::Value;

/// What is wrong with an object; what the schema does not know is taken out of it, as the server
/// does.
pub(crate) fn check(schema: &Value, object: &mut Value) -> Vec<String> {
    let mut wrong = Vec::new();
    visit(schema, object, "", &mut wrong);
    wrong
}

fn visit(schema: &Value, value: &mut Value, path: &str, wrong: &mut Vec<String>) {
    if value.is_null() || !schema.is_object() {
        return;
    }
    let say = |wrong: &mut Vec<String>, message: String| {
        wrong.push(format!("{}: {message}", path.trim_start_matches('.')));
    };
    if !is_of_type(schema, value) {
        return say(wrong, format!("Invalid value: must be of type {}", schema["type"]));
    }
    if let Some(allowed) = schema["enum"].as_array()
        && !allowed.contains(value)
    {
        say(wrong, format!("Unsupported value: {value}"));
    }
    match value {
        Value::String(text) => {
            let length = text.chars().count() as u64;
            if schema["minLength"].as_u64().is_some_and(|least| length < least)
                || schema["maxLength"].as_u64().is_some_and(|most| length > most)
            {
                say(wrong, format!("Invalid value: {text:?} has a length that is not allowed"));
            }
            if let Some(pattern) = schema["pattern"].as_str()
                && !regex::Regex::new(pattern).is_ok_and(|regex| regex.is_match(text))
            {
                say(wrong, format!("Invalid value: {text:?} should match '{pattern}'"));
            }
        }
        Value::Number(number) => {
            let number = number.as_f64().unwrap_or(f64::NAN);
            if schema["minimum"].as_f64().is_some_and(|least| number < least)
                || schema["maximum"].as_f64().is_some_and(|most| number > most)
            {
                say(wrong, format!("Invalid value: {number} is out of bounds"));
            }
        }
        Value::Array(items) => {
            let length = items.len() as u64;
            if schema["minItems"].as_u64().is_some_and(|least| length < least) {
                say(wrong, "Invalid value: has too few items".to_owned());
            }
            if schema["maxItems"].as_u64().is_some_and(|most| length > most) {
                say(wrong, format!("Too many: {length}"));
            }
            for (index, item) in items.iter_mut().enumerate() {
                visit(&schema["items"], item, &format!("{path}[{index}]"), wrong);
            }
        }
        Value::Object(_) => visit_fields(schema, value, path, wrong),
        Value::Null | Value::Bool(_) => {}
    }
    combine(schema, value, path, wrong);
}

fn visit_fields(schema: &Value, value: &mut Value, path: &str, wrong: &mut Vec<String>) {
    for required in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        if value.get(required).is_none_or(Value::is_null) {
            wrong.push(format!(
                "{}: Required value",
                format!("{path}.{required}").trim_start_matches('.')
            ));
        }
    }
    let Some(fields) = value.as_object_mut() else { return };
    let root = path.is_empty();
    let keeps = schema["x-kubernetes-preserve-unknown-fields"] == true;
    let others = schema["additionalProperties"].clone();
    let known = schema["properties"].clone();
    fields.retain(|key, own| {
        if root && matches!(key.as_str(), "apiVersion" | "kind" | "metadata") {
            return true;
        }
        let inner = format!("{path}.{key}");
        if let Some(property) = known.get(key) {
            visit(property, own, &inner, wrong);
            true
        } else if others.is_object() {
            visit(&others, own, &inner, wrong);
            true
        } else {
            keeps || others == true
        }
    });
}

/// `oneOf`, `anyOf` and `not`: they take nothing out.
fn combine(schema: &Value, value: &Value, path: &str, wrong: &mut Vec<String>) {
    let path = path.trim_start_matches('.');
    let fits = |schema: &Value| {
        let mut wrong = Vec::new();
        visit(schema, &mut value.clone(), "", &mut wrong);
        wrong.is_empty()
    };
    if let Some(all) = schema["oneOf"].as_array()
        && all.iter().filter(|own| fits(own)).count() != 1
    {
        wrong.push(format!("{path}: Invalid value: must fit exactly one schema (oneOf)"));
    }
    if let Some(all) = schema["anyOf"].as_array()
        && !all.iter().any(fits)
    {
        wrong.push(format!("{path}: Invalid value: must fit at least one schema (anyOf)"));
    }
    if schema["not"].is_object() && fits(&schema["not"]) {
        wrong.push(format!("{path}: Invalid value: must not fit the schema (not)"));
    }
}

fn is_of_type(schema: &Value, value: &Value) -> bool {
    if schema["x-kubernetes-int-or-string"] == true {
        return value.is_i64() || value.is_u64() || value.is_string();
    }
    match schema["type"].as_str() {
        Some("object") => value.is_object(),
        Some("array") => value.is_array(),
        Some("string") => value.is_string(),
        Some("boolean") => value.is_boolean(),
        Some("integer") => value.is_i64() || value.is_u64(),
        Some("number") => value.is_number(),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_does_not_fit_is_named_by_its_field_and_what_is_unknown_is_taken_out() {
        let schema = json!({"type": "object", "required": ["spec"], "properties": {"spec": {
        "type": "object",
        "properties": {
            "name": {"type": "string", "pattern": "^[a-z]+$", "maxLength": 3},
            "port": {"type": "integer", "minimum": 1},
            "one": {"type": "object", "properties": {"a": {"type": "string"},
                "b": {"type": "string"}},
                "oneOf": [{"required": ["a"]}, {"required": ["b"]}]},
        }}}});
        let mut good = json!({"metadata": {"name": "x"}, "spec": {"name": "abc", "odd": 1}});
        assert_eq!(check(&schema, &mut good), [""; 0]);
        assert_eq!(good["spec"], json!({"name": "abc"}));
        let mut bad = json!({"spec": {"name": "ABCD", "port": 0, "one": {"a": "1", "b": "2"}}});
        let wrong = check(&schema, &mut bad);
        assert_eq!(wrong.len(), 4, "{wrong:?}");
        assert!(wrong[0].starts_with("spec.name: "), "{wrong:?}");
        assert_eq!(check(&schema, &mut json!({})), ["spec: Required value"]);
    }
}
