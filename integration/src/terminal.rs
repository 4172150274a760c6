//! A terminal with a program in it, as a person sits before one: keys go in, and what is on the
//! screen can be read.
//!
//! The terminal is one that `script` makes: a pseudo-terminal in a session of its own. When this
//! value goes, the terminal hangs up, and with it goes whatever runs in it.

use std::{
    fs,
    io::{Read, Write},
    num::NonZeroU16,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    sync::{Arc, Mutex, PoisonError},
    thread::{self, JoinHandle},
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use vt100::Parser;

use crate::wait::wait_until;

/// How long something may take to be on the screen.
const PATIENCE: Duration = Duration::from_secs(60);
/// Notes the terminal's settings, runs the program as a process whose number is known, and notes
/// how it ended and the settings again.
const SESSION: &str = r#"
stty cols "$COLUMNS" rows "$LINES"; unset COLUMNS LINES
stty -g > before
sh -c 'echo $$ > pid; exec "$0" "$@"' "$@"
echo $? > code
stty -g > after
"#;

/// A terminal with a program in it.
pub struct Terminal {
    script: Child,
    keys: Option<ChildStdin>,
    reader: Option<JoinHandle<()>>,
    parser: Arc<Mutex<Parser>>,
    directory: PathBuf,
}

/// How a program has left its terminal.
#[derive(Debug, PartialEq, Eq)]
pub struct Left {
    /// Its exit code.
    pub code: i32,
    /// Whether the terminal's settings are what they were.
    pub has_its_settings: bool,
    /// Whether the screen is the one that was there before, with its cursor.
    pub has_its_screen: bool,
}

impl Terminal {
    /// Runs `program` in a terminal of so many columns and lines. `script` is that program, ready
    /// to be run where this one is to be; notes go into `directory`.
    ///
    /// # Panics
    /// The terminal cannot be made.
    pub fn open(
        mut script: Command,
        program: &Command,
        directory: &Path,
        (columns, lines): (u16, u16),
    ) -> Terminal {
        let directory = directory.join("terminal");
        fs::create_dir_all(&directory).expect("a directory for notes");
        for note in ["pid", "code", "before", "after"] {
            let _ = fs::remove_file(directory.join(note));
        }
        fs::write(directory.join("session"), SESSION).expect("the session's commands");
        let words = [program.get_program()].into_iter().chain(program.get_args());
        let words: Vec<String> = words.map(|word| quoted(&word.to_string_lossy())).collect();
        let session = format!("cd {} && . ./session", quoted(&directory.to_string_lossy()));
        let command = format!("set -- {}; {session}", words.join(" "));
        let script = script
            .args(["--quiet", "--flush", "--command", &command, "/dev/null"])
            .env("SHELL", "/bin/sh")
            .env("TERM", "xterm-256color")
            .envs([("COLUMNS", columns.to_string()), ("LINES", lines.to_string())])
            .envs(program.get_envs().filter_map(|(key, value)| Some((key, value?))))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit());
        let mut script = script.spawn().expect("util-linux's script");
        let keys = script.stdin.take();
        let mut output = script.stdout.take().expect("it is piped");
        let size = |size| NonZeroU16::new(size).expect("a size");
        let parser = Arc::new(Mutex::new(Parser::new(size(lines), size(columns), 0)));
        let reader = thread::spawn({
            let parser = Arc::clone(&parser);
            move || {
                let mut bytes = [0; 4096];
                while let Ok(length @ 1..) = output.read(&mut bytes) {
                    let mut parser = parser.lock().unwrap_or_else(PoisonError::into_inner);
                    parser.process(&bytes[..length]);
                }
            }
        });
        Terminal { script, keys, reader: Some(reader), parser, directory }
    }

    /// Types.
    ///
    /// # Panics
    /// The terminal is gone.
    pub fn press(&mut self, keys: &str) {
        let own = self.keys.as_mut().expect("it is there until the end");
        own.write_all(keys.as_bytes()).and_then(|()| own.flush()).expect("a terminal that listens");
    }

    /// What is on the screen, line by line.
    pub fn screen(&self) -> String {
        self.look(vt100::Screen::contents)
    }

    /// Whether the program has taken a screen of its own.
    pub fn is_on_other_screen(&self) -> bool {
        self.look(vt100::Screen::alternate_screen)
    }

    /// Whether anything on the screen has a colour of its own.
    pub fn uses_color(&self) -> bool {
        self.look(|screen| {
            let (lines, columns) = screen.size();
            let mut places = (0..lines.get()).flat_map(|y| (0..columns.get()).map(move |x| (y, x)));
            let cell = |(y, x)| screen.cell(y, x);
            places
                .any(|place| cell(place).is_some_and(|own| own.fgcolor() != vt100::Color::Default))
        })
    }

    /// Waits until the screen is as it should be.
    ///
    /// # Panics
    /// It does not become so.
    pub fn wait_for(&self, what: &str, condition: impl Fn(&str) -> bool) {
        if wait_until(what, PATIENCE, || condition(&self.screen())).is_err() {
            panic!("{what}: not on this screen:\n{}", self.screen());
        }
    }

    /// Waits until a text is on the screen.
    ///
    /// # Panics
    /// It does not come.
    pub fn wait_for_text(&self, text: &str) {
        self.wait_for(text, |screen| screen.contains(text));
    }

    /// Gives the terminal another size.
    ///
    /// # Panics
    /// It takes none.
    pub fn resize(&self, (columns, lines): (u16, u16)) {
        let size = |size| NonZeroU16::new(size).expect("a size");
        let mut parser = self.parser.lock().unwrap_or_else(PoisonError::into_inner);
        parser.set_size(size(lines), size(columns));
        drop(parser);
        self.stty(&["cols", &columns.to_string(), "rows", &lines.to_string()]);
    }

    /// Whether the terminal's settings are those from before the program.
    pub fn has_its_settings(&self) -> bool {
        self.stty(&["-g"]) == self.note("before")
    }

    /// Sends the program a signal.
    ///
    /// # Panics
    /// It is not there.
    pub fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).expect("a program that is there");
    }

    /// Waits until the program is stopped, as by job control.
    ///
    /// # Panics
    /// It goes on.
    pub fn wait_until_stopped(&self) {
        let state = || {
            let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid())).ok()?;
            stat.rsplit(") ").next()?.chars().next()
        };
        wait_until("it is stopped", PATIENCE, || state() == Some('T')).expect("a stopped program");
    }

    /// Has the terminal take nothing more of what the program shows.
    pub fn freeze(&self) {
        let script = Pid::from_raw(self.script.id().cast_signed());
        kill(script, Signal::SIGSTOP).expect("a terminal that is there");
    }

    /// Waits for the program's end in a frozen terminal, and has that go on.
    ///
    /// # Panics
    /// It does not end.
    pub fn thaw_after_end(&self) {
        let ended = || !self.note("after").is_empty();
        wait_until("the program ends", PATIENCE, ended).unwrap_or_else(|error| panic!("{error}"));
        let script = Pid::from_raw(self.script.id().cast_signed());
        kill(script, Signal::SIGCONT).expect("a terminal that is there");
    }

    /// Waits for the program's end, and says how it has left the terminal.
    ///
    /// # Panics
    /// It does not end.
    pub fn end(mut self) -> Left {
        let ended = || !matches!(self.script.try_wait(), Ok(None));
        wait_until("the program ends", PATIENCE, ended).unwrap_or_else(|error| panic!("{error}"));
        self.join();
        let has_its_screen =
            self.look(|screen| !screen.alternate_screen() && !screen.hide_cursor());
        Left {
            code: self.note("code").parse().expect("an exit code"),
            has_its_settings: self.note("before") == self.note("after"),
            has_its_screen,
        }
    }

    fn look<T>(&self, look: impl FnOnce(&vt100::Screen) -> T) -> T {
        look(self.parser.lock().unwrap_or_else(PoisonError::into_inner).screen())
    }

    fn pid(&self) -> Pid {
        let read = || self.note("pid").parse().ok();
        wait_until("the program runs", PATIENCE, || read().is_some()).expect("a program");
        Pid::from_raw(read().expect("it was there"))
    }

    fn note(&self, name: &str) -> String {
        let note = fs::read_to_string(self.directory.join(name)).unwrap_or_default();
        note.trim().to_owned()
    }

    /// What `stty` says of the program's terminal.
    fn stty(&self, arguments: &[&str]) -> String {
        let terminal = format!("/proc/{}/fd/0", self.pid());
        let output = Command::new("stty").args(["-F", &terminal]).args(arguments).output();
        let output = output.expect("coreutils' stty");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    fn join(&mut self) {
        drop(self.keys.take());
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.script.kill();
        let _ = self.script.wait();
        self.join();
    }
}

/// A word as a shell takes it.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}
