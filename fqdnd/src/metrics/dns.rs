//! What the DNS proxy counts: each of its counts is one reading of one family, and the times of its
//! stages are series of one histogram.

use dnsproxy::{LATENCY_BOUNDS, Proxy, Stage, Stats};
use engine::querying::QueryLimit;
use metrics::{Unit, describe_histogram, histogram};

use super::family::counter;
use crate::daemon::Shared;
use crate::metering::Metering;

/// A family, and which count is its reading at which label.
struct Spec {
    name: &'static str,
    help: &'static str,
    label: &'static str,
    readings: &'static [(&'static str, &'static str)],
}

const SPECS: &[Spec] = &[
    Spec {
        name: "fqdnd_dns_queries_total",
        help: "Well-formed queries of clients.",
        label: "protocol",
        readings: &[("udp_queries", "udp"), ("tcp_queries", "tcp")],
    },
    Spec {
        name: "fqdnd_dns_verdicts_total",
        help: "Messages of clients by what was decided of them.",
        label: "verdict",
        readings: &[
            ("allowed", "allowed"),
            ("audited", "audited"),
            ("refused", "refused"),
            ("over_query_limit", "over-query-limit"),
            ("unknown_clients", "unknown-client"),
            ("rejected", "malformed"),
            ("ignored", "ignored"),
        ],
    },
    Spec {
        name: "fqdnd_dns_answers_total",
        help: "Answers of servers that were released to clients, by response code.",
        label: "rcode",
        readings: &[
            ("answered_noerror", "noerror"),
            ("answered_nxdomain", "nxdomain"),
            ("answered_servfail", "servfail"),
            ("answered_refused", "refused"),
            ("answered_otherwise", "other"),
        ],
    },
    Spec {
        name: "fqdnd_dns_learning_total",
        help: "Answers with addresses, by whether these were enforced before their release.",
        label: "outcome",
        readings: &[
            ("learned", "enforced"),
            ("learn_failed", "failed"),
            ("answers_not_learned", "untrusted-server"),
        ],
    },
    Spec {
        name: "fqdnd_dns_failures_total",
        help: "Allowed queries that fqdnd itself answered with SERVFAIL.",
        label: "reason",
        readings: &[
            ("timeouts", "upstream-timeout"),
            ("unreachable", "upstream-unreachable"),
            ("malformed_answers", "malformed-answer"),
            ("over_total", "too-many-in-flight"),
            ("over_endpoint", "too-many-in-flight-of-endpoint"),
            ("stopped", "proxy-stopped"),
        ],
    },
    Spec {
        name: "fqdnd_dns_oddities_total",
        help: "Queries that were repeated while they waited, and answers whose chain of aliases was cut.",
        label: "kind",
        readings: &[("repeated", "repeated-query"), ("chains_cut", "chain-cut")],
    },
    Spec {
        name: "fqdnd_dns_unsolicited_total",
        help: "Messages from servers that answer no query in flight, by what does not match.",
        label: "mismatch",
        readings: &[
            ("unsolicited_kind", "kind"),
            ("unsolicited_id", "id"),
            ("unsolicited_server", "server"),
            ("unsolicited_question", "question"),
        ],
    },
    Spec {
        name: "fqdnd_dns_datagrams_lost_total",
        help: "Datagrams that were not read, not usable or not sent.",
        label: "reason",
        readings: &[("overruns", "overrun"), ("unusable", "unusable"), ("unsent", "unsent")],
    },
    Spec {
        name: "fqdnd_dns_upstream_sockets_total",
        help: "What was done about sockets to servers: given up for fresh ones, opened for one server, wanted for one and not to be had.",
        label: "event",
        readings: &[
            ("rotations", "rotated"),
            ("servers_connected", "connected"),
            ("servers_crowded", "crowded"),
        ],
    },
    Spec {
        name: "fqdnd_dns_tcp_connections_total",
        help: "TCP connections of clients by how they were taken or ended.",
        label: "event",
        readings: &[
            ("tcp_accepted", "accepted"),
            ("tcp_over_total", "too-many"),
            ("tcp_over_endpoint", "too-many-of-endpoint"),
            ("tcp_idle", "idle"),
            ("tcp_slow", "slow"),
            ("tcp_broken", "broken"),
        ],
    },
];

/// Counts that are the sum of others.
#[cfg(test)]
const SUMS: &[&str] = &["answered"];

const LATENCY: &str = "fqdnd_dns_latency_seconds";

/// Tells of the proxy and of what is asked through it.
pub fn tell(shared: &Shared) {
    tell_counts(&shared.proxy.stats());
    tell_latency(&shared.proxy);
    if let Some(metering) = shared.names.metering() {
        tell_query_limits(metering);
    }
}

fn tell_query_limits(metering: &Metering) {
    let outcome = if metering.enforces() { "refused" } else { "audited" };
    let mut family = counter(
        "fqdnd_dns_over_query_limit_total",
        "Queries under patterns that were over a limit; where limits are audited, they passed all the same.",
    );
    for limit in QueryLimit::ALL {
        let labels = [("limit", limit.as_str()), ("outcome", outcome)];
        family = family.with(labels, metering.count(limit));
    }
}

fn tell_counts(stats: &Stats) {
    let reading = |count: &str| stats.iter().find(|(name, _)| *name == count).map(|(_, own)| own);
    for spec in SPECS {
        let readings = spec.readings.iter();
        let readings = readings.filter_map(|(count, value)| Some((*value, reading(count)?)));
        counter(spec.name, spec.help).by(spec.label, readings);
    }
}

#[allow(clippy::cast_precision_loss, reason = "Prometheus has no other numbers")]
fn tell_latency(proxy: &Proxy) {
    describe_histogram!(
        LATENCY,
        Unit::Nanoseconds,
        "How long DNS queries take, by stage: to be judged, to be answered by their server, for the answer's addresses to be in the kernel, and from the first to the last.",
    );
    for stage in Stage::ALL {
        let series = histogram!(LATENCY, "stage" => stage.as_str());
        let filled = proxy.latency(stage).into_iter().filter(|bucket| bucket.count > 0);
        for bucket in filled {
            // The mean of what is in a bucket is in that bucket too, and gives the same sum.
            let mean = bucket.nanos as f64 / bucket.count as f64;
            series.record_many(mean, bucket.count as usize);
        }
    }
}

/// The bounds of the latency's buckets, in the unit in which it is told.
#[allow(clippy::cast_precision_loss, reason = "they are far below 2^53")]
pub fn bounds() -> Vec<f64> {
    LATENCY_BOUNDS.iter().map(|bound| *bound as f64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_count_of_the_proxy_is_in_exactly_one_family() {
        let readings = SPECS.iter().flat_map(|spec| spec.readings);
        let shown: Vec<&str> =
            readings.map(|(count, _)| *count).chain(SUMS.iter().copied()).collect();
        for (count, _) in Stats::default().iter() {
            let times = shown.iter().filter(|own| **own == count).count();
            assert_eq!(times, 1, "{count}");
        }
    }
}
