//! What the L7 proxy counts, if there is one.

use metrics::{Unit, describe_histogram, histogram};

use super::family::{counter, gauge};
use crate::daemon::Shared;
use crate::l7::{Counts, Health, Outcomes, Spoken};

const LATENCY: &str = "fqdnd_l7_latency_seconds";

/// Tells of the proxy.
pub fn tell(shared: &Shared) {
    let Some(l7) = &shared.l7 else { return };
    let (status, tally) = (l7.status(), l7.status().tally());
    let runs = matches!(status.health(), Health::Running(_));
    gauge("fqdnd_l7_running", "1 while the L7 proxy judges connections, else 0.")
        .counts(u64::from(runs));
    counter("fqdnd_l7_restarts_total", "How often the L7 proxy was started again.")
        .is(status.restarts());
    gauge("fqdnd_l7_connections", "Open connections through the L7 proxy.").counts(tally.open);
    counter("fqdnd_l7_connections_total", "Connections that the L7 proxy took in.")
        .is(tally.accepted);
    counter("fqdnd_l7_limits_total", "How often a bound of the L7 proxy was reached.").by(
        "limit",
        [
            ("connections", tally.over_connections),
            ("requests", tally.over_requests),
            ("slow-client", tally.slow_clients),
            ("records", tally.lost_records),
        ],
    );
    tell_requests(l7.status().counts());
}

fn tell_requests(counts: &Counts) {
    let mut family = counter(
        "fqdnd_l7_requests_total",
        "Requests, and connections that came to none, by protocol and what became of them.",
    );
    for (spoken, Outcomes { passed, audited, refused }) in counts.outcomes() {
        let outcomes = [("passed", passed), ("audited", audited), ("refused", refused)];
        for (outcome, count) in outcomes {
            family = family.with([("protocol", spoken.as_str()), ("outcome", outcome)], count);
        }
    }
    counter("fqdnd_l7_refusals_total", "What was refused, by reason.")
        .by("reason", counts.refusals());
    counter("fqdnd_l7_audits_total", "What passed only because nothing is enforced, by reason.")
        .by("reason", counts.audits());
    describe_histogram!(LATENCY, Unit::Nanoseconds, "From requests to their answers, by protocol.");
    for spoken in [Spoken::Http, Spoken::Kafka] {
        tell_latency(spoken, counts);
    }
}

#[allow(clippy::cast_precision_loss, reason = "Prometheus has no other numbers")]
fn tell_latency(spoken: Spoken, counts: &Counts) {
    let series = histogram!(LATENCY, "protocol" => spoken.as_str());
    for (count, nanos) in counts.latency(spoken).filter(|(count, _)| *count > 0) {
        // The mean of what is in a bucket is in that bucket too, and gives the same sum.
        series.record_many(nanos as f64 / count as f64, count as usize);
    }
}
