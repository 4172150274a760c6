//! The event that tells of a policy which is refused.
//!
//! An API server refuses events that are longer than it likes, so that every part of one which
//! somebody else names is cut to what it takes.

use serde_json::{Value, json};

use crate::cluster::verdict::Verdict;

/// How long an object's name may be, who reports, and what an event says, in bytes.
const LONGEST_NAME: usize = 253;
const LONGEST_INSTANCE: usize = 128;
const LONGEST_NOTE: usize = 1024;
/// Where events of objects without a namespace stand.
const OF_THE_CLUSTER: &str = "default";

/// The event of this generation of a policy, as one node tells it.
pub(super) fn of_refused(policy: &Value, verdict: &Verdict, node: &str, now: &str) -> Value {
    let metadata = &policy["metadata"];
    json!({
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {
            "name": name(metadata["name"].as_str().unwrap_or_default(), verdict),
            "namespace": metadata["namespace"].as_str().unwrap_or(OF_THE_CLUSTER),
        },
        "eventTime": now,
        "reportingController": "fqdnd",
        "reportingInstance": cut(node, LONGEST_INSTANCE),
        "action": "Read",
        "reason": "PolicyRefused",
        "type": "Warning",
        "note": cut(&verdict.message(), LONGEST_NOTE),
        "regarding": {
            "apiVersion": policy["apiVersion"], "kind": policy["kind"],
            "name": metadata["name"], "namespace": metadata["namespace"], "uid": verdict.uid,
        },
    })
}

/// The same for each who tells it, and another for each generation.
fn name(policy: &str, verdict: &Verdict) -> String {
    let uid: String = verdict.uid.chars().filter(char::is_ascii_alphanumeric).take(8).collect();
    let end = format!(".{}-{}", uid.to_lowercase(), verdict.generation);
    let begin = cut(policy, LONGEST_NAME.saturating_sub(end.len()));
    format!("{}{end}", begin.trim_end_matches(['-', '.']))
}

fn cut(text: &str, longest: usize) -> &str {
    &text[..text.floor_char_boundary(longest)]
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use policy::Problem;

    use super::*;

    fn refused(name: &str, message: &str, node: &str) -> Value {
        let file: Arc<Path> = Arc::from(Path::new("x"));
        let field = "spec".to_owned();
        let problem = Problem { file, line: 0, column: 0, field, message: message.into() };
        let (uid, problems) = ("0123-4567-89AB".to_owned(), vec![problem]);
        let verdict = Verdict { uid, generation: 7, audited: false, problems, told: Vec::new() };
        let metadata = json!({"name": name, "namespace": "n"});
        of_refused(&json!({"metadata": metadata}), &verdict, node, "now")
    }

    #[test]
    fn it_is_named_by_its_policy_and_generation_and_stands_beside_it() {
        let event = refused("web", "no", "here");
        assert_eq!(event["metadata"], json!({"name": "web.01234567-7", "namespace": "n"}));
        assert_eq!(
            (event["note"].as_str(), event["eventTime"].as_str()),
            (Some("spec: no"), Some("now"))
        );
    }

    #[test]
    fn no_part_of_it_is_longer_than_an_api_server_takes() {
        let name = format!("{}.{}", "a".repeat(241), "b".repeat(11));
        let event = refused(&name, &"ß".repeat(900), &"n".repeat(253));
        let length = |text: &Value| text.as_str().unwrap().len();
        assert_eq!(event["metadata"]["name"], format!("{}.01234567-7", "a".repeat(241)));
        assert_eq!(length(&event["reportingInstance"]), LONGEST_INSTANCE);
        assert!(length(&event["note"]) <= LONGEST_NOTE);
        assert_eq!(event["regarding"]["name"], name.as_str());
    }
}
