//! The gate that every query and every answer passes, over UDP and TCP alike.
//!
//! A query that is not well formed or not allowed never gets past it, and neither does an answer
//! whose addresses the kernel does not hold.

use std::net::SocketAddr;
use std::sync::Arc;

use dnsproxy_core::{
    Answer, Asked, ExtendedError, Flags, Header, Outline, Question, Rcode, Refused, Rejection,
    Screened, Unsolicited, screen, set_id,
};
use model::{EndpointId, Transport};
use tracing::debug;

use crate::authority::{Authority, Judgement, Query};
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
    /// It goes upstream.
    Forward(EndpointId, Outline<'a>),
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

impl Gate {
    /// Judges a client's message.
    pub fn query<'a>(&self, route: Route, message: &'a [u8]) -> Passage<'a> {
        match screen(message) {
            Screened::Query(question, outline) => self.judge(route, &question, outline),
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
        question: &Question<'_>,
        outline: Outline<'a>,
    ) -> Passage<'a> {
        match route.transport {
            Transport::Udp => self.counters.udp_queries.count(),
            Transport::Tcp => self.counters.tcp_queries.count(),
        }
        match self.authority.judge(&route.query(question)) {
            Judgement::Forward(endpoint) => {
                self.counters.allowed.count();
                Passage::Forward(endpoint, outline)
            }
            Judgement::Refuse(endpoint) => {
                self.counters.refused.count();
                let rcode = match self.options.refusal {
                    Refusal::Refused => Rcode::REFUSED,
                    Refusal::NxDomain => Rcode::NXDOMAIN,
                };
                Passage::Refuse(Some(endpoint), outline, rcode, ExtendedError::Blocked)
            }
            Judgement::Unknown => {
                self.counters.unknown_clients.count();
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
        let Ok(question) = Question::from_wire(asked.question()) else {
            return self.unreadable(answer);
        };
        if answer.read(message, self.options.max_ttl).is_err() {
            return self.unreadable_or_truncated(message, transport, answer);
        }
        if answer.chain_cut {
            self.counters.chains_cut.count();
        }
        let route = Route { client: asked.client.address, server: asked.client.server, transport };
        if let Err(release) = self.learn(asked.endpoint, &route.query(&question), answer) {
            return release;
        }
        set_id(message, asked.client.id);
        self.counters.answered.count();
        Release::Whole
    }

    fn learn(
        &self,
        endpoint: EndpointId,
        query: &Query<'_>,
        answer: &Answer,
    ) -> Result<(), Release> {
        if answer.rcode != Rcode::NOERROR || answer.addresses.is_empty() {
            return Ok(());
        }
        match self.authority.learn(endpoint, query, &answer.addresses) {
            Ok(()) => {
                self.counters.learned.count();
                Ok(())
            }
            Err(error) => {
                self.counters.learn_failed.count();
                debug!(%endpoint, %error, "an answer is withheld");
                Err(Release::Fail(ExtendedError::Other))
            }
        }
    }

    fn unreadable(&self, answer: &mut Answer) -> Release {
        answer.addresses.clear();
        self.counters.malformed_answers.count();
        Release::Fail(ExtendedError::InvalidData)
    }

    /// Some servers cut an answer in the middle of a record and set TC. Nothing of it can be
    /// learned, but its client can still be sent on to TCP.
    fn unreadable_or_truncated(
        &self,
        message: &[u8],
        transport: Transport,
        answer: &mut Answer,
    ) -> Release {
        let cut = Header::read(message).is_some_and(|header| header.flags.has(Flags::TRUNCATED));
        let release = self.unreadable(answer);
        if cut && transport == Transport::Udp { Release::Truncated } else { release }
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
