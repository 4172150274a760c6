//! The view once, for scripts: as text, or as JSON.

use std::time::Duration;

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use serde::Serialize;

use super::board::{Board, EndpointRow, NameRow};
use super::live::now;
use super::sources;
use super::state::{Event, State};
use super::view::{self, Palette, Rooms};
use crate::client::Client;
use crate::observe::server::Server;
use crate::observe::time::rfc3339;
use crate::output::Output;

/// How many names and drops are shown as text.
const ROWS: usize = 10;

/// Looks twice, one `interval` apart, since rates are differences.
pub(super) async fn look(
    state: &mut State,
    client: &Client,
    server: &Server,
    interval: Duration,
) -> anyhow::Result<()> {
    state.handle(Event::Sample(Ok(sources::sample(client, None).await?)), now());
    tokio::time::sleep(interval).await;
    state.handle(Event::Sample(Ok(sources::sample(client, None).await?)), now());
    match sources::past(server, client.socket()).await {
        Ok(events) => {
            for event in events {
                state.handle(event, now());
            }
        }
        Err(error) => {
            state.handle(Event::Flows(Err(format!("{error:#}"))), now());
        }
    }
    state.handle(Event::Tick, now());
    Ok(())
}

/// Prints what was seen.
pub(super) fn print(state: &State, width: u16, output: &Output) -> anyhow::Result<()> {
    if output.is_data() {
        return Ok(output.data(&Snapshot::of(state))?);
    }
    let board = state.board();
    output.lines([vec![view::summary(board)], view::notices(board)].concat())?;
    Ok(output.lines(frame(state, width))?)
}

/// All endpoints, and the beginnings of the other lists.
fn frame(state: &State, width: u16) -> Vec<String> {
    let board = state.board();
    let rows =
        |count: usize, most: usize| u16::try_from(count.min(most)).unwrap_or(u16::MAX).max(1);
    // A buffer's area is a number of 16 bits, too.
    let most = usize::from(u16::MAX / width.max(1)).saturating_sub(3 * ROWS);
    let rooms = Rooms {
        endpoints: rows(board.endpoints(&state.filter, state.order).len(), most),
        names: rows(board.names(&state.filter).len(), ROWS),
        drops: rows(board.drops(&state.filter).len(), ROWS),
    };
    let area = Rect::new(0, 0, width, rooms.lines());
    let mut buffer = Buffer::empty(area);
    view::overview(state, rooms, Palette { colored: false }, area, &mut buffer);
    text(&buffer)
}

/// The lines of a buffer without their styles.
pub(super) fn text(buffer: &Buffer) -> Vec<String> {
    let line = |cells: &[ratatui::buffer::Cell]| {
        let line: String = cells.iter().map(ratatui::buffer::Cell::symbol).collect();
        line.trim_end().to_owned()
    };
    buffer.content.chunks(buffer.area.width.into()).map(line).collect()
}

