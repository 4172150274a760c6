//! What is looked at, and how it changes with what is typed and with what comes in.
//!
//! Nothing here knows a terminal, a socket or a clock: whatever happens is an [`Event`] with its
//! time, and what is to be done about it beyond this state is an [`Effect`].

use std::time::Duration;

use crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use hubble::proto::flow::{Flow, LostEvent};
use model::EndpointName;

use super::board::{Board, Column, EndpointRow, Order, Sample};
use super::view;

/// How long a filter may be.
const FILTER: usize = 253;
/// How far the keys for pages go.
const PAGE: isize = 10;

/// Something that happens.
#[derive(Debug)]
pub(super) enum Event {
    /// Time goes on.
    Tick,
    /// A key is pressed.
    Key(KeyEvent),
    /// The daemon has said how it is, or not.
    Sample(Result<Sample, String>),
    /// The server of flows is there, or why it is not.
    Flows(Result<(), String>),
    /// A flow.
    Flow(Box<Flow>),
    /// Flows were lost on their way here.
    Lost(LostEvent),
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// To end.
    Quit,
    /// To stop, until the shell has this process go on.
    Suspend,
    /// To draw everything anew.
    Redraw,
}

/// The lists of the overview.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Pane {
    /// Endpoints.
    #[default]
    Endpoints,
    /// Names.
    Names,
    /// Drops.
    Drops,
}

/// Everything.
#[derive(Debug, Default)]
pub(super) struct State {
    live: Board,
    /// What is seen instead of what happens, while it is held.
    held: Option<Board>,
    /// What endpoints, names and drops must contain.
    pub filter: String,
    /// Whether keys go into the filter.
    pub is_typing: bool,
    /// How endpoints are sorted.
    pub order: Order,
    /// The list that has the room, and that moves.
    pub pane: Pane,
    /// How many lines of the names, or of the drops, are above the first that is shown.
    pub scroll: usize,
    /// The endpoint that stands out; without one, the first.
    pub selected: Option<EndpointName>,
    /// The endpoint that is looked into.
    pub opened: Option<EndpointName>,
    /// Whether the keys are explained.
    pub is_helping: bool,
}

impl State {
    /// Nothing to see yet, with a filter and an order.
    pub fn new(filter: String, order: Order) -> Self {
        Self { filter, order, ..Self::default() }
    }

    /// What is seen of what there is to see.
    pub fn board(&self) -> &Board {
        self.held.as_ref().unwrap_or(&self.live)
    }

    /// Whether what is seen stands still.
    pub fn is_paused(&self) -> bool {
        self.held.is_some()
    }

    /// Takes in what happens.
    pub fn handle(&mut self, event: Event, now: Duration) -> Option<Effect> {
        match event {
            Event::Tick => self.live.handle_time(now),
            Event::Key(key) if key.kind == KeyEventKind::Release => {}
            Event::Key(key) => return self.handle_key(key),
            Event::Sample(Ok(sample)) => {
                self.live.handle_time(now);
                self.live.handle_sample(sample);
            }
            Event::Sample(Err(reason)) => self.live.silence = Some(reason),
            Event::Flows(state) => self.live.no_flows = state.err(),
            Event::Flow(flow) => self.live.activity.handle_flow(&flow, now),
            Event::Lost(lost) => self.live.activity.handle_lost(&lost, now),
        }
        None
    }

