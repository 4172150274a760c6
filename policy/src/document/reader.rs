//! Trees to types of the caller's, by serde.
//!
//! An error carries the place and path of the innermost value that caused it. Text is never made
//! of a number or boolean, nor the other way round.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use serde::de::{
    self, DeserializeOwned, DeserializeSeed, EnumAccess, IntoDeserializer, MapAccess, SeqAccess,
    VariantAccess, Visitor,
};
use serde::forward_to_deserialize_any;

use crate::document::join;
use crate::problem::{Place, Problem};
use crate::yaml::{Entry, Node, Value};

/// Reads a tree.
pub(super) fn read<T: DeserializeOwned>(root: &Node) -> Result<T, Flaw> {
    T::deserialize(root).map_err(|flaw| flaw.at(root.place))
}

/// What does not fit, and where.
#[derive(Debug)]
pub(crate) struct Flaw {
    message: String,
    place: Option<Place>,
    /// The keys on the way to the value, the innermost first; indexes as `[N]`.
    path: Vec<String>,
}

impl Flaw {
    fn at(mut self, place: Place) -> Self {
        self.place.get_or_insert(place);
        self
    }

    fn under(mut self, step: impl Into<String>, place: Place) -> Self {
        self.path.push(step.into());
        self.at(place)
    }

    pub(super) fn into_problem(self, file: &Arc<Path>) -> Problem {
        let field = self.path.iter().rev().fold(String::new(), |path, step| {
            if step.starts_with('[') { path + step } else { join(&path, step) }
        });
        let place = self.place.unwrap_or(Place { line: 1, column: 1 });
        Problem::new(file, place, field, self.message)
    }
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Flaw {}

impl de::Error for Flaw {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self { message: message.to_string(), place: None, path: Vec::new() }
    }
}

impl<'de> de::Deserializer<'de> for &'de Node {
    type Error = Flaw;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Flaw> {
        let result = match &self.value {
            Value::Null => visitor.visit_unit(),
            Value::Bool(value) => visitor.visit_bool(*value),
            Value::Integer(value) => visitor.visit_i64(*value),
            Value::Float(value) => visitor.visit_f64(*value),
            Value::Text(text) => visitor.visit_borrowed_str(text),
            Value::Ambiguous(_) => Err(de::Error::custom(format!("must not be {}", self.kind()))),
            Value::List(items) => visitor.visit_seq(Items(items.iter().enumerate())),
            Value::Map(entries) => visitor.visit_map(Entries { rest: entries.iter(), next: None }),
        };
        result.map_err(|flaw| flaw.at(self.place))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Flaw> {
        match self.value {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Flaw> {
        visitor.visit_newtype_struct(self).map_err(|flaw| flaw.at(self.place))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Flaw> {
        let variant = match &self.value {
            Value::Text(name) => Variant { name, value: None },
            Value::Map(entries) if entries.len() == 1 => {
                Variant { name: &entries[0].key, value: Some(&entries[0].value) }
            }
            _ => {
                let message = format!("must be text, not {}", self.kind());
                return Err(<Flaw as de::Error>::custom(message).at(self.place));
            }
        };
        visitor.visit_enum(variant).map_err(|flaw| flaw.at(self.place))
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Flaw> {
        visitor.visit_unit()
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf
        unit unit_struct seq tuple tuple_struct map struct identifier
    }
}

struct Items<'de>(std::iter::Enumerate<std::slice::Iter<'de, Node>>);

impl<'de> SeqAccess<'de> for Items<'de> {
    type Error = Flaw;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Flaw> {
        let Some((index, item)) = self.0.next() else { return Ok(None) };
        let value = seed.deserialize(item);
        value.map(Some).map_err(|flaw| flaw.under(format!("[{index}]"), item.place))
    }
}

struct Entries<'de> {
    rest: std::slice::Iter<'de, Entry>,
    next: Option<&'de Entry>,
}

impl<'de> MapAccess<'de> for Entries<'de> {
    type Error = Flaw;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Flaw> {
        self.next = self.rest.next();
        let Some(entry) = self.next else { return Ok(None) };
        let key: de::value::BorrowedStrDeserializer<'de, Flaw> =
            de::value::BorrowedStrDeserializer::new(&entry.key);
        let value = seed.deserialize(key);
        value.map(Some).map_err(|flaw| flaw.under(&*entry.key, entry.place))
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Flaw> {
        let Some(entry) = self.next.take() else {
            return Err(de::Error::custom("a value was asked for before its key"));
        };
        seed.deserialize(&entry.value).map_err(|flaw| flaw.under(&*entry.key, entry.value.place))
    }
}

struct Variant<'de> {
    name: &'de str,
    value: Option<&'de Node>,
}

impl<'de> EnumAccess<'de> for Variant<'de> {
    type Error = Flaw;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), Flaw> {
        let name: de::value::StrDeserializer<'de, Flaw> = self.name.into_deserializer();
        Ok((seed.deserialize(name)?, self))
    }
}

impl<'de> Variant<'de> {
    fn value(&self) -> Result<&'de Node, Flaw> {
        self.value.ok_or_else(|| de::Error::custom(format!("`{}` needs a value", self.name)))
    }
}

impl<'de> VariantAccess<'de> for Variant<'de> {
    type Error = Flaw;

    fn unit_variant(self) -> Result<(), Flaw> {
        match self.value {
            None => Ok(()),
            Some(_) => Err(de::Error::custom(format!("`{}` takes no value", self.name))),
        }
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Flaw> {
        seed.deserialize(self.value()?)
    }

    fn tuple_variant<V: Visitor<'de>>(self, _len: usize, visitor: V) -> Result<V::Value, Flaw> {
        de::Deserializer::deserialize_any(self.value()?, visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Flaw> {
        de::Deserializer::deserialize_any(self.value()?, visitor)
    }
}
