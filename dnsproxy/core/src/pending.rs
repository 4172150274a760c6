//! Queries that wait for their upstream answers.
//!
//! A query is known by the upstream socket that carried it and the ID it had there. An answer
//! counts only if it comes to that socket, from the server that was asked, with that ID, and
//! repeats the question byte for byte, its mixed case included; all else is somebody's guess.
//!
//! The number of queries is bounded, in all and for each endpoint, and a query over a bound is
//! refused; none is ever evicted. All queries wait equally long, so the order of their arrival is
//! the order of their deadlines.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use model::{EndpointId, Moment};
use rustc_hash::FxHashMap;

use crate::header::{Flags, Header};
use crate::outline::Outline;
use crate::question::Question;

/// How often another ID is drawn when one is in use.
const ID_DRAWS: usize = 16;

/// The place of an upstream socket among its worker's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(pub u16);

/// The upstream socket and ID of a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// The socket.
    pub slot: Slot,
    /// The ID upstream.
    pub id: u16,
}

/// Who asked, and whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Client {
    /// The client's address and port.
    pub address: SocketAddr,
    /// The server that it asked.
    pub server: SocketAddr,
    /// Its own ID.
    pub id: u16,
}

/// The bounds of a table.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The most queries in all.
    pub total: usize,
    /// The most queries of one endpoint.
    pub per_endpoint: usize,
    /// How long an answer is waited for.
    pub timeout: Duration,
}

/// How a query came to go upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Course {
    /// When the batch came that it was read with.
    pub received: Moment,
    /// When it was let go on upstream.
    pub forwarded: Moment,
    /// What is against it, where that is only audited.
    pub breach: Option<Breach>,
}

/// What is against a query that goes upstream all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Breach {
    /// No rule allows it.
    Policy,
    /// Its endpoint has asked too much under patterns.
    Limit,
}

/// One waiting query.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Who asked, and whom.
    pub client: Client,
    /// The endpoint that the query was judged for.
    pub endpoint: EndpointId,
    /// When it came and went on.
    pub course: Course,
    /// When waiting ends.
    pub deadline: Moment,
    flags: Flags,
    edns: Option<bool>,
    question: [u8; Question::MAX_LEN],
    question_len: usize,
}

/// Why a query is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Too many queries wait, or no ID is free.
    #[error("too many queries are in flight")]
    Total,
    /// Too many queries of this endpoint wait.
    #[error("too many queries of the endpoint are in flight")]
    Endpoint,
}

/// Why a message from upstream answers nothing that was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unsolicited {
    /// It is no response to a standard query.
    #[error("the message is no response")]
    NoResponse,
    /// No query with this ID waits at this socket; it may have come too late.
    #[error("no query with this id is waiting")]
    Id,
    /// It comes from another address or port than was asked.
    #[error("the answer is not from the server that was asked")]
    Server,
    /// It repeats another question, or the same one in another case.
    #[error("the answer repeats another question")]
    Question,
}

/// The waiting queries of one worker or of one connection.
#[derive(Debug)]
pub struct Pending {
    limits: Limits,
    entries: Vec<Entry>,
    /// The first of the free entries, which are linked by `next`.
    free: Option<u32>,
    /// The entry that waits longest.
    oldest: Option<u32>,
    newest: Option<u32>,
    /// IDs are ours and random: no one can choose keys that collide.
    by_key: FxHashMap<Key, u32>,
    /// Ports and IDs are the client's choice, so this map's hash must have a secret.
    by_client: HashMap<Client, u32>,
    in_flight: FxHashMap<EndpointId, usize>,
}

/// An entry, free or waiting.
#[derive(Debug)]
struct Entry {
    asked: Asked,
    key: Key,
    previous: Option<u32>,
    next: Option<u32>,
}

impl Asked {
    /// The question's bytes, as the client wrote them.
    pub fn question(&self) -> &[u8] {
        &self.question[..self.question_len]
    }

    /// What an error answer to the client repeats.
    pub fn outline(&self) -> Outline<'_> {
        let Self { client, flags, edns, .. } = *self;
        Outline { id: client.id, flags, edns, question: self.question() }
    }

    fn new(
        client: Client,
        endpoint: EndpointId,
        outline: &Outline<'_>,
        course: Course,
        timeout: Duration,
    ) -> Self {
        let deadline = course.forwarded + timeout;
        let mut question = [0; Question::MAX_LEN];
        let question_len = outline.question.len().min(Question::MAX_LEN);
        question[..question_len].copy_from_slice(&outline.question[..question_len]);
        let Outline { flags, edns, .. } = *outline;
        Self { client, endpoint, course, deadline, flags, edns, question, question_len }
    }
}

