//! Documents of policies: read the same way twice, refused at a place that exists, and compiled
//! into tables without harm.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use model::Labels;
use policy::{Context, Document, Policy, SelectorId, Subject, Table};

/// Reads a text as a file of documents.
pub fn check(data: &[u8]) {
    static FILE: OnceLock<Arc<Path>> = OnceLock::new();
    let file = FILE.get_or_init(|| Path::new("fuzz.yaml").into());
    let Ok(text) = std::str::from_utf8(data) else { return };
    // A line ends as YAML says: by either sign, or by both.
    let lines = text.replace("\r\n", "\n").split(['\r', '\n']).count();
    let (documents, problems) = Document::read_all(file, text);
    let (_, again) = Document::read_all(file, text);
    assert_eq!(problems, again);
    for problem in &problems {
        assert!((1..=lines).contains(&problem.line), "{problem}");
        assert!(!problem.to_string().is_empty());
    }
    for document in &documents {
        assert!((1..=lines).contains(&document.line));
        if !document.kind.starts_with("Cilium") {
            continue;
        }
        match (Policy::read(document), Policy::read(document)) {
            (Ok(first), Ok(second)) => {
                assert_eq!(first, second);
                compile(&first);
            }
            (Err(first), Err(second)) => assert_eq!(first, second),
            (first, second) => panic!("{first:?} and {second:?} of one document"),
        }
    }
}

/// No row may stand twice, whatever the subject.
fn compile(policy: &Policy) {
    let table = Table::compile(&policy.rules, &Context::default());
    let labels = Labels::default();
    let selectors: Vec<SelectorId> =
        (0..table.selectors().count().min(8) as u32).map(SelectorId).collect();
    let prefixes: Vec<_> = table.prefixes().take(8).collect();
    let fixed = [Subject::Any, Subject::Labels(&labels), Subject::Names(&selectors)];
    for subject in fixed
        .into_iter()
        .chain(prefixes.into_iter().map(|prefix| Subject::Outside { prefix, labels: &labels }))
    {
        let rows = table.rows(subject);
        let distinct: BTreeSet<_> = rows.iter().map(|row| row.ports).collect();
        assert_eq!(distinct.len(), rows.len(), "{subject:?}: {rows:?}");
    }
}
