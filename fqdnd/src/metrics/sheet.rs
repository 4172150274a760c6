//! What one scrape was told, and how Prometheus reads it.
//!
//! A sheet is a recorder of the `metrics` facade for the one thread that takes the readings. Each
//! scrape has a sheet of its own: it starts empty, so nothing old can be on it, and what is counted
//! while it is written costs nobody anything.
//!
//! Prometheus has values in base units. What is described in another unit of time is told in that
//! unit, and written in seconds.

use std::collections::BTreeMap;
use std::fmt::{self, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use metrics::{
    Counter, CounterFn, Gauge, GaugeFn, Histogram, HistogramFn, Key, KeyName, Label, Metadata,
    Recorder, SharedString, Unit,
};

/// The content type of what [`Sheet::write`] gives.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Everything of one scrape.
pub struct Sheet {
    families: Mutex<BTreeMap<KeyName, Family>>,
    /// The upper bounds of every histogram's buckets, rising, in the unit in which it is told.
    bounds: Arc<[f64]>,
}

/// One metric and its series by their labels.
struct Family {
    kind: &'static str,
    unit: Option<Unit>,
    help: SharedString,
    series: BTreeMap<Vec<Label>, Arc<Series>>,
}

/// What one handle was told.
struct Series(Mutex<Reading>);

enum Reading {
    Count(u64),
    Level(f64),
    Spread(Spread),
}

/// Values by size.
struct Spread {
    bounds: Arc<[f64]>,
    /// How many came under each bound and over the one before; the last is over all bounds.
    counts: Vec<u64>,
    sum: f64,
}

impl Sheet {
    /// An empty one.
    pub fn new(bounds: impl Into<Arc<[f64]>>) -> Self {
        Self { families: Mutex::default(), bounds: bounds.into() }
    }

    /// All of it as text, by name. A family without series is left out.
    pub fn write(&self) -> String {
        let families = lock(&self.families);
        let mut text = String::new();
        for (name, family) in families.iter().filter(|(_, family)| !family.series.is_empty()) {
            // Writing to a String cannot fail.
            let _ = family.write(name.as_str(), &mut text);
        }
        text
    }

    fn describe(&self, name: KeyName, kind: &'static str, unit: Option<Unit>, help: SharedString) {
        let mut families = lock(&self.families);
        let family = families.entry(name).or_insert_with(|| Family::new(kind));
        (family.unit, family.help) = (unit, help);
    }

    fn register(&self, key: &Key, kind: &'static str, empty: Reading) -> Arc<Series> {
        let mut families = lock(&self.families);
        let family = families.entry(key.name_shared()).or_insert_with(|| Family::new(kind));
        let series = family.series.entry(key.labels().cloned().collect());
        Arc::clone(series.or_insert_with(|| Arc::new(Series(Mutex::new(empty)))))
    }
}

impl Recorder for Sheet {
    fn describe_counter(&self, name: KeyName, unit: Option<Unit>, help: SharedString) {
        self.describe(name, "counter", unit, help);
    }

    fn describe_gauge(&self, name: KeyName, unit: Option<Unit>, help: SharedString) {
        self.describe(name, "gauge", unit, help);
    }

    fn describe_histogram(&self, name: KeyName, unit: Option<Unit>, help: SharedString) {
        self.describe(name, "histogram", unit, help);
    }

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(self.register(key, "counter", Reading::Count(0)))
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(self.register(key, "gauge", Reading::Level(0.0)))
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        let spread = Reading::Spread(Spread::empty(&self.bounds));
        Histogram::from_arc(self.register(key, "histogram", spread))
    }
}

impl Series {
    fn count(&self, change: impl FnOnce(u64) -> u64) {
        if let Reading::Count(count) = &mut *lock(&self.0) {
            *count = change(*count);
        }
    }

    fn level(&self, change: impl FnOnce(f64) -> f64) {
        if let Reading::Level(level) = &mut *lock(&self.0) {
            *level = change(*level);
        }
    }
}

impl CounterFn for Series {
    fn increment(&self, value: u64) {
        self.count(|count| count.wrapping_add(value));
    }

    fn absolute(&self, value: u64) {
        self.count(|count| count.max(value));
    }
}

impl GaugeFn for Series {
    fn increment(&self, value: f64) {
        self.level(|level| level + value);
    }

    fn decrement(&self, value: f64) {
        self.level(|level| level - value);
    }

    fn set(&self, value: f64) {
        self.level(|_| value);
    }
}

impl HistogramFn for Series {
    fn record(&self, value: f64) {
        self.record_many(value, 1);
    }

    fn record_many(&self, value: f64, count: usize) {
        if let Reading::Spread(spread) = &mut *lock(&self.0) {
            spread.add(value, count as u64);
        }
    }
}

impl Spread {
    fn empty(bounds: &Arc<[f64]>) -> Self {
        Self { bounds: Arc::clone(bounds), counts: vec![0; bounds.len() + 1], sum: 0.0 }
    }

    #[allow(clippy::cast_precision_loss, reason = "Prometheus has no other numbers")]
    fn add(&mut self, value: f64, count: u64) {
        self.counts[self.bounds.partition_point(|bound| *bound < value)] += count;
        self.sum += value * count as f64;
    }
}

impl Family {
    fn new(kind: &'static str) -> Self {
        let (unit, help) = (None, SharedString::const_str(""));
        Self { kind, unit, help, series: BTreeMap::new() }
    }

