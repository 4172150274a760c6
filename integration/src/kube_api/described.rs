//! The second version of a server's description, in the form in which clients before kubectl 1.27
//! take it alone.
//!
//! A real server tells these clients less: where it keeps fields that a schema does not know, they
//! would refuse them, so they hear of no field there.

use prost::Message;
use serde_json::{Value, json};

use super::world::World;

/// What a server calls the form.
pub(crate) const FORM: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";

/// The kinds that are defined by objects, and their fields. What is built in has no schemas here:
/// clients leave what they find none for to the server.
pub(crate) fn answer(world: &World) -> Vec<u8> {
    let mut definitions = Definitions::default();
    for own in world.resources() {
        let Some(served) = world.definition(own) else { continue };
        let mut schema = Schema::of(&served["schema"]["openAPIV3Schema"]);
        let place = json!([{"group": own.group, "version": own.version, "kind": own.kind}]);
        let value = Some(Any { yaml: place.to_string() });
        schema.extensions.push(Extension { name: super::discovery::PLACE.to_owned(), value });
        let name = format!("{}.{}.{}", own.group, own.version, own.kind);
        definitions.schemas.push(NamedSchema { name, schema: Some(schema) });
    }
    let info = Info {
        title: super::discovery::TITLE.to_owned(),
        version: super::discovery::VERSION.to_owned(),
    };
    let (swagger, definitions) = ("2.0".to_owned(), Some(definitions));
    Document { swagger, info: Some(info), definitions }.encode_to_vec()
}

impl Schema {
    fn of(schema: &Value) -> Self {
        let text = |key: &str| schema[key].as_str().unwrap_or_default().to_owned();
        let mut own = Self { description: text("description"), ..Self::default() };
        if schema["x-kubernetes-preserve-unknown-fields"] == true {
            return own;
        }
        own.types = schema["type"].as_str().map(|name| Types { names: vec![name.to_owned()] });
        own.items = schema.get("items").map(|items| Items { schemas: vec![Self::of(items)] });
        own.properties = schema["properties"].as_object().map(|fields| Definitions {
            schemas: fields.iter().map(|(name, own)| NamedSchema::of(name, own)).collect(),
        });
        own
    }
}

impl NamedSchema {
    fn of(name: &str, schema: &Value) -> Self {
        Self { name: name.to_owned(), schema: Some(Schema::of(schema)) }
    }
}

#[derive(Clone, PartialEq, Message)]
struct Document {
    #[prost(string, tag = "1")]
    swagger: String,
    #[prost(message, optional, tag = "2")]
    info: Option<Info>,
    #[prost(message, optional, tag = "9")]
    definitions: Option<Definitions>,
}

#[derive(Clone, PartialEq, Message)]
struct Info {
    #[prost(string, tag = "1")]
    title: String,
    #[prost(string, tag = "2")]
    version: String,
}

/// Schemas with names; an object's properties have the same form.
#[derive(Clone, PartialEq, Message)]
struct Definitions {
    #[prost(message, repeated, tag = "1")]
    schemas: Vec<NamedSchema>,
}

#[derive(Clone, PartialEq, Message)]
struct NamedSchema {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, optional, tag = "2")]
    schema: Option<Schema>,
}

#[derive(Clone, PartialEq, Message)]
struct Schema {
    #[prost(string, tag = "4")]
    description: String,
    #[prost(message, optional, tag = "22")]
    types: Option<Types>,
    #[prost(message, optional, tag = "23")]
    items: Option<Items>,
    #[prost(message, optional, tag = "25")]
    properties: Option<Definitions>,
    #[prost(message, repeated, tag = "31")]
    extensions: Vec<Extension>,
}

#[derive(Clone, PartialEq, Message)]
struct Types {
    #[prost(string, repeated, tag = "1")]
    names: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
struct Items {
    #[prost(message, repeated, tag = "1")]
    schemas: Vec<Schema>,
}

#[derive(Clone, PartialEq, Message)]
struct Extension {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, optional, tag = "2")]
    value: Option<Any>,
}

#[derive(Clone, PartialEq, Message)]
struct Any {
    #[prost(string, tag = "2")]
    yaml: String,
}
