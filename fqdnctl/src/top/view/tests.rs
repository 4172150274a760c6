//! What is on the screen, line by line.

use std::time::Duration;

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use hubble::proto::flow::{Flow, Verdict};
use model::DropReason;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::style::Color;

use super::super::board::Sample;
use super::super::once::text;
use super::super::samples::{self, NOW};
use super::super::state::Event;
use super::*;

const OVERVIEW: &str = "\
fqdnd  revision 8  1 enforced, 1 open, 1 denied                         10:29:56
ENDPOINT                   STATE     QUERIES/S▾  CONNS/S  DROPS/S  NAMES  LEASES
default/client             enforced         0.4     10.0      1.0      3       5
default/gone               denied           0.0      0.0      0.0      3       5
default/other              open             0.0      2.0      0.0      3       5

NAME                                      QUERIES/S REFUSED/S  CONNS/S ENDPOINTS
www.example.com                                 0.2       0.0      0.1         1
api.example.com                                 0.1       0.0      0.0         1
…ed-data-of-some-length.evil.example.org        0.1       0.1      0.0         1





DROPPED  ENDPOINT        TO                      REASON                    COUNT
10:29:54 default/client  203.0.113.40:443/TCP    deny-rule                     2
10:29:54 default/client  …ength.evil.example.org policy-denied                 1





/ filter  s sort  r reverse  Tab list  Enter open  p pause  ? help  q quit";

const DETAIL: &str = "\
fqdnd  revision 8  1 enforced, 1 open, 1 denied                         10:29:56
default/client
enforced  veth-client  10.0.0.7 fd00::7
0.4 queries/s  10.0 connections/s  1.0 drops/s
dropped: deny-rule 9

POLICIES
default/one-name  /etc/fqdnd/manifests/one-name.yaml
  line 9: for app=client: 2 allow, 1 deny, denies the rest

SELECTS
toFQDNs *.example.com                    www.example.com.

CACHE (2)
www.example.com.                         203.0.113.10             4m59s leased
www.example.com.                         2001:db8::10               -2s expired

LATEST DROPS
203.0.113.40:443/TCP                     10:29:54 deny-rule x2 by default/one-n…
…ed-data-of-some-length.evil.example.org 10:29:54 policy-denied x1



Esc back  Up Down scroll  p pause  ? help  q quit";

fn state() -> State {
    let mut state = State::default();
    for seconds in [0, 2] {
        let sample = Event::Sample(Ok(samples::sample(seconds)));
        state.handle(sample, NOW + Duration::from_secs(seconds));
    }
    let names = ["www.example.com.", "www.example.com.", "api.example.com."];
    let mut flows = names.map(|name| samples::query(name, true)).to_vec();
    flows.extend([
        samples::query("exfiltrated-data-of-some-length.evil.example.org.", false),
        samples::connection("www.example.com"),
        samples::drop("203.0.113.40", 443),
        samples::drop("203.0.113.40", 443),
    ]);
    for flow in flows {
        state.handle(Event::Flow(Box::new(flow)), NOW);
    }
    state
}

fn press(state: &mut State, code: KeyCode) {
    state.handle(Event::Key(KeyEvent::new(code, KeyModifiers::NONE)), NOW);
}

fn buffer(state: &State, width: u16, height: u16, colored: bool) -> Buffer {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal
        .draw(|frame| draw(state, Palette { colored }, frame.area(), frame.buffer_mut()))
        .unwrap();
    terminal.backend().buffer().clone()
}

fn screen(state: &State, width: u16, height: u16) -> String {
    text(&buffer(state, width, height, false)).join("\n")
}

#[test]
fn all_that_counts_is_seen_on_80_columns_and_24_lines() {
    assert_eq!(screen(&state(), 80, 24), OVERVIEW);
}

#[test]
fn an_open_endpoint_shows_its_policies_and_not_those_of_others() {
    let mut state = state();
    press(&mut state, KeyCode::Enter);
    let sample = Sample { detail: Some(samples::detail()), ..samples::sample(2) };
    state.handle(Event::Sample(Ok(sample)), NOW + Duration::from_secs(2));
    assert_eq!(screen(&state, 80, 24), DETAIL);
}

#[test]
fn the_help_fits_on_the_smallest_common_terminal() {
    let mut state = state();
    press(&mut state, KeyCode::Char('?'));
    let small = screen(&state, 80, 24);
    assert!(small.contains("Ctrl-Z") && small.ends_with("any key goes back"), "{small}");
    assert!(small.contains("Times are UTC."), "{small}");
    let wide = screen(&state, 200, 24);
    let parts = |screen: &str| screen.lines().skip(1).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(parts(&small), parts(&wide), "nothing is cut off");
}

