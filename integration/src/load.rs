//! The load client: many lookups of names that nobody has asked before, each followed at once by a
//! connection to an address of the answer.
//!
//! A connection counts as held up when it is not open within 900 ms: TCP sends its SYN again only
//! after a second, so one that opens in less lost no first packet.

use std::{
    fmt,
    io::{self, ErrorKind},
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use hickory_proto::{op::ResponseCode, rr::RecordType};
use socket2::{Domain, Socket, Type};

use crate::{
    dns_client::{Answer, DnsError, Resolver},
    hosts::Ports,
    namespace::{Namespace, NamespaceError},
    zones::FRESH_ZONE,
};

const FIRST_PACKET: Duration = Duration::from_millis(900);

/// What to send.
#[derive(Clone, Debug)]
pub struct Load {
    /// The DNS server that is asked.
    pub server: IpAddr,
    /// Whether it is asked over TCP.
    pub tcp: bool,
    /// Whether IPv6 addresses are asked for and connected to.
    pub ipv6: bool,
    /// How long an answer is waited for.
    pub patience: Duration,
    /// How often a question is asked before its lookup has failed.
    pub attempts: u32,
    /// How many clients ask side by side.
    pub clients: usize,
    /// How many lookups they do in all.
    pub lookups: u32,
    /// The number of the first name; another load takes others.
    pub first: u32,
    /// The port that is connected to.
    pub port: u16,
    /// After this time no further lookup begins.
    pub limit: Duration,
    /// Nor does one once this is true.
    pub ends: Arc<AtomicBool>,
}

impl Load {
    /// 4 clients, 2,000 lookups over UDP, IPv4, at most a minute.
    pub fn new(server: IpAddr) -> Load {
        Load {
            server,
            tcp: false,
            ipv6: false,
            patience: Duration::from_secs(5),
            attempts: 1,
            clients: 4,
            lookups: 2_000,
            first: 0,
            port: Ports::GREET,
            limit: Duration::from_secs(60),
            ends: Arc::default(),
        }
    }

    /// Runs it from inside `namespace`.
    pub fn run(&self, namespace: &Namespace) -> Result<LoadReport, NamespaceError> {
        namespace.run(|| self.run_here())
    }

    /// Runs it from the namespace that the caller is in, which its threads inherit.
    pub fn run_here(&self) -> LoadReport {
        let next = AtomicU32::new(0);
        let start = Instant::now();
        let mut report = LoadReport::default();
        thread::scope(|scope| {
            let clients: Vec<_> =
                (0..self.clients).map(|_| scope.spawn(|| self.be_a_client(&next, start))).collect();
            for client in clients {
                report.join(
                    client.join().unwrap_or_else(|payload| std::panic::resume_unwind(payload)),
                );
            }
        });
        report.took = start.elapsed();
        report.lookup_times.sort_unstable();
        report.connect_times.sort_unstable();
        report
    }

    fn be_a_client(&self, next: &AtomicU32, start: Instant) -> LoadReport {
        let resolver = Resolver::new(self.server).over_tcp(self.tcp).with_timeout(self.patience);
        let kind = if self.ipv6 { RecordType::AAAA } else { RecordType::A };
        let mut report = LoadReport::default();
        while start.elapsed() < self.limit && !self.ends.load(Ordering::Relaxed) {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= self.lookups {
                break;
            }
            let name = format!("f{}.{FRESH_ZONE}", self.first.wrapping_add(number));
            report.lookups += 1;
            let asked = Instant::now();
            let mut answer = resolver.ask(&name, kind);
            for _ in 1..self.attempts {
                if !is_asked_again(&answer) {
                    break;
                }
                report.repeated += 1;
                answer = resolver.ask(&name, kind);
            }
            let took = asked.elapsed();
            match answer.map(|answer| (answer.code, answer.addresses.first().copied())) {
                Ok((_, Some(address))) => {
                    report.lookup_times.push(took);
                    report.note(&name, self.connect(address));
                }
                Ok((code, None)) => report.fail(format!("{name}: no address, but {code}")),
                Err(error) => report.fail(error.to_string()),
            }
        }
        report
    }

    /// Connects at once and closes at once, leaving no state behind on either side.
    fn connect(&self, address: IpAddr) -> io::Result<Duration> {
        let domain = if address.is_ipv4() { Domain::IPV4 } else { Domain::IPV6 };
        let socket = Socket::new(domain, Type::STREAM, None)?;
        socket.set_linger(Some(Duration::ZERO))?;
        let start = Instant::now();
        socket.connect_timeout(&SocketAddr::new(address, self.port).into(), FIRST_PACKET)?;
        Ok(start.elapsed())
    }
}

/// Whether a stub resolver asks its server once more, as glibc's, musl's and Go's do: after silence
/// and after SERVFAIL, which is what questions get that wait when the proxy stops.
fn is_asked_again(answer: &Result<Answer, DnsError>) -> bool {
    answer.as_ref().map_or(true, |answer| answer.code == ResponseCode::ServFail)
}

/// What became of a load.
#[derive(Clone, Debug, Default)]
pub struct LoadReport {
    /// Lookups begun.
    pub lookups: u32,
    /// Lookups without an address in the answer, or without an answer.
    pub failed_lookups: u32,
    /// Questions asked once more, because no answer came or the answer was SERVFAIL.
    pub repeated: u32,
    /// Connections opened.
    pub connected: u32,
    /// Connections whose first packet, or its answer, was lost.
    pub first_packet_drops: u32,
    /// Connections that failed otherwise.
    pub failed_connections: u32,
    /// The first few reasons for failures.
    pub failures: Vec<String>,
    /// How long it took in all.
    pub took: Duration,
    lookup_times: Vec<Duration>,
    connect_times: Vec<Duration>,
}

impl LoadReport {
    const FAILURES: usize = 5;

    /// Whether every lookup was answered and every connection opened with its first packet.
    pub fn is_clean(&self) -> bool {
        self.lookups > 0 && self.connected == self.lookups
    }

    fn note(&mut self, name: &str, connected: io::Result<Duration>) {
        match connected {
            Ok(took) => {
                self.connected += 1;
                self.connect_times.push(took);
            }
            Err(error) if error.kind() == ErrorKind::TimedOut => {
                self.first_packet_drops += 1;
                self.explain(format!("{name}: not connected within {FIRST_PACKET:?}"));
            }
            Err(error) => {
                self.failed_connections += 1;
                self.explain(format!("{name}: connect: {error}"));
            }
        }
    }

    fn fail(&mut self, reason: String) {
        self.failed_lookups += 1;
        self.explain(reason);
    }

    fn explain(&mut self, reason: String) {
        if self.failures.len() < Self::FAILURES {
            self.failures.push(reason);
        }
    }

    fn join(&mut self, other: LoadReport) {
        self.lookups += other.lookups;
        self.failed_lookups += other.failed_lookups;
        self.repeated += other.repeated;
        self.connected += other.connected;
        self.first_packet_drops += other.first_packet_drops;
        self.failed_connections += other.failed_connections;
        self.lookup_times.extend(other.lookup_times);
        self.connect_times.extend(other.connect_times);
        other.failures.into_iter().for_each(|reason| self.explain(reason));
    }
}

impl fmt::Display for LoadReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.took.as_secs_f64().max(f64::EPSILON);
        writeln!(
            f,
            "{} lookups in {seconds:.2} s ({:.0} a second), {} asked again, {} failed",
            self.lookups,
            f64::from(self.lookups) / seconds,
            self.repeated,
            self.failed_lookups
        )?;
        writeln!(
            f,
            "{} connected, {} first packets dropped, {} failed otherwise",
            self.connected, self.first_packet_drops, self.failed_connections
        )?;
        writeln!(f, "lookup  {}", Percentiles(&self.lookup_times))?;
        write!(f, "connect {}", Percentiles(&self.connect_times))?;
        self.failures.iter().try_for_each(|reason| write!(f, "\n  {reason}"))
    }
}

/// Sorted times, shown by a few of their percentiles.
struct Percentiles<'a>(&'a [Duration]);

impl fmt::Display for Percentiles<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some((last, _)) = self.0.split_last() else { return f.write_str("none") };
        let at = |percent: usize| self.0[(self.0.len() - 1) * percent / 100].as_micros();
        write!(f, "p50 {} µs, p99 {} µs, max {} µs", at(50), at(99), last.as_micros())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_load_without_lookups_is_not_clean() {
        assert!(!LoadReport::default().is_clean());
    }

    #[test]
    fn percentiles_of_one_time_are_that_time() {
        let times = [Duration::from_micros(7)];
        assert_eq!(Percentiles(&times).to_string(), "p50 7 µs, p99 7 µs, max 7 µs");
        assert_eq!(Percentiles(&[]).to_string(), "none");
    }
}
