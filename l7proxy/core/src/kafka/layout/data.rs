//! The requests for records and offsets.

use super::*;
use crate::kafka::{FETCH, PRODUCE};

/// A topic with nothing but partition numbers.
const TOPIC_PARTITIONS: &[Field] = &[all(Kind::Topic), all(Kind::List(&Kind::Partition))];

/// A topic with one error for each of its partitions.
const PARTITION_ERRORS: &[Part] =
    &[say(What::TopicName), say(What::Partitions(&[say(What::PartitionNumber), say(What::Error)]))];

/// Their layouts.
pub(super) const APIS: &[Api] = &[
    Api {
        key: PRODUCE,
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
        key: FETCH,
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
];
