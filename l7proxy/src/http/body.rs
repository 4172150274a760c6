//! The destination's body on its way to the client.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};

use super::life::Busy;
use crate::admission::Permit;

/// A body that gives a request's place back when it ends.
#[derive(Debug)]
pub(super) struct Tracked {
    body: Incoming,
    _place: (Permit, Busy),
}

impl Tracked {
    pub const fn new(body: Incoming, place: (Permit, Busy)) -> Self {
        Self { body, _place: place }
    }
}

impl Body for Tracked {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
