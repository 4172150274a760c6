//! Secrets that L7 rules name: certificates, keys, header values.

use std::collections::BTreeMap;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use model::{EndpointName, Hidden};
use policy::{Problem, SecretKey};
use serde::Deserialize;

use crate::described::Described;
use crate::metadata::Metadata;

/// The annotation of a Secret whose certificate is an authority's that issues others by name.
const ISSUER: &str = "fqdnd.io/issuer";
/// The most bytes of a secret, as the API server has it.
const MAX_BYTES: usize = 1 << 20;

/// What a Secret holds. Its values are never printed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Secret {
    /// The values that are text, by key. No rule can use another.
    pub values: BTreeMap<String, Hidden>,
    /// Whether the certificate is an authority's, which issues one for each name that is asked for.
    pub issues: bool,
}

/// Which Secret a policy means; none where it means none.
pub fn meant(key: &SecretKey) -> Option<EndpointName> {
    let namespace = key.namespace.clone()?;
    Some(EndpointName { namespace, name: key.name.clone() })
}

/// A Secret's document, pruned.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SecretDocument {
    metadata: Metadata,
    data: Option<BTreeMap<String, String>>,
    string_data: Option<BTreeMap<String, String>>,
}

/// Reads a Secret's document.
pub(crate) fn read(document: &impl Described) -> Result<(EndpointName, Secret), Problem> {
    let SecretDocument { metadata, data, string_data } = document.read()?;
    let issues = match metadata.annotation(ISSUER) {
        None | Some("false") => false,
        Some("true") => true,
        Some(_) => {
            let keys = ["metadata", "annotations", ISSUER];
            return Err(document.problem_at(&keys, "must be `true` or `false`"));
        }
    };
    let mut values = BTreeMap::new();
    for (key, encoded) in data.unwrap_or_default() {
        // What is wrong is never shown: it may be the secret itself.
        let Ok(bytes) = BASE64_STANDARD.decode(encoded.trim_ascii()) else {
            return Err(document.problem_at(&["data", &key], "is not base64"));
        };
        if let Ok(text) = String::from_utf8(bytes) {
            values.insert(key, Hidden(text));
        }
    }
    let plain = string_data.unwrap_or_default();
    values.extend(plain.into_iter().map(|(key, text)| (key, Hidden(text))));
    if values.iter().map(|(key, value)| key.len() + value.0.len()).sum::<usize>() > MAX_BYTES {
        return Err(document.problem_at(&["data"], format!("has over {MAX_BYTES} bytes")));
    }
    Ok((metadata.full_name(), Secret { values, issues }))
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use policy::Document;

    use super::*;

    fn secret(text: &str) -> Result<(EndpointName, Secret), Problem> {
        let file: Arc<Path> = Arc::from(Path::new("secret.yaml"));
        let head = "apiVersion: v1\nkind: Secret\nmetadata:\n  name: keys\n  namespace: prod\n";
        let (documents, problems) = Document::read_all(&file, &format!("{head}{text}"));
        assert_eq!(problems, []);
        read(&documents[0])
    }

    #[test]
    fn values_are_read_from_base64_and_from_text_and_text_counts() {
        let text = "type: Opaque\ndata:\n  a: c2VjcmV0\n  b: b2xk\n  binary: /w==\n\
                    stringData:\n  b: new\n";
        let (name, secret) = secret(text).unwrap();
        assert_eq!(name.to_string(), "prod/keys");
        let values: Vec<_> =
            secret.values.iter().map(|(key, value)| (key.as_str(), value.0.as_str())).collect();
        assert_eq!(values, [("a", "secret"), ("b", "new")]);
        assert!(!secret.issues);
        assert!(!format!("{secret:?}").contains("new"));
    }

    #[test]
    fn an_authority_says_that_it_is_one() {
        let of = |text: &str| secret(&format!("  annotations: {{fqdnd.io/issuer: \"{text}\"}}\n"));
        assert!(of("true").unwrap().1.issues);
        assert!(!of("false").unwrap().1.issues);
        assert_eq!(of("yes").unwrap_err().message, "must be `true` or `false`");
    }

    #[test]
    fn what_is_wrong_is_told_without_the_value() {
        let problem = secret("data:\n  key: \"!secret!\"\n").unwrap_err();
        assert_eq!((problem.message.as_str(), problem.line), ("is not base64", 7));
    }
}
