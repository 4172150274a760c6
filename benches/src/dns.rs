//! What a DNS proxy costs: the daemon beside dnsdist and beside a forwarder that does nothing else,
//! on the same veths, with the same server behind them and the same client before them.
//!
//! Contenders take turns within a round, so that what disturbs the machine disturbs all of them;
//! ratios are taken within a round, and the median of the rounds counts.

mod batch;
mod contenders;
mod dnsperf;
pub mod forwarder;
mod load;
mod names;
mod responder;
mod sockets;

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;
use serde::Serialize;

use crate::figures::median;
pub use contenders::Watched;
use contenders::{Contender, Stage};
pub use load::Pace;
pub use names::Names;

/// How many queries the client keeps open at full load.
pub const WINDOW: usize = 256;
/// The queries a second at which latency is measured.
const RATE: u32 = 5000;

/// How often and how long.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    pub rounds: u32,
    /// The time of each contender's full load, and of its steady rate, in each round.
    pub time: Duration,
    pub workers: u32,
}

/// What was measured of one contender: medians of all rounds.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Figures {
    /// CPU time of the proxy's process for each query at full load, in µs.
    pub cpu_us: f64,
    /// The same in units of the floor's in the same round.
    pub cpu_ratio: f64,
    /// Queries a second at full load.
    pub qps: f64,
    /// The same as dnsperf measures it; it asks nobody for new names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dnsperf_qps: Option<f64>,
    /// CPU time for each query at the steady rate, in µs.
    pub paced_cpu_us: f64,
    /// What the proxy adds at the steady rate to the median time of an answer, in µs.
    pub added_p50_us: f64,
    /// The same for the 99th percentile.
    pub added_p99_us: f64,
    /// Queries without an answer or with an error for one, in all rounds.
    pub lost: u64,
}

/// What one contender did in one round.
#[derive(Clone, Copy, Debug, Default)]
struct Sample {
    cpu_us: f64,
    qps: f64,
    dnsperf_qps: Option<f64>,
    paced_cpu_us: f64,
    p50_us: f64,
    p99_us: f64,
    lost: u64,
}

/// Runs everything; figures by contender.
pub fn run(plan: Plan) -> Result<BTreeMap<&'static str, Figures>> {
    let stage = Stage::new(plan.workers, WINDOW)?;
    let mut rounds = Vec::new();
    for contender in Contender::ALL {
        stage.load(contender, Pace::Window(WINDOW), Duration::from_millis(300))?;
    }
    for round in 1..=plan.rounds {
        eprintln!("dns: round {round} of {}", plan.rounds);
        let mut samples = BTreeMap::new();
        for contender in Contender::ALL {
            samples.insert(contender, sample(&stage, contender, plan.time)?);
        }
        rounds.push(samples);
    }
    let proxies = Contender::ALL.into_iter().filter(|own| *own != Contender::Direct);
    Ok(proxies.map(|own| (own.name(), figures(&rounds, own))).collect())
}

fn sample(stage: &Stage, contender: Contender, time: Duration) -> Result<Sample> {
    let full = stage.load(contender, Pace::Window(WINDOW), time)?;
    let paced = stage.load(contender, Pace::Rate(RATE), time)?;
    let dnsperf = match contender.names() {
        Names::Working if contender != Contender::Direct => Some(stage.dnsperf(contender, time)?),
        Names::Working | Names::Fresh => None,
    };
    let micros = |time: Duration| time.as_secs_f64() * 1e6;
    Ok(Sample {
        cpu_us: micros(full.cpu) / full.outcome.answered as f64,
        qps: full.outcome.rate(),
        dnsperf_qps: dnsperf.map(|report| report.rate),
        paced_cpu_us: micros(paced.cpu) / paced.outcome.answered as f64,
        p50_us: micros(paced.outcome.quantile(0.5)),
        p99_us: micros(paced.outcome.quantile(0.99)),
        lost: full.outcome.lost + paced.outcome.lost + dnsperf.map_or(0, |report| report.lost),
    })
}

fn figures(rounds: &[BTreeMap<Contender, Sample>], own: Contender) -> Figures {
    let over = |value: fn(&Sample) -> f64, against: Option<Contender>| {
        let values = rounds
            .iter()
            .map(|round| (value(&round[&own]), against.map(|other| value(&round[&other]))));
        values.collect::<Vec<_>>()
    };
    let plain = |value| median(over(value, None).into_iter().map(|(own, _)| own));
    let added = |value| {
        let pairs = over(value, Some(Contender::Direct)).into_iter();
        median(pairs.map(|(own, direct)| own - direct.unwrap_or_default()))
    };
    let of_dnsperf: Vec<f64> = rounds.iter().filter_map(|round| round[&own].dnsperf_qps).collect();
    let ratios = over(|sample| sample.cpu_us, Some(Contender::Floor)).into_iter();
    Figures {
        cpu_us: plain(|sample| sample.cpu_us),
        cpu_ratio: median(ratios.map(|(own, floor)| own / floor.unwrap_or(f64::NAN))),
        qps: plain(|sample| sample.qps),
        dnsperf_qps: (!of_dnsperf.is_empty()).then(|| median(of_dnsperf)),
        paced_cpu_us: plain(|sample| sample.paced_cpu_us),
        added_p50_us: added(|sample| sample.p50_us),
        added_p99_us: added(|sample| sample.p99_us),
        lost: rounds.iter().map(|round| round[&own].lost).sum(),
    }
}
