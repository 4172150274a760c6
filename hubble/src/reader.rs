//! One client's way through the ring.
//!
//! A reader holds no queue: it is asked for its next response when the client's connection takes
//! one, and takes it from the ring. A client that is too slow is overtaken by the ring's end, and
//! the reader tells it how many entries that has cost. So memory is bounded whatever clients do.

use std::collections::VecDeque;
use std::sync::Arc;

use flows::{Cursor, Entry, Ring};
use futures::Stream;
use futures::stream;
use tokio::sync::watch;

use crate::message;
use crate::proto::flow::Flow;
use crate::proto::observer::{
    GetFlowsRequest, GetFlowsResponse, get_flows_response::ResponseTypes,
};
use crate::query::{Query, QueryError};
use crate::recording::{self, Recording};

/// The flows that a request asks for, as they are taken.
pub async fn flows<R: Recording>(
    recording: Arc<R>,
    request: &GetFlowsRequest,
) -> Result<impl Stream<Item = GetFlowsResponse> + Send + use<R>, QueryError> {
    Ok(Reader::new(recording, Query::new(request)?).await.responses())
}

/// A client's place in the ring.
pub struct Reader<R> {
    recording: Arc<R>,
    query: Query,
    cursor: Cursor,
    /// Where the past ends for a reader that does not follow.
    end: Cursor,
    batch: VecDeque<Entry>,
    /// How many more flows are wanted; none where all are.
    missing: Option<u64>,
    added: watch::Receiver<()>,
}

impl<R: Recording> Reader<R> {
    /// A reader at the place where the query starts.
    pub async fn new(recording: Arc<R>, query: Query) -> Self {
        let added = recording.added();
        let asked = recording.look(Ring::newest);
        recording.catch_up().await;
        let end = recording.look(Ring::newest);
        let cursor = query.start(&*recording, asked, end).await;
        let missing = query.limit();
        Self { recording, query, cursor, end, batch: VecDeque::new(), missing, added }
    }

    /// All responses, as they are asked for.
    fn responses(self) -> impl Stream<Item = GetFlowsResponse> + Send + 'static {
        stream::unfold(self, |mut reader| async {
            let entry = reader.next().await?;
            let response = reader.response(&entry);
            Some((response, reader))
        })
    }

    /// The next entry that the client wants; none when there will be none any more.
    async fn next(&mut self) -> Option<Entry> {
        if self.missing == Some(0) {
            return None;
        }
        loop {
            let entry = self.next_of_all().await?;
            if self.query.ends_before(&entry) {
                return None;
            }
            if self.query.admits(&entry) {
                if let (Some(missing), Entry::Flow(_)) = (&mut self.missing, &entry) {
                    *missing -= 1;
                }
                return Some(entry);
            }
        }
    }

    async fn next_of_all(&mut self) -> Option<Entry> {
        loop {
            if let Some(entry) = self.batch.pop_front() {
                return Some(entry);
            }
            self.added.mark_unchanged();
            self.fill().await;
            if self.batch.is_empty() {
                if !self.query.follow {
                    return None;
                }
                self.added.changed().await.ok()?;
            }
        }
    }

    async fn fill(&mut self) {
        let Self { recording, query, cursor, end, batch, .. } = self;
        let next = |ring: &Ring| {
            let is_wanted = query.follow || *cursor < *end;
            is_wanted.then(|| ring.next(cursor)).flatten()
        };
        batch.extend(recording::batch(&**recording, next).await);
    }

    fn masked(&self, flow: Flow) -> Flow {
        match &self.query.mask {
            Some(mask) => mask.apply(&flow),
            None => flow,
        }
    }

    fn response(&self, entry: &Entry) -> GetFlowsResponse {
        let response = match entry {
            Entry::Flow(flow) => ResponseTypes::Flow(self.masked(message::flow(flow))),
            Entry::Lost(lost) => ResponseTypes::LostEvents(message::lost(lost)),
        };
        GetFlowsResponse {
            response_types: Some(response),
            node_name: self.recording.node().to_owned(),
            time: Some(message::timestamp(entry.time())),
        }
    }
}

#[cfg(test)]
mod tests;
