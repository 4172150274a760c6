//! Families of readings, as each scrape tells them to the `metrics` facade.
//!
//! What is told goes to the recorder of the thread that tells it: the scrape's own
//! [`Sheet`](super::sheet::Sheet).

use metrics::{Label, SharedString};

/// A family of what is only ever added to.
#[derive(Clone, Copy)]
pub struct Counter(&'static str);

/// A family of what goes up and down.
#[derive(Clone, Copy)]
pub struct Gauge(&'static str);

/// Begins a family of what is only ever added to.
pub fn counter(name: &'static str, help: &'static str) -> Counter {
    metrics::describe_counter!(name, help);
    Counter(name)
}

/// Begins a family of what goes up and down.
pub fn gauge(name: &'static str, help: &'static str) -> Gauge {
    metrics::describe_gauge!(name, help);
    Gauge(name)
}

impl Counter {
    /// The reading of a family without labels.
    pub fn is(self, count: u64) {
        metrics::counter!(self.0).absolute(count);
    }

    /// One reading.
    pub fn with<const N: usize>(
        self,
        labels: [(&'static str, &'static str); N],
        count: u64,
    ) -> Self {
        metrics::counter!(self.0, pairs(labels)).absolute(count);
        self
    }

    /// A reading for each value of one label.
    pub fn by<L: Into<SharedString>>(
        self,
        label: &'static str,
        readings: impl IntoIterator<Item = (L, u64)>,
    ) {
        for (value, count) in readings {
            metrics::counter!(self.0, pairs([(label, value)])).absolute(count);
        }
    }
}

impl Gauge {
    /// The reading of a family without labels.
    pub fn is(self, value: f64) {
        metrics::gauge!(self.0).set(value);
    }

    /// The same of a count.
    pub fn counts(self, count: u64) {
        self.is(number(count));
    }

    /// One reading.
    pub fn with<L: Into<SharedString>, const N: usize>(
        self,
        labels: [(&'static str, L); N],
        value: f64,
    ) {
        metrics::gauge!(self.0, pairs(labels)).set(value);
    }

    /// A reading for each value of one label.
    pub fn by<L: Into<SharedString>>(
        self,
        label: &'static str,
        readings: impl IntoIterator<Item = (L, u64)>,
    ) {
        for (value, count) in readings {
            self.with([(label, value)], number(count));
        }
    }
}

fn pairs<L: Into<SharedString>, const N: usize>(labels: [(&'static str, L); N]) -> Vec<Label> {
    labels.into_iter().map(|(name, value)| Label::new(name, value)).collect()
}

/// A count as Prometheus has numbers: exact up to 2^53.
#[allow(clippy::cast_precision_loss, reason = "Prometheus has no other numbers")]
fn number(count: u64) -> f64 {
    count as f64
}
