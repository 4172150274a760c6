//! What is wrong with a document, and where.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

/// The longest field or message, in bytes.
const MAX_LEN: usize = 512;
/// How much of a long line is shown, and how much of that before the place, in characters.
const MAX_SHOWN: usize = 120;
const MAX_BEFORE: usize = 80;

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
            field: shortened(field.into()),
            message: shortened(message.into()),
        }
    }

    /// The line of the file's text that is meant, with its number before it and a caret under the
    /// place, as compilers show it; nothing if the text has no such line.
    pub fn excerpt(&self, text: &str) -> Option<String> {
        let line = text.lines().nth(self.line.checked_sub(1)?)?;
        let number = self.line.to_string();
        let (start, place) =
            (self.column.saturating_sub(1).saturating_sub(MAX_BEFORE), self.column);
        // What would move the caret, or the terminal, is shown as one space.
        let plain = |c: char| if c.is_control() { ' ' } else { c };
        let shown: String = line.chars().skip(start).take(MAX_SHOWN).map(plain).collect();
        let (bar, gap) = (" ".repeat(number.len()), " ".repeat(place.saturating_sub(1) - start));
        Some(format!("{number} | {}\n{bar} | {gap}^", shown.trim_end()))
    }
}

/// Cuts what a document made too long to be read.
fn shortened(mut text: String) -> String {
    if text.len() > MAX_LEN {
        let cut = (0..=MAX_LEN).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(cut);
        text.push_str("...");
    }
    text
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caret_stands_under_the_place() {
        let file = Arc::from(Path::new("a.yaml"));
        let excerpt = |line, column, text: &str| {
            Problem::new(&file, Place { line, column }, "f", "m").excerpt(text)
        };
        assert_eq!(excerpt(2, 4, "a: b\nü: c\td \n").unwrap(), "2 | ü: c d\n  |    ^");
        assert_eq!(excerpt(1, 9, "a: b").unwrap(), "1 | a: b\n  |         ^");
        assert_eq!(excerpt(3, 1, "a: b\n"), None);
        assert_eq!(excerpt(0, 0, "a: b\n"), None);
        let long = excerpt(1, 1000, &"x".repeat(2000)).unwrap();
        assert_eq!(long, format!("1 | {}\n  | {}^", "x".repeat(120), " ".repeat(80)));
    }

    #[test]
    fn what_a_document_makes_too_long_is_cut() {
        let file = Arc::from(Path::new("a.yaml"));
        let place = Place { line: 1, column: 2 };
        let problem = Problem::new(&file, place, "f", "é".repeat(1000));
        assert_eq!(problem.to_string(), format!("a.yaml:1:2: f: {}...", "é".repeat(256)));
    }
}
