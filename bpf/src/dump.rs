//! Reads the maps back as values.

use model::{EndpointId, Identity, Interface, Moment, NameNumber, NumberKind, State};

use crate::{Datapath, Error, codec};

impl Datapath {
    /// The content of all maps but flows and counters. What changes meanwhile may or may not be in
    /// it.
    pub fn dump(&self) -> Result<State, Error> {
        let mut state = State::default();
        self.dump_node(&mut state)?;
        self.dump_names(&mut state)?;
        Ok(state)
    }

    fn dump_node(&self, state: &mut State) -> Result<(), Error> {
        let maps = &self.maps;
        let mut odd = Odd::default();
        maps.endpoints.for_each(|key, value| {
            if value.interface == 0 {
                return;
            }
            if let Some(entry) = odd.check("endpoints", key, codec::to_endpoint(value)) {
                state.endpoints.insert(Interface(value.interface), entry);
            }
        })?;
        maps.sources.for_each(|key, _| {
            if let Some(source) = odd.check("sources", key, codec::to_source(key)) {
                state.sources.insert(source, ());
            }
        })?;
        maps.prefixes.for_each(|key, value| {
            let prefix = codec::to_prefix(key.address, key.bits);
            if let Some(prefix) = odd.check("prefixes", key, prefix) {
                state.prefixes.insert(prefix, Identity(value.identity));
            }
        })?;
        maps.frontends.for_each(|key, value| {
            state.frontends.insert(codec::to_frontend(key), Identity(*value));
        })?;
        maps.rows.for_each(|key, value| {
            let row = codec::to_row(key).zip(codec::to_ruling(*value));
            if let Some((row, ruling)) = odd.check("rows", key, row) {
                state.rows.insert(row, ruling);
            }
        })?;
        odd.none()
    }

    fn dump_names(&self, state: &mut State) -> Result<(), Error> {
        let maps = &self.maps;
        let mut odd = Odd::default();
        maps.names.for_each(|key, value| {
            if let Some(name) = odd.check("names", key, codec::to_name(value)) {
                state.names.insert((EndpointId(key.first), NameNumber(key.second)), name);
            }
        })?;
        maps.leases.for_each(|key, value| {
            let address = codec::to_address(key.address);
            state.leases.insert((EndpointId(key.endpoint), address), codec::to_lease(value));
        })?;
        maps.shared.for_each(|key, value| {
            let address = codec::to_address(key.address);
            let key = (EndpointId(key.endpoint), address, NameNumber(key.name));
            state.shared.insert(key, Moment::from_nanos(*value));
        })?;
        maps.numbers.for_each(|key, value| {
            let kind = NumberKind::from_number(key.first);
            if let Some(kind) = odd.check("numbers", key, kind) {
                state.numbers.insert((kind, key.second), value.bytes);
            }
        })?;
        odd.none()
    }
}

/// The first element that nothing of ours can have written.
#[derive(Default)]
struct Odd(Option<Error>);

impl Odd {
    fn check<K: std::fmt::Debug, T>(
        &mut self,
        map: &'static str,
        key: &K,
        value: Option<T>,
    ) -> Option<T> {
        if value.is_none() && self.0.is_none() {
            self.0 = Some(Error::Content { map, what: format!("the element at {key:?}") });
        }
        value
    }

    fn none(self) -> Result<(), Error> {
        self.0.map_or(Ok(()), Err)
    }
}
