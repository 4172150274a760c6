//! What the DNS proxy counts, as families: each of its counts is one reading of one of them.

use dnsproxy::Stats;

use super::families::{Families, number};

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

/// The counts as families.
pub fn add(families: &mut Families, stats: &Stats) {
    let reading = |count: &str| stats.iter().find(|(name, _)| *name == count).map(|(_, own)| own);
    for spec in SPECS {
        let mut family = families.counter(spec.name, spec.help);
        for (count, value) in spec.readings {
            if let Some(reading) = reading(count) {
                family.with(&[(spec.label, value)], number(reading));
            }
        }
    }
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
