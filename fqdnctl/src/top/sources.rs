//! Where what is seen comes from: the daemon, asked once in a while, and the server of flows.
//!
//! Each has a task of its own that tells of failures and goes on: a daemon that is restarted is
//! seen again. What waits to be taken in is bounded: whoever tells waits meanwhile.

use std::path::Path;
use std::time::Duration;

use api::{CacheQuery, EndpointRef};
use hubble::proto::observer::get_flows_response::ResponseTypes;
use hubble::proto::observer::{GetFlowsRequest, GetFlowsResponse};
use model::EndpointName;
use prost_types::{FieldMask, Timestamp};
use tokio::sync::{mpsc, watch};

use super::board::{Detail, Sample};
use super::state::Event;
use crate::client::Client;
use crate::observe::server::Server;

/// How many flows of the past are asked for: as many as are kept, unless more are.
const PAST: u64 = 4095;
/// How long to wait before a server of flows that is gone is looked for again.
const PAUSE: Duration = Duration::from_secs(1);
/// What is read of a flow. Servers that do not know masks send all of it.
const FIELDS: [&str; 17] = [
    "time",
    "verdict",
    "IP",
    "l4",
    "source.namespace",
    "source.pod_name",
    "destination.namespace",
    "destination.pod_name",
    "Type",
    "destination_names",
    "l7",
    "event_type",
    "destination_service",
    "traffic_direction",
    "drop_reason_desc",
    "egress_denied_by",
    "ingress_denied_by",
];

/// Asks the daemon at each `interval`, and at once when something else is opened.
pub(super) async fn ask(
    client: Client,
    interval: Duration,
    mut opened: watch::Receiver<Option<EndpointName>>,
    events: mpsc::Sender<Event>,
) {
    loop {
        let wanted = opened.borrow_and_update().clone();
        let sample = sample(&client, wanted).await.map_err(|error| format!("{error:#}"));
        if events.send(Event::Sample(sample)).await.is_err() {
            return;
        }
        tokio::select! {
            () = tokio::time::sleep(interval) => {}
            changed = opened.changed() => if changed.is_err() { return },
        }
    }
}

/// What the daemon says now.
pub(super) async fn sample(
    client: &Client,
    opened: Option<EndpointName>,
) -> anyhow::Result<Sample> {
    let status: api::Status = client.fetch(api::path::STATUS).await?;
    let endpoints: Vec<api::Endpoint> = client.fetch(api::path::ENDPOINTS).await?;
    // An endpoint that is gone since it was opened has no cache to be asked for.
    let opened = opened.filter(|name| endpoints.iter().any(|own| own.full_name() == *name));
    let detail = match opened {
        Some(endpoint) => Some(detail(client, endpoint).await?),
        None => None,
    };
    Ok(Sample {
        endpoints,
        policy_revision: status.policy_revision,
        applied_revision: status.applied_revision,
        problems: status.problems.len(),
        detail,
    })
}

async fn detail(client: &Client, endpoint: EndpointName) -> anyhow::Result<Detail> {
    let query = CacheQuery { endpoint: Some(EndpointRef::Name(endpoint.clone())), pattern: None };
    Ok(Detail {
        endpoint,
        policies: client.fetch(api::path::POLICIES).await?,
        selectors: client.fetch(api::path::SELECTORS).await?,
        cache: client.fetch(&api::path::cache(&query)).await?,
    })
}

/// Tells of the flows that were and of those that come, until nobody listens.
pub(super) async fn follow(server: Server, client: Client, events: mpsc::Sender<Event>) {
    let mut last = None;
    while !events.is_closed() {
        let ended = follow_once(&server, client.socket(), &mut last, &events).await;
        let reason =
            ended.err().map_or_else(|| "it has ended".to_owned(), |error| format!("{error:#}"));
        if events.send(Event::Flows(Err(reason))).await.is_err() {
            return;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Begins after the `last` flow that was seen, or with the past.
async fn follow_once(
    server: &Server,
    admin: &Path,
    last: &mut Option<Timestamp>,
    events: &mpsc::Sender<Event>,
) -> anyhow::Result<()> {
    let mut observer = server.connect(admin).await?;
    let since = last.as_ref().map(after);
    let request = GetFlowsRequest { number: PAST, follow: true, since, ..request() };
    let mut responses = observer.get_flows(request).await?.into_inner();
    events.send(Event::Flows(Ok(()))).await?;
    while let Some(response) = responses.message().await? {
        *last = response.time.or(*last);
        if let Some(event) = event(response) {
            events.send(event).await?;
        }
    }
    Ok(())
}

/// The flows that are kept now, and what was lost of them.
pub(super) async fn past(server: &Server, admin: &Path) -> anyhow::Result<Vec<Event>> {
    let mut observer = server.connect(admin).await?;
    let request = GetFlowsRequest { number: PAST, ..request() };
    let mut responses = observer.get_flows(request).await?.into_inner();
    let mut events = Vec::new();
    while let Some(response) = responses.message().await? {
        events.extend(event(response));
    }
    Ok(events)
}

fn request() -> GetFlowsRequest {
    let paths = FIELDS.iter().map(|&path| path.to_owned()).collect();
    GetFlowsRequest { field_mask: Some(FieldMask { paths }), ..GetFlowsRequest::default() }
}

fn event(response: GetFlowsResponse) -> Option<Event> {
    match response.response_types? {
        ResponseTypes::Flow(flow) => Some(Event::Flow(Box::new(flow))),
        ResponseTypes::LostEvents(lost) => Some(Event::Lost(lost)),
        ResponseTypes::NodeStatus(_) => None,
    }
}

/// The first time that is later.
fn after(time: &Timestamp) -> Timestamp {
    match time.nanos {
        999_999_999 => Timestamp { seconds: time.seconds + 1, nanos: 0 },
        nanos => Timestamp { seconds: time.seconds, nanos: nanos + 1 },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_later_time_may_be_in_the_next_second() {
        let time = |seconds, nanos| Timestamp { seconds, nanos };
        assert_eq!(after(&time(5, 7)), time(5, 8));
        assert_eq!(after(&time(5, 999_999_999)), time(6, 0));
    }
}