impl Pending {
    /// An empty table.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            entries: Vec::new(),
            free: None,
            oldest: None,
            newest: None,
            by_key: FxHashMap::default(),
            by_client: HashMap::new(),
            in_flight: FxHashMap::default(),
        }
    }

    /// How many queries wait.
    pub fn len(&self) -> usize {
        self.by_key.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.by_key.is_empty()
    }

    /// When the first of the waiting queries has waited long enough.
    pub fn next_deadline(&self) -> Option<Moment> {
        self.oldest.map(|index| self.entries[index as usize].asked.deadline)
    }

    /// The key under which the same query already waits, if its client repeats it.
    ///
    /// Such a query goes upstream again with the ID and socket that it had: a lost packet is made
    /// good, and whoever guesses IDs has no more of them to hit.
    pub fn repeated(&self, client: &Client, question: &[u8]) -> Option<Key> {
        let entry = &self.entries[*self.by_client.get(client)? as usize];
        (entry.asked.question() == question).then_some(entry.key)
    }

    /// Takes a query of `client` that will go through `slot`, with an ID that `draw` gives.
    pub fn admit(
        &mut self,
        client: Client,
        endpoint: EndpointId,
        outline: &Outline<'_>,
        slot: Slot,
        draw: impl FnMut() -> u16,
        course: Course,
    ) -> Result<Key, Refused> {
        if self.len() >= self.limits.total {
            return Err(Refused::Total);
        }
        let mine = self.in_flight.get(&endpoint).copied().unwrap_or(0);
        if mine >= self.limits.per_endpoint {
            return Err(Refused::Endpoint);
        }
        let key = self.free_key(slot, draw).ok_or(Refused::Total)?;
        let asked = Asked::new(client, endpoint, outline, course, self.limits.timeout);
        let index = self.insert(Entry { asked, key, previous: self.newest, next: None });
        self.by_key.insert(key, index);
        self.by_client.insert(client, index);
        self.in_flight.insert(endpoint, mine + 1);
        Ok(key)
    }

    /// Ends the wait of the query that `message`, come from `from` to the socket at `slot`,
    /// answers.
    pub fn settle(
        &mut self,
        slot: Slot,
        from: SocketAddr,
        message: &[u8],
    ) -> Result<Asked, Unsolicited> {
        let header = Header::read(message).ok_or(Unsolicited::NoResponse)?;
        if !header.flags.has(Flags::RESPONSE) || !header.flags.is_query_opcode() {
            return Err(Unsolicited::NoResponse);
        }
        let key = Key { slot, id: header.id };
        let index = *self.by_key.get(&key).ok_or(Unsolicited::Id)?;
        let asked = &self.entries[index as usize].asked;
        if !same_server(asked.client.server, from) {
            return Err(Unsolicited::Server);
        }
        let repeats =
            header.questions == 1 && message[crate::HEADER_LEN..].starts_with(asked.question());
        if !repeats {
            return Err(Unsolicited::Question);
        }
        Ok(self.remove(index))
    }

    /// Ends the wait of a query that could not be sent, or whose socket is gone.
    pub fn abandon(&mut self, key: Key) -> Option<Asked> {
        let index = *self.by_key.get(&key)?;
        Some(self.remove(index))
    }

    /// Ends the wait of one query whose deadline has passed; call it until it gives none.
    pub fn poll_expired(&mut self, now: Moment) -> Option<(Key, Asked)> {
        let index = self.oldest?;
        let Entry { key, ref asked, .. } = self.entries[index as usize];
        (asked.deadline <= now).then(|| (key, self.remove(index)))
    }

    fn free_key(&self, slot: Slot, mut draw: impl FnMut() -> u16) -> Option<Key> {
        (0..ID_DRAWS).map(|_| Key { slot, id: draw() }).find(|key| !self.by_key.contains_key(key))
    }

    /// Puts an entry behind the newest.
    fn insert(&mut self, entry: Entry) -> u32 {
        let index = match self.free {
            Some(index) => {
                self.free = self.entries[index as usize].next;
                self.entries[index as usize] = entry;
                index
            }
            None => {
                self.entries.push(entry);
                // The bound in all is far below 2^32: keys have 32 bits.
                (self.entries.len() - 1) as u32
            }
        };
        match self.newest {
            Some(newest) => self.entries[newest as usize].next = Some(index),
            None => self.oldest = Some(index),
        }
        self.newest = Some(index);
        index
    }

    fn remove(&mut self, index: u32) -> Asked {
        let Entry { key, previous, next, ref asked } = self.entries[index as usize];
        let asked = asked.clone();
        match previous {
            Some(previous) => self.entries[previous as usize].next = next,
            None => self.oldest = next,
        }
        match next {
            Some(next) => self.entries[next as usize].previous = previous,
            None => self.newest = previous,
        }
        self.entries[index as usize].next = self.free;
        self.free = Some(index);
        self.forget(index, key, &asked);
        asked
    }

    fn forget(&mut self, index: u32, key: Key, asked: &Asked) {
        self.by_key.remove(&key);
        // A later query of the same client and ID, with another question, may stand there.
        if self.by_client.get(&asked.client) == Some(&index) {
            self.by_client.remove(&asked.client);
        }
        match self.in_flight.get_mut(&asked.endpoint) {
            Some(count) if *count > 1 => *count -= 1,
            _ => {
                self.in_flight.remove(&asked.endpoint);
            }
        }
    }
}

/// Whether `from` is the server that was asked. Flow labels do not count; a scope does not
/// either, because a link-local server is asked through the socket's only route to it.
fn same_server(server: SocketAddr, from: SocketAddr) -> bool {
    server.ip() == from.ip() && server.port() == from.port()
}

#[cfg(test)]
mod tests;
