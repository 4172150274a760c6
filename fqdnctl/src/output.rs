//! How answers are printed: tables for people, JSON and YAML for programs.
//!
//! Names, labels and paths come from elsewhere: no control character of theirs reaches a terminal.

use std::io::{self, BufWriter, IsTerminal, StdoutLock, Write};

use clap::ValueEnum;
use comfy_table::{Cell as TableCell, ContentArrangement, Table, presets};
use serde::Serialize;

/// The form of the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// A table.
    Table,
    /// A table with more columns.
    Wide,
    /// JSON.
    Json,
    /// YAML.
    Yaml,
    /// Of flows: each on a line.
    Compact,
    /// Of flows: each on several lines.
    Dict,
    /// Of flows: JSON, under its other name.
    Jsonpb,
}

/// When colour is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Color {
    /// On a terminal, unless NO_COLOR is set.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// What a cell's text means, shown by colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tone {
    Plain,
    Good,
    Warning,
    Bad,
    Faint,
    /// What the eye looks for in a line.
    Accent,
}

/// One cell of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cell {
    text: String,
    tone: Tone,
}

/// A text of pieces, each with its tone.
#[derive(Debug)]
pub(crate) struct Text {
    text: String,
    colored: bool,
}

/// Where and how to print.
#[derive(Debug)]
pub(crate) struct Output {
    format: Format,
    colored: bool,
}

impl Format {
    /// The forms of everything but flows.
    pub const NAMES: [&str; 4] = ["table", "wide", "json", "yaml"];
    /// The forms of flows.
    pub const NAMES_OF_FLOWS: [&str; 5] = ["compact", "table", "dict", "json", "jsonpb"];

    /// The form with one of these names.
    pub fn named(name: &str) -> Result<Self, String> {
        match name {
            "table" => Ok(Self::Table),
            "wide" => Ok(Self::Wide),
            "json" => Ok(Self::Json),
            "yaml" => Ok(Self::Yaml),
            "compact" => Ok(Self::Compact),
            "dict" => Ok(Self::Dict),
            "jsonpb" => Ok(Self::Jsonpb),
            _ => Err(format!("there is no form `{name}`")),
        }
    }
}

impl Output {
    pub fn new(format: Format, color: Color) -> Self {
        let colored = match color {
            Color::Always => true,
            Color::Never => false,
            Color::Auto => wants_color(),
        };
        Self { format, colored }
    }

    pub fn is_json(&self) -> bool {
        self.format == Format::Json
    }

    /// Whether the output is for programs.
    pub fn is_data(&self) -> bool {
        matches!(self.format, Format::Json | Format::Yaml)
    }

    pub fn is_colored(&self) -> bool {
        self.colored
    }

    pub fn is_wide(&self) -> bool {
        self.format == Format::Wide
    }

    /// Prints a value as YAML where that is wanted, else as JSON, over several lines.
    pub fn data<T: Serialize>(&self, value: &T) -> io::Result<()> {
        let mut stdout = stdout();
        if self.format == Format::Yaml {
            let text = serde_saphyr::to_string(value).map_err(io::Error::other)?;
            stdout.write_all(text.as_bytes())?;
        } else {
            serde_json::to_writer_pretty(&mut stdout, value)?;
            writeln!(stdout)?;
        }
        stdout.flush()
    }

    /// Prints rows under a header; `nothing` where there are none, not mixed into the output.
    pub fn table(&self, header: &[&str], rows: Vec<Vec<Cell>>, nothing: &str) -> io::Result<()> {
        if rows.is_empty() {
            eprintln!("{nothing}");
            return Ok(());
        }
        let mut table = self.empty_table();
        table.set_header(header.iter().map(TableCell::new));
        for row in rows {
            table.add_row(row.into_iter().map(Cell::into_table));
        }
        self.print(&mut table)
    }

    /// Prints what belongs to each key.
    pub fn pairs(&self, pairs: Vec<(&str, Cell)>) -> io::Result<()> {
        let mut table = self.empty_table();
        for (key, value) in pairs {
            table.add_row([TableCell::new(format!("{key}:")), value.into_table()]);
        }
        self.print(&mut table)
    }

    /// Prints a line that is printable as it is.
    pub fn line(&self, line: &str) -> io::Result<()> {
        let mut stdout = stdout();
        writeln!(stdout, "{line}")?;
        stdout.flush()
    }

    /// Prints lines of text.
    pub fn lines<T: AsRef<str>>(&self, lines: impl IntoIterator<Item = T>) -> io::Result<()> {
        let mut stdout = stdout();
        for line in lines {
            writeln!(stdout, "{}", printable(line.as_ref()))?;
        }
        stdout.flush()
    }

    /// An empty text, to be filled and printed.
    pub fn text(&self) -> Text {
        Text { text: String::new(), colored: self.colored }
    }

    fn empty_table(&self) -> Table {
        let mut table = Table::new();
        table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
        if self.colored {
            table.enforce_styling();
        } else {
            table.force_no_tty();
        }
        table
    }

