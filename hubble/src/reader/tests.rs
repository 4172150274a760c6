use std::time::Duration;

use flows::LossSource;
use futures::StreamExt;
use tokio::time::timeout;

use super::*;
use crate::proto::flow::LostEventSource;
use crate::proto::observer::GetFlowsRequest;
use crate::samples::{Recorded, dropped, entry, lost};

const SOON: Duration = Duration::from_secs(60);

async fn responses(
    recorded: &Arc<Recorded>,
    request: &GetFlowsRequest,
) -> impl Stream<Item = i64> + Send + Unpin + use<> {
    let responses = super::flows(Arc::clone(recorded), request).await.unwrap();
    Box::pin(responses.map(|response| told(&response)))
}

/// A flow's second; of a loss, the number with a minus.
fn told(response: &GetFlowsResponse) -> i64 {
    assert_eq!(response.node_name, "node-1");
    match response.response_types.as_ref().unwrap() {
        ResponseTypes::Flow(flow) => flow.time.unwrap().seconds,
        ResponseTypes::LostEvents(lost) => -lost.num_events_lost.cast_signed(),
        ResponseTypes::NodeStatus(_) => panic!("there is one node"),
    }
}

fn flows(seconds: impl IntoIterator<Item = u64>) -> impl Iterator<Item = Entry> {
    seconds.into_iter().map(|second| entry(dropped(second)))
}

#[tokio::test]
async fn the_past_ends_where_it_ended_when_it_was_asked_for() {
    let recorded = Recorded::new(15, flows(1..=3));
    let responses = responses(&recorded, &GetFlowsRequest::default()).await;
    recorded.add(flows(4..=5));
    assert_eq!(responses.collect::<Vec<_>>().await, [1, 2, 3]);
}

#[tokio::test]
async fn more_than_one_batch_comes_whole_and_in_order() {
    let recorded = Recorded::new(1023, flows(1..=1000));
    let all: Vec<i64> = responses(&recorded, &GetFlowsRequest::default()).await.collect().await;
    assert_eq!(all, (1..=1000).collect::<Vec<_>>());
}

#[tokio::test]
async fn the_first_flows_are_as_many_as_asked_for_without_losses_counting() {
    let entries = [lost(1, LossSource::DnsQueue, 9)].into_iter().chain(flows(2..=9));
    let recorded = Recorded::new(15, entries);
    let request = GetFlowsRequest { number: 2, first: true, ..Default::default() };
    assert_eq!(responses(&recorded, &request).await.collect::<Vec<_>>().await, [-9, 2, 3]);
}

#[tokio::test]
async fn a_follower_gets_what_comes_and_ends_with_the_recording() {
    let recorded = Recorded::new(15, flows(1..=2));
    let request = GetFlowsRequest { number: 1, follow: true, ..Default::default() };
    let mut responses = responses(&recorded, &request).await;
    assert_eq!(responses.next().await, Some(2));
    let follower = tokio::spawn(async move {
        let mut got = Vec::new();
        while got.len() < 3 {
            got.extend(responses.next().await);
        }
        (got, responses)
    });
    for second in 3..=5 {
        recorded.add(flows([second]));
        tokio::task::yield_now().await;
    }
    let (got, responses) = timeout(SOON, follower).await.unwrap().unwrap();
    assert_eq!(got, [3, 4, 5]);
    drop(responses);
    assert_eq!(Arc::strong_count(&recorded), 1, "a client that leaves leaves nothing behind");
}

#[tokio::test]
async fn a_slow_follower_is_told_how_much_it_has_missed() {
    let recorded = Recorded::new(7, flows([1]));
    let request = GetFlowsRequest { follow: true, number: 1, ..Default::default() };
    let mut responses = responses(&recorded, &request).await;
    assert_eq!(responses.next().await, Some(1));
    recorded.add(flows(2..=20));
    let got: Vec<i64> = responses.by_ref().take(8).collect().await;
    assert_eq!(got, [-12, 14, 15, 16, 17, 18, 19, 20]);
}

#[tokio::test]
async fn a_loss_in_the_ring_names_its_source() {
    let recorded = Recorded::new(7, [lost(4, LossSource::KernelRing, 5)]);
    let responses = super::flows(recorded, &GetFlowsRequest::default()).await.unwrap();
    let response = Box::pin(responses).next().await.unwrap();
    let Some(ResponseTypes::LostEvents(lost)) = response.response_types else {
        panic!("not a loss");
    };
    assert_eq!(lost.source(), LostEventSource::PerfEventRingBuffer);
    assert_eq!((lost.num_events_lost, response.time.unwrap().seconds), (5, 4));
}
