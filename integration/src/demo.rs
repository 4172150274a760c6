//! `fqdnd-lab demo`: the main job on a real node, step by step, as a newcomer would try it.
//!
//! - What is shown is what ran: every command line goes to a shell as it stands.
//! - A step that is not as it should be ends the demo, with what was seen and what the daemon said.
//! - Nothing stays on the machine, unless asked to, and then until Ctrl-C.

mod download;
mod page;
mod stage;
mod steps;

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, bail, ensure};
use integration::LabOptions;
use nix::unistd::geteuid;

use self::{page::Page, stage::Stage, steps::Story};

/// How the demo is to run.
#[derive(Debug)]
pub(crate) struct Demo {
    /// The lab to play in.
    pub(crate) lab: LabOptions,
    /// How the daemon attaches its programs, as its configuration says it.
    pub(crate) attach: &'static str,
    /// Whether the lab stays until Ctrl-C.
    pub(crate) keep: bool,
}

impl Demo {
    /// Plays it; an error names the step that is not as it should be.
    pub(crate) fn run(self) -> Result<()> {
        ensure!(geteuid().is_root(), "network namespaces and BPF programs need root");
        let page = Page::new();
        let start = Instant::now();
        let mut story = Story::new(Stage::build(self.lab, self.attach, page)?);
        let played = play(&mut story, page);
        if self.keep {
            keep(&story, page);
        }
        drop(story);
        played?;
        close(page, start.elapsed());
        Ok(())
    }
}

fn play(story: &mut Story, page: Page) -> Result<()> {
    for (number, (title, step)) in (1..).zip(steps::STEPS) {
        page.step(number, title);
        match step(story) {
            Ok(conclusion) => page.passed(&conclusion),
            Err(error) => {
                page.failed(&format!("{error:#}"));
                page.log(&story.stage().daemon().log());
                bail!("step {number} is not as it should be: {title}");
            }
        }
    }
    Ok(())
}

fn keep(story: &Story, page: Page) -> ! {
    page.heading("The lab stays until Ctrl-C. As root, from another terminal:");
    page.lines(story.stage().ways_in());
    loop {
        thread::park();
    }
}

fn close(page: Page, took: Duration) {
    page.heading(&format!(
        "All {} steps are as they should be, after {:.1} s. Nothing of it stays on this machine.",
        steps::STEPS.len(),
        took.as_secs_f64()
    ));
    page.lines([
        "Once more, and stay to look around:   make demo DEMO=--keep",
        "A first policy of your own:           README.md, examples/",
        "How it works:                         ARCHITECTURE.md",
        "What it does not do:                  docs/limits.md",
    ]);
}
