//! Endpoints, names and drops, one list over the other.

use ratatui::buffer::Buffer;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::Style;
use ratatui::text::Line;
use ratatui::widgets::Widget;

use super::columns::{Cell, Column, Columns, rate};
use super::{Palette, clock};
use crate::top::activity::Drop;
use crate::top::board::{self, EndpointRow, NameRow, Order};
use crate::top::rate::SPAN;
use crate::top::state::{Pane, State};

/// From this width on, there is room for more about endpoints.
const WIDE: u16 = 110;
/// From this width on, every reason is whole.
const COMMON: u16 = 80;
/// What `audit:quic-not-inspected` takes.
const LONGEST_REASON: u16 = 24;
/// The lines that are no rows: a heading for each list, and room between them.
const HEADINGS: u16 = 5;

/// How many rows each list has room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::top) struct Rooms {
    /// Endpoints.
    pub endpoints: u16,
    /// Names.
    pub names: u16,
    /// Drops.
    pub drops: u16,
}

impl Rooms {
    /// The rooms in so many lines: most is for the list that has the focus, and what there are no
    /// endpoints for is for names and drops.
    pub fn of(state: &State, lines: u16) -> Self {
        let rows = lines.saturating_sub(HEADINGS);
        let (part, all) = (rows / 4, state.board().endpoints(&state.filter, state.order).len());
        let wanted = u16::try_from(all).unwrap_or(u16::MAX).max(1);
        match state.pane {
            Pane::Endpoints => {
                let endpoints = wanted.min(rows - 2 * part);
                let names = (rows - endpoints) / 2;
                Self { endpoints, names, drops: rows - endpoints - names }
            }
            Pane::Names => {
                let endpoints = wanted.min(part);
                Self { endpoints, names: rows - endpoints - part, drops: part }
            }
            Pane::Drops => {
                let endpoints = wanted.min(part);
                Self { endpoints, names: part, drops: rows - endpoints - part }
            }
        }
    }

    /// The lines that these take with their headings.
    pub fn lines(self) -> u16 {
        self.endpoints + self.names + self.drops + HEADINGS
    }
}

/// One of the lists: a heading, and below it what there is room for.
struct List<'a> {
    columns: Vec<Column>,
    /// Whether it is the list that moves.
    has_focus: bool,
    /// What is said where it has no rows.
    nothing: &'a str,
    palette: Palette,
}

impl List<'_> {
    /// Draws it, beginning behind so many rows.
    fn draw(
        self,
        rows: impl ExactSizeIterator<Item = Vec<Cell>>,
        above: usize,
        area: Rect,
        buffer: &mut Buffer,
    ) {
        let columns = Columns::new(self.columns, area);
        let mut lines = area.rows();
        if let Some(line) = lines.next() {
            columns.draw_heading(self.palette.heading(self.has_focus), line, buffer);
        }
        if rows.len() == 0
            && let Some(line) = lines.next()
        {
            Line::styled(self.nothing, self.palette.faint()).render(line, buffer);
        }
        for (row, line) in rows.skip(above).zip(lines) {
            columns.draw(row, line, buffer);
        }
    }
}

/// Draws the three lists.
pub(in crate::top) fn overview(
    state: &State,
    rooms: Rooms,
    palette: Palette,
    area: Rect,
    buffer: &mut Buffer,
) {
    let heights =
        [rooms.endpoints, rooms.names, rooms.drops].map(|rows| Constraint::Length(rows + 1));
    let [endpoints, names, drops] = Layout::vertical(heights).spacing(1).areas(area);
    draw_endpoints(state, palette, endpoints, buffer);
    draw_names(state, palette, names, buffer);
    draw_drops(state, palette, drops, buffer);
}

