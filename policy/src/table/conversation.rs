//! What may be said in other protocols than DNS, by number.

use std::sync::Arc;

use model::{PortPrefix, Protocol, Requests};
use rustc_hash::FxHashMap;

use crate::rule::L7;

/// One set of rules for what is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct ConversationId(usize);

/// The rules of a table for what is said.
#[derive(Debug, Default)]
pub(super) struct Conversations {
    all: Vec<Arc<L7>>,
    ids: FxHashMap<Arc<L7>, ConversationId>,
}

impl Conversations {
    /// The number of some rules.
    pub(super) fn number(&mut self, rules: &Arc<L7>) -> ConversationId {
        if let Some(id) = self.ids.get(rules) {
            return *id;
        }
        let id = ConversationId(self.all.len());
        self.all.push(Arc::clone(rules));
        self.ids.insert(Arc::clone(rules), id);
        id
    }

    pub(super) fn get(&self, id: ConversationId) -> &Arc<L7> {
        &self.all[id.0]
    }
}

impl L7 {
    /// What these rules cover of the ports that they were written for: TCP, which can be judged;
    /// and UDP where it could be QUIC, so that nothing is said by it that is not judged.
    pub(super) fn carriers(&self, ports: PortPrefix) -> impl Iterator<Item = PortPrefix> {
        let may_be_quic = match self.rule.requests {
            Requests::Any | Requests::Http(_) => true,
            Requests::Kafka(_) => false,
        };
        let over = |protocol| match ports {
            PortPrefix::Any | PortPrefix::Protocol(_) => PortPrefix::Protocol(protocol),
            PortPrefix::Ports { port, bits, .. } => PortPrefix::Ports { protocol, port, bits },
        };
        let (tcp, udp) = match ports {
            PortPrefix::Any => (true, true),
            PortPrefix::Protocol(own) | PortPrefix::Ports { protocol: own, .. } => {
                (own == Protocol::TCP, own == Protocol::TCP || own == Protocol::UDP)
            }
        };
        let tcp = tcp.then(|| over(Protocol::TCP));
        tcp.into_iter().chain((udp && may_be_quic).then(|| over(Protocol::UDP)))
    }
}
