//! What a server says of itself: its groups, their kinds, and the kinds' schemas.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::{resources::Resource, world::World};

const VERBS: [&str; 7] = ["create", "delete", "get", "list", "patch", "update", "watch"];
/// Where a schema says what kind it is of.
pub(super) const PLACE: &str = "x-kubernetes-group-version-kind";
pub(super) const TITLE: &str = "Kubernetes";
pub(super) const VERSION: &str = "v1.34.0";

/// What stands at a path, if the server tells of itself there.
pub(crate) fn answer(world: &World, path: &str) -> Option<Value> {
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    match parts.as_slice() {
        ["version"] => Some(json!({"major": "1", "minor": "34", "gitVersion": "v1.34.0"})),
        ["api"] => Some(json!({"kind": "APIVersions", "versions": ["v1"]})),
        ["apis"] => {
            let groups: Vec<Value> = groups(world)
                .iter()
                .filter(|own| !own.is_empty())
                .map(|own| group(world, own))
                .collect();
            Some(json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}))
        }
        ["api", "v1"] => Some(kinds(world, "v1")),
        ["apis", name] if groups(world).contains(name) => {
            let mut group = group(world, name);
            group["kind"] = "APIGroup".into();
            group["apiVersion"] = "v1".into();
            Some(group)
        }
        ["apis", group, version] => {
            let version = format!("{group}/{version}");
            versions(world).contains(&version).then(|| kinds(world, &version))
        }
        ["openapi", "v2"] => Some(json!({
            "swagger": "2.0", "info": {"title": TITLE, "version": VERSION}, "paths": {},
        })),
        ["openapi", "v3"] => Some(index(world)),
        ["openapi", "v3", "api", "v1"] => Some(schemas(world, "v1")),
        ["openapi", "v3", "apis", group, version] => {
            Some(schemas(world, &format!("{group}/{version}")))
        }
        _ => None,
    }
}

fn groups(world: &World) -> BTreeSet<&str> {
    world.resources().iter().map(|own| own.group.as_str()).collect()
}

fn versions(world: &World) -> BTreeSet<String> {
    world.resources().iter().map(Resource::api_version).collect()
}

fn group(world: &World, name: &str) -> Value {
    let own = versions(world).into_iter().filter_map(|full| {
        let version = full.strip_prefix(name)?.strip_prefix('/')?.to_owned();
        Some(json!({"groupVersion": full, "version": version}))
    });
    let own: Vec<Value> = own.collect();
    json!({"name": name, "versions": own, "preferredVersion": own[0]})
}

fn of_version<'a>(world: &'a World, version: &str) -> impl Iterator<Item = &'a Resource> {
    world.resources().iter().filter(move |own| own.api_version() == version)
}

fn kinds(world: &World, version: &str) -> Value {
    let mut kinds = Vec::new();
    for own in of_version(world, version) {
        let kind = |name: String, verbs: &[&str]| {
            json!({
                "name": name, "singularName": "", "kind": own.kind, "namespaced": own.namespaced,
                "verbs": verbs,
            })
        };
        let mut whole = kind(own.plural.clone(), &VERBS);
        whole["singularName"] = own.kind.to_lowercase().into();
        whole["shortNames"] = json!(own.short);
        kinds.push(whole);
        if own.status {
            kinds.push(kind(format!("{}/status", own.plural), &["get", "patch", "update"]));
        }
    }
    json!({
        "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": version, "resources": kinds,
    })
}

fn index(world: &World) -> Value {
    let paths: Map<String, Value> = versions(world)
        .iter()
        .map(|version| {
            let path = root(version);
            let place = json!({"serverRelativeURL": format!("/openapi/v3{path}?hash=1")});
            (path.trim_start_matches('/').to_owned(), place)
        })
        .collect();
    json!({"paths": paths})
}

fn root(version: &str) -> String {
    if version.contains('/') { format!("/apis/{version}") } else { format!("/api/{version}") }
}

/// The schemas of one version's kinds, and that requests which write may ask for strict checks.
fn schemas(world: &World, version: &str) -> Value {
    let (mut paths, mut schemas) = (Map::new(), Map::new());
    for own in of_version(world, version) {
        let place = json!({"group": own.group, "version": own.version, "kind": own.kind});
        let defined = world.definition(own).map(|served| &served["schema"]["openAPIV3Schema"]);
        let mut schema = defined.cloned().unwrap_or_else(|| json!({"type": "object"}));
        schema[PLACE] = json!([place]);
        let operation = json!({PLACE: place, "parameters": [
            {"name": "fieldValidation", "in": "query", "schema": {"type": "string"}},
            {"name": "dryRun", "in": "query", "schema": {"type": "string"}},
        ]});
        let namespace = if own.namespaced { "/namespaces/{namespace}" } else { "" };
        let path = format!("{}{namespace}/{}/{{name}}", root(version), own.plural);
        paths.insert(path, json!({"get": operation, "patch": operation}));
        schemas.insert(format!("{}.{}.{}", own.group, own.version, own.kind), schema);
    }
    json!({
        "openapi": "3.0.0", "info": {"title": TITLE, "version": VERSION}, "paths": paths,
        "components": {"schemas": schemas},
    })
}
