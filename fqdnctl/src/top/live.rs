//! The view as it lives: what comes from sources, keys and signals goes through the state.

use std::time::{Duration, SystemTime, UNIX_EPOCH};
use std::{io, process, thread};

use anyhow::Context;
use crossterm::event::{Event as TerminalEvent, EventStream};
use crossterm::terminal;
use futures::StreamExt;
use tokio::runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Interval, MissedTickBehavior};

use super::screen::Screen;
use super::sources;
use super::state::{Effect, Event, State};
use super::view::Palette;
use crate::client::Client;
use crate::observe::server::Server;

/// How many events may wait.
const WAITING: usize = 1024;
/// How long ending may take after a signal.
const GRACE: Duration = Duration::from_secs(2);

/// Shows the view until somebody ends it.
pub(super) async fn run(
    mut state: State,
    client: &Client,
    server: &Server,
    interval: Duration,
    palette: Palette,
) -> anyhow::Result<()> {
    let mut signals = Signals::new().context("cannot handle signals")?;
    end_in_time().context("cannot handle signals")?;
    let (sender, mut events) = mpsc::channel(WAITING);
    let (opened, wanted) = watch::channel(None);
    let mut tasks = JoinSet::new();
    tasks.spawn(sources::ask(client.clone(), interval, wanted, sender.clone()));
    tasks.spawn(sources::follow(server.clone(), client.clone(), sender));
    let mut screen = Screen::open(palette).context("cannot use this terminal")?;
    let mut keys = EventStream::new();
    let mut ticks = ticks(interval);
    loop {
        let event = tokio::select! {
            effect = signals.next() => Happened::Effect(effect),
            key = keys.next() => from_terminal(key)?,
            Some(event) = events.recv() => Happened::Event(event),
            _ = ticks.tick() => Happened::Event(Event::Tick),
            Some(ended) = tasks.join_next() => {
                ended.context("a part of this view has failed")?;
                Happened::Event(Event::Tick)
            }
        };
        // Flows come by the thousand: they are seen at the next tick.
        let is_flow = matches!(event, Happened::Event(Event::Flow(_) | Event::Lost(_)));
        let effect = match event {
            Happened::Event(event) => state.handle(event, now()),
            Happened::Effect(effect) => Some(effect),
        };
        match effect {
            Some(Effect::Quit) => return Ok(()),
            Some(Effect::Suspend) => screen.suspend()?,
            Some(Effect::Redraw) => screen.clear()?,
            None => {}
        }
        opened.send_if_modified(|seen| {
            let is_other = *seen != state.opened;
            seen.clone_from(&state.opened);
            is_other
        });
        if !is_flow {
            screen.draw(&state)?;
        }
    }
}

/// What was waited for.
enum Happened {
    Event(Event),
    Effect(Effect),
}

/// A terminal that is gone ends the view, as one that has hung up does.
fn from_terminal(event: Option<io::Result<TerminalEvent>>) -> anyhow::Result<Happened> {
    Ok(match event {
        Some(Ok(TerminalEvent::Key(key))) => Happened::Event(Event::Key(key)),
        // A new size, for one, is found when it is drawn.
        Some(Ok(_)) => Happened::Event(Event::Tick),
        Some(Err(error)) => return Err(error).context("cannot read from this terminal"),
        None => Happened::Effect(Effect::Quit),
    })
}

fn ticks(interval: Duration) -> Interval {
    let mut ticks = tokio::time::interval(interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    ticks
}

/// The time since 1970.
pub(super) fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// Ends the process where a signal has not, because the terminal takes nothing any more and so holds
/// up whoever draws on it.
fn end_in_time() -> io::Result<()> {
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    let _guard = runtime.enter();
    let mut signals = Signals::new()?;
    thread::Builder::new().name("end in time".to_owned()).spawn(move || {
        while runtime.block_on(signals.next()) != Effect::Quit {}
        thread::sleep(GRACE);
        // What can be given back without a word to the terminal.
        let _ = terminal::disable_raw_mode();
        process::exit(1);
    })?;
    Ok(())
}

/// The signals that would otherwise leave the terminal as it is.
struct Signals {
    ending: [Signal; 3],
    stopping: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            ending: [
                signal(SignalKind::terminate())?,
                signal(SignalKind::interrupt())?,
                signal(SignalKind::hangup())?,
            ],
            stopping: signal(SignalKind::from_raw(nix::libc::SIGTSTP))?,
        })
    }

    async fn next(&mut self) -> Effect {
        let [terminate, interrupt, hangup] = &mut self.ending;
        tokio::select! {
            _ = terminate.recv() => Effect::Quit,
            _ = interrupt.recv() => Effect::Quit,
            _ = hangup.recv() => Effect::Quit,
            _ = self.stopping.recv() => Effect::Suspend,
        }
    }
}
