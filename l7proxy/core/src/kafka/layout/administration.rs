//! The requests that make, change and describe topics.

use super::*;

/// Their layouts.
pub(super) const APIS: &[Api] = &[
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
