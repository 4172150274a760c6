//! The text of policies' files, and places in it as compilers show them.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

use policy::{Document, Problem};

use crate::output::{Text, Tone};

/// Files that were read to show lines of them.
#[derive(Debug, Default)]
pub(crate) struct Sources(HashMap<String, Option<String>>);

/// A place, and what is there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place<'a> {
    pub line: usize,
    pub column: usize,
    /// What stands behind the caret.
    pub label: &'a str,
}

impl Sources {
    /// Takes a text that was read already.
    pub fn insert(&mut self, file: &str, text: String) {
        self.0.insert(file.to_owned(), Some(text));
    }

    /// Shows places of a file, in their order.
    pub fn show(&mut self, text: &mut Text, file: &str, places: &[Place<'_>]) {
        let Some(first) = places.first() else { return };
        let lines: Vec<&Place<'_>> = places.iter().filter(|place| place.line > 0).collect();
        let width = lines.iter().map(|place| place.line.to_string().len()).max().unwrap_or(1);
        let bar = " ".repeat(width);
        text.put(Tone::Faint, format!("{bar}--> "));
        text.plain(format!("{file}:{}:{}\n", first.line, first.column));
        let Some(source) = self.text(file) else { return };
        let path: Arc<Path> = Path::new(file).into();
        for place in lines {
            let (line, column) = (place.line, place.column);
            let file = Arc::clone(&path);
            let problem =
                Problem { file, line, column, field: String::new(), message: String::new() };
            let Some(excerpt) = problem.excerpt(source) else { continue };
            show_line(text, width, place, &excerpt);
        }
    }

    fn text(&mut self, file: &str) -> Option<&str> {
        let read = || read(Path::new(file)).ok();
        self.0.entry(file.to_owned()).or_insert_with(read).as_deref()
    }
}

/// A line of source and the one with its caret.
fn show_line(text: &mut Text, width: usize, place: &Place<'_>, excerpt: &str) {
    let pad = " ".repeat(width - place.line.to_string().len().min(width));
    for (index, line) in excerpt.lines().enumerate() {
        let (bar, shown) = line.split_once('|').unwrap_or_default();
        text.put(Tone::Faint, format!("{pad}{bar}|"));
        if index == 0 {
            text.plain(format!("{shown}\n"));
        } else {
            text.put(Tone::Bad, format!("{shown} {}", place.label).trim_end()).plain("\n");
        }
    }
}

/// A file's text, or standard input's where it is `-`; never more than policies may have.
pub(crate) fn read(path: &Path) -> io::Result<String> {
    let mut bytes = Vec::new();
    let limit = Document::MAX_FILE_LEN as u64 + 1;
    if path.as_os_str() == "-" {
        io::stdin().lock().take(limit).read_to_end(&mut bytes)?;
    } else {
        File::open(path)?.take(limit).read_to_end(&mut bytes)?;
    }
    String::from_utf8(bytes).map_err(|error| {
        let good = error.utf8_error().valid_up_to();
        let line = error.as_bytes()[..good].iter().filter(|byte| **byte == b'\n').count() + 1;
        io::Error::new(io::ErrorKind::InvalidData, format!("is not UTF-8 from line {line} on"))
    })
}
