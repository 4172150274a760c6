//! What there is to see: what the daemon says now, what flows tell, and the rates of both.
//!
//! A board changes with what comes in and with nothing else, so that a copy of it stands still.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::time::Duration;

use model::EndpointName;

use super::activity::{Activity, Drop, NameActivity};
use super::rate::Meter;

/// What the daemon says when it is asked.
#[derive(Clone, Debug, Default)]
pub(super) struct Sample {
    /// This node's endpoints.
    pub endpoints: Vec<api::Endpoint>,
    /// The revision of the policies that were read last.
    pub policy_revision: u64,
    /// The revision that is enforced.
    pub applied_revision: u64,
    /// How many things are wrong in manifests.
    pub problems: usize,
    /// More about the one endpoint that is open.
    pub detail: Option<Detail>,
}

/// What the daemon says about one endpoint and whatever rules it.
#[derive(Clone, Debug)]
pub(super) struct Detail {
    /// The endpoint.
    pub endpoint: EndpointName,
    /// All policies.
    pub policies: Vec<api::Policy>,
    /// All selectors.
    pub selectors: Vec<api::Selector>,
    /// What the endpoint has resolved.
    pub cache: Vec<api::CacheEntry>,
}

/// What there is to see.
#[derive(Clone, Debug, Default)]
pub(super) struct Board {
    /// The time of all this, since 1970.
    pub now: Duration,
    /// What the daemon said last; nothing before it has.
    pub sample: Option<Sample>,
    /// Why the daemon says nothing.
    pub silence: Option<String>,
    /// Why there are no flows.
    pub no_flows: Option<String>,
    /// What flows tell.
    pub activity: Activity,
    meters: BTreeMap<EndpointName, Meters>,
}

/// The counters of one endpoint.
#[derive(Clone, Debug, Default)]
struct Meters {
    connections: Meter,
    drops: Meter,
}

/// An endpoint with its rates.
#[derive(Clone, Debug)]
pub(super) struct EndpointRow<'a> {
    /// What the daemon says of it.
    pub endpoint: &'a api::Endpoint,
    /// Its name.
    pub name: EndpointName,
    /// DNS queries a second, as far as flows tell of them.
    pub queries: f64,
    /// Connections begun a second.
    pub connections: f64,
    /// Packets dropped a second.
    pub drops: f64,
}

/// A name with its rates.
#[derive(Clone, Debug)]
pub(super) struct NameRow<'a> {
    /// The name.
    pub name: &'a str,
    /// Queries a second.
    pub queries: f64,
    /// Refused queries a second.
    pub refused: f64,
    /// Connections a second.
    pub connections: f64,
    /// What else is known.
    pub activity: &'a NameActivity,
}

/// What endpoints are sorted by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Column {
    /// By name.
    Endpoint,
    /// By how they are judged: denied, enforced, open.
    State,
    /// By queries a second.
    #[default]
    Queries,
    /// By connections a second.
    Connections,
    /// By drops a second.
    Drops,
    /// By the names they have resolved.
    Names,
    /// By their addresses in use.
    Leases,
}

/// An order of endpoints.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Order {
    /// What counts.
    pub column: Column,
    /// Whether the usual order, which has the most of something first, is turned round.
    pub reversed: bool,
}

impl Board {
    /// Takes in what the daemon says.
    pub fn handle_sample(&mut self, sample: Sample) {
        let mut before = std::mem::take(&mut self.meters);
        for endpoint in &sample.endpoints {
            let name = endpoint.full_name();
            let mut meters = before.remove(&name).unwrap_or_default();
            meters.connections.read(self.now, endpoint.connections);
            meters.drops.read(self.now, endpoint.drops.values().sum());
            self.meters.insert(name, meters);
        }
        self.sample = Some(sample);
        self.silence = None;
    }

    /// Goes on in time.
    pub fn handle_time(&mut self, now: Duration) {
        self.now = now;
        self.activity.forget_idle(now);
    }

    /// The endpoints that a filter selects, in an order.
    pub fn endpoints(&self, filter: &str, order: Order) -> Vec<EndpointRow<'_>> {
        let all = self.sample.iter().flat_map(|sample| &sample.endpoints);
        let rows = all.map(|endpoint| self.row(endpoint));
        let mut rows: Vec<_> = rows.filter(|row| row.matches(filter)).collect();
        rows.sort_by(|a, b| order.compare(a, b));
        rows
    }

    /// An endpoint by name.
    pub fn endpoint(&self, name: &EndpointName) -> Option<EndpointRow<'_>> {
        let mut all = self.sample.iter().flat_map(|sample| &sample.endpoints);
        let own = all.find(|own| own.namespace == name.namespace && own.name == name.name);
        own.map(|endpoint| self.row(endpoint))
    }

    fn row<'a>(&'a self, endpoint: &'a api::Endpoint) -> EndpointRow<'a> {
        let name = endpoint.full_name();
        let meters = self.meters.get(&name);
        let rate = |of: fn(&Meters) -> &Meter| meters.map_or(0.0, |own| of(own).per_second());
        EndpointRow {
            endpoint,
            queries: self.activity.queries_of(&name.to_string(), self.now),
            connections: rate(|own| &own.connections),
            drops: rate(|own| &own.drops),
            name,
        }
    }

    /// The names that a filter selects, the hottest first.
    pub fn names(&self, filter: &str) -> Vec<NameRow<'_>> {
        let second = self.now.as_secs();
        let selected = self.activity.names().filter(|(name, own)| {
            contains(name, filter) || own.endpoints.iter().any(|own| contains(own, filter))
        });
        let rows = selected.map(|(name, activity)| NameRow {
            name,
            queries: activity.queries.per_second(second),
            refused: activity.refused.per_second(second),
            connections: activity.connections.per_second(second),
            activity,
        });
        let mut rows: Vec<_> = rows.collect();
        let heat = |row: &NameRow<'_>| row.queries + row.connections;
        rows.sort_by(|a, b| heat(b).total_cmp(&heat(a)).then_with(|| a.name.cmp(b.name)));
        rows
    }

    /// The drops that a filter selects, the latest first.
    pub fn drops(&self, filter: &str) -> Vec<&Drop> {
        let selected = self.activity.drops().filter(|own| {
            [&own.endpoint, &own.target, &own.why()].iter().any(|text| contains(text, filter))
        });
        selected.collect()
    }
}

