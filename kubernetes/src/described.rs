//! What an object can be read from: a document of a manifest, or an API server's answer.

use std::path::Path;
use std::sync::Arc;

use policy::{Document, Problem};
use serde::de::DeserializeOwned;

/// The longest message that is kept of what cannot be read, in characters.
const MAX_MESSAGE: usize = 400;

/// The description of one object.
pub(crate) trait Described {
    /// Reads it as a type of the caller's.
    fn read<T: DeserializeOwned>(&self) -> Result<T, Problem>;

    /// A problem of the field that these keys lead to.
    fn problem_at(&self, keys: &[&str], message: impl Into<String>) -> Problem;

    /// Whether its annotations are the runtime's record of a pod. They are not where whoever may
    /// make a pod can write what they like there.
    fn is_record(&self) -> bool;
}

impl Described for Document {
    fn read<T: DeserializeOwned>(&self) -> Result<T, Problem> {
        Self::read(self)
    }

    fn problem_at(&self, keys: &[&str], message: impl Into<String>) -> Problem {
        Self::problem_at(self, keys, message)
    }

    fn is_record(&self) -> bool {
        true
    }
}

/// An object as an API server gives it. It stands in no file, so that problems have no line.
#[derive(Clone, Debug)]
pub(crate) struct Json<'a> {
    /// What the object is called: its kind and name.
    pub name: &'a Arc<Path>,
    pub text: &'a str,
}

impl Json<'_> {
    fn problem(&self, field: String, message: String) -> Problem {
        let message = match message.char_indices().nth(MAX_MESSAGE) {
            Some((end, _)) => format!("{}...", &message[..end]),
            None => message,
        };
        Problem { file: Arc::clone(self.name), line: 0, column: 0, field, message }
    }
}

impl Described for Json<'_> {
    fn read<T: DeserializeOwned>(&self) -> Result<T, Problem> {
        // Knowing the path costs time, which only an object that cannot be read is worth.
        serde_json::from_str(self.text).or_else(|_| {
            let mut text = serde_json::Deserializer::from_str(self.text);
            serde_path_to_error::deserialize(&mut text).map_err(|error| {
                let path = error.path().to_string();
                let field = if path == "." { String::new() } else { path };
                self.problem(field, without_place(&error.into_inner()))
            })
        })
    }

    fn problem_at(&self, keys: &[&str], message: impl Into<String>) -> Problem {
        let mut field = String::new();
        for key in keys {
            let plain = key.bytes().all(|byte| byte.is_ascii_alphanumeric());
            match (plain, field.is_empty()) {
                (true, true) => field.push_str(key),
                (true, false) => field.extend([".", key]),
                (false, _) => field.extend(["[", key, "]"]),
            }
        }
        self.problem(field, message.into())
    }

    fn is_record(&self) -> bool {
        false
    }
}

/// The message without its line and column, which mean nothing to whoever did not see the answer.
fn without_place(error: &serde_json::Error) -> String {
    let message = error.to_string();
    let place = format!(" at line {} column {}", error.line(), error.column());
    message.strip_suffix(&place).unwrap_or(&message).to_owned()
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[allow(dead_code, reason = "only whether it can be read matters")]
    struct Thing {
        spec: Vec<u16>,
    }

    #[test]
    fn a_problem_names_the_field_and_no_line() {
        let name: Arc<Path> = Arc::from(Path::new("thing a/b"));
        let json = Json { name: &name, text: r#"{"spec": [1, "x"]}"# };
        let problem = json.read::<Thing>().unwrap_err();
        assert_eq!((problem.line, problem.field.as_str()), (0, "spec[1]"));
        assert_eq!(problem.message, "invalid type: string \"x\", expected u16");
        let problem = json.problem_at(&["metadata", "annotations", "fqdnd.io/x"], "is wrong");
        assert_eq!(problem.field, "metadata.annotations[fqdnd.io/x]");
        let long = json.problem(String::new(), "é".repeat(1000));
        assert_eq!(long.message, format!("{}...", "é".repeat(MAX_MESSAGE)));
    }
}