fn draw_endpoints(state: &State, palette: Palette, area: Rect, buffer: &mut Buffer) {
    let mut columns = vec![
        Column::text("ENDPOINT", 2),
        Column::word("STATE", 9),
        Column::number("QUERIES/S", 10),
        Column::number("CONNS/S", 8),
        Column::number("DROPS/S", 8),
        Column::number("NAMES", 6),
        Column::number("LEASES", 7),
    ];
    if area.width >= WIDE {
        columns.extend([Column::number("DROPPED", 9), Column::text("ADDRESSES", 1)]);
    }
    for (place, column) in columns.iter_mut().enumerate() {
        column.mark = mark(state.order, place);
    }
    let rows = state.board().endpoints(&state.filter, state.order);
    let has_focus = state.pane == Pane::Endpoints;
    let place = state.place(&rows);
    let above = (place + 1).saturating_sub(area.height.saturating_sub(1).into());
    let waits = state.board().sample.is_none();
    let nothing = if waits { "not heard of fqdnd yet" } else { "none" };
    let list = List { columns, has_focus, nothing, palette };
    list.draw(rows.iter().map(|row| endpoint(row, palette)), above, area, buffer);
    let selected = area.rows().skip(1).nth(place - above);
    if let Some(line) = selected.filter(|_| has_focus && !rows.is_empty()) {
        buffer.set_style(line, palette.selected());
    }
}

/// Which way the column is sorted, if it is.
fn mark(order: Order, place: usize) -> &'static str {
    let is_sorted = board::Column::ALL.get(place) == Some(&order.column);
    match (is_sorted, order.reversed) {
        (false, _) => "",
        (true, false) => "\u{25be}",
        (true, true) => "\u{25b4}",
    }
}

fn endpoint(row: &EndpointRow<'_>, palette: Palette) -> Vec<Cell> {
    let own = row.endpoint;
    let state = match own.enforcement {
        api::Enforcement::Open => palette.faint(),
        api::Enforcement::Enforced => palette.accent(),
        api::Enforcement::Audited => palette.warning(),
        api::Enforcement::Denied => palette.warning(),
    };
    let addresses: Vec<String> = own.addresses.iter().map(ToString::to_string).collect();
    vec![
        Cell::new(&row.name, Style::new()),
        Cell::new(own.enforcement, state),
        number(row.queries, Style::new()),
        number(row.connections, Style::new()),
        number(row.drops, palette.warning()),
        Cell::new(own.names, Style::new()),
        Cell::new(own.leases, Style::new()),
        Cell::new(own.drops.values().sum::<u64>(), Style::new()),
        Cell::new(addresses.join(","), palette.faint()),
    ]
}

/// A rate, in a style where it is one.
fn number(per_second: f64, style: Style) -> Cell {
    Cell::new(rate(per_second), if per_second > 0.0 { style } else { Style::new() })
}

fn draw_names(state: &State, palette: Palette, area: Rect, buffer: &mut Buffer) {
    let columns = vec![
        Column::name("NAME", 1),
        Column::number("QUERIES/S", 10),
        Column::number("REFUSED/S", 9),
        Column::number("CONNS/S", 8),
        Column::number("ENDPOINTS", 9),
    ];
    let rows = state.board().names(&state.filter);
    let has_focus = state.pane == Pane::Names;
    let nothing = format!("no name was asked for in the last {SPAN} s");
    let list = List { columns, has_focus, nothing: &nothing, palette };
    let above = if has_focus { state.scroll } else { 0 };
    list.draw(rows.iter().map(|row| name(row, palette)), above, area, buffer);
}

fn name(row: &NameRow<'_>, palette: Palette) -> Vec<Cell> {
    vec![
        Cell::new(row.name, Style::new()),
        number(row.queries, Style::new()),
        number(row.refused, palette.warning()),
        number(row.connections, Style::new()),
        Cell::new(row.activity.endpoints.len(), Style::new()),
    ]
}

fn draw_drops(state: &State, palette: Palette, area: Rect, buffer: &mut Buffer) {
    let columns = vec![
        Column::word("DROPPED", 8),
        Column::text("ENDPOINT", 2),
        Column::name("TO", 3),
        Column::word("REASON", if area.width >= COMMON { LONGEST_REASON } else { 19 }),
        Column::number("COUNT", 6),
    ];
    let rows = state.board().drops(&state.filter);
    let has_focus = state.pane == Pane::Drops;
    let list = List { columns, has_focus, nothing: "no drop was seen", palette };
    let above = if has_focus { state.scroll } else { 0 };
    list.draw(rows.iter().map(|row| drop_cells(row, palette)), above, area, buffer);
}

fn drop_cells(drop: &Drop, palette: Palette) -> Vec<Cell> {
    vec![
        Cell::new(clock(drop.time.as_secs()), palette.faint()),
        Cell::new(&drop.endpoint, Style::new()),
        Cell::new(&drop.target, Style::new()),
        Cell::new(drop.why(), palette.warning()),
        Cell::new(drop.count, Style::new()),
    ]
}
