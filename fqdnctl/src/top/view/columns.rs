//! Lists in columns: where something does not fit into its column, there is an ellipsis.

use ratatui::buffer::Buffer;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::Style;

/// One column of a list.
#[derive(Clone, Copy, Debug)]
pub(super) struct Column {
    heading: &'static str,
    /// What stands behind the heading.
    pub mark: &'static str,
    width: Constraint,
    kind: Kind,
}

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Of a text that is too long, its beginning is shown.
    Text,
    /// Of a name of DNS, its end: who it belongs to.
    Name,
    /// To the right.
    Number,
}

/// What stands in a column of a line.
#[derive(Clone, Debug)]
pub(super) struct Cell {
    text: String,
    style: Style,
}

/// Columns beside each other.
#[derive(Debug)]
pub(super) struct Columns {
    columns: Vec<Column>,
    places: Vec<Rect>,
}

impl Column {
    /// A column of texts that takes a share of the room that is left.
    pub const fn text(heading: &'static str, share: u16) -> Self {
        Self::new(heading, Constraint::Fill(share), Kind::Text)
    }

    /// The same for names of DNS.
    pub const fn name(heading: &'static str, share: u16) -> Self {
        Self::new(heading, Constraint::Fill(share), Kind::Name)
    }

    /// A column of texts that are at most so wide.
    pub const fn word(heading: &'static str, width: u16) -> Self {
        Self::new(heading, Constraint::Length(width), Kind::Text)
    }

    /// A column of numbers.
    pub const fn number(heading: &'static str, width: u16) -> Self {
        Self::new(heading, Constraint::Length(width), Kind::Number)
    }

    const fn new(heading: &'static str, width: Constraint, kind: Kind) -> Self {
        Self { heading, mark: "", width, kind }
    }
}

impl Cell {
    /// A text.
    #[expect(clippy::needless_pass_by_value, reason = "temporaries need no borrow at every call")]
    pub fn new(text: impl ToString, style: Style) -> Self {
        Self { text: text.to_string(), style }
    }
}

impl Columns {
    /// Columns over the width of an area.
    pub fn new(columns: Vec<Column>, area: Rect) -> Self {
        let widths = columns.iter().map(|column| column.width);
        let places = Layout::horizontal(widths).spacing(1).split(area).to_vec();
        Self { columns, places }
    }

    /// The headings.
    pub fn draw_heading(&self, style: Style, line: Rect, buffer: &mut Buffer) {
        buffer.set_style(line, style);
        let heading =
            |own: &Column| Cell::new(format!("{}{}", own.heading, own.mark), Style::new());
        self.draw(self.columns.iter().map(heading), line, buffer);
    }

    /// A line of cells.
    pub fn draw(&self, cells: impl IntoIterator<Item = Cell>, line: Rect, buffer: &mut Buffer) {
        for ((cell, column), place) in cells.into_iter().zip(&self.columns).zip(&self.places) {
            let text = match column.kind {
                Kind::Name => fit_name(&cell.text, place.width.into()),
                Kind::Text | Kind::Number => fit(&cell.text, place.width.into()),
            };
            let room = usize::from(place.width) - text.chars().count();
            let indent = if column.kind == Kind::Number { room as u16 } else { 0 };
            let width = usize::from(place.width - indent);
            buffer.set_stringn(place.x + indent, line.y, text, width, cell.style);
        }
    }
}

/// A text that is at most so long.
pub(super) fn fit(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let kept = text.chars().take(width.saturating_sub(1));
    kept.chain((width > 0).then_some('\u{2026}')).collect()
}

/// The end of a name, at most so long.
pub(super) fn fit_name(name: &str, width: usize) -> String {
    let length = name.chars().count();
    if length <= width || width == 0 {
        return fit(name, width);
    }
    ['\u{2026}'].into_iter().chain(name.chars().skip(length - width + 1)).collect()
}

/// A rate in at most five characters.
pub(super) fn rate(per_second: f64) -> String {
    match per_second {
        rate if rate < 99.95 => format!("{rate:.1}"),
        rate if rate < 99_999.5 => format!("{rate:.0}"),
        rate => format!("{:.0}k", rate / 1000.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_something_is_left_out_there_is_an_ellipsis() {
        assert_eq!(fit("www.example.com", 15), "www.example.com");
        assert_eq!(fit("www.example.com", 5), "www.\u{2026}");
        assert_eq!(fit("www", 1), "\u{2026}");
        assert_eq!(fit("www", 0), "");
        assert_eq!(fit_name("www.example.com", 15), "www.example.com");
        assert_eq!(fit_name("www.example.com", 5), "\u{2026}.com");
        assert_eq!(fit_name("www", 0), "");
    }

    #[test]
    fn rates_are_short() {
        let rates = [0.0, 0.04, 0.35, 99.9, 99.96, 12_345.6, 123_456.0].map(rate);
        assert_eq!(rates, ["0.0", "0.0", "0.3", "99.9", "100", "12346", "123k"]);
    }
}
