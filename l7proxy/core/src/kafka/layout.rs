//! The layouts of the requests that carry topics, and of the answers that deny requests.
//!
//! A field says from which version to which it is there. Only what bears on topics has a name;
//! everything else is passed over by its size.

mod administration;
mod bare;
mod data;

/// One field of a request.
pub(super) struct Field {
    pub kind: Kind,
    from: i16,
    to: i16,
}

/// What a field of a request is.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    /// So many bytes.
    Skip(usize),
    /// A string, perhaps absent.
    Text,
    /// Bytes, perhaps absent.
    Bytes,
    /// How many acknowledgements a producer wants.
    Acks,
    /// A fetch session's number, and its epoch.
    Session,
    /// A topic's name.
    Topic,
    /// A topic's number, then its name.
    TopicOrId,
    /// A partition of the last topic.
    Partition,
    /// What the next resource is.
    ResourceType,
    /// Its name.
    ResourceName,
    /// An array of structures.
    Array(&'static [Field]),
    /// An array of bare values.
    List(&'static Kind),
    /// An array of topics that stands for all of them where it is absent.
    AllIfAbsent(&'static [Field]),
    /// An array of topics that stands for all of them where it is absent or empty.
    AllIfEmpty(&'static [Field]),
}

/// One field of an answer.
pub(super) struct Part {
    pub what: What,
    from: i16,
    to: i16,
}

/// What a field of an answer is.
#[derive(Clone, Copy)]
pub(super) enum What {
    /// The error.
    Error,
    /// No error.
    NoError,
    /// So many bytes that are zero.
    Zeros(usize),
    /// So many bytes that are one in each bit: -1.
    Ones(usize),
    /// The number of no known set of operations.
    NoOperations,
    /// The resource type of a topic.
    TopicType,
    /// The empty string.
    EmptyText,
    /// The absent string.
    NoText,
    /// No bytes.
    EmptyBytes,
    /// An array without elements.
    Empty,
    /// One element for each topic of the request.
    Topics(&'static [Part]),
    /// The topic's name.
    TopicName,
    /// One element for each partition of the topic.
    Partitions(&'static [Part]),
    /// The partition's number.
    PartitionNumber,
    /// The broker that the client spoke to, alone.
    Broker,
}

/// One kind of request.
pub(super) struct Api {
    pub key: i16,
    /// The first flexible version.
    pub flexible: i16,
    /// The newest version that can be read and denied.
    pub newest: i16,
    /// Its body; empty where no topic stands in it.
    pub layout: &'static [Field],
    /// The error that denies it.
    pub error: i16,
    /// The answer that denies it; empty where the connection has to be closed.
    pub answer: &'static [Part],
}

impl Field {
    pub const fn is_in(&self, version: i16) -> bool {
        self.from <= version && version <= self.to
    }
}

impl Part {
    pub const fn is_in(&self, version: i16) -> bool {
        self.from <= version && version <= self.to
    }
}

impl Api {
    pub fn of(key: i16) -> Option<&'static Self> {
        [data::APIS, administration::APIS, bare::APIS]
            .into_iter()
            .flatten()
            .find(|api| api.key == key)
    }
}

/// Whether a kind of request is known, so that a rule about topics may speak of it.
pub fn is_known(api_key: i16) -> bool {
    Api::of(api_key).is_some()
}

const fn all(kind: Kind) -> Field {
    Field { kind, from: 0, to: i16::MAX }
}

const fn since(from: i16, kind: Kind) -> Field {
    Field { kind, from, to: i16::MAX }
}

const fn between(from: i16, to: i16, kind: Kind) -> Field {
    Field { kind, from, to }
}

const fn say(what: What) -> Part {
    Part { what, from: 0, to: i16::MAX }
}

const fn say_since(from: i16, what: What) -> Part {
    Part { what, from, to: i16::MAX }
}

const fn say_between(from: i16, to: i16, what: What) -> Part {
    Part { what, from, to }
}

const I8: Kind = Kind::Skip(1);
const I16: Kind = Kind::Skip(2);
const I32: Kind = Kind::Skip(4);
const I64: Kind = Kind::Skip(8);
const NEVER: i16 = i16::MAX;
const TOPIC_DENIED: i16 = 29;
const GROUP_DENIED: i16 = 30;
const CLUSTER_DENIED: i16 = 31;
const TRANSACTION_DENIED: i16 = 53;
