//! A client's requests and a broker's answers on one connection, in order.
//!
//! Clients send several requests before they read an answer, and take answers in the order of
//! their requests. So an answer of the proxy's own waits for those of the broker that come before
//! it. The broker's answers must come in that order with the right correlations; of their content
//! only the list of versions is read.

use std::collections::VecDeque;
use std::net::SocketAddr;

use model::KafkaRule;

use super::layout::Api;
use super::versions::{self, MAX_ANSWER};
use super::{API_VERSIONS, FETCH, Request};
use crate::{Reason, Unmatched};

/// The most requests that wait for answers; more are left unread.
const MAX_WAITING: usize = 1024;
/// The most bytes of own answers that wait for the broker's before them.
const MAX_WAITING_BYTES: usize = 1 << 20;
/// FETCH_SESSION_ID_NOT_FOUND: the client begins anew, without a session.
const NO_SESSION: i16 = 70;

/// The requests of one connection that wait for answers.
#[derive(Debug)]
pub struct Pipeline {
    broker: SocketAddr,
    waiting: VecDeque<Waiting>,
    own_bytes: usize,
}

#[derive(Debug)]
enum Waiting {
    /// The broker answers.
    Broker { correlation: i32, api_key: i16, api_version: i16, cap: bool },
    /// The proxy answers with these bytes.
    Own(Vec<u8>),
}

/// What becomes of a request.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// It goes to the broker.
    Forward,
    /// It goes to the broker, and would not for this reason if the rules were enforced.
    Audited(Reason),
    /// It does not; its answer comes in its turn.
    Denied(Reason),
    /// It does not, and the connection has to be closed.
    Close(Reason),
}

/// How the broker's next answer is handled.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    /// It goes to the client as it comes.
    Pass,
    /// It is read whole, then goes through [`Pipeline::rewrite`].
    Whole,
}

impl Pipeline {
    /// A connection to this broker.
    pub const fn new(broker: SocketAddr) -> Self {
        Self { broker, waiting: VecDeque::new(), own_bytes: 0 }
    }

    /// Whether another request may be read.
    pub fn has_room(&self) -> bool {
        self.waiting.len() < MAX_WAITING && self.own_bytes < MAX_WAITING_BYTES
    }

    /// Judges a request, without the length before it. It may be changed where it lies.
    pub fn request<'r>(
        &mut self,
        request: &Request,
        frame: &mut [u8],
        rules: impl Iterator<Item = &'r KafkaRule> + Clone,
        unmatched: Unmatched,
    ) -> Step {
        let api = Api::of(request.api_key);
        let limited = !rules.clone().any(|rule| *rule == KafkaRule::default());
        let mut breach = None;
        if !request.is_allowed(rules) {
            let known = api.is_some_and(|api| {
                api.layout.is_empty() || (0..=api.newest).contains(&request.api_version)
            });
            let reason = if known { Reason::KafkaDenied } else { Reason::KafkaVersion };
            match (unmatched.lets_pass(reason), request.deny(self.broker)) {
                (true, _) => breach = Some(reason),
                (false, Some(answer)) => return self.own(answer, reason),
                (false, None) => return Step::Close(reason),
            }
        }
        if let (true, FETCH, Some((session, epoch, at))) =
            (limited, request.api_key, request.session)
        {
            // A session would let the broker remember topics past a change of the rules, and a
            // client join one that it was never judged for.
            if session != 0 && unmatched.lets_pass(Reason::KafkaDenied) {
                breach = Some(Reason::KafkaDenied);
            } else if session != 0 {
                let answer = api.and_then(|api| request.no_session(api, self.broker));
                return answer.map_or(Step::Close(Reason::KafkaDenied), |answer| {
                    self.own(answer, Reason::KafkaDenied)
                });
            }
            if let (0, Some(place)) = (epoch, frame.get_mut(at..at + 4)) {
                place.copy_from_slice(&(-1_i32).to_be_bytes());
            }
        }
        if request.is_answered {
            self.waiting.push_back(Waiting::Broker {
                correlation: request.correlation,
                api_key: request.api_key,
                api_version: request.api_version,
                cap: limited && request.api_key == API_VERSIONS,
            });
        }
        breach.map_or(Step::Forward, Step::Audited)
    }

    fn own(&mut self, answer: Vec<u8>, reason: Reason) -> Step {
        self.own_bytes += answer.len();
        self.waiting.push_back(Waiting::Own(answer));
        Step::Denied(reason)
    }

    /// The proxy's next answer, if its turn has come.
    pub fn take_own(&mut self) -> Option<Vec<u8>> {
        match self.waiting.front() {
            Some(Waiting::Own(_)) => {}
            Some(Waiting::Broker { .. }) | None => return None,
        }
        let Some(Waiting::Own(answer)) = self.waiting.pop_front() else { return None };
        self.own_bytes -= answer.len();
        Some(answer)
    }

    /// How the broker's next answer is handled, by its length and correlation.
    pub fn answer(&self, length: u32, correlation: i32) -> Result<Answer, Reason> {
        let Some(Waiting::Broker { correlation: wanted, cap, .. }) = self.waiting.front() else {
            return Err(Reason::UpstreamFailed);
        };
        if *wanted != correlation || length < 4 {
            return Err(Reason::UpstreamFailed);
        }
        match cap {
            true if length as usize > MAX_ANSWER => Err(Reason::UpstreamFailed),
            true => Ok(Answer::Whole),
            false => Ok(Answer::Pass),
        }
    }

    /// What the client gets for the broker's answer, which is given without its length.
    pub fn rewrite(&self, answer: &[u8]) -> Result<Vec<u8>, Reason> {
        match self.waiting.front() {
            Some(Waiting::Broker { api_key: API_VERSIONS, api_version, .. }) => {
                versions::cap(answer, *api_version).map_err(|_| Reason::UpstreamFailed)
            }
            _ => Err(Reason::UpstreamFailed),
        }
    }

    /// The broker's answer has gone to the client whole.
    pub fn answered(&mut self) {
        self.waiting.pop_front();
    }

    /// Whether nothing waits for an answer.
    pub fn is_idle(&self) -> bool {
        self.waiting.is_empty()
    }
}

impl Request {
    /// The answer to a Fetch in a session that is not to be.
    fn no_session(&self, api: &Api, broker: SocketAddr) -> Option<Vec<u8>> {
        let empty = Self { scope: super::Scope::Everything, ..self.clone() };
        let mut answer = empty.answer(api, 0, broker)?;
        // Length, correlation, perhaps a byte of tags, throttling time, then the error.
        let at = if self.api_version >= api.flexible { 13 } else { 12 };
        answer.get_mut(at..at + 2)?.copy_from_slice(&NO_SESSION.to_be_bytes());
        Some(answer)
    }
}
