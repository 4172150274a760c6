//! How the demo looks: a numbered line for each step, commands at their prompts, what they said,
//! and a tick or a cross.
//!
//! Colour only adds: without it, on a pipe or by NO_COLOR, the same text stands there.

use std::{
    env,
    io::{IsTerminal, stdout},
};

const LOG_LINES: usize = 30;

/// Who types a command.
#[derive(Clone, Copy, Debug)]
pub(super) enum Prompt<'a> {
    /// Somebody in a pod of this name.
    Pod(&'a str),
    /// Root on the node.
    Node,
}

/// Where the demo is printed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Page {
    colored: bool,
}

#[derive(Clone, Copy, Debug)]
enum Style {
    Bold,
    Cyan,
    Faint,
    Green,
    Red,
}

impl Page {
    pub(super) fn new() -> Page {
        let unset = |key| env::var_os(key).is_none_or(|value| value.is_empty());
        let dumb = env::var_os("TERM").is_some_and(|term| term == "dumb");
        Page { colored: unset("NO_COLOR") && !dumb && stdout().is_terminal() }
    }

    /// A line that stands for itself, with room around it.
    pub(super) fn heading(self, text: &str) {
        println!("\n{}\n", self.paint(Style::Bold, text));
    }

    /// Plain lines below a heading.
    pub(super) fn lines<T: AsRef<str>>(self, lines: impl IntoIterator<Item = T>) {
        lines.into_iter().for_each(|line| println!("   {}", line.as_ref()));
    }

    pub(super) fn step(self, number: usize, title: &str) {
        self.heading(&format!("{number}  {title}"));
    }

    pub(super) fn command(self, prompt: Prompt<'_>, line: &str) {
        let prompt = match prompt {
            Prompt::Pod(name) => format!("{name}$"),
            Prompt::Node => "node#".to_owned(),
        };
        println!("   {} {}", self.paint(Style::Cyan, &prompt), self.paint(Style::Bold, line));
    }

    pub(super) fn output(self, text: &str) {
        text.lines().for_each(|line| println!("     {line}"));
    }

    /// What nobody typed and nothing printed, but is to be known here.
    pub(super) fn remark(self, text: &str) {
        println!("   {}", self.paint(Style::Faint, &format!("# {text}")));
    }

    pub(super) fn passed(self, conclusion: &str) {
        println!("   {} {conclusion}", self.paint(Style::Green, "✓"));
    }

    pub(super) fn failed(self, what: &str) {
        println!("   {} {what}", self.paint(Style::Red, "✗"));
    }

    /// The end of the daemon's log.
    pub(super) fn log(self, text: &str) {
        let lines: Vec<_> = text.lines().collect();
        self.heading("fqdnd last said:");
        self.lines(&lines[lines.len().saturating_sub(LOG_LINES)..]);
    }

    fn paint(self, style: Style, text: &str) -> String {
        if !self.colored {
            return text.to_owned();
        }
        let code = match style {
            Style::Bold => 1,
            Style::Faint => 2,
            Style::Red => 31,
            Style::Green => 32,
            Style::Cyan => 36,
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }
}
