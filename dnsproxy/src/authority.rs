//! What the proxy asks of its owner: which queries may go on, and that answers are enforced.

use std::io;
use std::net::SocketAddr;

use dnsproxy_core::{Address, Answer, Breach};
use model::{DnsFailure, EndpointId, Moment, NameRef, Transport};
use thiserror::Error;

/// Judges queries, learns from answers, and takes note of what became of them. Called by many
/// threads at once, on the hot path.
pub trait Authority: Send + Sync + 'static {
    /// Judges a query before anything of it goes upstream.
    fn judge(&self, query: &Query<'_>) -> Judgement;

    /// Whether the answer of the server that a judged query went to may teach addresses at all. If
    /// not, it is released and nothing is learned from it. Not asked of answers without addresses.
    fn may_teach(&self, _endpoint: EndpointId, _query: &Query<'_>) -> bool {
        true
    }

    /// Learns the addresses that the answer to a judged query gives to its name. The answer is
    /// released once this returns, so the kernel must hold every address by then; after an error
    /// the client gets SERVFAIL instead. Not called for answers without addresses.
    fn learn(
        &self,
        endpoint: EndpointId,
        query: &Query<'_>,
        addresses: &[Address],
    ) -> Result<(), LearnError>;

    /// Takes note of a query that is settled, whatever became of it. Nobody waits for it, so it
    /// must wait for nobody.
    fn note(&self, _settled: &Settled<'_>) {}
}

/// A query that has got its answer.
#[derive(Clone, Copy, Debug)]
pub struct Settled<'a> {
    /// Who asked; none if the client is no endpoint of this node.
    pub endpoint: Option<EndpointId>,
    /// What was asked.
    pub query: Query<'a>,
    /// When it went upstream, if it did.
    pub forwarded: Option<Moment>,
    /// What is against it, where it went upstream all the same.
    pub breach: Option<Breach>,
    /// When it was settled.
    pub at: Moment,
    /// What was answered.
    pub ending: Ending<'a>,
}

/// What a client got.
#[derive(Clone, Copy, Debug)]
pub enum Ending<'a> {
    /// A refusal: policy does not allow the query.
    Refused,
    /// A refusal: the endpoint has asked too much.
    OverLimit,
    /// The server's answer, and the message in which it stands.
    Answered(&'a Answer, &'a [u8]),
    /// SERVFAIL.
    Failed(DnsFailure),
}

/// One question of a client.
#[derive(Clone, Copy, Debug)]
pub struct Query<'a> {
    /// Who asks.
    pub client: SocketAddr,
    /// The server that the client meant to ask.
    pub server: SocketAddr,
    /// How it was asked.
    pub transport: Transport,
    /// The name asked for.
    pub name: NameRef<'a>,
    /// The record type asked for.
    pub qtype: u16,
}

/// What may become of a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// It goes to the server that was asked.
    Forward(EndpointId),
    /// The same, though this is against it: that is only audited.
    Audit(EndpointId, Breach),
    /// The endpoint's policy does not allow it.
    Refuse(EndpointId),
    /// The endpoint's policy allows it, and it has asked too much. It is refused.
    OverLimit(EndpointId),
    /// The client is no endpoint of this node. It is refused.
    Unknown,
}

/// Why the addresses of an answer are not enforced.
#[derive(Debug, Error)]
pub enum LearnError {
    /// The endpoint has as many names or addresses as it may have.
    #[error("a bound on names or addresses is reached")]
    Bound,
    /// The endpoint went away, or its policy changed, while the query was upstream.
    #[error("the endpoint or its permission to ask is gone")]
    Gone,
    /// The kernel did not take the addresses.
    #[error("the kernel did not take the addresses")]
    Kernel(#[source] io::Error),
}
