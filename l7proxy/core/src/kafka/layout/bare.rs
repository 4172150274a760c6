//! The requests that name no topic.

use super::*;
use crate::kafka::API_VERSIONS;

/// Their layouts.
pub(super) const APIS: &[Api] = &[
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
        key: API_VERSIONS,
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

const fn without_answer(key: i16) -> Api {
    Api { key, flexible: NEVER, newest: -1, layout: &[], error: CLUSTER_DENIED, answer: &[] }
}
