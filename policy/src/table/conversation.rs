//! What may be said in other protocols than DNS, by number.

use std::sync::Arc;

use model::{PortPrefix, Protocol, Requests};

use crate::counted::Numbered;
use crate::rule::L7;

/// One set of rules for what is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct ConversationId(u32);

/// The rules of a table for what is said.
#[derive(Clone, Debug, Default)]
pub(super) struct Conversations(Numbered<L7>);

impl Conversations {
    /// The number of some rules, with one user more.
    pub(super) fn acquire(&mut self, rules: &Arc<L7>) -> ConversationId {
        ConversationId(self.0.acquire(Arc::clone(rules)).0)
    }

    /// One user of some rules less; the number they have, or had if that was the last.
    pub(super) fn release(&mut self, rules: &L7) -> Option<ConversationId> {
        let number = self.0.number(rules)?;
        self.0.release(number);
        Some(ConversationId(number))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn get(&self, id: ConversationId) -> &Arc<L7> {
        self.0.get(id.0).expect("rules are numbered as long as a grant has them")
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
