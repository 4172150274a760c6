//! Counts of what the proxy did, so that nothing it refuses or loses goes unseen.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use dnsproxy_core::Rcode;

use crate::latency::Latencies;

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Counts since the start, over all threads.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Stats {
            $($(#[$doc])* pub $name: u64,)*
        }

        /// The counts of one thread.
        #[derive(Debug, Default)]
        pub(crate) struct Counters {
            $(pub $name: Counter,)*
            /// How long queries took.
            pub latencies: Latencies,
        }

        impl Stats {
            /// Every count with its name.
            pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
                [$((stringify!($name), self.$name),)*].into_iter()
            }

            pub(crate) fn add(&mut self, counters: &Counters) {
                $(self.$name += counters.$name.read();)*
            }
        }
    };
}

counters! {
    /// Well-formed queries over UDP.
    udp_queries,
    /// Well-formed queries over TCP.
    tcp_queries,
    /// Queries that policy lets through.
    allowed,
    /// Queries that policy lets through only because what is against them is not enforced.
    audited,
    /// Queries refused by policy.
    refused,
    /// Queries refused because their endpoint asked too much under patterns.
    over_query_limit,
    /// Queries of clients that are no endpoints; refused.
    unknown_clients,
    /// Messages refused before policy: malformed, of another class or opcode, transfers.
    rejected,
    /// Messages that are no queries, and got no answer.
    ignored,
    /// Queries that a client repeated while they waited, sent upstream once more.
    repeated,
    /// Upstream answers released to clients.
    answered,
    /// Those with the code NOERROR.
    answered_noerror,
    /// Those with NXDOMAIN.
    answered_nxdomain,
    /// Those with SERVFAIL.
    answered_servfail,
    /// Those with REFUSED.
    answered_refused,
    /// Those with any other code.
    answered_otherwise,
    /// Answers whose addresses were enforced before their release.
    learned,
    /// Answers released without learning their addresses, because their server may not teach.
    answers_not_learned,
    /// Answers that became SERVFAIL because their addresses could not be enforced.
    learn_failed,
    /// Answers that became SERVFAIL because they could not be read.
    malformed_answers,
    /// Answers whose chain of aliases was longer than is followed.
    chains_cut,
    /// Messages from upstream that are no responses.
    unsolicited_kind,
    /// Messages from upstream with an ID that waits for no answer; late ones too.
    unsolicited_id,
    /// Messages from upstream that came from another server than was asked.
    unsolicited_server,
    /// Messages from upstream that repeat another question, or the same in another case.
    unsolicited_question,
    /// Queries that became SERVFAIL because upstream was silent.
    timeouts,
    /// Queries that became SERVFAIL because upstream could not be reached or hung up.
    unreachable,
    /// Queries that became SERVFAIL because too many were in flight.
    over_total,
    /// Queries that became SERVFAIL because too many of their endpoint were in flight.
    over_endpoint,
    /// Queries that became SERVFAIL because the proxy stopped.
    stopped,
    /// Datagrams that the kernel dropped because a worker did not read fast enough.
    overruns,
    /// Datagrams without a usable destination or longer than any message.
    unusable,
    /// Answers that the kernel did not send.
    unsent,
    /// Upstream sockets that gave way to others.
    rotations,
    /// Servers asked so often that they got upstream sockets of their own.
    servers_connected,
    /// Servers asked as often that got none: there are enough of them, or the kernel had none.
    servers_crowded,
    /// TCP connections taken.
    tcp_accepted,
    /// TCP connections closed because there were too many.
    tcp_over_total,
    /// TCP connections closed because their client or endpoint had too many.
    tcp_over_endpoint,
    /// TCP connections closed after a time without queries.
    tcp_idle,
    /// TCP connections closed because a message or the taking of answers took too long.
    tcp_slow,
    /// TCP connections closed because their stream was no sequence of messages.
    tcp_broken,
}

/// A count that one thread writes and others read. So adding to it needs no atomic addition, which
/// would cost as much as all the rest of counting.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub fn count(&self) {
        self.add(1);
    }

    pub fn add(&self, count: u64) {
        self.0.store(self.read().wrapping_add(count), Relaxed);
    }

    pub fn read(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

impl Counters {
    /// What counts released answers with this code.
    pub fn answered_with(&self, rcode: Rcode) -> &Counter {
        match rcode {
            Rcode::NOERROR => &self.answered_noerror,
            Rcode::NXDOMAIN => &self.answered_nxdomain,
            Rcode::SERVFAIL => &self.answered_servfail,
            Rcode::REFUSED => &self.answered_refused,
            _ => &self.answered_otherwise,
        }
    }
}
