//! The terminal while it is ours: raw, on its other screen, without a cursor.
//!
//! However this ends, the terminal is given back as it was: by dropping it, by a panic before its
//! message is printed, and while the process is stopped.

use std::io::{self, Stdout, Write, stdout};
use std::panic;

use crossterm::{cursor, execute, terminal};
use nix::sys::signal::{Signal, raise};
use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use ratatui::layout::Rect;

use super::state::State;
use super::view::{self, Palette};

/// The terminal.
pub(super) struct Screen {
    terminal: Terminal<CrosstermBackend<Stdout>>,
    palette: Palette,
}

impl Screen {
    /// Takes the terminal.
    pub fn open(palette: Palette) -> io::Result<Self> {
        let report = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            // There is nobody left to tell of a failure.
            let _ = give_back();
            report(panic);
        }));
        let screen = Self { terminal: Terminal::new(CrosstermBackend::new(stdout()))?, palette };
        take()?;
        Ok(screen)
    }

    /// Draws what has changed.
    pub fn draw(&mut self, state: &State) -> io::Result<()> {
        let palette = self.palette;
        self.terminal.draw(|frame| view::draw(state, palette, frame.area(), frame.buffer_mut()))?;
        Ok(())
    }

    /// Has the next drawing draw everything.
    pub fn clear(&mut self) -> io::Result<()> {
        // Not the terminal's own `clear`, which asks where the cursor is and waits for an answer.
        let size = self.terminal.size()?;
        self.terminal.resize(Rect::new(0, 0, size.width, size.height))
    }

    /// Stops the process, as the shell's job control expects it, and goes on when that does.
    pub fn suspend(&mut self) -> io::Result<()> {
        give_back()?;
        // SIGTSTP is handled; this one cannot be.
        raise(Signal::SIGSTOP)?;
        take()?;
        self.clear()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // A terminal that has hung up takes nothing back.
        let _ = give_back();
    }
}

fn take() -> io::Result<()> {
    terminal::enable_raw_mode()?;
    execute!(stdout(), terminal::EnterAlternateScreen, cursor::Hide)
}

fn give_back() -> io::Result<()> {
    let shown = execute!(stdout(), terminal::LeaveAlternateScreen, cursor::Show);
    terminal::disable_raw_mode()?;
    shown.and_then(|()| stdout().flush())
}

#[cfg(test)]
mod tests {
    use std::env;
    use std::process::Command;

    use super::*;

    const INSIDE: &str = "FQDNCTL_TEST_INSIDE_A_TERMINAL";
    const NAME: &str = "top::screen::tests::a_panic_gives_the_terminal_back_before_it_speaks";

    /// Runs itself in a terminal that `script` makes, and panics there.
    #[test]
    fn a_panic_gives_the_terminal_back_before_it_speaks() {
        if env::var_os(INSIDE).is_some() {
            let mut screen = Screen::open(Palette { colored: false }).unwrap();
            screen.draw(&State::default()).unwrap();
            panic!("something that nobody thought of");
        }
        let own = env::current_exe().unwrap();
        let inside = format!(
            "stty cols 80 rows 24; stty -g; {} --exact {NAME} --nocapture 2>&1; echo; stty -g",
            own.display()
        );
        let script = ["--quiet", "--return", "--command", &inside, "/dev/null"];
        let output = Command::new("script").args(script).env(INSIDE, "1").output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).replace('\r', "");
        let lines: Vec<&str> = text.trim().lines().collect();
        assert_eq!(lines.first(), lines.last(), "the terminal's settings, before and after");
        let place = |part: &str| text.find(part).unwrap_or_else(|| panic!("no {part:?}: {text}"));
        assert!(place("\u{1b}[?1049h") < place("\u{1b}[?1049l"));
        assert!(place("\u{1b}[?1049l") < place("something that nobody thought of"));
        assert!(place("\u{1b}[?25l") < place("\u{1b}[?25h"));
    }
}
