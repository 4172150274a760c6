//! What is wrong with a document, and where.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

/// One thing that is wrong, or worth a warning, at one place of one file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Problem {
    /// The file as it was named by whoever read it.
    pub file: Arc<Path>,
    /// The line, the first is 1.
    pub line: usize,
    /// The column in characters, the first is 1.
    pub column: usize,
    /// The path of the field, such as `spec.egress[0].toFQDNs[1].matchName`; empty where the
    /// document as a whole is meant.
    pub field: String,
    /// What is wrong, in lower case and without a full stop.
    pub message: String,
}

/// A place in a file's text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Place {
    /// The line, the first is 1.
    pub line: usize,
    /// The column in characters, the first is 1.
    pub column: usize,
}

impl Problem {
    pub(crate) fn new(
        file: &Arc<Path>,
        place: Place,
        field: impl Into<String>,
        message: impl Into<String>,
    ) -> Self {
        Self {
            file: Arc::clone(file),
            line: place.line,
            column: place.column,
            field: field.into(),
            message: message.into(),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: ", self.file.display(), self.line, self.column)?;
        if !self.field.is_empty() {
            write!(f, "{}: ", self.field)?;
        }
        f.write_str(&self.message)
    }
}

impl std::error::Error for Problem {}
