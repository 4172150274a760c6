//! Readings taken at one moment, as families in Prometheus's text format.

use anyhow::{Context, Result};
use prometheus::proto::{Counter, Gauge, LabelPair, Metric, MetricFamily, MetricType};
use prometheus::{Encoder, TextEncoder};

/// The content type of [`Families::encode`].
pub const CONTENT_TYPE: &str = prometheus::TEXT_FORMAT;

/// Everything of one scrape.
#[derive(Default)]
pub struct Families(Vec<MetricFamily>);

/// One family, to which readings are added.
pub struct Family<'a> {
    family: &'a mut MetricFamily,
    kind: Kind,
}

#[derive(Clone, Copy)]
enum Kind {
    Counter,
    Gauge,
}

impl Families {
    /// A family of what is only ever added to.
    pub fn counter(&mut self, name: &str, help: &str) -> Family<'_> {
        self.family(name, help, Kind::Counter)
    }

    /// A family of what goes up and down.
    pub fn gauge(&mut self, name: &str, help: &str) -> Family<'_> {
        self.family(name, help, Kind::Gauge)
    }

    fn family(&mut self, name: &str, help: &str, kind: Kind) -> Family<'_> {
        let mut family = MetricFamily::default();
        family.set_name(name.to_owned());
        family.set_help(help.to_owned());
        family.set_field_type(match kind {
            Kind::Counter => MetricType::COUNTER,
            Kind::Gauge => MetricType::GAUGE,
        });
        self.0.push(family);
        let last = self.0.len() - 1;
        Family { family: &mut self.0[last], kind }
    }

    /// All of it as text, by name. A family without readings is left out.
    pub fn encode(mut self) -> Result<Vec<u8>> {
        self.0.retain(|family| !family.get_metric().is_empty());
        self.0.sort_by(|a, b| a.name().cmp(b.name()));
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.0, &mut text).context("the metrics cannot be written")?;
        Ok(text)
    }
}

impl Family<'_> {
    /// The reading of a family without labels.
    pub fn is(&mut self, value: f64) {
        self.with(&[], value);
    }

    /// One reading.
    pub fn with(&mut self, labels: &[(&str, &str)], value: f64) -> &mut Self {
        let mut metric = Metric::from_label(labels.iter().map(pair).collect());
        match self.kind {
            Kind::Counter => {
                let mut counter = Counter::default();
                counter.set_value(value);
                metric.set_counter(counter);
            }
            Kind::Gauge => {
                let mut gauge = Gauge::default();
                gauge.set_value(value);
                metric.set_gauge(gauge);
            }
        }
        self.family.mut_metric().push(metric);
        self
    }

    /// A reading for each value of one label.
    pub fn by<L: AsRef<str>>(
        &mut self,
        label: &str,
        readings: impl IntoIterator<Item = (L, u64)>,
    ) -> &mut Self {
        for (value, count) in readings {
            self.with(&[(label, value.as_ref())], number(count));
        }
        self
    }
}

/// A count as Prometheus has numbers: exact up to 2^53.
#[allow(clippy::cast_precision_loss, reason = "Prometheus has no other numbers")]
pub fn number(count: u64) -> f64 {
    count as f64
}

fn pair((name, value): &(&str, &str)) -> LabelPair {
    let mut pair = LabelPair::default();
    pair.set_name((*name).to_owned());
    pair.set_value((*value).to_owned());
    pair
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_stand_in_order_and_those_without_readings_are_left_out() {
        let mut families = Families::default();
        families.gauge("b", "What b is.").is(1.5);
        families
            .counter("a_total", "What a was.")
            .by("kind", [("x", 1), ("y\"", u64::from(u32::MAX))]);
        families.gauge("empty", "Nothing.").by("kind", std::iter::empty::<(&str, u64)>());
        let text = String::from_utf8(families.encode().unwrap()).unwrap();
        let expected = "\
            # HELP a_total What a was.\n# TYPE a_total counter\na_total{kind=\"x\"} 1\n\
            a_total{kind=\"y\\\"\"} 4294967295\n# HELP b What b is.\n# TYPE b gauge\nb 1.5\n";
        assert_eq!(text, expected);
    }
}
