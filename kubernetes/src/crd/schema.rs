//! The schemas of policies and CIDR groups.

use policy::Entity;
use serde_json::{Map, Value, json};

/// A name or pattern of a domain.
const DOMAIN: &str = r"^(\*{1,2}\.)?[-a-zA-Z0-9_*]+(\.[-a-zA-Z0-9_*]+)*\.?$|^\*{1,2}\.?$";
const NAME: &str = r"^[-a-zA-Z0-9_]+(\.[-a-zA-Z0-9_]+)*\.?$|^\.$";
/// A port's number, or the name of one.
const PORT: &str = r"^(6553[0-5]|655[0-2][0-9]|65[0-4][0-9]{2}|6[0-4][0-9]{3}|[1-5][0-9]{4}|[0-9]{1,4})$|^[-a-zA-Z0-9]*[a-zA-Z][-a-zA-Z0-9]*$";
/// A prefix, roughly: an address that the daemon refuses may still fit.
const CIDR: &str = r"^([0-9]{1,3}(\.[0-9]{1,3}){3}/([0-9]|[12][0-9]|3[0-2])|[0-9a-fA-F:.]*:[0-9a-fA-F:.]*/([0-9]|[1-9][0-9]|1[01][0-9]|12[0-8]))$";
const TOPIC: &str = r"^[a-zA-Z0-9._-]*$";

/// The longest name or pattern.
const MAX_NAME: u32 = 255;
/// How many ports, or ICMP types, one item may have.
const MAX_PORTS: u32 = 40;

/// The schema of a policy.
pub(super) fn policy(namespaced: bool) -> Value {
    let spec = rule(namespaced);
    // Not that there has to be one of `spec` and `specs`: beside a status, an API server takes no
    // `anyOf` at the root.
    json!({
        "type": "object",
        "required": ["metadata"],
        "properties": {
            "apiVersion": text(),
            "kind": text(),
            "metadata": {"type": "object"},
            "spec": spec,
            "specs": list(spec.clone()),
            "status": status(),
        },
    })
}

/// The schema of a CIDR group.
pub(super) fn cidr_group() -> Value {
    json!({
        "type": "object",
        "required": ["metadata", "spec"],
        "properties": {
            "apiVersion": text(),
            "kind": text(),
            "metadata": {"type": "object"},
            "spec": {
                "type": "object",
                "required": ["externalCIDRs"],
                "properties": {"externalCIDRs": limited(matching(CIDR, 43), 65_536)},
            },
        },
    })
}

fn status() -> Value {
    let condition = json!({
        "type": "object",
        "required": ["type", "status"],
        "properties": {
            "type": text(),
            "status": one_of(&["True", "False", "Unknown"]),
            "reason": text(),
            "message": text(),
            "lastTransitionTime": {"type": "string", "format": "date-time"},
            "observedGeneration": {"type": "integer", "format": "int64"},
        },
    });
    json!({
        "type": "object",
        "x-kubernetes-preserve-unknown-fields": true,
        "properties": {
            "conditions": {
                "type": "array",
                "items": condition,
                "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["type"],
            },
        },
    })
}

fn rule(namespaced: bool) -> Value {
    let mut rule = open(json!({
        "description": text(),
        "endpointSelector": selector(),
        "egress": list(egress(true)),
        "egressDeny": list(egress(false)),
        "ingress": list(anything()),
        "ingressDeny": list(anything()),
        "enableDefaultDeny": open(json!({"egress": boolean(), "ingress": boolean()})),
        "labels": list(anything()),
        "log": open(json!({"value": matching("^[ -~]*$", 32)})),
    }));
    if namespaced {
        rule["required"] = json!(["endpointSelector"]);
    } else {
        rule["properties"]["nodeSelector"] = selector();
        rule["oneOf"] = json!([{"required": ["endpointSelector"]}, {"required": ["nodeSelector"]}]);
    }
    rule["anyOf"] = ["egress", "egressDeny", "ingress", "ingressDeny", "enableDefaultDeny"]
        .iter()
        .map(|section| json!({"required": [section]}))
        .collect();
    rule
}

fn egress(allows: bool) -> Value {
    let mut entry = open(json!({
        "toEndpoints": list(selector()),
        "toEntities": list(one_of(&Entity::names())),
        "toServices": list(service()),
        "toNodes": list(selector()),
        "toCIDR": list(matching(CIDR, 43)),
        "toCIDRSet": list(cidr_rule()),
        "toGroups": list(anything()),
        "toPorts": list(port_rule(allows)),
        "icmps": list(open(json!({"fields": limited(icmp(), MAX_PORTS)}))),
    }));
    if allows {
        entry["properties"]["toFQDNs"] = list(name_selector(true));
        let modes = one_of(&["disabled", "required", "test-always-fail"]);
        entry["properties"]["authentication"] = required(open(json!({"mode": modes})), &["mode"]);
    }
    entry
}

