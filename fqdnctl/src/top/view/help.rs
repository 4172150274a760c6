//! What keys do and what the figures mean.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::Line;
use ratatui::widgets::Widget;

use super::Palette;

const KEYS: [(&str, &str); 10] = [
    ("Up Down j k", "one line; PageUp PageDown ten, Home End all the way"),
    ("Tab", "give most room to the next list, and move in it"),
    ("Enter", "open the endpoint: its policies, what they select, its cache"),
    ("Esc", "go back; in the overview, clear the filter"),
    ("/", "show only what contains a text: endpoints, names, drops"),
    ("s S", "sort endpoints by the next column, or the one before"),
    ("r", "sort the other way round"),
    ("p Space", "hold what is seen; nothing is missed meanwhile"),
    ("Ctrl-L Ctrl-Z", "draw anew; stop, until `fg`"),
    ("q Ctrl-C", "quit"),
];

const FIGURES: [&str; 7] = [
    "Rates are over the last 10 seconds. The kernel counts connections and drops, and",
    "they are read since this began. Queries and names are what flows tell; what was",
    "lost of flows is said at the top.",
    "",
    "A drop that is repeated is one line: its latest time, and how often it was seen.",
    "The same once, as JSON: fqdnctl top --once -o json. Each flow: fqdnctl observe.",
    "Times are UTC.",
];

pub(super) fn draw(palette: Palette, area: Rect, buffer: &mut Buffer) {
    let keys = KEYS.iter().map(|(key, what)| Line::raw(format!("{key:<14} {what}")));
    let figures = FIGURES.iter().map(|&line| Line::raw(line));
    let all = [Line::styled("KEYS", palette.heading(true))].into_iter().chain(keys);
    let all = all.chain([Line::default(), Line::styled("FIGURES", palette.heading(true))]);
    area.rows().zip(all.chain(figures)).for_each(|(row, line)| line.render(row, buffer));
}
