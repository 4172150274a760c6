//! What judging requests costs: fqdnd-l7 beside nginx, which only carries them, as a proxy of HTTP
//! and as one of TCP; and the way without any proxy.
//!
//! The clients, the proxies and the server share this machine's processors; the proxies take turns,
//! and the processor time is of the proxy's process alone.

mod load;
mod stage;

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;
use serde::Serialize;

use crate::figures::median;
use load::Spoken;
use stage::{Contender, Stage};

/// How many connections a load has.
const CONNECTIONS: usize = 16;
/// How many exchanges one after the other tell the latency.
const ALONE: usize = 2000;
/// How many idle connections tell what one takes.
const IDLE: u32 = 500;

/// How long is measured.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// How many rounds the contenders take turns in.
    pub rounds: u32,
    /// How long a load lasts.
    pub time: Duration,
}

/// What was found of one contender.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Figures {
    /// The proxy's processor time for an exchange under load, in µs; 0 where there is no proxy.
    pub cpu_us: f64,
    /// Exchanges a second under load.
    pub per_second: f64,
    /// The median of one exchange alone, in µs.
    pub p50_us: f64,
    /// What of it is not there without a proxy.
    pub added_us: f64,
    /// What the proxy keeps for an idle connection, in KiB.
    pub idle_kib: f64,
}

/// Measures all contenders.
pub fn run(plan: Plan) -> Result<BTreeMap<&'static str, Figures>> {
    let stage = Stage::new()?;
    let mut all: BTreeMap<Contender, Vec<Figures>> = BTreeMap::new();
    for _ in 0..plan.rounds {
        for contender in Contender::ALL {
            all.entry(contender).or_default().push(measure(&stage, contender, plan.time)?);
        }
    }
    let mut found: BTreeMap<Contender, Figures> =
        all.into_iter().map(|(contender, rounds)| (contender, middle(&rounds))).collect();
    for contender in Contender::ALL {
        let direct = match contender.speaks() {
            Spoken::Http => Contender::DirectHttp,
            Spoken::Tcp => Contender::DirectTcp,
        };
        let baseline = found[&direct].p50_us;
        if let Some(own) = found.get_mut(&contender) {
            own.added_us = own.p50_us - baseline;
            // Last, since what is taken then is not given back.
            own.idle_kib = stage.idle(contender, IDLE)? / 1024.0;
        }
    }
    Ok(found.into_iter().map(|(contender, own)| (contender.name(), own)).collect())
}

fn measure(stage: &Stage, contender: Contender, time: Duration) -> Result<Figures> {
    let (exchanges, cpu) = stage.load(contender, CONNECTIONS, time)?;
    #[allow(clippy::cast_precision_loss, reason = "there are far fewer than 2^53")]
    let count = exchanges as f64;
    Ok(Figures {
        cpu_us: cpu.as_secs_f64() * 1e6 / count,
        per_second: count / time.as_secs_f64(),
        p50_us: stage.alone(contender, ALONE)?.as_secs_f64() * 1e6,
        ..Figures::default()
    })
}

fn middle(rounds: &[Figures]) -> Figures {
    let of = |value: fn(&Figures) -> f64| median(rounds.iter().map(value));
    Figures {
        cpu_us: of(|own| own.cpu_us),
        per_second: of(|own| own.per_second),
        p50_us: of(|own| own.p50_us),
        ..Figures::default()
    }
}
