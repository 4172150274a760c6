//! Requests that name the topics `payments` and `orders`, in each version that both sides know.

use kafka_protocol::messages::*;

use super::*;
use kafka_protocol::protocol::Message;

const NAMES: [&str; 2] = ["payments", "orders"];

type Sample = (ApiKey, i16, Vec<u8>);

/// Every version of `T` from its oldest to the newest that is read.
fn versions<T: Encodable + Message>(key: ApiKey, body: impl Fn(i16) -> T) -> Vec<Sample> {
    let newest = T::VERSIONS.max.min(Api::of(key as i16).unwrap().newest);
    (T::VERSIONS.min..=newest)
        .map(|version| (key, version, frame(key, version, &body(version))))
        .collect()
}

fn text(text: &'static str) -> StrBytes {
    StrBytes::from_static_str(text)
}

/// Something made from each of the names.
fn each<T>(make: impl Fn(TopicName) -> T) -> Vec<T> {
    NAMES.iter().map(|name| make(topic_name(name))).collect()
}

fn each_resource<T>(make: impl Fn(StrBytes) -> T) -> Vec<T> {
    NAMES.iter().map(|name| make(text(name))).collect()
}

/// The requests whose tables name topics, but Produce and Fetch.
pub fn requests() -> Vec<Sample> {
    [metadata_and_offsets(), administration(), transactions(), configurations()].concat()
}

fn metadata_and_offsets() -> Vec<Sample> {
    let metadata = versions(ApiKey::Metadata, |_| {
        let topic = |name| MetadataRequestTopic::default().with_name(Some(name));
        MetadataRequest::default().with_topics(Some(each(topic)))
    });
    let list = versions(ApiKey::ListOffsets, |_| {
        use list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
        let partitions = || vec![ListOffsetsPartition::default().with_partition_index(1)];
        ListOffsetsRequest::default().with_topics(each(|name| {
            ListOffsetsTopic::default().with_name(name).with_partitions(partitions())
        }))
    });
    let commit = versions(ApiKey::OffsetCommit, |_| {
        use offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
        let partition = || OffsetCommitRequestPartition::default().with_partition_index(1);
        OffsetCommitRequest::default().with_topics(each(|name| {
            OffsetCommitRequestTopic::default().with_name(name).with_partitions(vec![partition()])
        }))
    });
    let fetch = versions(ApiKey::OffsetFetch, |_| {
        use offset_fetch_request::OffsetFetchRequestTopic;
        OffsetFetchRequest::default().with_topics(Some(each(|name| {
            OffsetFetchRequestTopic::default().with_name(name).with_partition_indexes(vec![1, 2])
        })))
    });
    let epoch = versions(ApiKey::OffsetForLeaderEpoch, |_| {
        use offset_for_leader_epoch_request::{OffsetForLeaderPartition, OffsetForLeaderTopic};
        let partitions = || vec![OffsetForLeaderPartition::default().with_partition(1)];
        OffsetForLeaderEpochRequest::default().with_topics(each(|name| {
            OffsetForLeaderTopic::default().with_topic(name).with_partitions(partitions())
        }))
    });
    let delete = versions(ApiKey::OffsetDelete, |_| {
        use offset_delete_request::{OffsetDeleteRequestPartition, OffsetDeleteRequestTopic};
        let partitions = || vec![OffsetDeleteRequestPartition::default().with_partition_index(1)];
        OffsetDeleteRequest::default().with_topics(each(|name| {
            OffsetDeleteRequestTopic::default().with_name(name).with_partitions(partitions())
        }))
    });
    [metadata, list, commit, fetch, epoch, delete].concat()
}

