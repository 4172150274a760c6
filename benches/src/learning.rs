//! What learning an answer costs, engine and kernel together, by the number of selectors.
//!
//! A fresh name with a fresh address is the whole of it: matching, the name's record, the lease. A
//! known name's answer is what a running node sees most of the time. The wide case is a name that
//! all of the selectors match.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use anyhow::{Context, Result, anyhow, ensure};
use bpf::{Datapath, Options};
use engine::TableSets;
use engine::leases::{Leases, Limits};
use identity::Numbers;
use model::{EndpointId, Moment, Name, TableId};
use policy::{Document, Policy};
use serde::Serialize;

use crate::figures::median;

/// How many selectors the policy has.
const SELECTORS: [u32; 3] = [1, 120, 10_000];
/// How many answers are learned, and in how many groups.
const ANSWERS: u32 = 2_000;
const GROUPS: u32 = 5;

const ENDPOINT: EndpointId = EndpointId(7);
const TABLE: TableId = TableId(3);
const FIRST_ADDRESS: u32 = Ipv4Addr::new(11, 0, 0, 0).to_bits();
const TTL: u32 = 60;

/// What an answer costs, in µs.
#[derive(Clone, Debug, Serialize)]
pub struct Figures {
    pub selectors: u32,
    /// A fresh name that one selector matches, with a fresh address.
    pub fresh_us: f64,
    /// The same for the engine alone.
    pub engine_us: f64,
    /// A name and address known already.
    pub known_us: f64,
    /// A fresh name that all selectors match, with a fresh address.
    pub wide_us: f64,
}

/// Measures every number of selectors.
pub fn run() -> Result<Vec<Figures>> {
    let pins = Pins(PathBuf::from(format!("/sys/fs/bpf/fqdnd-learn-{}", std::process::id())));
    let datapath = Datapath::open(&Options { pin: pins.0.clone(), ..Options::default() })?;
    let mut figures = Vec::new();
    for selectors in SELECTORS {
        eprintln!("learning: {selectors} selectors");
        let (narrow_rules, wide_rules) =
            (Arc::new(narrow_table(selectors)?), Arc::new(wide_table(selectors)?));
        let (mut fresh, mut engine) = (Vec::new(), Vec::new());
        let (mut known, mut all) = (Vec::new(), Vec::new());
        for _ in 0..GROUPS {
            let mut learner = Learner::new(&narrow_rules, &datapath);
            let (total, own) = learner.learn(narrow)?;
            fresh.push(total);
            engine.push(own);
            known.push(learner.learn(narrow)?.0);
            let mut learner = Learner::new(&wide_rules, &datapath);
            all.push(learner.learn(wide)?.0);
        }
        figures.push(Figures {
            selectors,
            fresh_us: median(fresh),
            engine_us: median(engine),
            known_us: median(known),
            wide_us: median(all),
        });
    }
    Ok(figures)
}

/// A pin directory that goes with this value.
struct Pins(PathBuf);

impl Drop for Pins {
    fn drop(&mut self) {
        if let Err(error) = bpf::remove(&self.0) {
            eprintln!("remove {}: {error}", self.0.display());
        }
    }
}

struct Learner<'a> {
    leases: Leases,
    sets: TableSets,
    datapath: &'a Datapath,
}

impl<'a> Learner<'a> {
    fn new(rules: &Arc<policy::Table>, datapath: &'a Datapath) -> Self {
        let numbers = Arc::new(Mutex::new(Numbers::new(1 << 25..=(1 << 25) + 4096)));
        let sets = TableSets::new(TABLE, Arc::clone(rules), numbers, 4096);
        Self { leases: Leases::new(ENDPOINT, Limits::default()), sets, datapath }
    }

    /// Learns answers for names; µs for each, in all and in the engine.
    fn learn(&mut self, name: impl Fn(u32) -> String) -> Result<(f64, f64)> {
        let names: Result<Vec<Name>, _> =
            (0..=ANSWERS).map(|number| name(number).parse()).collect();
        let names = names.context("a name")?;
        let mut changes = Vec::new();
        let now = Moment::from_secs(1);
        let (mut total, mut own) = (0.0, 0.0);
        for (name, number) in names.iter().zip(0u32..) {
            let address = IpAddr::V4(Ipv4Addr::from_bits(FIRST_ADDRESS + number));
            changes.clear();
            let start = Instant::now();
            let learned = self.leases.handle_answer(
                name.as_ref(),
                &[(address, TTL)],
                now,
                &mut self.sets,
                &mut changes,
            )?;
            let decided = start.elapsed();
            self.datapath.apply(&changes)?;
            let written = start.elapsed();
            ensure!(learned.selected, "no selector matches {name}");
            self.sets.confirm();
            // The first answer brings its name set, once for the table.
            if number > 0 {
                own += decided.as_secs_f64();
                total += written.as_secs_f64();
            }
        }
        let micros = 1e6 / f64::from(ANSWERS);
        Ok((total * micros, own * micros))
    }
}

/// A table with so many selectors, of which one matches [`narrow`] names.
fn narrow_table(selectors: u32) -> Result<policy::Table> {
    let others = (1..selectors).map(|number| format!("*.zone{number}.example.net"));
    table(std::iter::once("*.example.com".to_owned()).chain(others))
}

fn narrow(number: u32) -> String {
    format!("name{number}.example.com")
}

/// A table with so many selectors, all of which match [`wide`] names: stars between the first
/// letters of a label and its last ones, in two labels.
fn wide_table(selectors: u32) -> Result<policy::Table> {
    let pattern = |number: usize| {
        let (a, b, c) = (number % 30, number / 30 % 30, number / 900);
        let [a, b, c] = [("w", a), ("e", b), ("x", c)].map(|(letter, count)| letter.repeat(count));
        format!("{a}*{b}.{c}*.example.com")
    };
    table((0..selectors as usize).map(pattern))
}

fn wide(number: u32) -> String {
    let [a, b, c] = [("w", 29), ("e", 29), ("x", 11)].map(|(letter, count)| letter.repeat(count));
    let digits = format!("{number:04}");
    format!("{a}{digits}{b}.{c}.example.com")
}

fn table(patterns: impl Iterator<Item = String>) -> Result<policy::Table> {
    let mut rules = String::new();
    for pattern in patterns {
        writeln!(rules, "    - matchPattern: \"{pattern}\"")?;
    }
    let text = format!(
        "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\n\
         metadata: {{name: bench, namespace: default}}\n\
         spec:\n  endpointSelector: {{}}\n  egress:\n  - toFQDNs:\n{rules}"
    );
    let (documents, _) = Document::read_all(&Arc::from(Path::new("bench.yaml")), &text);
    let document = documents.first().context("no document")?;
    let policy = Policy::read(document).map_err(|problems| anyhow!("{problems:?}"))?;
    Ok(policy::Table::compile(&policy.rules, &policy::Context::default()))
}
