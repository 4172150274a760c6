//! A document as a tree, written as YAML with remarks or as JSON without.

use serde::ser::{Serialize, SerializeMap, Serializer};

/// Words that YAML readers take for something else than text.
const WORDS: [&str; 9] = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"];

/// A node of a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Tree {
    Text(String),
    Number(u32),
    Flag(bool),
    Map(Vec<(String, Tree)>),
    List(Vec<Item>),
}

/// An item of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Item {
    pub value: Tree,
    /// What stands behind it as a comment.
    pub remark: Option<String>,
}

impl Tree {
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    pub fn map<const N: usize>(entries: [(&str, Tree); N]) -> Self {
        Self::Map(entries.map(|(key, value)| (key.to_owned(), value)).into())
    }

    /// A list without remarks.
    pub fn list(items: impl IntoIterator<Item = Tree>) -> Self {
        Self::List(items.into_iter().map(|value| Item { value, remark: None }).collect())
    }

    /// As YAML.
    pub fn yaml(&self) -> String {
        self.lines().into_iter().map(|line| line + "\n").collect()
    }

    fn lines(&self) -> Vec<String> {
        match self {
            Self::Text(text) => vec![scalar(text)],
            Self::Number(number) => vec![number.to_string()],
            Self::Flag(flag) => vec![flag.to_string()],
            Self::Map(entries) if entries.is_empty() => vec!["{}".to_owned()],
            Self::Map(entries) => {
                entries.iter().flat_map(|(key, value)| value.lines_under(key)).collect()
            }
            Self::List(items) if items.is_empty() => vec!["[]".to_owned()],
            Self::List(items) => items.iter().flat_map(Item::lines).collect(),
        }
    }

    fn lines_under(&self, key: &str) -> Vec<String> {
        let key = scalar(key);
        let mut lines = self.lines();
        let indent = match self {
            Self::Map(entries) if !entries.is_empty() => "  ",
            Self::List(items) if !items.is_empty() => "",
            Self::Text(_) | Self::Number(_) | Self::Flag(_) | Self::Map(_) | Self::List(_) => {
                lines[0].insert_str(0, &format!("{key}: "));
                return lines;
            }
        };
        let below = lines.iter().map(|line| format!("{indent}{line}"));
        std::iter::once(format!("{key}:")).chain(below).collect()
    }
}

impl Item {
    fn lines(&self) -> Vec<String> {
        let mut lines = self.value.lines();
        for (place, line) in lines.iter_mut().enumerate() {
            line.insert_str(0, if place == 0 { "- " } else { "  " });
        }
        if let Some(remark) = &self.remark {
            lines[0].push_str(&format!("  # {remark}"));
        }
        lines
    }
}

impl Serialize for Tree {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Text(text) => serializer.serialize_str(text),
            Self::Number(number) => serializer.serialize_u32(*number),
            Self::Flag(flag) => serializer.serialize_bool(*flag),
            Self::List(items) => serializer.collect_seq(items.iter().map(|item| &item.value)),
            Self::Map(entries) => {
                let mut map = serializer.serialize_map(Some(entries.len()))?;
                for (key, value) in entries {
                    map.serialize_entry(key, value)?;
                }
                map.end()
            }
        }
    }
}

/// A text that is read as that text, quoted where need be.
fn scalar(text: &str) -> String {
    let is_plain = text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "._-/:".contains(c))
        && !text.ends_with(':')
        && !WORDS.contains(&text.to_ascii_lowercase().as_str());
    if is_plain { text.to_owned() } else { serde_json::Value::from(text).to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_is_written_as_a_person_would_and_its_json_has_the_same_order() {
        let tree = Tree::map([
            ("name", Tree::text("web")),
            ("empty", Tree::list([])),
            (
                "list",
                Tree::List(vec![
                    Item {
                        value: Tree::map([("b", Tree::text("x")), ("a", Tree::Number(8))]),
                        remark: Some("3 flows".into()),
                    },
                    Item { value: Tree::text("*.example.com"), remark: None },
                ]),
            ),
            ("map", Tree::map([("k8s:app", Tree::text("yes")), ("flag", Tree::Flag(false))])),
        ]);
        assert_eq!(
            tree.yaml(),
            "name: web\nempty: []\nlist:\n- b: x  # 3 flows\n  a: 8\n- \"*.example.com\"\nmap:\n  \
             k8s:app: \"yes\"\n  flag: false\n"
        );
        assert_eq!(
            serde_json::to_string(&tree).unwrap(),
            r#"{"name":"web","empty":[],"list":[{"b":"x","a":8},"*.example.com"],"map":{"k8s:app":"yes","flag":false}}"#
        );
    }

    #[test]
    fn whatever_a_text_holds_it_stays_one_text() {
        for (text, written) in [
            ("", "\"\""),
            ("53", "\"53\""),
            ("a: b", "\"a: b\""),
            ("Off", "\"Off\""),
            ("a #b", "\"a #b\""),
            ("a\n- b", "\"a\\n- b\""),
            ("2001:db8::1/128", "\"2001:db8::1/128\""),
            ("app.kubernetes.io/name", "app.kubernetes.io/name"),
        ] {
            assert_eq!(scalar(text), written);
        }
    }
}