fn service() -> Value {
    open(json!({
        "k8sService": open(json!({"serviceName": text(), "namespace": text()})),
        "k8sServiceSelector":
            required(open(json!({"selector": selector(), "namespace": text()})), &["selector"]),
    }))
}

fn cidr_rule() -> Value {
    let mut rule = open(json!({
        "cidr": matching(CIDR, 43),
        "cidrGroupRef": matching("^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$", 253),
        "cidrGroupSelector": selector(),
        "except": list(matching(CIDR, 43)),
    }));
    rule["oneOf"] = ["cidr", "cidrGroupRef", "cidrGroupSelector"]
        .iter()
        .map(|own| json!({"required": [own]}))
        .collect();
    rule
}

fn port_rule(allows: bool) -> Value {
    let port = required(
        open(json!({
            "port": matching(PORT, 15),
            "endPort": {"type": "integer", "minimum": 0, "maximum": 65535},
            "protocol": one_of(&["TCP", "UDP", "SCTP", "ANY"]),
        })),
        &["port"],
    );
    let mut rule = open(json!({"ports": limited(port, MAX_PORTS)}));
    if allows {
        let secret = required(open(json!({"name": text(), "namespace": text()})), &["name"]);
        rule["properties"]["rules"] = application(&secret);
        let tls = required(
            open(json!({
                "secret": secret,
                "certificate": text(),
                "privateKey": text(),
                "trustedCA": text(),
            })),
            &["secret"],
        );
        rule["properties"]["terminatingTLS"] = tls.clone();
        rule["properties"]["originatingTLS"] = tls;
        rule["properties"]["serverNames"] = list(matching("^.+$", MAX_NAME));
        rule["properties"]["listener"] = anything();
    }
    rule
}

fn application(secret: &Value) -> Value {
    let header = required(
        open(json!({
            "name": matching("^.+$", 4096),
            "value": text(),
            "secret": secret,
            "mismatch": one_of(&["LOG", "ADD", "DELETE", "REPLACE"]),
        })),
        &["name"],
    );
    let http = open(json!({
        "method": text(),
        "path": text(),
        "host": text(),
        "headers": list(text()),
        "headerMatches": list(header),
    }));
    let kafka = open(json!({
        "role": one_of(&["produce", "consume", ""]),
        "apiKey": text(),
        "apiVersion": matching("^[0-9]{0,5}$", 5),
        "clientID": text(),
        "topic": matching(TOPIC, 249),
    }));
    open(json!({
        "dns": list(name_selector(false)),
        "http": list(http),
        "kafka": list(kafka),
    }))
}

/// An item of `toFQDNs`, or of the rules for DNS.
fn name_selector(of_addresses: bool) -> Value {
    let mut selector = open(json!({
        "matchName": matching(NAME, MAX_NAME),
        "matchPattern": matching(DOMAIN, MAX_NAME),
    }));
    let either = json!([{"required": ["matchName"]}, {"required": ["matchPattern"]}]);
    selector[if of_addresses { "oneOf" } else { "anyOf" }] = either;
    selector
}

fn icmp() -> Value {
    let field = json!({
        "x-kubernetes-int-or-string": true,
        "pattern": "^([0-9]|[1-9][0-9]|1[0-9][0-9]|2[0-4][0-9]|25[0-5]|[A-Z][A-Za-z]*)$",
    });
    required(open(json!({"family": one_of(&["IPv4", "IPv6"]), "type": field})), &["type"])
}

fn selector() -> Value {
    let operators = one_of(&["In", "NotIn", "Exists", "DoesNotExist"]);
    let expression = required(
        open(json!({
            "key": text(),
            "operator": operators,
            "values": list(json!({"type": "string", "maxLength": 63})),
        })),
        &["key", "operator"],
    );
    open(json!({
        "matchLabels":
            {"type": "object", "additionalProperties": {"type": "string", "maxLength": 63}},
        "matchExpressions": list(expression),
    }))
}

/// An object of these fields, that keeps others for the daemon to refuse.
fn open(properties: Value) -> Value {
    let mut schema = anything();
    schema["properties"] = properties;
    schema
}

fn required(mut schema: Value, fields: &[&str]) -> Value {
    schema["required"] = fields.iter().copied().collect();
    schema
}

fn anything() -> Value {
    json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true})
}

fn list(items: Value) -> Value {
    let fields = [("type".to_owned(), json!("array")), ("items".to_owned(), items)];
    Value::Object(Map::from_iter(fields))
}

fn limited(items: Value, most: u32) -> Value {
    let mut list = list(items);
    list["maxItems"] = most.into();
    list
}

fn one_of(values: &[&str]) -> Value {
    json!({"type": "string", "enum": values})
}

fn matching(pattern: &str, longest: u32) -> Value {
    json!({"type": "string", "pattern": pattern, "maxLength": longest})
}

fn text() -> Value {
    json!({"type": "string"})
}

fn boolean() -> Value {
    json!({"type": "boolean"})
}