/// Everything that the view shows.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Snapshot<'a> {
    /// When.
    time: String,
    /// The revision of the policies that were read last, and the one that is enforced.
    policy_revision: u64,
    applied_revision: u64,
    /// Why there are no flows, and so no queries, names and drops.
    #[serde(skip_serializing_if = "Option::is_none")]
    no_flows: Option<&'a str>,
    /// Flows a second that are not in these figures.
    missing_per_second: f64,
    endpoints: Vec<EndpointSnapshot<'a>>,
    names: Vec<NameSnapshot<'a>>,
    drops: Vec<DropSnapshot<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct EndpointSnapshot<'a> {
    endpoint: String,
    enforcement: api::Enforcement,
    queries_per_second: f64,
    connections_per_second: f64,
    drops_per_second: f64,
    names: u64,
    leases: u64,
    dropped: &'a std::collections::BTreeMap<String, u64>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct NameSnapshot<'a> {
    name: &'a str,
    queries_per_second: f64,
    refused_per_second: f64,
    connections_per_second: f64,
    endpoints: Vec<&'a str>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct DropSnapshot<'a> {
    time: String,
    endpoint: &'a str,
    target: &'a str,
    reason: &'a str,
    audited: bool,
    policies: &'a [String],
    count: u64,
}

impl<'a> Snapshot<'a> {
    fn of(state: &'a State) -> Self {
        let board: &Board = state.board();
        let revision = |of: fn(&super::board::Sample) -> u64| board.sample.as_ref().map_or(0, of);
        let endpoints = board.endpoints(&state.filter, state.order);
        let names = board.names(&state.filter);
        let drops = board.drops(&state.filter).into_iter().map(|own| DropSnapshot {
            time: rfc3339(own.time),
            endpoint: &own.endpoint,
            target: &own.target,
            reason: &own.reason,
            audited: own.audited,
            policies: &own.policies,
            count: own.count,
        });
        Self {
            time: rfc3339(board.now),
            policy_revision: revision(|sample| sample.policy_revision),
            applied_revision: revision(|sample| sample.applied_revision),
            no_flows: board.no_flows.as_deref(),
            missing_per_second: board.activity.missing_per_second(board.now),
            endpoints: endpoints.iter().map(EndpointSnapshot::of).collect(),
            names: names.iter().map(NameSnapshot::of).collect(),
            drops: drops.collect(),
        }
    }
}

impl<'a> EndpointSnapshot<'a> {
    fn of(row: &EndpointRow<'a>) -> Self {
        Self {
            endpoint: row.name.to_string(),
            enforcement: row.endpoint.enforcement,
            queries_per_second: row.queries,
            connections_per_second: row.connections,
            drops_per_second: row.drops,
            names: row.endpoint.names,
            leases: row.endpoint.leases,
            dropped: &row.endpoint.drops,
        }
    }
}

impl<'a> NameSnapshot<'a> {
    fn of(row: &NameRow<'a>) -> Self {
        Self {
            name: row.name,
            queries_per_second: row.queries,
            refused_per_second: row.refused,
            connections_per_second: row.connections,
            endpoints: row.activity.endpoints.iter().map(String::as_str).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples::{self, NOW};
    use super::*;

    const FRAME: &str = "\
ENDPOINT                   STATE     QUERIES/S▾  CONNS/S  DROPS/S  NAMES  LEASES
default/client             enforced         0.1     10.0      1.0      3       5
default/gone               denied           0.0      0.0      0.0      3       5
default/other              open             0.0      2.0      0.0      3       5

NAME                                      QUERIES/S REFUSED/S  CONNS/S ENDPOINTS
www.example.com                                 0.1       0.0      0.0         1

DROPPED  ENDPOINT        TO                      REASON                    COUNT
10:29:54 default/client  203.0.113.40:443/TCP    deny-rule                     1
";

    fn state() -> State {
        let mut state = State::default();
        for seconds in [0, 2] {
            let sample = Event::Sample(Ok(samples::sample(seconds)));
            state.handle(sample, NOW + Duration::from_secs(seconds));
        }
        for flow in [samples::query("www.example.com.", true), samples::drop("203.0.113.40", 443)] {
            state.handle(Event::Flow(Box::new(flow)), NOW);
        }
        state
    }

    #[test]
    fn as_text_there_is_room_for_every_endpoint() {
        assert_eq!(frame(&state(), 80).join("\n") + "\n", FRAME);
    }

    #[test]
    fn as_json_there_is_everything() {
        let state = state();
        let json = serde_json::to_value(Snapshot::of(&state)).unwrap();
        assert_eq!(json["time"], "2026-11-23T10:29:56Z");
        assert_eq!(
            json["endpoints"][0],
            serde_json::json!({
                "endpoint": "default/client", "enforcement": "enforced",
                "queriesPerSecond": 0.1, "connectionsPerSecond": 10.0, "dropsPerSecond": 1.0,
                "names": 3, "leases": 5, "dropped": {"deny-rule": 9},
            })
        );
        assert_eq!(
            json["drops"],
            serde_json::json!([{
                "time": "2026-11-23T10:29:54Z", "endpoint": "default/client",
                "target": "203.0.113.40:443/TCP", "reason": "deny-rule", "audited": false,
                "policies": ["default/one-name (one-name.yaml:25)"], "count": 1,
            }])
        );
        assert_eq!(json["names"][0]["endpoints"], serde_json::json!(["default/client"]));
        assert_eq!(json.get("noFlows"), None);
    }
}
