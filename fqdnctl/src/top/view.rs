//! From the state to the cells of a screen, of whatever size it is.
//!
//! What counts is said in words; colour only repeats it, and never as red against green.

mod columns;
pub(super) mod detail;
mod help;
mod overview;
mod palette;

use jiff::Timestamp;
use ratatui::buffer::Buffer;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::text::{Line, Span};
use ratatui::widgets::Widget;

use super::board::Board;
use super::state::{Pane, State};

pub(super) use overview::{Rooms, overview};
pub(super) use palette::Palette;

/// Under this width or height only a line fits that says so.
const SMALLEST: (u16, u16) = (40, 10);

/// Draws everything.
pub(super) fn draw(state: &State, palette: Palette, area: Rect, buffer: &mut Buffer) {
    if area.width < SMALLEST.0 || area.height < SMALLEST.1 {
        let (width, height) = SMALLEST;
        Line::raw(format!("needs {width} columns and {height} lines")).render(area, buffer);
        return;
    }
    let board = state.board();
    let notices = notices(board);
    let told = Constraint::Length(notices.len() as u16);
    let [title, told, body, keys] =
        Layout::vertical([Constraint::Length(1), told, Constraint::Fill(1), Constraint::Length(1)])
            .areas(area);
    draw_title(state, palette, title, buffer);
    for (row, notice) in told.rows().zip(notices) {
        Line::styled(notice, palette.warning()).render(row, buffer);
    }
    match &state.opened {
        _ if state.is_helping => help::draw(palette, body, buffer),
        Some(name) => {
            let lines = detail::lines(board, name, body.width, palette);
            let shown = lines.into_iter().skip(state.scroll);
            body.rows().zip(shown).for_each(|(row, line)| line.render(row, buffer));
        }
        None => overview(state, Rooms::of(state, body.height), palette, body, buffer),
    }
    draw_keys(state, palette, keys, buffer);
}

fn draw_title(state: &State, palette: Palette, area: Rect, buffer: &mut Buffer) {
    let board = state.board();
    let time = clock(board.now.as_secs());
    let right = if state.is_paused() { format!("PAUSED {time}") } else { time };
    Line::styled(summary(board), palette.title()).render(area, buffer);
    Line::styled(right, palette.title()).right_aligned().render(area, buffer);
}

/// The node in a line.
pub(super) fn summary(board: &Board) -> String {
    let Some(sample) = &board.sample else { return "fqdnd".to_owned() };
    let count = |wanted| sample.endpoints.iter().filter(|own| own.enforcement == wanted).count();
    let revision = match (sample.policy_revision, sample.applied_revision) {
        (read, applied) if read == applied => format!("revision {applied}"),
        (read, applied) => format!("revision {applied}, becoming {read}"),
    };
    let audited = match count(api::Enforcement::Audited) {
        0 => String::new(),
        audited => format!(" {audited} audited,"),
    };
    format!(
        "fqdnd  {revision}  {} enforced,{audited} {} open, {} denied",
        count(api::Enforcement::Enforced),
        count(api::Enforcement::Open),
        count(api::Enforcement::Denied)
    )
}

/// What keeps the figures from being whole, and what else should be looked at.
pub(super) fn notices(board: &Board) -> Vec<String> {
    let mut notices = Vec::new();
    notices.extend(board.silence.as_ref().map(|reason| format!("! {reason}")));
    let no_flows = board.no_flows.as_ref();
    notices.extend(no_flows.map(|reason| format!("! no queries, names and drops: {reason}")));
    if let Some(problems) = board.sample.as_ref().map(|sample| sample.problems).filter(|&n| n > 0) {
        notices.push(format!("! wrong in manifests: {problems}; see `fqdnctl status`"));
    }
    let missing = board.activity.missing_per_second(board.now);
    if missing > 0.0 {
        notices.push(format!(
            "! {}/s more were seen and are not counted here",
            columns::rate(missing)
        ));
    }
    notices
}

fn draw_keys(state: &State, palette: Palette, area: Rect, buffer: &mut Buffer) {
    let keys = match (&state.opened, state.is_typing, state.filter.as_str()) {
        _ if state.is_helping => "any key goes back".to_owned(),
        (None, true, filter) => format!("/{filter}\u{2588}  Enter keeps, Esc clears"),
        (Some(_), _, _) => "Esc back  Up Down scroll  p pause  ? help  q quit".to_owned(),
        (None, false, "") => {
            let open = if state.pane == Pane::Endpoints { "  Enter open" } else { "" };
            format!("/ filter  s sort  r reverse  Tab list{open}  p pause  ? help  q quit")
        }
        (None, false, filter) => {
            format!("filter `{filter}`: / changes, Esc clears  ? help  q quit")
        }
    };
    Line::from(Span::styled(keys, palette.faint())).render(area, buffer);
}

/// The time of day in UTC.
fn clock(seconds: u64) -> String {
    let time = i64::try_from(seconds).ok().and_then(|seconds| Timestamp::from_second(seconds).ok());
    time.map_or_else(String::new, |time| time.strftime("%H:%M:%S").to_string())
}

#[cfg(test)]
mod tests;
