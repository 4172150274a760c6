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
