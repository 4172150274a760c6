//! What the proxy's records come to: how many by protocol and outcome, why, and how long it took.

use std::sync::atomic::{AtomicU64, Ordering};

use dnsproxy::LATENCY_BOUNDS;
use l7proxy_core::Reason;
use l7proxy_core::control::{Access, Asked};

/// Buckets of latency: one for each bound, and one over them all.
const BUCKETS: usize = LATENCY_BOUNDS.len() + 1;

/// Everything that was counted. It is only ever added to.
#[derive(Debug, Default)]
pub struct Counts {
    protocols: [Protocol; Spoken::ALL.len()],
    refusals: Vec<AtomicU64>,
}

#[derive(Debug)]
struct Protocol {
    passed: AtomicU64,
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
        let (passed, refused) = Default::default();
        Self { passed, refused, latency: std::array::from_fn(|_| Default::default()) }
    }
}

impl Counts {
    /// Nothing yet.
    pub fn new() -> Self {
        let refusals = Reason::ALL.iter().map(|_| AtomicU64::default()).collect();
        Self { refusals, ..Self::default() }
    }

    /// Counts what a record says.
    pub fn add(&self, access: &Access) {
        let protocol = &self.protocols[Spoken::of(access) as usize];
        let Some(reason) = access.refused else {
            protocol.passed.fetch_add(1, Ordering::Relaxed);
            if let Some(micros) = access.micros {
                protocol.took(micros.saturating_mul(1000));
            }
            return;
        };
        protocol.refused.fetch_add(1, Ordering::Relaxed);
        let place = Reason::ALL.iter().position(|own| *own == reason);
        if let Some(count) = place.and_then(|place| self.refusals.get(place)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How many passed and how many were refused, by protocol.
    pub fn outcomes(&self) -> impl Iterator<Item = (Spoken, u64, u64)> {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Spoken::ALL.into_iter().map(move |spoken| {
            let protocol = &self.protocols[spoken as usize];
            (spoken, read(&protocol.passed), read(&protocol.refused))
        })
    }

    /// How many were refused for each reason.
    pub fn refusals(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let counts = self.refusals.iter().map(|count| count.load(Ordering::Relaxed));
        Reason::ALL.iter().map(|reason| reason.as_str()).zip(counts)
    }

    /// How many answers took so long as a bucket has it, and how many nanoseconds in all.
    pub fn latency(&self, spoken: Spoken) -> impl Iterator<Item = (u64, u64)> {
        let buckets = self.protocols[spoken as usize].latency.iter();
        buckets.map(|(count, nanos)| (count.load(Ordering::Relaxed), nanos.load(Ordering::Relaxed)))
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

    fn access(refused: Option<Reason>, micros: Option<u64>) -> Access {
        let address = "192.0.2.1:1".parse().unwrap();
        Access {
            endpoint: None,
            client: address,
            destination: address,
            server_name: Some("a.example".into()),
            request: Asked::Connection,
            refused,
            micros,
        }
    }

    #[test]
    fn what_passes_and_what_is_refused_is_counted_by_protocol_and_reason() {
        let counts = Counts::new();
        counts.add(&access(None, Some(1)));
        counts.add(&access(None, Some(u64::MAX)));
        counts.add(&access(Some(Reason::NotTls), None));
        let tls = counts.outcomes().find(|(spoken, ..)| *spoken == Spoken::Tls);
        assert_eq!(tls, Some((Spoken::Tls, 2, 1)));
        let refused: Vec<_> = counts.refusals().filter(|(_, count)| *count > 0).collect();
        assert_eq!(refused, [("not-tls", 1)]);
        assert_eq!(counts.latency(Spoken::Tls).map(|(count, _)| count).sum::<u64>(), 2);
        assert_eq!(counts.latency(Spoken::Tls).last(), Some((1, u64::MAX)));
    }
}
