//! The definitions of the custom objects: what an API server must know to keep them.
//!
//! Group, version and names are Cilium's, so that its documents work unchanged. The schema refuses
//! early what the daemon would refuse: types, patterns, values, limits. It keeps fields that it
//! does not know: an API server that took a mistyped `toPorts` out would widen the rule without a
//! word, while the daemon refuses the policy and names the field.

mod descriptions;
mod install;
mod schema;

use serde_json::{Value, json};

pub use install::{InstallError, Installed, Outcome, install};

/// What marks a definition as ours.
pub const MANAGED_BY: (&str, &str) = ("app.kubernetes.io/managed-by", "fqdnd");
/// What marks a definition as Cilium's.
pub const CILIUM: &str = "io.cilium.k8s.crd.schema.version";
/// The condition that says whether a policy could be read.
pub const VALID: &str = "Valid";
/// The condition that says on how many nodes a policy is in force.
pub const ENFORCED: &str = "Enforced";

/// The definitions, as objects of the API.
pub fn definitions() -> Vec<Value> {
    vec![
        policies("CiliumNetworkPolicy", "ciliumnetworkpolicies", &["cnp", "ciliumnp"], true),
        policies(
            "CiliumClusterwideNetworkPolicy",
            "ciliumclusterwidenetworkpolicies",
            &["ccnp"],
            false,
        ),
        definition(Names {
            kind: "CiliumCIDRGroup",
            plural: "ciliumcidrgroups",
            singular: "ciliumcidrgroup",
            short: &["ccg"],
            namespaced: false,
            schema: schema::cidr_group(),
            status: false,
            columns: Vec::new(),
        }),
    ]
}

fn policies(kind: &str, plural: &str, short: &[&str], namespaced: bool) -> Value {
    let condition =
        |kind: &str, field: &str| format!(".status.conditions[?(@.type=='{kind}')].{field}");
    let column =
        |name: &str, path: String| json!({"name": name, "type": "string", "jsonPath": path});
    let wide = |name: &str, path: String| {
        let mut column = column(name, path);
        column["priority"] = 1.into();
        column
    };
    definition(Names {
        kind,
        plural,
        singular: &kind.to_lowercase(),
        short,
        namespaced,
        schema: schema::policy(namespaced),
        status: true,
        columns: vec![
            json!({"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}),
            column("Valid", condition(VALID, "status")),
            column("Enforced", condition(ENFORCED, "status")),
            wide("Where", condition(ENFORCED, "message")),
            wide("Why", condition(VALID, "message")),
        ],
    })
}

struct Names<'a> {
    kind: &'a str,
    plural: &'a str,
    singular: &'a str,
    short: &'a [&'a str],
    namespaced: bool,
    schema: Value,
    status: bool,
    columns: Vec<Value>,
}

fn definition(names: Names<'_>) -> Value {
    let Names { kind, plural, singular, short, namespaced, mut schema, status, columns } = names;
    descriptions::describe(kind, &mut schema);
    let mut version = json!({
        "name": "v2",
        "served": true,
        "storage": true,
        "schema": {"openAPIV3Schema": schema},
    });
    if !columns.is_empty() {
        version["additionalPrinterColumns"] = columns.into();
    }
    if status {
        version["subresources"] = json!({"status": {}});
    }
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": format!("{plural}.cilium.io"),
            "labels": {MANAGED_BY.0: MANAGED_BY.1},
        },
        "spec": {
            "group": "cilium.io",
            "scope": if namespaced { "Namespaced" } else { "Cluster" },
            "names": {
                "kind": kind,
                "listKind": format!("{kind}List"),
                "plural": plural,
                "singular": singular,
                "shortNames": short,
                "categories": ["cilium", "ciliumpolicy"],
            },
            "versions": [version],
        },
    })
}

/// Whose a definition is that a cluster has already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// Written from here.
    Ours,
    /// Cilium's, or somebody else's: it is left alone.
    Another,
}

impl Owner {
    /// Whose a definition is.
    pub fn of(definition: &Value) -> Self {
        let labels = &definition["metadata"]["labels"];
        let ours = labels[MANAGED_BY.0] == MANAGED_BY.1 && labels[CILIUM].is_null();
        if ours { Self::Ours } else { Self::Another }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definitions_are_of_ciliums_group_and_marked_as_ours() {
        let definitions = definitions();
        let names: Vec<_> =
            definitions.iter().filter_map(|own| own["metadata"]["name"].as_str()).collect();
        assert_eq!(
            names,
            [
                "ciliumnetworkpolicies.cilium.io",
                "ciliumclusterwidenetworkpolicies.cilium.io",
                "ciliumcidrgroups.cilium.io"
            ]
        );
        assert!(definitions.iter().all(|own| Owner::of(own) == Owner::Ours));
        let mut foreign = definitions[0].clone();
        foreign["metadata"]["labels"][CILIUM] = "1.31.12".into();
        assert_eq!(Owner::of(&foreign), Owner::Another);
        assert_eq!(Owner::of(&json!({"metadata": {}})), Owner::Another);
    }

    /// A server that leaves out what is as if it were not said takes who says it for somebody who
    /// wants a change: two that apply the same definition would be in conflict.
    #[test]
    fn the_definitions_say_nothing_that_an_api_server_leaves_out() {
        fn visit(value: &Value, path: &str) {
            let is_nothing = match value {
                Value::Null => true,
                Value::Bool(value) => !value,
                Value::Number(number) => number.as_f64() == Some(0.0) && path.ends_with("priority"),
                Value::String(text) => text.is_empty() && !path.contains("/enum/"),
                Value::Array(items) => items.is_empty(),
                Value::Object(_) => false,
            };
            assert!(!is_nothing, "{path}: {value}");
            match value {
                Value::Object(fields) => {
                    fields.iter().for_each(|(key, own)| visit(own, &format!("{path}/{key}")));
                }
                Value::Array(items) => {
                    items.iter().for_each(|own| visit(own, &format!("{path}/")));
                }
                Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
            }
        }
        for definition in definitions() {
            let spec = &definition["spec"];
            assert!(spec["scope"].is_string());
            visit(spec, "");
        }
    }

    /// What an API server demands of a structural schema.
    #[test]
    fn the_schemas_are_structural() {
        fn visit(schema: &Value, path: &str) {
            let Some(fields) = schema.as_object() else { panic!("{path}: no schema") };
            let free = fields.contains_key("x-kubernetes-int-or-string");
            assert!(free || fields["type"].is_string(), "{path}: has no type");
            assert!(
                !(fields.contains_key("properties") && fields.contains_key("additionalProperties")),
                "{path}: properties beside additionalProperties"
            );
            for (key, inner) in
                fields.get("properties").and_then(Value::as_object).into_iter().flatten()
            {
                visit(inner, &format!("{path}.{key}"));
            }
            for key in ["items", "additionalProperties"] {
                if let Some(inner) = fields.get(key) {
                    visit(inner, &format!("{path}.{key}"));
                }
            }
            for pattern in fields.get("pattern").iter().filter_map(|own| own.as_str()) {
                assert!(pattern.starts_with('^') && pattern.ends_with('$'), "{path}: {pattern}");
            }
        }
        for definition in definitions() {
            let version = &definition["spec"]["versions"][0];
            let root = &version["schema"]["openAPIV3Schema"];
            visit(root, "");
            // What the status would lose when its schema is taken out is not taken at all.
            for lost in ["anyOf", "oneOf", "allOf", "not"] {
                assert!(root[lost].is_null(), "{}: {lost}", definition["metadata"]["name"]);
            }
        }
    }
}