#[test]
fn every_reason_is_read_whole_on_80_columns() {
    let is_audited = |reason: &&DropReason| {
        ![DropReason::UnsupportedHeader, DropReason::UnsupportedEthertype].contains(*reason)
    };
    let dropped = DropReason::ALL.iter().map(|reason| (reason, Verdict::Dropped, ""));
    let audited = DropReason::ALL.iter().filter(is_audited);
    for (reason, verdict, mark) in
        dropped.chain(audited.map(|reason| (reason, Verdict::Audit, "audit:")))
    {
        let flow = Flow {
            verdict: verdict.into(),
            drop_reason_desc: hubble::reason::to_hubble(*reason).into(),
            ..samples::drop("203.0.113.40", 443)
        };
        let mut state = state();
        state.handle(Event::Flow(Box::new(flow)), NOW);
        let screen = screen(&state, 80, 24);
        let whole = format!(" 203.0.113.40:443/TCP    {mark}{reason} ");
        assert!(screen.contains(&whole), "{reason}:\n{screen}");
    }
}

#[test]
fn there_is_something_to_see_on_any_size() {
    let mut state = state();
    for opened in [false, true] {
        if opened {
            press(&mut state, KeyCode::Enter);
        }
        for (width, height) in [(1, 1), (39, 50), (40, 10), (41, 11), (80, 9), (300, 100)] {
            assert!(!screen(&state, width, height).trim().is_empty(), "{width}x{height}");
        }
    }
    assert_eq!(screen(&state, 39, 3), "needs 40 columns and 10 lines\n\n");
}

#[test]
fn a_wide_screen_shows_addresses_and_a_tall_one_more_rows() {
    let screen = screen(&state(), 140, 40);
    assert!(screen.contains("10.0.0.7,fd00::7"), "{screen}");
    assert_eq!(screen.lines().count(), 40);
}

#[test]
fn the_endpoint_that_stands_out_is_on_the_screen_however_many_there_are() {
    let mut state = State::default();
    let endpoints = (0..500).map(|number| samples::endpoint(&format!("pod-{number:03}"), 0, 0));
    let sample = Sample { endpoints: endpoints.collect(), ..Sample::default() };
    state.handle(Event::Sample(Ok(sample)), NOW);
    assert!(screen(&state, 80, 24).contains("default/pod-000"));
    press(&mut state, KeyCode::End);
    let last = screen(&state, 80, 24);
    assert!(last.contains("default/pod-499") && !last.contains("default/pod-000"), "{last}");
    press(&mut state, KeyCode::Tab);
    press(&mut state, KeyCode::Tab);
    assert!(screen(&state, 80, 24).contains("DROPPED"));
}

#[test]
fn what_keeps_figures_from_being_whole_is_told_at_the_top() {
    let mut state = state();
    state.handle(Event::Sample(Err("cannot reach fqdnd".to_owned())), NOW);
    state.handle(Event::Flows(Err("no such socket".to_owned())), NOW);
    let lost = hubble::proto::flow::LostEvent { num_events_lost: 40, ..Default::default() };
    state.handle(Event::Lost(lost), NOW + Duration::from_secs(2));
    let screen = screen(&state, 80, 24);
    for notice in [
        "! cannot reach fqdnd",
        "! no queries, names and drops: no such socket",
        "! 4.0/s more were seen and are not counted here",
    ] {
        assert!(screen.lines().any(|line| line == notice), "{screen}");
    }
}

#[test]
fn colours_are_cyan_and_yellow_alone_and_none_where_none_are_wanted() {
    let colors = |colored| {
        let buffer = buffer(&state(), 80, 24, colored);
        let mut colors: Vec<Color> = buffer.content.iter().map(|cell| cell.fg).collect();
        assert!(buffer.content.iter().all(|cell| cell.bg == Color::Reset));
        colors.sort_by_key(|color| format!("{color:?}"));
        colors.dedup();
        colors
    };
    assert_eq!(colors(true), [Color::Cyan, Color::Reset, Color::Yellow]);
    assert_eq!(colors(false), [Color::Reset]);
}

#[test]
fn control_characters_of_names_do_not_reach_the_terminal() {
    let mut state = state();
    let flow = samples::query("a\u{1b}[2Jb.example.com.", true);
    state.handle(Event::Flow(Box::new(flow)), NOW);
    assert!(!screen(&state, 80, 40).contains('\u{1b}'));
}

#[test]
fn the_filter_is_seen_while_it_is_typed_and_after() {
    let mut state = state();
    for typed in "/client".chars() {
        press(&mut state, KeyCode::Char(typed));
    }
    let typing = screen(&state, 80, 24);
    assert!(typing.ends_with("/client\u{2588}  Enter keeps, Esc clears"), "{typing}");
    assert!(!typing.contains("default/other"), "{typing}");
    press(&mut state, KeyCode::Enter);
    assert!(screen(&state, 80, 24).contains("filter `client`: / changes, Esc clears"));
}
