//! The gate that every query and every answer passes, over UDP and TCP alike.
//!
//! A query that is not well formed or not allowed never gets past it, and neither does an answer
//! whose addresses the kernel does not hold.

use std::net::SocketAddr;
use std::sync::Arc;

use dnsproxy_core::{
    Answer, Asked, Breach, Course, ExtendedError, Flags, Header, Outline, Question, Rcode, Refused,
    Rejection, Screened, Unsolicited, screen, set_id,
};
use model::{DnsFailure, EndpointId, Moment, Transport};
use tracing::debug;

use crate::authority::{Authority, Ending, Judgement, Query, Settled};
use crate::clock;
use crate::latency::Stage;
use crate::options::{Options, Refusal};
use crate::stats::Counters;

/// What one thread judges by.
pub(crate) struct Gate {
    pub authority: Arc<dyn Authority>,
    pub options: Arc<Options>,
    pub counters: Arc<Counters>,
}

/// The two ends and the means of a query.
#[derive(Clone, Copy)]
pub(crate) struct Route {
    pub client: SocketAddr,
    pub server: SocketAddr,
    pub transport: Transport,
}

/// What becomes of a client's message.
pub(crate) enum Passage<'a> {
    /// It may go upstream.
    Forward(EndpointId, Outline<'a>, Course),
    /// It is answered with an error.
    Refuse(Option<EndpointId>, Outline<'a>, Rcode, ExtendedError),
    /// It is no query and gets no answer.
    Ignore,
}

/// What becomes of an upstream answer.
#[derive(Clone, Copy)]
pub(crate) enum Release {
    /// It goes to the client as it now stands.
    Whole,
    /// It was cut so that it cannot be read; the client is told to ask over TCP.
    Truncated,
    /// The client gets SERVFAIL.
    Fail(ExtendedError),
}

/// Why an answer is not released.
enum Withheld {
    /// It was cut short on the way, and can be asked for over TCP.
    Cut,
    /// It cannot be read.
    Malformed,
    /// The authority did not learn its addresses.
    NotEnforced,
}

impl Gate {
    /// Judges a client's message that was received then.
    pub fn query<'a>(&self, route: Route, received: Moment, message: &'a [u8]) -> Passage<'a> {
        match screen(message) {
            Screened::Query(question, outline) => self.judge(route, received, &question, outline),
            Screened::Reject(rejection) => self.reject(rejection, message),
            Screened::Ignore => self.ignore(),
        }
    }

    fn reject<'a>(&self, rejection: Rejection, message: &'a [u8]) -> Passage<'a> {
        let Some(outline) = Outline::read(message) else { return self.ignore() };
        self.counters.rejected.count();
        Passage::Refuse(None, outline, rejection.rcode(), rejection_reason(rejection))
    }

    fn ignore<'a>(&self) -> Passage<'a> {
        self.counters.ignored.count();
        Passage::Ignore
    }

    fn judge<'a>(
        &self,
        route: Route,
        received: Moment,
        question: &Question<'_>,
        outline: Outline<'a>,
    ) -> Passage<'a> {
        match route.transport {
            Transport::Udp => self.counters.udp_queries.count(),
            Transport::Tcp => self.counters.tcp_queries.count(),
        }
        let query = route.query(question);
        let begun = clock::now();
        let judgement = self.authority.judge(&query);
        let judged = clock::now();
        self.counters.latencies.count(Stage::Policy, begun, judged);
        let forward = |endpoint, breach| {
            Passage::Forward(endpoint, outline, Course { received, forwarded: judged, breach })
        };
        match judgement {
            Judgement::Forward(endpoint) => {
                self.counters.allowed.count();
                forward(endpoint, None)
            }
            Judgement::Audit(endpoint, breach) => {
                match breach {
                    Breach::Policy => self.counters.audited.count(),
                    // The limit's own count tells of it.
                    Breach::Limit => self.counters.allowed.count(),
                }
                forward(endpoint, Some(breach))
            }
            Judgement::Refuse(endpoint) => {
                self.counters.refused.count();
                self.note(Some(endpoint), query, judged, Ending::Refused);
                let rcode = match self.options.refusal {
                    Refusal::Refused => Rcode::REFUSED,
                    Refusal::NxDomain => Rcode::NXDOMAIN,
                };
                Passage::Refuse(Some(endpoint), outline, rcode, ExtendedError::Blocked)
            }
            // NXDOMAIN would be untrue: the name may be asked for at another time.
            Judgement::OverLimit(endpoint) => {
                self.counters.over_query_limit.count();
                self.note(Some(endpoint), query, judged, Ending::OverLimit);
                Passage::Refuse(Some(endpoint), outline, Rcode::REFUSED, ExtendedError::Blocked)
            }
            Judgement::Unknown => {
                self.counters.unknown_clients.count();
                self.note(None, query, judged, Ending::Refused);
                Passage::Refuse(None, outline, Rcode::REFUSED, ExtendedError::Prohibited)
            }
        }
    }

    /// Reads and learns the answer to a query, and makes it ready for its client.
    pub fn answer(
        &self,
        asked: &Asked,
        transport: Transport,
        message: &mut [u8],
        answer: &mut Answer,
    ) -> Release {
        // The question was read when it was asked.
        let Ok(question) = Question::from_wire(asked.question()) else {
            return Release::Fail(ExtendedError::InvalidData);
        };
        let route = Route { client: asked.client.address, server: asked.client.server, transport };
        let query = route.query(&question);
        let taken = self.take(asked, &query, message, answer);
        let settled = taken.as_ref().copied().unwrap_or_else(|_| clock::now());
        let (release, ending) = match taken {
            Ok(_) => (Release::Whole, Ending::Answered(answer, message)),
            // The client is not done: it asks again.
            Err(Withheld::Cut) => return Release::Truncated,
            Err(Withheld::Malformed) => {
                (Release::Fail(ExtendedError::InvalidData), Ending::Failed(DnsFailure::Malformed))
            }
            Err(Withheld::NotEnforced) => {
                (Release::Fail(ExtendedError::Other), Ending::Failed(DnsFailure::NotEnforced))
            }
        };
        self.settle(asked, query, settled, ending);
        release
    }

    /// Counts how long a query took that went upstream, and notes what became of it.
    fn settle(&self, asked: &Asked, query: Query<'_>, settled: Moment, ending: Ending<'_>) {
        let Course { received, forwarded, breach } = asked.course;
        self.counters.latencies.count(Stage::Total, received, settled);
        let (endpoint, forwarded, at) = (Some(asked.endpoint), Some(forwarded), settled);
        self.authority.note(&Settled { endpoint, query, forwarded, breach, at, ending });
    }

    /// Reads an answer and learns from it; says when that was done.
    fn take(
        &self,
        asked: &Asked,
        query: &Query<'_>,
        message: &mut [u8],
        answer: &mut Answer,
    ) -> Result<Moment, Withheld> {
        if answer.read(message, self.options.max_ttl).is_err() {
            self.counters.malformed_answers.count();
            // Some servers cut an answer in the middle of a record and set TC. Nothing of it can
            // be learned, but its client can still be sent on to TCP.
            let header = Header::read(message);
            let cut = header.is_some_and(|header| header.flags.has(Flags::TRUNCATED));
            let is_udp = query.transport == Transport::Udp;
            return Err(if cut && is_udp { Withheld::Cut } else { Withheld::Malformed });
        }
        if answer.chain_cut {
            self.counters.chains_cut.count();
        }
        let came = clock::now();
        self.counters.latencies.count(Stage::Upstream, asked.course.forwarded, came);
        let learned = self.learn(asked.endpoint, query, answer, came)?;
        set_id(message, asked.client.id);
        self.counters.answered.count();
        self.counters.answered_with(answer.rcode).count();
        Ok(learned)
    }

    /// Learns from an answer that came then; says when that was done.
    fn learn(
        &self,
        endpoint: EndpointId,
        query: &Query<'_>,
        answer: &Answer,
        came: Moment,
    ) -> Result<Moment, Withheld> {
        if answer.rcode != Rcode::NOERROR || answer.addresses.is_empty() {
            return Ok(came);
        }
        if !self.authority.may_teach(endpoint, query) {
            self.counters.answers_not_learned.count();
            return Ok(came);
        }
        let result = self.authority.learn(endpoint, query, &answer.addresses);
        let learned = clock::now();
        self.counters.latencies.count(Stage::KernelWrite, came, learned);
        match result {
            Ok(()) => {
                self.counters.learned.count();
                Ok(learned)
            }
            Err(error) => {
                self.counters.learn_failed.count();
                debug!(%endpoint, %error, "an answer is withheld");
                Err(Withheld::NotEnforced)
            }
        }
    }

    /// Counts and notes a query whose answer will not come, and which gets SERVFAIL.
    pub fn give_up(&self, asked: &Asked, transport: Transport, failure: DnsFailure) {
        let route = Route { client: asked.client.address, server: asked.client.server, transport };
        self.count_failure(failure);
        if let Ok(question) = Question::from_wire(asked.question()) {
            let query = route.query(&question);
            self.settle(asked, query, clock::now(), Ending::Failed(failure));
        }
    }

    /// Counts and notes a query that did not go upstream though policy allows it, and which gets
    /// SERVFAIL.
    pub fn turn_away(
        &self,
        endpoint: EndpointId,
        route: Route,
        question: &[u8],
        failure: DnsFailure,
    ) {
        self.count_failure(failure);
        if let Ok(question) = Question::from_wire(question) {
            let query = route.query(&question);
            self.note(Some(endpoint), query, clock::now(), Ending::Failed(failure));
        }
    }

    /// Counts a query that is lost in this way, where it is not counted elsewhere.
    fn count_failure(&self, failure: DnsFailure) {
        match failure {
            DnsFailure::Timeout => self.counters.timeouts.count(),
            DnsFailure::Unreachable => self.counters.unreachable.count(),
            DnsFailure::Stopped => self.counters.stopped.count(),
            DnsFailure::OverLimit
            | DnsFailure::TooMany
            | DnsFailure::Malformed
            | DnsFailure::NotEnforced => {}
        }
    }

    /// Notes a query that did not go upstream.
    fn note(&self, endpoint: Option<EndpointId>, query: Query<'_>, at: Moment, ending: Ending<'_>) {
        let (forwarded, breach) = (None, None);
        self.authority.note(&Settled { endpoint, query, forwarded, breach, at, ending });
    }

    /// Counts a message from upstream that answers nothing.
    pub fn count_unsolicited(&self, unsolicited: Unsolicited) {
        let counters = &self.counters;
        match unsolicited {
            Unsolicited::NoResponse => counters.unsolicited_kind.count(),
            Unsolicited::Id => counters.unsolicited_id.count(),
            Unsolicited::Server => counters.unsolicited_server.count(),
            Unsolicited::Question => counters.unsolicited_question.count(),
        }
    }

    /// Counts a query that found too many in flight.
    pub fn count_refused(&self, refused: Refused) {
        match refused {
            Refused::Total => self.counters.over_total.count(),
            Refused::Endpoint => self.counters.over_endpoint.count(),
        }
    }
}

impl Route {
    fn query<'a>(&self, question: &'a Question<'_>) -> Query<'a> {
        Query {
            client: self.client,
            server: self.server,
            transport: self.transport,
            name: question.name.as_ref(),
            qtype: question.qtype,
        }
    }
}

const fn rejection_reason(rejection: Rejection) -> ExtendedError {
    match rejection {
        Rejection::Opcode | Rejection::Class | Rejection::Transfer => ExtendedError::NotSupported,
        Rejection::Records | Rejection::Malformed(_) => ExtendedError::Other,
    }
}
