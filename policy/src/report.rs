//! What there is to say of each document of a file.

use std::path::Path;
use std::sync::Arc;

use crate::document::{Document, DocumentError};
use crate::options::Options;
use crate::problem::Problem;
use crate::rule::Policy;

/// What there is to say of one document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Its place among the documents of the file, the first is 0. Documents without content count
    /// for nothing, and the items of a list object for one each.
    pub document: usize,
    /// The line where it begins.
    pub line: usize,
    /// `kind`, empty where it cannot be told.
    pub kind: String,
    /// `metadata.namespace`.
    pub namespace: Option<String>,
    /// `metadata.name`, empty where it cannot be told.
    pub name: String,
    /// Whether it is a policy, or would be if it were right. Others are not checked.
    pub is_policy: bool,
    /// What is wrong; nothing: it is accepted.
    pub problems: Vec<Problem>,
    /// What is worth knowing.
    pub warnings: Vec<Problem>,
    /// The policy, if it is one and accepted.
    pub policy: Option<Policy>,
}

impl Report {
    /// Whether nothing is wrong.
    pub fn is_accepted(&self) -> bool {
        self.problems.is_empty()
    }
}

/// Checks each document of a file's text.
pub fn check(file: &Arc<Path>, text: &str, options: Options) -> Vec<Report> {
    let documents = Document::read_each(file, text).into_iter().enumerate();
    documents
        .map(|(number, document)| match document {
            Ok(document) => Report::of(number, &document, options),
            Err(error) => Report::broken(number, error),
        })
        .collect()
}

impl Report {
    fn of(number: usize, document: &Document, options: Options) -> Self {
        let report = Self {
            document: number,
            line: document.line,
            kind: document.kind.clone(),
            namespace: document.namespace.clone(),
            name: document.name.clone(),
            is_policy: Policy::key_of(document).is_some(),
            problems: Vec::new(),
            warnings: Vec::new(),
            policy: None,
        };
        if !report.is_policy {
            return report;
        }
        match Policy::check(document, options) {
            (Ok(policy), warnings) => Self { warnings, policy: Some(policy), ..report },
            (Err(problems), warnings) => Self { problems, warnings, ..report },
        }
    }

    fn broken(number: usize, error: DocumentError) -> Self {
        Self {
            document: number,
            line: error.problem.line,
            is_policy: Policy::is_kind(&error.kind),
            kind: error.kind,
            namespace: error.namespace,
            name: error.name,
            problems: vec![error.problem],
            warnings: Vec::new(),
            policy: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_document_of_a_file_has_a_report() {
        let text = "---
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: a, namespace: prod}
spec: {endpointSelector: {}, egress: [{}]}
---
# nothing
---
kind: CiliumNetworkPolicy
metadata: {name: b}
---
apiVersion: v1
kind: Pod
metadata: {name: c}
---
a: [1
---
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: d}
spec: {endpointSelector: {}, ingress: [{}], egress: [{toCIDR: [1]}]}
";
        let reports = check(&Arc::from(Path::new("p.yaml")), text, Options::default());
        let shown: Vec<_> = reports
            .iter()
            .map(|report| {
                let Report { document, line, name, is_policy, .. } = report;
                (
                    *document,
                    *line,
                    &**name,
                    *is_policy,
                    report.problems.len(),
                    report.warnings.len(),
                )
            })
            .collect();
        assert_eq!(
            shown,
            [
                (0, 2, "a", true, 0, 0),
                (1, 9, "b", true, 1, 0),
                (2, 12, "c", false, 0, 0),
                (3, 16, "", false, 1, 0),
                (4, 18, "d", true, 1, 1),
            ]
        );
        assert!(reports[0].is_accepted() && reports[0].policy.is_some());
    }
}