fn administration() -> Vec<Sample> {
    let create = versions(ApiKey::CreateTopics, |_| {
        use create_topics_request::{
            CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig,
        };
        let assignment = CreatableReplicaAssignment::default()
            .with_partition_index(1)
            .with_broker_ids(vec![BrokerId(1), BrokerId(2)]);
        let config = CreatableTopicConfig::default().with_name(text("a")).with_value(None);
        CreateTopicsRequest::default().with_topics(each(|name| {
            CreatableTopic::default()
                .with_name(name)
                .with_assignments(vec![assignment.clone()])
                .with_configs(vec![config.clone()])
        }))
    });
    let delete = versions(ApiKey::DeleteTopics, |_| {
        DeleteTopicsRequest::default().with_topic_names(each(|name| name))
    });
    let records = versions(ApiKey::DeleteRecords, |_| {
        use delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
        let partitions = || vec![DeleteRecordsPartition::default().with_partition_index(1)];
        DeleteRecordsRequest::default().with_topics(each(|name| {
            DeleteRecordsTopic::default().with_name(name).with_partitions(partitions())
        }))
    });
    let partitions = versions(ApiKey::CreatePartitions, |_| {
        use create_partitions_request::{CreatePartitionsAssignment, CreatePartitionsTopic};
        let assignment =
            CreatePartitionsAssignment::default().with_broker_ids(vec![BrokerId(1), BrokerId(2)]);
        CreatePartitionsRequest::default().with_topics(each(|name| {
            CreatePartitionsTopic::default()
                .with_name(name)
                .with_assignments(Some(vec![assignment.clone()]))
        }))
    });
    [create, delete, records, partitions].concat()
}

fn transactions() -> Vec<Sample> {
    let add = versions(ApiKey::AddPartitionsToTxn, |_| {
        use add_partitions_to_txn_request::AddPartitionsToTxnTopic;
        AddPartitionsToTxnRequest::default().with_v3_and_below_topics(each(|name| {
            AddPartitionsToTxnTopic::default().with_name(name).with_partitions(vec![1, 2])
        }))
    });
    let commit = versions(ApiKey::TxnOffsetCommit, |_| {
        use txn_offset_commit_request::{
            TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
        };
        let partitions = || vec![TxnOffsetCommitRequestPartition::default()];
        TxnOffsetCommitRequest::default().with_topics(each(|name| {
            TxnOffsetCommitRequestTopic::default().with_name(name).with_partitions(partitions())
        }))
    });
    [add, commit].concat()
}

fn configurations() -> Vec<Sample> {
    let describe = versions(ApiKey::DescribeConfigs, |_| {
        use describe_configs_request::DescribeConfigsResource;
        DescribeConfigsRequest::default().with_resources(each_resource(|name| {
            DescribeConfigsResource::default()
                .with_resource_type(2)
                .with_resource_name(name)
                .with_configuration_keys(Some(vec![text("a")]))
        }))
    });
    let alter = versions(ApiKey::AlterConfigs, |_| {
        use alter_configs_request::{AlterConfigsResource, AlterableConfig};
        let configs = || vec![AlterableConfig::default().with_name(text("a"))];
        AlterConfigsRequest::default().with_resources(each_resource(|name| {
            AlterConfigsResource::default()
                .with_resource_type(2)
                .with_resource_name(name)
                .with_configs(configs())
        }))
    });
    let increment = versions(ApiKey::IncrementalAlterConfigs, |_| {
        use incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
        let configs = || vec![AlterableConfig::default().with_name(text("a"))];
        IncrementalAlterConfigsRequest::default().with_resources(each_resource(|name| {
            AlterConfigsResource::default()
                .with_resource_type(2)
                .with_resource_name(name)
                .with_configs(configs())
        }))
    });
    [describe, alter, increment].concat()
}

/// The requests that name no topics and have an answer that denies them.
pub fn bare() -> Vec<Sample> {
    [
        versions(ApiKey::FindCoordinator, |_| FindCoordinatorRequest::default()),
        versions(ApiKey::JoinGroup, |_| JoinGroupRequest::default()),
        versions(ApiKey::Heartbeat, |_| HeartbeatRequest::default()),
        versions(ApiKey::LeaveGroup, |_| LeaveGroupRequest::default()),
        versions(ApiKey::SyncGroup, |_| SyncGroupRequest::default()),
        versions(ApiKey::ApiVersions, |_| ApiVersionsRequest::default()),
        versions(ApiKey::InitProducerId, |_| InitProducerIdRequest::default()),
        versions(ApiKey::AddOffsetsToTxn, |_| AddOffsetsToTxnRequest::default()),
        versions(ApiKey::EndTxn, |_| EndTxnRequest::default()),
    ]
    .concat()
}
