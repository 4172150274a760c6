//! The layouts of the requests that carry topics, and of the answers that deny requests.
//!
//! A field says from which version to which it is there. Only what bears on topics has a name;
//! everything else is passed over by its size.

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
        APIS.iter().find(|api| api.key == key)
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

/// A topic with nothing but partition numbers.
const TOPIC_PARTITIONS: &[Field] = &[all(Kind::Topic), all(Kind::List(&Kind::Partition))];
/// The throttling time, then one error for each partition.
const PARTITION_ERRORS: &[Part] =
    &[say(What::TopicName), say(What::Partitions(&[say(What::PartitionNumber), say(What::Error)]))];

const APIS: &[Api] = &[
    Api {
        key: super::PRODUCE,
        flexible: 9,
        newest: 12,
        layout: &[
            since(3, Kind::Text),
            all(Kind::Acks),
            all(I32),
            all(Kind::Array(&[
                all(Kind::Topic),
                all(Kind::Array(&[all(Kind::Partition), all(Kind::Bytes)])),
            ])),
        ],
        error: TOPIC_DENIED,
        answer: &[
            say(What::Topics(&[
                say(What::TopicName),
                say(What::Partitions(&[
                    say(What::PartitionNumber),
                    say(What::Error),
                    say(What::Ones(8)),
                    say_since(2, What::Ones(8)),
                    say_since(5, What::Ones(8)),
                    say_since(8, What::Empty),
                    say_since(8, What::NoText),
                ])),
            ])),
            say_since(1, What::Zeros(4)),
        ],
    },
    Api {
        key: super::FETCH,
        flexible: 12,
        newest: 12,
        layout: &[
            all(I32),
            all(I32),
            all(I32),
            since(3, I32),
            since(4, I8),
            since(7, Kind::Session),
            all(Kind::Array(&[
                all(Kind::Topic),
                all(Kind::Array(&[
                    all(Kind::Partition),
                    since(9, I32),
                    all(I64),
                    since(12, I32),
                    since(5, I64),
                    all(I32),
                ])),
            ])),
            since(7, Kind::Array(TOPIC_PARTITIONS)),
            since(11, Kind::Text),
        ],
        error: TOPIC_DENIED,
        answer: &[
            say_since(1, What::Zeros(4)),
            say_since(7, What::NoError),
            say_since(7, What::Zeros(4)),
            say(What::Topics(&[
                say(What::TopicName),
                say(What::Partitions(&[
                    say(What::PartitionNumber),
                    say(What::Error),
                    say(What::Ones(8)),
                    say_since(4, What::Ones(8)),
                    say_since(5, What::Ones(8)),
                    say_since(4, What::Empty),
                    say_since(11, What::Ones(4)),
                    say(What::EmptyBytes),
                ])),
            ])),
        ],
    },
    // ListOffsets
    Api {
        key: 2,
        flexible: 6,
        newest: 10,
        layout: &[
            all(I32),
            since(2, I8),
            all(Kind::Array(&[
                all(Kind::Topic),
                all(Kind::Array(&[
                    all(Kind::Partition),
                    since(4, I32),
                    all(I64),
                    between(0, 0, I32),
                ])),
            ])),
            since(10, I32),
        ],
        error: TOPIC_DENIED,
        answer: &[
            say_since(2, What::Zeros(4)),
            say(What::Topics(&[
                say(What::TopicName),
                say(What::Partitions(&[
                    say(What::PartitionNumber),
                    say(What::Error),
                    say_between(0, 0, What::Empty),
                    say_since(1, What::Ones(8)),
                    say_since(1, What::Ones(8)),
                    say_since(4, What::Ones(4)),
                ])),
            ])),
        ],
    },
    // Metadata. In version 0 no topic means every topic.
    Api {
        key: 3,
        flexible: 9,
        newest: 12,
        layout: &[
            between(0, 0, Kind::AllIfEmpty(&[all(Kind::Topic)])),
            between(1, 9, Kind::AllIfAbsent(&[all(Kind::Topic)])),
            since(10, Kind::AllIfAbsent(&[all(Kind::TopicOrId)])),
            since(4, I8),
            between(8, 10, I8),
            since(8, I8),
        ],
        error: TOPIC_DENIED,
        answer: &[
            say_since(3, What::Zeros(4)),
            say(What::Broker),
            say_since(2, What::NoText),
            say_since(1, What::Ones(4)),
            say(What::Topics(&[
                say(What::Error),
                say(What::TopicName),
                say_since(10, What::Zeros(16)),
                say_since(1, What::Zeros(1)),
                say(What::Empty),
                say_since(8, What::NoOperations),
            ])),
            say_between(8, 10, What::NoOperations),
        ],
    },
    // OffsetCommit
    Api {
        key: 8,
        flexible: 8,
        newest: 9,
        layout: &[
            all(Kind::Text),
            since(1, I32),
            since(1, Kind::Text),
            since(7, Kind::Text),
            between(2, 4, I64),
            all(Kind::Array(&[
                all(Kind::Topic),
                all(Kind::Array(&[
                    all(Kind::Partition),
                    all(I64),
                    since(6, I32),
                    between(1, 1, I64),
                    all(Kind::Text),
                ])),
            ])),
        ],
        error: TOPIC_DENIED,
        answer: &[say_since(3, What::Zeros(4)), say(What::Topics(PARTITION_ERRORS))],
    },
    // OffsetFetch
    Api {
        key: 9,
        flexible: 6,
        newest: 7,
        layout: &[all(Kind::Text), all(Kind::AllIfAbsent(TOPIC_PARTITIONS)), since(7, I8)],
        error: TOPIC_DENIED,
        answer: &[
            say_since(3, What::Zeros(4)),
            say(What::Topics(&[
                say(What::TopicName),
                say(What::Partitions(&[
                    say(What::PartitionNumber),
                    say(What::Ones(8)),
                    say_since(5, What::Ones(4)),
                    say(What::EmptyText),
                    say(What::Error),
                ])),
            ])),
            say_since(2, What::NoError),
        ],
    },
    // CreateTopics
    Api {
        key: 19,
        flexible: 5,
        newest: 7,
        layout: &[
            all(Kind::Array(&[
                all(Kind::Topic),
                all(I32),
                all(I16),
                all(Kind::Array(&[all(I32), all(Kind::List(&I32))])),
                all(Kind::Array(&[all(Kind::Text), all(Kind::Text)])),
            ])),
            all(I32),
            since(1, I8),
        ],
        error: TOPIC_DENIED,
        answer: &[
            say_since(2, What::Zeros(4)),
            say(What::Topics(&[
                say(What::TopicName),
                say_since(7, What::Zeros(16)),
                say(What::Error),
                say_since(1, What::NoText),
                say_since(5, What::Ones(4)),
                say_since(5, What::Ones(2)),
                say_since(5, What::Empty),
            ])),
        ],
    },
    // DeleteTopics
    Api {
        key: 20,
        flexible: 4,
        newest: 5,
        layout: &[all(Kind::List(&Kind::Topic)), all(I32)],
        error: TOPIC_DENIED,
        answer: &[
            say_since(1, What::Zeros(4)),
            say(What::Topics(&[
                say(What::TopicName),
                say(What::Error),
                say_since(5, What::NoText),
            ])),
        ],
    },
    // DeleteRecords
    Api {
        key: 21,
        flexible: 2,
        newest: 2,
        layout: &[
            all(Kind::Array(&[
                all(Kind::Topic),
                all(Kind::Array(&[all(Kind::Partition), all(I64)])),
            ])),
            all(I32),
        ],
        error: TOPIC_DENIED,
        answer: &[
            say(What::Zeros(4)),
            say(What::Topics(&[
                say(What::TopicName),
                say(What::Partitions(&[
                    say(What::PartitionNumber),
                    say(What::Ones(8)),
                    say(What::Error),
                ])),
            ])),
        ],
    },
    // OffsetForLeaderEpoch
    Api {
        key: 23,
        flexible: 4,
        newest: 4,
        layout: &[
            since(3, I32),
            all(Kind::Array(&[
                all(Kind::Topic),
                all(Kind::Array(&[all(Kind::Partition), since(2, I32), all(I32)])),
            ])),
        ],
        error: TOPIC_DENIED,
        answer: &[
            say_since(2, What::Zeros(4)),
            say(What::Topics(&[
                say(What::TopicName),
                say(What::Partitions(&[
                    say(What::Error),
                    say(What::PartitionNumber),
                    say_since(1, What::Ones(4)),
                    say(What::Ones(8)),
                ])),
            ])),
        ],
    },
    // AddPartitionsToTxn
    Api {
        key: 24,
        flexible: 3,
        newest: 3,
        layout: &[all(Kind::Text), all(I64), all(I16), all(Kind::Array(TOPIC_PARTITIONS))],
        error: TOPIC_DENIED,
        answer: &[say(What::Zeros(4)), say(What::Topics(PARTITION_ERRORS))],
    },
    // TxnOffsetCommit
    Api {
        key: 28,
        flexible: 3,
        newest: 4,
        layout: &[
            all(Kind::Text),
            all(Kind::Text),
            all(I64),
            all(I16),
            since(3, I32),
            since(3, Kind::Text),
            since(3, Kind::Text),
            all(Kind::Array(&[
                all(Kind::Topic),
                all(Kind::Array(&[all(Kind::Partition), all(I64), since(2, I32), all(Kind::Text)])),
            ])),
        ],
        error: TOPIC_DENIED,
        answer: &[say(What::Zeros(4)), say(What::Topics(PARTITION_ERRORS))],
    },
    // DescribeConfigs
    Api {
        key: 32,
        flexible: 4,
        newest: 4,
        layout: &[
            all(Kind::Array(&[
                all(Kind::ResourceType),
                all(Kind::ResourceName),
                all(Kind::List(&Kind::Text)),
            ])),
            since(1, I8),
            since(3, I8),
        ],
        error: TOPIC_DENIED,
        answer: &[
            say(What::Zeros(4)),
            say(What::Topics(&[
                say(What::Error),
                say(What::NoText),
                say(What::TopicType),
                say(What::TopicName),
                say(What::Empty),
            ])),
        ],
    },
    // AlterConfigs
    Api {
        key: 33,
        flexible: 2,
        newest: 2,
        layout: &[
            all(Kind::Array(&[
                all(Kind::ResourceType),
                all(Kind::ResourceName),
                all(Kind::Array(&[all(Kind::Text), all(Kind::Text)])),
            ])),
            all(I8),
        ],
        error: TOPIC_DENIED,
        answer: ALTERED,
    },
    // CreatePartitions
    Api {
        key: 37,
        flexible: 2,
        newest: 3,
        layout: &[
            all(Kind::Array(&[
                all(Kind::Topic),
                all(I32),
                all(Kind::Array(&[all(Kind::List(&I32))])),
            ])),
            all(I32),
            all(I8),
        ],
        error: TOPIC_DENIED,
        answer: &[
            say(What::Zeros(4)),
            say(What::Topics(&[say(What::TopicName), say(What::Error), say(What::NoText)])),
        ],
    },
    // IncrementalAlterConfigs
    Api {
        key: 44,
        flexible: 1,
        newest: 1,
        layout: &[
            all(Kind::Array(&[
                all(Kind::ResourceType),
                all(Kind::ResourceName),
                all(Kind::Array(&[all(Kind::Text), all(I8), all(Kind::Text)])),
            ])),
            all(I8),
        ],
        error: TOPIC_DENIED,
        answer: ALTERED,
    },
    // OffsetDelete
    Api {
        key: 47,
        flexible: NEVER,
        newest: 0,
        layout: &[
            all(Kind::Text),
            all(Kind::Array(&[all(Kind::Topic), all(Kind::Array(&[all(Kind::Partition)]))])),
        ],
        error: TOPIC_DENIED,
        answer: &[say(What::NoError), say(What::Zeros(4)), say(What::Topics(PARTITION_ERRORS))],
    },
    // FindCoordinator. From version 4 on its answer repeats keys, and the connection is closed.
    Api {
        key: 10,
        flexible: 3,
        newest: 3,
        layout: &[],
        error: GROUP_DENIED,
        answer: &[
            say_since(1, What::Zeros(4)),
            say(What::Error),
            say_since(1, What::NoText),
            say(What::Ones(4)),
            say(What::EmptyText),
            say(What::Ones(4)),
        ],
    },
    // JoinGroup
    Api {
        key: 11,
        flexible: 6,
        newest: 9,
        layout: &[],
        error: GROUP_DENIED,
        answer: &[
            say_since(2, What::Zeros(4)),
            say(What::Error),
            say(What::Ones(4)),
            say_since(7, What::NoText),
            say(What::EmptyText),
            say(What::EmptyText),
            say_since(9, What::Zeros(1)),
            say(What::EmptyText),
            say(What::Empty),
        ],
    },
    // Heartbeat
    Api {
        key: 12,
        flexible: 4,
        newest: 4,
        layout: &[],
        error: GROUP_DENIED,
        answer: &[say_since(1, What::Zeros(4)), say(What::Error)],
    },
    // LeaveGroup
    Api {
        key: 13,
        flexible: 4,
        newest: 5,
        layout: &[],
        error: GROUP_DENIED,
        answer: &[say_since(1, What::Zeros(4)), say(What::Error), say_since(3, What::Empty)],
    },
    // SyncGroup
    Api {
        key: 14,
        flexible: 4,
        newest: 5,
        layout: &[],
        error: GROUP_DENIED,
        answer: &[
            say_since(1, What::Zeros(4)),
            say(What::Error),
            say_since(5, What::NoText),
            say_since(5, What::NoText),
            say(What::EmptyBytes),
        ],
    },
    // DescribeGroups, ListGroups, SaslHandshake, SaslAuthenticate, DeleteGroups, DescribeCluster
    without_answer(15),
    without_answer(16),
    without_answer(17),
    without_answer(36),
    without_answer(42),
    without_answer(60),
    // ApiVersions
    Api {
        key: super::API_VERSIONS,
        flexible: 3,
        newest: 4,
        layout: &[],
        error: CLUSTER_DENIED,
        answer: &[say(What::Error), say(What::Empty), say_since(1, What::Zeros(4))],
    },
    // InitProducerId
    Api {
        key: 22,
        flexible: 2,
        newest: 5,
        layout: &[],
        error: TRANSACTION_DENIED,
        answer: &[say(What::Zeros(4)), say(What::Error), say(What::Ones(8)), say(What::Ones(2))],
    },
    // AddOffsetsToTxn
    Api {
        key: 25,
        flexible: 3,
        newest: 4,
        layout: &[],
        error: TRANSACTION_DENIED,
        answer: &[say(What::Zeros(4)), say(What::Error)],
    },
    // EndTxn
    Api {
        key: 26,
        flexible: 3,
        newest: 4,
        layout: &[],
        error: TRANSACTION_DENIED,
        answer: &[say(What::Zeros(4)), say(What::Error)],
    },
];

const ALTERED: &[Part] = &[
    say(What::Zeros(4)),
    say(What::Topics(&[
        say(What::Error),
        say(What::NoText),
        say(What::TopicType),
        say(What::TopicName),
    ])),
];

const fn without_answer(key: i16) -> Api {
    Api { key, flexible: NEVER, newest: -1, layout: &[], error: CLUSTER_DENIED, answer: &[] }
}