    fn write(&self, name: &str, text: &mut String) -> fmt::Result {
        writeln!(text, "# HELP {name} {}", escaped(&self.help, false))?;
        writeln!(text, "# TYPE {name} {}", self.kind)?;
        for (labels, series) in &self.series {
            let line = Line { name, labels };
            match &*lock(&series.0) {
                Reading::Count(count) if self.scale() == 1.0 => {
                    line.write(text, "", None, count)?;
                }
                Reading::Count(count) => {
                    #[allow(clippy::cast_precision_loss, reason = "as elsewhere")]
                    line.write(text, "", None, *count as f64 / self.scale())?;
                }
                Reading::Level(level) => {
                    line.write(text, "", None, Number(level / self.scale()))?;
                }
                Reading::Spread(spread) => line.write_spread(text, spread, self.scale())?,
            }
        }
        Ok(())
    }

    /// How many of the unit make one that Prometheus has.
    const fn scale(&self) -> f64 {
        match self.unit {
            Some(Unit::Nanoseconds) => 1e9,
            Some(Unit::Microseconds) => 1e6,
            Some(Unit::Milliseconds) => 1e3,
            _ => 1.0,
        }
    }
}

/// What the lines of a series begin with.
struct Line<'a> {
    name: &'a str,
    labels: &'a [Label],
}

impl Line<'_> {
    fn write(
        &self,
        text: &mut String,
        suffix: &str,
        le: Option<Number>,
        value: impl fmt::Display,
    ) -> fmt::Result {
        write!(text, "{}{suffix}", self.name)?;
        let mut separator = '{';
        for label in self.labels {
            write!(text, "{separator}{}=\"{}\"", label.key(), escaped(label.value(), true))?;
            separator = ',';
        }
        if let Some(le) = le {
            write!(text, "{separator}le=\"{le}\"")?;
            separator = ',';
        }
        let end = if separator == '{' { "" } else { "}" };
        writeln!(text, "{end} {value}")
    }

    fn write_spread(&self, text: &mut String, spread: &Spread, scale: f64) -> fmt::Result {
        let mut count = 0;
        let bounds = spread.bounds.iter().map(|bound| bound / scale).chain([f64::INFINITY]);
        for (bound, own) in bounds.zip(&spread.counts) {
            count += own;
            self.write(text, "_bucket", Some(Number(bound)), count)?;
        }
        self.write(text, "_sum", None, Number(spread.sum / scale))?;
        self.write(text, "_count", None, count)
    }
}

/// A number as Prometheus reads it.
#[derive(Clone, Copy)]
struct Number(f64);

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_infinite() {
            f.write_str(if self.0 > 0.0 { "+Inf" } else { "-Inf" })
        } else {
            self.0.fmt(f)
        }
    }
}

/// Text as it stands in a help line or, with quotes escaped as well, in a label's value.
fn escaped(text: &str, quotes: bool) -> String {
    let text = text.replace('\\', "\\\\").replace('\n', "\\n");
    if quotes { text.replace('"', "\\\"") } else { text }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Every change is whole; a panic leaves what was told before it.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use metrics::{describe_histogram, histogram, with_local_recorder};

    use super::super::family::{counter, gauge};
    use super::*;

    fn told(tell: impl FnOnce()) -> String {
        let sheet = Sheet::new([10.0, 2_500_000.0]);
        with_local_recorder(&sheet, tell);
        sheet.write()
    }

    #[test]
    fn families_stand_in_order_and_those_without_series_are_left_out() {
        let text = told(|| {
            gauge("b", "What b\nis.").is(1.5);
            counter("a_total", "What a was.").by("kind", [("y\"", 1), ("x", u64::MAX)]);
            gauge("empty", "Nothing.").by("kind", std::iter::empty::<(&str, u64)>());
        });
        let expected = "\
            # HELP a_total What a was.\n# TYPE a_total counter\n\
            a_total{kind=\"x\"} 18446744073709551615\na_total{kind=\"y\\\"\"} 1\n\
            # HELP b What b\\nis.\n# TYPE b gauge\nb 1.5\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn a_histogram_has_what_came_up_to_each_bound_in_seconds() {
        let text = told(|| {
            describe_histogram!("t_seconds", Unit::Nanoseconds, "Time.");
            let series = histogram!("t_seconds", "stage" => "all");
            series.record(10.0);
            series.record_many(20.0, 3);
            series.record(5e9);
        });
        let expected = "\
            # HELP t_seconds Time.\n# TYPE t_seconds histogram\n\
            t_seconds_bucket{stage=\"all\",le=\"0.00000001\"} 1\n\
            t_seconds_bucket{stage=\"all\",le=\"0.0025\"} 4\n\
            t_seconds_bucket{stage=\"all\",le=\"+Inf\"} 5\n\
            t_seconds_sum{stage=\"all\"} 5.00000007\nt_seconds_count{stage=\"all\"} 5\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn a_counter_in_another_unit_is_written_in_seconds() {
        let text = told(|| {
            metrics::describe_counter!("cpu_seconds_total", Unit::Microseconds, "Time.");
            metrics::counter!("cpu_seconds_total").absolute(1_250_000);
        });
        assert!(text.ends_with("\ncpu_seconds_total 1.25\n"), "{text}");
    }

    #[test]
    fn one_series_has_one_reading_however_often_it_is_asked_for() {
        let text = told(|| {
            for count in [1, 2] {
                metrics::counter!("a_total").increment(count);
                metrics::gauge!("b").increment(2.0);
                metrics::gauge!("b").decrement(0.5);
            }
        });
        assert!(text.contains("\na_total 3\n") && text.ends_with("\nb 3\n"), "{text}");
    }
}
