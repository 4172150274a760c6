//! What the proxy's records come to: how many by protocol and outcome, why, and how long it took.

use std::sync::atomic::{AtomicU64, Ordering};

use dnsproxy::LATENCY_BOUNDS;
use l7proxy_core::control::{Access, Asked};
use l7proxy_core::{Fate, Reason};

/// Buckets of latency: one for each bound, and one over them all.
const BUCKETS: usize = LATENCY_BOUNDS.len() + 1;

/// Everything that was counted. It is only ever added to.
#[derive(Debug, Default)]
pub struct Counts {
    protocols: [Protocol; Spoken::ALL.len()],
    refusals: Reasons,
    audits: Reasons,
}

/// A count for each reason.
#[derive(Debug)]
struct Reasons(Vec<AtomicU64>);

/// What was judged in one protocol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcomes {
    /// What passed.
    pub passed: u64,
    /// What passed only because what is against it is not enforced.
    pub audited: u64,
    /// What was refused.
    pub refused: u64,
}

#[derive(Debug)]
struct Protocol {
    passed: AtomicU64,
    audited: AtomicU64,
    refused: AtomicU64,
    /// How many took so long, and how long in all.
    latency: [(AtomicU64, AtomicU64); BUCKETS],
}

/// What was spoken on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spoken {
    /// HTTP.
    Http,
    /// Kafka.
    Kafka,
    /// TLS that goes on untouched, or was refused.
    Tls,
    /// A connection that came to nothing of these.
    Other,
}

impl Spoken {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Http, Self::Kafka, Self::Tls, Self::Other];

    /// Its name in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Kafka => "kafka",
            Self::Tls => "tls",
            Self::Other => "other",
        }
    }

    const fn of(access: &Access) -> Self {
        match access.request {
            Asked::Http { .. } => Self::Http,
            Asked::Kafka { .. } => Self::Kafka,
            Asked::Tls => Self::Tls,
            Asked::Connection if access.server_name.is_some() => Self::Tls,
            Asked::Connection => Self::Other,
        }
    }
}

impl Default for Protocol {
    fn default() -> Self {
        let (passed, audited, refused) = Default::default();
        Self { passed, audited, refused, latency: std::array::from_fn(|_| Default::default()) }
    }
}

impl Counts {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Counts what a record says.
    pub fn add(&self, access: &Access) {
        let protocol = &self.protocols[Spoken::of(access) as usize];
        let count = match access.fate {
            Fate::Passed => &protocol.passed,
            Fate::Audited(reason) => {
                self.audits.count(reason);
                &protocol.audited
            }
            Fate::Refused(reason) => {
                self.refusals.count(reason);
                &protocol.refused
            }
        };
        count.fetch_add(1, Ordering::Relaxed);
        if let (None, Some(micros)) = (access.fate.refused(), access.micros) {
            protocol.took(micros.saturating_mul(1000));
        }
    }

    /// What became of what was asked, by protocol.
    pub fn outcomes(&self) -> impl Iterator<Item = (Spoken, Outcomes)> {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Spoken::ALL.into_iter().map(move |spoken| {
            let Protocol { passed, audited, refused, .. } = &self.protocols[spoken as usize];
            let [passed, audited, refused] = [passed, audited, refused].map(read);
            (spoken, Outcomes { passed, audited, refused })
        })
    }

    /// How many were refused for each reason.
    pub fn refusals(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.refusals.read()
    }

    /// How many passed that would have been refused for each reason.
    pub fn audits(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.audits.read()
    }

    /// How many answers took so long as a bucket has it, and how many nanoseconds in all.
    pub fn latency(&self, spoken: Spoken) -> impl Iterator<Item = (u64, u64)> {
        let buckets = self.protocols[spoken as usize].latency.iter();
        buckets.map(|(count, nanos)| (count.load(Ordering::Relaxed), nanos.load(Ordering::Relaxed)))
    }
}

impl Default for Reasons {
    fn default() -> Self {
        Self(Reason::ALL.iter().map(|_| AtomicU64::default()).collect())
    }
}

impl Reasons {
    fn count(&self, reason: Reason) {
        let place = Reason::ALL.iter().position(|own| *own == reason);
        if let Some(count) = place.and_then(|place| self.0.get(place)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn read(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let counts = self.0.iter().map(|count| count.load(Ordering::Relaxed));
        Reason::ALL.iter().map(|reason| reason.as_str()).zip(counts)
    }
}

impl Protocol {
    fn took(&self, nanos: u64) {
        let (count, sum) = &self.latency[LATENCY_BOUNDS.partition_point(|bound| *bound < nanos)];
        count.fetch_add(1, Ordering::Relaxed);
        sum.fetch_add(nanos, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access(fate: Fate, micros: Option<u64>) -> Access {
        let address = "192.0.2.1:1".parse().unwrap();
        Access {
            endpoint: None,
            client: address,
            destination: address,
            server_name: Some("a.example".into()),
            request: Asked::Connection,
            fate,
            micros,
        }
    }

    #[test]
    fn what_passes_and_what_is_refused_is_counted_by_protocol_and_reason() {
        let counts = Counts::new();
        counts.add(&access(Fate::Passed, Some(1)));
        counts.add(&access(Fate::Audited(Reason::NoRules), Some(u64::MAX)));
        counts.add(&access(Fate::Refused(Reason::NotTls), None));
        let tls = counts.outcomes().find(|(spoken, ..)| *spoken == Spoken::Tls);
        assert_eq!(tls, Some((Spoken::Tls, Outcomes { passed: 1, audited: 1, refused: 1 })));
        let refused: Vec<_> = counts.refusals().filter(|(_, count)| *count > 0).collect();
        assert_eq!(refused, [("not-tls", 1)]);
        let audited: Vec<_> = counts.audits().filter(|(_, count)| *count > 0).collect();
        assert_eq!(audited, [("no-rules", 1)]);
        assert_eq!(counts.latency(Spoken::Tls).map(|(count, _)| count).sum::<u64>(), 2);
        assert_eq!(counts.latency(Spoken::Tls).last(), Some((1, u64::MAX)));
    }
}
