//! Which names are decided alike: what of the rules matches them.

use std::net::{IpAddr, SocketAddr};

use engine::Question;
use model::{EndpointId, Name, NameRef, Transport};
use policy::SelectorId;

use super::Names;

impl Names {
    /// The selectors of an endpoint's rules that match any of these names, in order.
    pub fn selectors_of(&self, endpoint: EndpointId, names: &[Name]) -> Vec<SelectorId> {
        let Some(table) = self.slots.get(&endpoint).and_then(|slot| slot.table.clone()) else {
            return Vec::new();
        };
        let mut selectors = Vec::new();
        for name in names {
            table.rules().selectors_of(name.as_ref(), &mut selectors);
        }
        selectors.sort_unstable();
        selectors.dedup();
        selectors
    }

    /// The patterns of the rules for DNS that match a name which is asked for at a server.
    pub fn patterns_of(
        &self,
        client: IpAddr,
        server: SocketAddr,
        transport: Transport,
        name: NameRef<'_>,
    ) -> Vec<Vec<SelectorId>> {
        let question = Question { client, server, transport, name };
        self.snapshot.load().patterns_of(&question, |endpoint, address| {
            let slot = self.slots.get(&endpoint);
            slot.map_or([None, None], |slot| slot.leases.sets_of(address))
        })
    }
}
