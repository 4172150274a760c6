//! Who speaks with whom through a proxy: found once for all that they say, until somebody changes.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use flows::{Service, Side, Who};
use model::{EndpointId, Frontend, Protocol, TableId};
use rustc_hash::FxHashMap;

use super::directory::Directory;

/// How many are kept. When there are more, all are forgotten.
const KEPT: usize = 8192;

/// Who speaks with whom, as a proxy knows them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Conversation {
    /// The client's endpoint, where it is known.
    pub endpoint: Option<EndpointId>,
    /// Its address.
    pub client: IpAddr,
    /// By which protocol.
    pub protocol: Protocol,
    /// Who is spoken to.
    pub server: SocketAddr,
}

/// The same as people know them.
#[derive(Clone, Debug, PartialEq)]
pub struct Ends {
    /// The client.
    pub source: Side,
    /// The table that it is judged by; none if no policy selects it.
    pub table: Option<TableId>,
    /// The server.
    pub destination: Side,
    /// The service that was meant, if one was.
    pub service: Option<Arc<Service>>,
}

/// The ends of conversations that were looked up.
pub type Conversations = FxHashMap<Conversation, Arc<Ends>>;

impl Directory {
    /// Who speaks with whom.
    pub fn ends(&mut self, conversation: Conversation) -> Arc<Ends> {
        if let Some(known) = self.conversations.get(&conversation) {
            return Arc::clone(known);
        }
        let (ends, is_whole) = self.find(&conversation);
        let ends = Arc::new(ends);
        if is_whole {
            if self.conversations.len() >= KEPT {
                self.conversations.clear();
            }
            self.conversations.insert(conversation, Arc::clone(&ends));
        }
        ends
    }

    /// The ends, and whether nothing of them may become known later.
    fn find(&mut self, conversation: &Conversation) -> (Ends, bool) {
        let &Conversation { endpoint, client, protocol, server } = conversation;
        let source = match endpoint {
            Some(endpoint) => self.endpoint(endpoint),
            None => self.who(client, None),
        };
        let frontend = Frontend { address: server.ip(), protocol, port: server.port() };
        let identity = self.frontend_at(frontend);
        let destination = match identity {
            Some(_) => Arc::new(Who { identity, ..Who::default() }),
            None => self.who(server.ip(), None),
        };
        let service = identity.and_then(|identity| self.service(identity));
        let is_whole = identity.is_none() || service.is_some();
        let table = source.endpoint.and_then(|own| self.table(own));
        let (source, destination) = (side(client, source), side(server.ip(), destination));
        (Ends { source, table, destination, service }, is_whole)
    }
}

/// Somebody at an address.
pub fn side(address: IpAddr, who: Arc<Who>) -> Side {
    Side { address: Some(address), who, names: Arc::default() }
}
