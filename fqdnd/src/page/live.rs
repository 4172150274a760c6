//! Flows as they happen: what the Hubble API streams, as server-sent events.
//!
//! Filters are Hubble's, and so is the JSON of a flow, with our own word for why it was dropped
//! beside it. A reader holds no queue ([`hubble::flows`]); one that is too slow is told what it
//! missed.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::Sse;
use axum::response::sse::{Event, KeepAlive};
use futures::{Stream, StreamExt};
use hubble::json::Json as _;
use hubble::proto::flow::FlowFilter;
use hubble::proto::observer::get_flows_response::ResponseTypes;
use hubble::proto::observer::{GetFlowsRequest, GetFlowsResponse};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::not_recorded;
use crate::admin::Failure;
use crate::daemon::Shared;

/// How many flows of the past a client may ask for.
const LAST: u64 = 1000;
/// How long filters may be, in bytes.
const FILTERS: usize = 8 << 10;
/// How often a silent stream says that it is there.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// Which flows.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    /// A JSON list of Hubble's filters, of which one must match; none for all flows.
    allow: Option<String>,
    /// How many of the past.
    #[serde(default)]
    last: u64,
}

/// One event.
#[derive(Serialize)]
struct Told<'a> {
    /// Why it was dropped, in our own word.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    /// Hubble's message.
    response: &'a RawValue,
}

pub(super) async fn flows(
    State(shared): State<Arc<Shared>>,
    Query(wanted): Query<Wanted>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Failure> {
    let recording = shared.flows.clone().ok_or_else(not_recorded)?;
    let request = wanted.request().map_err(|message| Failure(StatusCode::BAD_REQUEST, message))?;
    let responses = hubble::flows(recording, &request)
        .await
        .map_err(|error| Failure(StatusCode::BAD_REQUEST, error.to_string()))?;
    let events = responses.map(|response| Ok(event(&response)));
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)))
}

impl Wanted {
    fn request(&self) -> Result<GetFlowsRequest, String> {
        let filters = self.allow.as_deref().unwrap_or("[]");
        if filters.len() > FILTERS {
            return Err(format!("filters are longer than {FILTERS} bytes"));
        }
        let filters: Vec<Box<RawValue>> = serde_json::from_str(filters)
            .map_err(|error| format!("no list of filters: {error}"))?;
        let filters = filters.iter().map(|filter| FlowFilter::from_json(filter.get()));
        Ok(GetFlowsRequest {
            number: self.last.min(LAST),
            follow: true,
            whitelist: filters.collect::<Result<_, _>>().map_err(|error| error.to_string())?,
            ..GetFlowsRequest::default()
        })
    }
}

fn event(response: &GetFlowsResponse) -> Event {
    let reason = match &response.response_types {
        Some(ResponseTypes::Flow(flow)) => hubble::reason::from_hubble(flow.drop_reason_desc()),
        _ => None,
    };
    let json = RawValue::from_string(response.to_json()).expect("a message's JSON is JSON");
    let told = Told { reason: reason.map(model::DropReason::as_str), response: &json };
    Event::default().json_data(told).expect("JSON and a word can be written")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(filters: &str, last: u64) -> Result<GetFlowsRequest, String> {
        Wanted { allow: Some(filters.to_owned()), last }.request()
    }

    #[test]
    fn filters_are_hubbles_and_the_past_is_bounded() {
        let asked = request(r#"[{"verdict":["DROPPED"]},{"source_pod":["/web"]}]"#, 1 << 40);
        let asked = asked.unwrap();
        assert_eq!((asked.whitelist.len(), asked.number, asked.follow), (2, LAST, true));
        assert_eq!(asked.whitelist[1].source_pod, ["/web"]);
    }

    #[test]
    fn what_is_no_filter_is_refused_with_its_name() {
        assert!(request("{}", 0).unwrap_err().contains("no list of filters"));
        assert!(request(r#"[{"verdicts":[]}]"#, 0).unwrap_err().contains("verdicts"));
        assert!(request(&" ".repeat(FILTERS + 1), 0).unwrap_err().contains("longer than"));
    }
}