impl EndpointRow<'_> {
    fn matches(&self, filter: &str) -> bool {
        contains(&self.name.to_string(), filter)
            || contains(&self.endpoint.enforcement.to_string(), filter)
    }
}

impl Column {
    /// All of them, from left to right.
    pub const ALL: [Self; 7] = [
        Self::Endpoint,
        Self::State,
        Self::Queries,
        Self::Connections,
        Self::Drops,
        Self::Names,
        Self::Leases,
    ];

    /// The one so many places to the right, beginning anew after the last.
    pub fn moved(self, places: usize) -> Self {
        Self::ALL[(self as usize + places) % Self::ALL.len()]
    }
}

impl Order {
    fn compare(self, a: &EndpointRow<'_>, b: &EndpointRow<'_>) -> Ordering {
        let order = match self.column {
            Column::Endpoint => Ordering::Equal,
            Column::State => b.endpoint.enforcement.cmp(&a.endpoint.enforcement),
            Column::Queries => b.queries.total_cmp(&a.queries),
            Column::Connections => b.connections.total_cmp(&a.connections),
            Column::Drops => b.drops.total_cmp(&a.drops),
            Column::Names => b.endpoint.names.cmp(&a.endpoint.names),
            Column::Leases => b.endpoint.leases.cmp(&a.endpoint.leases),
        };
        let order = order.then_with(|| a.name.cmp(&b.name));
        if self.reversed { order.reverse() } else { order }
    }
}

/// Whether a text contains another in any case; everything contains nothing.
fn contains(text: &str, filter: &str) -> bool {
    text.to_lowercase().contains(&filter.to_lowercase())
}

#[cfg(test)]
mod tests {
    use super::super::samples::{self, NOW};
    use super::*;

    fn board() -> Board {
        let mut board = Board::default();
        board.handle_time(NOW);
        board.handle_sample(samples::sample(0));
        board.handle_time(NOW + Duration::from_secs(2));
        board.handle_sample(samples::sample(2));
        for name in ["www.example.com.", "www.example.com.", "api.example.com."] {
            board.activity.handle_flow(&samples::query(name, true), NOW);
        }
        board.activity.handle_flow(&samples::drop("203.0.113.40", 443), NOW);
        board
    }

    fn names(rows: &[EndpointRow<'_>]) -> Vec<String> {
        rows.iter().map(|row| row.endpoint.name.clone()).collect()
    }

    #[test]
    fn endpoints_have_the_rates_of_their_counters_and_flows() {
        let board = board();
        let rows = board.endpoints("", Order::default());
        let client = &rows[0];
        assert_eq!(client.name.to_string(), "default/client");
        assert_eq!((client.queries, client.connections, client.drops), (0.3, 10.0, 1.0));
    }

    #[test]
    fn every_column_sorts_and_both_ways() {
        let board = board();
        let sorted = |column, reversed| names(&board.endpoints("", Order { column, reversed }));
        assert_eq!(sorted(Column::Endpoint, false), ["client", "gone", "other"]);
        assert_eq!(sorted(Column::Endpoint, true), ["other", "gone", "client"]);
        assert_eq!(sorted(Column::State, false), ["gone", "client", "other"]);
        assert_eq!(sorted(Column::Connections, false), ["client", "other", "gone"]);
        assert_eq!(sorted(Column::Drops, true), ["other", "gone", "client"]);
        assert_eq!(Column::Leases.moved(1), Column::Endpoint);
    }

    #[test]
    fn a_filter_selects_endpoints_names_and_drops_in_any_case() {
        let board = board();
        assert_eq!(names(&board.endpoints("CLI", Order::default())), ["client"]);
        assert_eq!(names(&board.endpoints("open", Order::default())), ["other"]);
        let names = |filter| board.names(filter).iter().map(|row| row.name).collect::<Vec<_>>();
        assert_eq!(names(""), ["www.example.com", "api.example.com"]);
        assert_eq!(names("api"), ["api.example.com"]);
        assert_eq!(board.drops("deny-rule").len(), 1);
        assert_eq!(board.drops("default/other").len(), 0);
    }
}