    fn print(&self, table: &mut Table) -> io::Result<()> {
        for column in table.column_iter_mut() {
            column.set_padding((0, 3));
        }
        let mut stdout = stdout();
        for line in table.lines() {
            writeln!(stdout, "{}", line.trim_end())?;
        }
        stdout.flush()
    }
}

impl Text {
    /// Adds a piece, in which line ends are the only control characters that count.
    pub fn put(&mut self, tone: Tone, piece: impl AsRef<str>) -> &mut Self {
        let code = match tone {
            Tone::Plain => None,
            Tone::Good => Some("32"),
            Tone::Warning => Some("33"),
            Tone::Bad => Some("31"),
            Tone::Faint => Some("2"),
            Tone::Accent => Some("36"),
        };
        let code = code.filter(|_| self.colored);
        if let Some(code) = code {
            self.text.extend(["\u{1b}[", code, "m"]);
        }
        let mut lines = piece.as_ref().split('\n');
        self.text.extend(lines.next().map(printable));
        for line in lines {
            self.text.extend(["\n", &printable(line)]);
        }
        if code.is_some() {
            self.text.push_str("\u{1b}[0m");
        }
        self
    }

    /// Adds a plain piece.
    pub fn plain(&mut self, piece: impl AsRef<str>) -> &mut Self {
        self.put(Tone::Plain, piece)
    }

    /// Prints it.
    pub fn print(&self) -> io::Result<()> {
        let mut stdout = stdout();
        stdout.write_all(self.text.as_bytes())?;
        stdout.flush()
    }
}

impl Cell {
    pub fn new(text: impl ToString) -> Self {
        Self::toned(text, Tone::Plain)
    }

    #[expect(clippy::needless_pass_by_value, reason = "temporaries need no borrow at every call")]
    pub fn toned(text: impl ToString, tone: Tone) -> Self {
        Self { text: printable(&text.to_string()), tone }
    }

    /// A text that may be absent or empty.
    pub fn or_none(text: Option<impl ToString>) -> Self {
        match text.map(|text| text.to_string()).filter(|text| !text.is_empty()) {
            Some(text) => Self::new(text),
            None => Self::toned("<none>", Tone::Faint),
        }
    }

    /// Several texts, separated by commas.
    pub fn list<T: ToString>(texts: impl IntoIterator<Item = T>) -> Self {
        let texts: Vec<String> = texts.into_iter().map(|text| text.to_string()).collect();
        Self::or_none(Some(texts.join(",")))
    }

    /// A count of something that should not happen.
    pub fn bad_count(count: u64) -> Self {
        Self::toned(count, if count == 0 { Tone::Plain } else { Tone::Warning })
    }

    fn into_table(self) -> TableCell {
        use comfy_table::{Attribute, Color};
        let cell = TableCell::new(self.text);
        match self.tone {
            Tone::Plain => cell,
            Tone::Good => cell.fg(Color::Green),
            Tone::Warning => cell.fg(Color::Yellow),
            Tone::Bad => cell.fg(Color::Red),
            Tone::Faint => cell.add_attribute(Attribute::Dim),
            Tone::Accent => cell.fg(Color::Cyan),
        }
    }
}

/// Seconds as people say them, in the two greatest units: `3h12m`, `-5s`.
pub(crate) fn duration(seconds: i64) -> String {
    let sign = if seconds < 0 { "-" } else { "" };
    let seconds = seconds.unsigned_abs();
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{sign}{seconds}s"),
        (0, 0, minutes) => format!("{sign}{minutes}m{}s", seconds % 60),
        (0, hours, minutes) => format!("{sign}{hours}h{minutes}m"),
        (days, hours, _) => format!("{sign}{days}d{hours}h"),
    }
}

/// Printing that ends early because whoever read has seen enough, as `head` has, is no failure: for
/// commands whose exit code tells more.
pub(crate) fn unless_closed(printed: io::Result<()>) -> io::Result<()> {
    match printed {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        printed => printed,
    }
}

fn wants_color() -> bool {
    let unset = |key| std::env::var_os(key).is_none_or(|value| value.is_empty());
    let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    unset("NO_COLOR") && !dumb && io::stdout().is_terminal()
}

fn stdout() -> BufWriter<StdoutLock<'static>> {
    BufWriter::new(io::stdout().lock())
}

fn printable(text: &str) -> String {
    if !text.contains(char::is_control) {
        return text.to_owned();
    }
    let escape =
        |c: char| if c.is_control() { c.escape_debug().to_string() } else { c.to_string() };
    text.chars().map(escape).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_two_units() {
        let said: Vec<String> = [0, 59, 61, 3600, 11_520, 90_000, -5, -3700].map(duration).into();
        assert_eq!(said, ["0s", "59s", "1m1s", "1h0m", "3h12m", "1d1h", "-5s", "-1h1m"]);
    }

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        assert_eq!(printable("a\u{1b}[2Jb\n"), "a\\u{1b}[2Jb\\n");
        assert_eq!(printable("é"), "é");
    }
}