    fn handle_key(&mut self, key: KeyEvent) -> Option<Effect> {
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            return match key.code {
                KeyCode::Char('c') => Some(Effect::Quit),
                KeyCode::Char('z') => Some(Effect::Suspend),
                KeyCode::Char('l') => Some(Effect::Redraw),
                _ => None,
            };
        }
        if self.is_typing {
            self.type_filter(key.code);
            return None;
        }
        if self.is_helping {
            self.is_helping = false;
            return (key.code == KeyCode::Char('q')).then_some(Effect::Quit);
        }
        self.handle_command(key.code)
    }

    fn type_filter(&mut self, code: KeyCode) {
        match code {
            KeyCode::Char(typed) if self.filter.len() < FILTER => self.filter.push(typed),
            KeyCode::Backspace => drop(self.filter.pop()),
            KeyCode::Esc => {
                self.filter.clear();
                self.is_typing = false;
            }
            KeyCode::Enter => self.is_typing = false,
            _ => {}
        }
        self.scroll = 0;
    }

    fn handle_command(&mut self, code: KeyCode) -> Option<Effect> {
        match code {
            KeyCode::Char('q') => return Some(Effect::Quit),
            KeyCode::Char('?' | 'h') | KeyCode::F(1) => self.is_helping = true,
            KeyCode::Char('p' | ' ') => self.pause(),
            KeyCode::Char('/') if self.opened.is_none() => self.is_typing = true,
            KeyCode::Char('s') | KeyCode::Right => self.sort_by_next(1),
            KeyCode::Char('S') | KeyCode::Left => self.sort_by_next(Column::ALL.len() - 1),
            KeyCode::Char('r') => self.order.reversed = !self.order.reversed,
            KeyCode::Tab => self.focus(self.pane.next()),
            KeyCode::BackTab => self.focus(self.pane.next().next()),
            KeyCode::Down | KeyCode::Char('j') => self.go(1),
            KeyCode::Up | KeyCode::Char('k') => self.go(-1),
            KeyCode::PageDown => self.go(PAGE),
            KeyCode::PageUp => self.go(-PAGE),
            KeyCode::Home | KeyCode::Char('g') => self.go(isize::MIN),
            KeyCode::End | KeyCode::Char('G') => self.go(isize::MAX),
            KeyCode::Enter => self.open(),
            KeyCode::Esc | KeyCode::Backspace => self.go_back(),
            _ => {}
        }
        None
    }

    fn pause(&mut self) {
        self.held = match self.held {
            None => Some(self.live.clone()),
            Some(_) => None,
        };
    }

    fn sort_by_next(&mut self, places: usize) {
        self.order.column = self.order.column.moved(places);
    }

    fn focus(&mut self, pane: Pane) {
        self.pane = pane;
        self.scroll = 0;
    }

    /// Moves in the endpoint that is open, else in the list that has the room.
    fn go(&mut self, lines: isize) {
        let of = |count: usize, from: usize| {
            from.saturating_add_signed(lines).min(count.saturating_sub(1))
        };
        if let Some(name) = &self.opened {
            self.scroll = of(view::detail::count(self.board(), name), self.scroll);
            return;
        }
        match self.pane {
            Pane::Names => self.scroll = of(self.board().names(&self.filter).len(), self.scroll),
            Pane::Drops => self.scroll = of(self.board().drops(&self.filter).len(), self.scroll),
            Pane::Endpoints => {
                let rows = self.board().endpoints(&self.filter, self.order);
                let place = of(rows.len(), self.place(&rows));
                self.selected = rows.get(place).map(|row| row.name.clone());
            }
        }
    }

    /// Where the endpoint that stands out is among those that are shown.
    pub fn place(&self, rows: &[EndpointRow<'_>]) -> usize {
        let is_selected = |row: &EndpointRow<'_>| Some(&row.name) == self.selected.as_ref();
        rows.iter().position(is_selected).unwrap_or(0)
    }

    fn open(&mut self) {
        if self.opened.is_some() || self.pane != Pane::Endpoints {
            return;
        }
        let rows = self.board().endpoints(&self.filter, self.order);
        let Some(row) = rows.get(self.place(&rows)) else { return };
        let name = row.name.clone();
        self.selected = Some(name.clone());
        self.opened = Some(name);
        self.scroll = 0;
        // What is held knows nothing of what is opened now.
        self.held = None;
    }

    fn go_back(&mut self) {
        self.scroll = 0;
        if self.opened.take().is_none() {
            self.filter.clear();
        }
    }
}

