//! A flow that was seen, and that is described when somebody first reads it.
//!
//! Most flows leave the ring unread. Whoever records hands in when a flow happened and what it takes
//! to describe it, which is kept until then and let go of with that; all who read it get the same
//! description. What must be right as of when it happened is for the recorder to hand in.

use std::fmt;
use std::ops::Deref;
use std::sync::LazyLock;

use crate::{Flow, Time};

/// A flow, described or not yet. To look into it describes it.
pub struct Seen {
    time: Time,
    flow: LazyLock<Box<Flow>, Describe>,
}

type Describe = Box<dyn FnOnce() -> Box<Flow> + Send>;

impl Seen {
    /// A flow that happened at `time`, and that `describe` describes.
    pub fn new(time: Time, describe: impl FnOnce() -> Flow + Send + 'static) -> Self {
        let describe: Describe = Box::new(move || Box::new(describe()));
        Self { time, flow: LazyLock::new(describe) }
    }

    /// When it happened, described or not.
    pub fn time(&self) -> Time {
        self.time
    }

    /// Describes it, so that whoever reads it next need not wait for that.
    pub fn describe(&self) {
        LazyLock::force(&self.flow);
    }
}

impl From<Flow> for Seen {
    fn from(flow: Flow) -> Self {
        let own = Self::new(flow.time, move || flow);
        own.describe();
        own
    }
}

impl Deref for Seen {
    type Target = Flow;

    fn deref(&self) -> &Flow {
        &self.flow
    }
}

impl PartialEq for Seen {
    fn eq(&self, other: &Self) -> bool {
        self.time == other.time && **self == **other
    }
}

impl fmt::Debug for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Seen").field("time", &self.time).field("flow", &self.flow).finish()
    }
}
