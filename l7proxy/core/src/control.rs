//! What the daemon and the proxy say to each other.
//!
//! Each message is JSON behind its length, four bytes in network order, and at most
//! [`MAX_MESSAGE`] long. The proxy asks about every connection; the daemon answers in any order,
//! and says when rules changed: then a judgement of an earlier revision is asked for again before
//! the next request. Where no answer comes, nothing passes.

use std::net::SocketAddr;

use model::{EndpointId, L7Rules, Name};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{Fate, Reason, Resolved, Unmatched};

/// The longest message, in bytes.
pub const MAX_MESSAGE: usize = 4 << 20;

/// What the daemon says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ToProxy {
    /// The answer to a question.
    Judgement {
        /// The question's number.
        question: u64,
        /// The rules, or why there are none.
        judgement: Result<Judgement, Reason>,
    },
    /// The rules changed: judgements of earlier revisions no longer count.
    Revision(u64),
}

/// What the proxy says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FromProxy {
    /// May this connection be, and what may be said on it?
    Ask {
        /// The question's number.
        question: u64,
        /// The pod's end.
        client: SocketAddr,
        /// Where it was going.
        destination: SocketAddr,
    },
    /// Something was asked of a destination.
    Access(Access),
    /// So many records were not sent because the daemon did not keep up.
    Lost(u64),
    /// The proxy is well, and this is what it has done so far. Sent every second.
    Tally(Tally),
}

/// What may be said on one connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Judgement {
    /// The revision of the rules.
    pub revision: u64,
    /// Whose connection it is.
    pub endpoint: EndpointId,
    /// The rules for the destination and port.
    pub rules: L7Rules,
    /// What becomes of what none of them allows.
    pub unmatched: Unmatched,
    /// The names that the pod resolved to the destination; absent where names do not matter.
    pub resolved: Option<Vec<String>>,
    /// Whether the destination is to see the pod's own address.
    pub from_pod_address: bool,
}

/// The record of one request, or of a connection that came to none.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Access {
    /// Whose it was; absent where that was not known.
    pub endpoint: Option<EndpointId>,
    /// The pod's end.
    pub client: SocketAddr,
    /// Where it was going.
    pub destination: SocketAddr,
    /// The server name that the client asked for in TLS.
    pub server_name: Option<String>,
    /// What was asked.
    pub request: Asked,
    /// What became of it.
    pub fate: Fate,
    /// From the request to its answer, in microseconds; absent where none came.
    pub micros: Option<u64>,
}

/// What was asked of a destination.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Asked {
    /// A connection, of which no more is known.
    Connection,
    /// A TLS connection that goes on untouched.
    Tls,
    /// An HTTP request.
    Http {
        /// The version: 10, 11 or 20.
        version: u8,
        /// The method.
        method: String,
        /// The host.
        host: String,
        /// The path with its query.
        path: String,
        /// The answer's status; absent where none came.
        status: Option<u16>,
        /// The headers that did not match and were let pass or edited.
        edited: Vec<String>,
    },
    /// A Kafka request.
    Kafka {
        /// The number of its kind.
        api_key: i16,
        /// Its version.
        api_version: i16,
        /// The number by which its answer belongs to it.
        correlation: i32,
        /// What the client calls itself.
        client_id: Option<String>,
        /// The topics, at most [`MAX_TOPICS`] of them.
        topics: Vec<String>,
        /// The error that the proxy answered with; 0 where it did not.
        error: i16,
    },
}

/// The most topics that a record names.
pub const MAX_TOPICS: usize = 64;

/// What the proxy has done since it began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// Connections that were taken in.
    pub accepted: u64,
    /// Connections that are open.
    pub open: u64,
    /// Requests and untouched connections that passed.
    pub forwarded: u64,
    /// Those that passed only because what is against them is not enforced.
    pub audited: u64,
    /// Requests and connections that were refused.
    pub refused: u64,
    /// Connections refused for want of room, the proxy's or the endpoint's.
    pub over_connections: u64,
    /// Requests refused because the endpoint had too many in flight.
    pub over_requests: u64,
    /// Clients that took too long.
    pub slow_clients: u64,
    /// Records that were lost.
    pub lost_records: u64,
    /// Rules that could not be compiled and match nothing.
    pub broken_rules: u64,
}

/// Why a stream of messages cannot be read on.
#[derive(Debug, Error)]
pub enum ControlError {
    /// A message is too long.
    #[error("a message of {0} bytes is over the limit of {MAX_MESSAGE}")]
    TooLong(usize),
    /// A message is not one of ours.
    #[error("a message cannot be read: {0}")]
    Unreadable(#[from] serde_json::Error),
}

/// A stream's bytes that are not read yet.
#[derive(Debug, Default)]
pub struct Inbox {
    bytes: Vec<u8>,
}

impl Judgement {
    /// The names as they are compared; one that is none stands for nothing.
    pub fn resolved_names(&self) -> Resolved {
        match &self.resolved {
            None => Resolved::Any,
            Some(names) => {
                let names = names.iter().filter_map(|name| name.parse::<Name>().ok());
                Resolved::Names(names.collect())
            }
        }
    }
}

impl Inbox {
    /// Takes bytes in.
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The next whole message.
    pub fn take<T: DeserializeOwned>(&mut self) -> Result<Option<T>, ControlError> {
        let Some((length, rest)) = self.bytes.split_first_chunk::<4>() else { return Ok(None) };
        let length = u32::from_be_bytes(*length) as usize;
        if length > MAX_MESSAGE {
            return Err(ControlError::TooLong(length));
        }
        let Some(message) = rest.get(..length) else { return Ok(None) };
        let message = serde_json::from_slice(message)?;
        self.bytes.drain(..4 + length);
        Ok(Some(message))
    }
}

/// A message as it stands in the stream.
pub fn encode<T: Serialize>(message: &T) -> Result<Vec<u8>, ControlError> {
    let mut bytes = vec![0; 4];
    serde_json::to_writer(&mut bytes, message)?;
    let length = bytes.len() - 4;
    match u32::try_from(length) {
        Ok(prefix) if length <= MAX_MESSAGE => {
            bytes[..4].copy_from_slice(&prefix.to_be_bytes());
            Ok(bytes)
        }
        _ => Err(ControlError::TooLong(length)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_arrive_however_the_stream_is_cut() {
        let messages = [ToProxy::Revision(7), ToProxy::Revision(8)];
        let stream: Vec<u8> = messages.iter().flat_map(|m| encode(m).unwrap()).collect();
        let (mut inbox, mut read) = (Inbox::default(), Vec::new());
        for byte in stream {
            inbox.push(&[byte]);
            read.extend(inbox.take::<ToProxy>().unwrap());
        }
        assert_eq!(read, messages);
    }

    #[test]
    fn a_length_over_the_limit_is_refused_before_its_bytes_come() {
        let mut inbox = Inbox::default();
        inbox.push(&u32::MAX.to_be_bytes());
        assert!(matches!(inbox.take::<ToProxy>(), Err(ControlError::TooLong(_))));
    }

    #[test]
    fn a_message_of_another_kind_is_refused() {
        let mut inbox = Inbox::default();
        inbox.push(&encode(&"hello").unwrap());
        assert!(matches!(inbox.take::<ToProxy>(), Err(ControlError::Unreadable(_))));
    }
}
