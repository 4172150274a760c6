//! What recording flows costs the DNS path: two daemons that differ in it alone, taking turns, one
//! node and one server to each.
//!
//! No two nodes cost quite the same, so the daemons change their parts half-way: what a node costs
//! more than the other is once for recording and once against it.

use std::time::Duration;

use anyhow::Result;
use serde::Serialize;

use crate::dns::{Names, Pace, WINDOW, Watched};
use crate::figures::median;

/// The loads. The daemon records a thousand queries a second of one endpoint: at the first pace
/// every query.
const PACES: [(&str, Pace); 3] = [
    ("900 a second, all recorded", Pace::Rate(900)),
    ("5,000 a second", Pace::Rate(5000)),
    ("as fast as answers come", Pace::Window(WINDOW)),
];

/// How often and how long.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// How often each daemon takes its turn with each part.
    pub rounds: u32,
    /// How long a turn is.
    pub time: Duration,
    pub workers: u32,
}

/// What was measured at one pace: medians of all rounds.
#[derive(Clone, Debug, Serialize)]
pub struct Figures {
    pub pace: &'static str,
    /// CPU time of the daemon's process for each query, in µs, with all its threads.
    pub recorded_us: f64,
    /// The same where nothing is recorded.
    pub unrecorded_us: f64,
    /// What the first is in units of the second: the median of each order of parts, averaged.
    pub ratio: f64,
}

/// The samples of one pace.
#[derive(Default)]
struct Samples {
    recorded: Vec<f64>,
    unrecorded: Vec<f64>,
    /// By which daemon records.
    ratios: [Vec<f64>; 2],
}

/// Measures every pace.
pub fn run(plan: Plan) -> Result<Vec<Figures>> {
    let mut daemons = [Watched::new(&flags(plan, true))?, Watched::new(&flags(plan, false))?];
    let mut samples: [Samples; PACES.len()] = Default::default();
    for recorder in [0, 1] {
        if recorder == 1 {
            daemons[0].restart_with(&flags(plan, false))?;
            daemons[1].restart_with(&flags(plan, true))?;
        }
        for daemon in &daemons {
            daemon.load(Names::Working, Pace::Window(WINDOW), plan.time)?;
        }
        for round in 0..plan.rounds {
            eprintln!("recording: round {} of {}, part {}", round + 1, plan.rounds, recorder + 1);
            // Whoever comes second has the same share of firsts.
            let order = if round % 2 == 0 { [0, 1] } else { [1, 0] };
            for ((_, pace), samples) in PACES.iter().zip(&mut samples) {
                let mut micros = [0.0; 2];
                for at in order {
                    micros[at] = daemons[at].cpu_us(Names::Working, *pace, plan.time)?;
                }
                samples.add(micros[recorder], micros[1 - recorder], recorder);
            }
        }
    }
    Ok(PACES.iter().zip(samples).map(|((pace, _), samples)| samples.figures(pace)).collect())
}

fn flags(plan: Plan, records: bool) -> Vec<String> {
    let mut flags = vec!["--dns-workers".to_owned(), plan.workers.to_string()];
    if !records {
        flags.extend(["--flows-enabled".to_owned(), "false".to_owned()]);
    }
    flags
}

impl Samples {
    fn add(&mut self, recorded: f64, unrecorded: f64, recorder: usize) {
        self.recorded.push(recorded);
        self.unrecorded.push(unrecorded);
        self.ratios[recorder].push(recorded / unrecorded);
    }

    fn figures(self, pace: &'static str) -> Figures {
        let [first, second] = self.ratios.map(median);
        Figures {
            pace,
            recorded_us: median(self.recorded),
            unrecorded_us: median(self.unrecorded),
            ratio: (first * second).sqrt(),
        }
    }
}
