//! A policy as somebody wrote it.
//!
//! Only files that policies were read from are read, by the policy's name: no path is asked for.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use axum::Json;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use kubernetes::FileState;
use serde::{Deserialize, Serialize};

use crate::admin::Failure;
use crate::daemon::Shared;

/// How much of a file is read, in bytes.
const READ: u64 = 4 << 20;
/// How many lines of a document are shown.
const LINES: usize = 2000;

/// Which policy: `namespace/name`, or `name`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    policy: String,
}

/// The document that holds a policy.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Source {
    file: String,
    /// The number of its first line in the file.
    first: usize,
    lines: Vec<String>,
    /// Whether lines at its end are left out.
    cut: bool,
    /// Whether the file is broken: an earlier version is in force.
    stale: bool,
}

pub(super) async fn source(
    State(shared): State<Arc<Shared>>,
    Query(wanted): Query<Wanted>,
) -> Result<Json<Source>, Failure> {
    let absent = |message: &str| Failure(StatusCode::NOT_FOUND, message.to_owned());
    let manifests = shared.manifests.borrow().clone();
    let mut policies = manifests.policies.values();
    let policy = policies
        .find(|policy| policy.key.to_string() == wanted.policy)
        .ok_or_else(|| absent("no such policy"))?;
    let rule = policy.rules.first().ok_or_else(|| absent("it has no rule for egress"))?;
    let (file, line) = (rule.origin.file.clone(), rule.origin.line);
    let state = manifests.files.get(&*file).copied();
    let state = state.ok_or_else(|| absent("it came from the API server: kubectl shows it"))?;
    let read = tokio::task::spawn_blocking(move || {
        read(&file).map(|text| document(&file, &text, line, state != FileState::Good))
    });
    Ok(Json(read.await.context("the reading failed")?.context("the file cannot be read")?))
}

fn read(path: &Path) -> io::Result<String> {
    let mut text = Vec::new();
    File::open(path)?.take(READ).read_to_end(&mut text)?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// The document of a file that has this line.
fn document(file: &Path, text: &str, line: usize, stale: bool) -> Source {
    let lines: Vec<&str> = text.lines().collect();
    let is_end = |line: &&str| *line == "---" || line.starts_with("--- ");
    let at = line.saturating_sub(1).min(lines.len());
    let start = lines[..at].iter().rposition(is_end).map_or(0, |end| end + 1);
    let end = lines[at..].iter().position(is_end).map_or(lines.len(), |length| at + length);
    let shown = &lines[start..end];
    Source {
        file: file.display().to_string(),
        first: start + 1,
        lines: shown.iter().take(LINES).map(|&line| line.to_owned()).collect(),
        cut: shown.len() > LINES || text.len() as u64 == READ,
        stale,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str, line: usize) -> (usize, Vec<String>) {
        let Source { first, lines, .. } = document(Path::new("a.yaml"), text, line, false);
        (first, lines)
    }

    #[test]
    fn of_several_documents_the_one_with_the_line_is_shown() {
        let text = "a: 1\nb: 2\n---\nc: 3\n--- # next\nd: 4\n";
        assert_eq!(shown(text, 2), (1, vec!["a: 1".to_owned(), "b: 2".to_owned()]));
        assert_eq!(shown(text, 4), (4, vec!["c: 3".to_owned()]));
        assert_eq!(shown(text, 6), (6, vec!["d: 4".to_owned()]));
    }

    #[test]
    fn a_file_that_has_become_shorter_shows_what_is_there() {
        assert_eq!(shown("a: 1\n", 9), (1, vec!["a: 1".to_owned()]));
        assert_eq!(shown("", 1), (1, Vec::new()));
    }

    #[test]
    fn a_document_without_end_is_cut() {
        let source = document(Path::new("a.yaml"), &"x\n".repeat(LINES + 1), 1, true);
        assert_eq!((source.lines.len(), source.cut, source.stale), (LINES, true, true));
    }
}
