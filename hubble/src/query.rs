//! What a request asks of the ring: where to start, what to leave out, and when it is over.

use flows::{Cursor, Entry, Filters, Flow, Ring, Time};
use prost_types::Timestamp;

use crate::filter::{FiltersError, filters};
use crate::mask::{Mask, MaskError};
use crate::proto::observer::GetFlowsRequest;
use crate::recording::{self, Recording};

/// A checked request for flows.
#[derive(Debug, Default)]
pub struct Query {
    filters: Filters,
    /// Entries of the past, and after which of them to begin.
    past: Past,
    since: Time,
    until: Option<Time>,
    /// Goes on with entries that come.
    pub follow: bool,
    /// The fields that are wanted; all without one.
    pub mask: Option<Mask>,
}

/// How much of the past is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Past {
    #[default]
    All,
    First(u64),
    Last(u64),
    None,
}

/// Why a request is none.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum QueryError {
    /// A filter cannot be applied.
    #[error(transparent)]
    Filters(#[from] FiltersError),
    /// The field mask is none of flows.
    #[error(transparent)]
    Mask(#[from] MaskError),
    /// The first flows, and the coming ones.
    #[error("`first` cannot be combined with `follow`")]
    FirstAndFollow,
    /// A time that the calendar does not have.
    #[error("`{0}` is no time")]
    Time(&'static str),
}

impl Query {
    /// Checks a request.
    pub fn new(request: &GetFlowsRequest) -> Result<Self, QueryError> {
        if request.first && request.follow {
            return Err(QueryError::FirstAndFollow);
        }
        let past = match request.number {
            0 if request.follow && request.since.is_none() => Past::None,
            0 => Past::All,
            number if request.first => Past::First(number),
            number => Past::Last(number),
        };
        Ok(Self {
            filters: Filters {
                allow: filters(&request.whitelist)?,
                deny: filters(&request.blacklist)?,
            },
            past,
            since: time("since", request.since.as_ref())?.unwrap_or_default(),
            until: time("until", request.until.as_ref())?,
            follow: request.follow,
            mask: mask(request)?,
        })
    }

    /// Where to start reading, if the ring had come to `asked` when that was asked for, and `end` is
    /// where the past ends.
    pub async fn start<R: Recording>(&self, recording: &R, asked: Cursor, end: Cursor) -> Cursor {
        let since = recording.look(|ring| ring.since(self.since)).min(end);
        match self.past {
            Past::All | Past::First(_) => since,
            Past::Last(number) => {
                let start = self.before_last(recording, number, since, end).await;
                // What has left the ring meanwhile was not there any more when reading began.
                start.max(recording.look(Ring::oldest))
            }
            Past::None => asked,
        }
    }

    /// Before the last `number` flows between `since` and `end` that are wanted.
    async fn before_last<R: Recording>(
        &self,
        recording: &R,
        number: u64,
        since: Cursor,
        end: Cursor,
    ) -> Cursor {
        let (mut start, mut missing) = (end, number);
        loop {
            let mut cursor = start;
            let back = |ring: &Ring| (cursor > since).then(|| ring.previous(&mut cursor)).flatten();
            let entries = recording::batch(recording, back).await;
            if entries.is_empty() {
                return start;
            }
            for entry in entries {
                if missing == 0 {
                    return start;
                }
                start = start.previous();
                missing -= u64::from(matches!(&entry, Entry::Flow(flow) if self.wants(flow)));
            }
        }
    }

    /// How many flows are asked for, counted from the start; none where all are.
    pub fn limit(&self) -> Option<u64> {
        match self.past {
            Past::First(number) => Some(number),
            Past::All | Past::Last(_) | Past::None => None,
        }
    }

    /// Whether the reader wants to be told of an entry. A loss is told whatever was lost.
    pub fn admits(&self, entry: &Entry) -> bool {
        match entry {
            Entry::Flow(flow) => self.wants(flow),
            Entry::Lost(lost) => self.is_in_time(lost.time),
        }
    }

    /// Whether the time that is asked for is over with this entry.
    pub fn ends_before(&self, entry: &Entry) -> bool {
        self.follow && self.until.is_some_and(|until| entry.time() > until)
    }

    fn wants(&self, flow: &Flow) -> bool {
        self.is_in_time(flow.time) && self.filters.admit(flow)
    }

    fn is_in_time(&self, time: Time) -> bool {
        time >= self.since && self.until.is_none_or(|until| time <= until)
    }
}

/// The mask, which older clients put among what was being tried out.
#[expect(deprecated, reason = "older clients put it there")]
fn mask(request: &GetFlowsRequest) -> Result<Option<Mask>, MaskError> {
    let older = request.experimental.as_ref().and_then(|own| own.field_mask.as_ref());
    request.field_mask.as_ref().or(older).map_or(Ok(None), Mask::new)
}

/// Times before 1970 are its beginning, and those too far away the last that there is.
fn time(field: &'static str, timestamp: Option<&Timestamp>) -> Result<Option<Time>, QueryError> {
    let Some(timestamp) = timestamp else { return Ok(None) };
    let nanos = u64::try_from(timestamp.nanos).ok().filter(|&nanos| nanos < 1_000_000_000);
    let nanos = nanos.ok_or(QueryError::Time(field))?;
    let seconds = u64::try_from(timestamp.seconds).unwrap_or(0);
    Ok(Some(Time::from_nanos(seconds.saturating_mul(1_000_000_000).saturating_add(nanos))))
}

#[cfg(test)]
mod tests;