impl Pane {
    fn next(self) -> Self {
        match self {
            Self::Endpoints => Self::Names,
            Self::Names => Self::Drops,
            Self::Drops => Self::Endpoints,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples::{self, NOW};
    use super::*;

    fn state() -> State {
        let mut state = State::default();
        state.handle(Event::Sample(Ok(samples::sample(0))), NOW);
        state
    }

    fn press(state: &mut State, keys: &[KeyCode]) -> Vec<Effect> {
        let event = |&code| Event::Key(KeyEvent::new(code, KeyModifiers::NONE));
        keys.iter().filter_map(|key| state.handle(event(key), NOW)).collect()
    }

    fn type_text(state: &mut State, text: &str) -> Vec<Effect> {
        press(state, &text.chars().map(KeyCode::Char).collect::<Vec<_>>())
    }

    fn shown(state: &State) -> Vec<String> {
        let rows = state.board().endpoints(&state.filter, state.order);
        rows.iter().map(|row| row.endpoint.name.clone()).collect()
    }

    #[test]
    fn the_filter_takes_all_keys_until_it_is_done_or_given_up() {
        let mut state = state();
        assert_eq!(type_text(&mut state, "/cliq"), []);
        assert_eq!(shown(&state), [""; 0]);
        press(&mut state, &[KeyCode::Backspace, KeyCode::Enter]);
        assert_eq!(shown(&state), ["client"]);
        press(&mut state, &[KeyCode::Esc]);
        assert_eq!(shown(&state).len(), 3);
        type_text(&mut state, "/other");
        press(&mut state, &[KeyCode::Esc]);
        assert_eq!((state.filter.as_str(), state.is_typing), ("", false));
        type_text(&mut state, &["/", &"x".repeat(1000)].concat());
        assert_eq!(state.filter.len(), FILTER);
    }

    #[test]
    fn what_stands_out_stays_so_when_the_order_changes() {
        let mut state = state();
        press(&mut state, &[KeyCode::Down, KeyCode::Down]);
        assert_eq!(state.selected.as_ref().unwrap().name, "other");
        type_text(&mut state, "r");
        assert_eq!(shown(&state), ["other", "gone", "client"]);
        let rows = state.board().endpoints("", state.order);
        assert_eq!(state.place(&rows), 0);
        press(&mut state, &[KeyCode::End]);
        assert_eq!(state.selected.as_ref().unwrap().name, "client");
        press(&mut state, &[KeyCode::PageUp]);
        assert_eq!(state.selected.as_ref().unwrap().name, "other");
    }

    #[test]
    fn enter_opens_and_escape_closes() {
        let mut state = state();
        press(&mut state, &[KeyCode::Enter]);
        assert_eq!(state.opened.as_ref().unwrap().name, "client");
        assert_eq!(press(&mut state, &[KeyCode::Enter, KeyCode::PageDown]), []);
        assert_eq!(state.scroll, 7, "it ends with the last line");
        press(&mut state, &[KeyCode::Esc]);
        assert_eq!((&state.opened, state.scroll), (&None, 0));
    }

    #[test]
    fn nothing_is_opened_where_there_is_nothing() {
        let mut state = State::default();
        let keys = [KeyCode::Enter, KeyCode::Down, KeyCode::End, KeyCode::Tab, KeyCode::Down];
        assert_eq!(press(&mut state, &keys), []);
        assert_eq!((&state.opened, state.scroll), (&None, 0));
    }

    #[test]
    fn a_pause_holds_what_is_seen_and_misses_nothing() {
        let mut state = state();
        type_text(&mut state, "p");
        state.handle(Event::Flow(Box::new(samples::query("www.example.com.", true))), NOW);
        assert_eq!(state.board().names("").len(), 0);
        assert!(state.is_paused());
        press(&mut state, &[KeyCode::Char(' ')]);
        assert_eq!(state.board().names("").len(), 1);
    }

    #[test]
    fn sorting_goes_through_all_columns_in_both_directions() {
        let mut state = state();
        type_text(&mut state, "s");
        assert_eq!(state.order.column, Column::Connections);
        type_text(&mut state, "SS");
        assert_eq!(state.order.column, Column::State);
    }

    #[test]
    fn control_keys_work_everywhere_and_help_goes_away_with_any_key() {
        let mut state = state();
        let control =
            |letter| Event::Key(KeyEvent::new(KeyCode::Char(letter), KeyModifiers::CONTROL));
        type_text(&mut state, "/");
        assert_eq!(state.handle(control('z'), NOW), Some(Effect::Suspend));
        assert_eq!(state.handle(control('c'), NOW), Some(Effect::Quit));
        press(&mut state, &[KeyCode::Esc]);
        type_text(&mut state, "?");
        assert!(state.is_helping);
        assert_eq!(type_text(&mut state, "x"), []);
        assert!(!state.is_helping);
        assert_eq!(type_text(&mut state, "?q"), [Effect::Quit]);
    }

    #[test]
    fn a_silent_daemon_is_told_of_and_what_it_said_stays() {
        let mut state = state();
        state.handle(Event::Sample(Err("cannot reach fqdnd".to_owned())), NOW);
        assert_eq!(state.board().silence.as_deref(), Some("cannot reach fqdnd"));
        assert_eq!(shown(&state).len(), 3);
        state.handle(Event::Sample(Ok(samples::sample(1))), NOW);
        assert_eq!(state.board().silence, None);
    }
}
