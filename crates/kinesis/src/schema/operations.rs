//! The members of every operation, in the order in which breaches of their limits are reported.

use super::Kind::{Blob, Boolean, Integer, List, Map, Struct, Text, Time};
use super::Pattern::{ConsumerArn, HashKey, Name, ResourceArn, Sequence, StreamArn, StreamId};
use super::Rule::{
    AtLeast, AtMost, KeyLengths, LongerThan, Matches, MemberLengths, NotNull, NotNullUnless, OneOf,
    ShorterThan, ValueLengths,
};
use super::{Field, Kind, Rule};
use crate::value::Value;

/// Largest blob that any stream may take.
pub const MAX_DATA_BYTES: usize = 10 * 1024 * 1024;

const fn field(name: &'static str, kind: Kind, rules: &'static [Rule]) -> Field {
    Field { name, kind, rules }
}

fn has_arn(request: &Value<'_>) -> bool {
    request.get("StreamARN").is_some()
}

fn has_consumer_arn(request: &Value<'_>) -> bool {
    request.get("ConsumerARN").is_some()
}

/// Only a stream that says that it is provisioned must say its shards.
fn is_not_provisioned(request: &Value<'_>) -> bool {
    request.get("StreamModeDetails").and_then(|mode| mode.str("StreamMode")) != Some("PROVISIONED")
}

const NAMED: &[Rule] = &[Matches(Name), LongerThan(1), ShorterThan(128)];
const REQUIRED_NAME: &[Rule] = &[NotNull, Matches(Name), LongerThan(1), ShorterThan(128)];
const CONSUMER_ARN: Field =
    field("ConsumerARN", Text, &[Matches(ConsumerArn), LongerThan(1), ShorterThan(2048)]);
const REQUIRED_CONSUMER_ARN: Field =
    field("ConsumerARN", Text, &[NotNull, Matches(ConsumerArn), LongerThan(1), ShorterThan(2048)]);
const TOKEN: &[Rule] = &[LongerThan(1), ShorterThan(1_048_576)];
const ITERATOR_TYPES: Rule =
    OneOf(&["AFTER_SEQUENCE_NUMBER", "LATEST", "AT_TIMESTAMP", "AT_SEQUENCE_NUMBER", "TRIM_HORIZON"]);

/// The stream, by name unless its ARN is given.
const STREAM_NAME: Field =
    field("StreamName", Text, &[NotNullUnless(has_arn), Matches(Name), LongerThan(1), ShorterThan(128)]);
const STREAM_ARN: Field = field("StreamARN", Text, &[Matches(StreamArn), LongerThan(1), ShorterThan(2048)]);
const REQUIRED_STREAM_ARN: Field =
    field("StreamARN", Text, &[NotNull, Matches(StreamArn), LongerThan(1), ShorterThan(2048)]);
const RESOURCE_ARN: Field =
    field("ResourceARN", Text, &[NotNull, Matches(ResourceArn), LongerThan(1), ShorterThan(2048)]);
/// Reserved by the API for later; every operation on a stream has it.
const STREAM_ID: Field = field("StreamId", Text, &[Matches(StreamId), LongerThan(1), ShorterThan(24)]);
const DRY_RUN: Field = field("DryRun", Boolean, &[]);
const DATA: Field = field("Data", Blob, &[NotNull, ShorterThan(MAX_DATA_BYTES)]);
const PARTITION_KEY: Field = field("PartitionKey", Text, &[NotNull, LongerThan(1), ShorterThan(256)]);
const EXPLICIT_HASH_KEY: Field = field("ExplicitHashKey", Text, &[Matches(HashKey)]);
const SHARD_ID: Field = field("ShardId", Text, REQUIRED_NAME);
const NEXT_TOKEN: Field = field("NextToken", Text, TOKEN);
const CREATION: Field = field("StreamCreationTimestamp", Time, &[]);
const MODE_DETAILS: &[Field] = &[field("StreamMode", Text, &[NotNull, OneOf(&["PROVISIONED", "ON_DEMAND"])])];
const TAG: Field = field("member", Text, &[]);
const TAGS_RULES: &[Rule] = &[LongerThan(1), ShorterThan(200), KeyLengths(1, 128), ValueLengths(0, 256)];
const WARM_THROUGHPUT: Field = field("WarmThroughputMiBps", Integer, &[AtLeast(0)]);
const DISTRIBUTION: Rule = OneOf(&["AUTO", "USER_PARTITION_KEY"]);
const RETENTION: Field = field("RetentionPeriodHours", Integer, &[NotNull]);

const REQUIRED_TAGS: Field = field(
    "Tags",
    Map(&TAG),
    &[NotNull, LongerThan(1), ShorterThan(200), KeyLengths(1, 128), ValueLengths(0, 256)],
);

pub(crate) const ADD_TAGS: &[Field] = &[REQUIRED_TAGS, STREAM_NAME, STREAM_ARN, STREAM_ID];

pub(crate) const CREATE_STREAM: &[Field] = &[
    field("ShardCount", Integer, &[NotNullUnless(is_not_provisioned), AtLeast(1), AtMost(100_000)]),
    field("StreamName", Text, REQUIRED_NAME),
    field("StreamModeDetails", Struct(MODE_DETAILS), &[]),
    field("Tags", Map(&TAG), TAGS_RULES),
    WARM_THROUGHPUT,
    field("MaxRecordSizeInKiB", Integer, &[AtLeast(1024), AtMost(10_240)]),
    field("RecordDistributionStrategy", Text, &[DISTRIBUTION]),
];

pub(crate) const CHANGE_RETENTION: &[Field] = &[RETENTION, STREAM_NAME, STREAM_ARN, STREAM_ID];

pub(crate) const DELETE_STREAM: &[Field] =
    &[STREAM_NAME, field("EnforceConsumerDeletion", Boolean, &[]), STREAM_ARN, STREAM_ID];

/// Deregistering and describing a consumer: its ARN, or its name and its stream's ARN.
pub(crate) const CONSUMER: &[Field] = &[
    field(
        "StreamARN",
        Text,
        &[NotNullUnless(has_consumer_arn), Matches(StreamArn), LongerThan(1), ShorterThan(2048)],
    ),
    field(
        "ConsumerName",
        Text,
        &[NotNullUnless(has_consumer_arn), Matches(Name), LongerThan(1), ShorterThan(128)],
    ),
    CONSUMER_ARN,
    STREAM_ID,
];

pub(crate) const NOTHING: &[Field] = &[];

pub(crate) const DESCRIBE_STREAM: &[Field] = &[
    field("Limit", Integer, &[AtLeast(1), AtMost(10_000)]),
    field("ExclusiveStartShardId", Text, NAMED),
    STREAM_NAME,
    STREAM_ARN,
    STREAM_ID,
];

pub(crate) const STREAM_ONLY: &[Field] = &[STREAM_NAME, STREAM_ARN, STREAM_ID];

pub(crate) const GET_RECORDS: &[Field] = &[
    field("Limit", Integer, &[AtLeast(1), AtMost(10_000)]),
    field("ShardIterator", Text, &[NotNull, LongerThan(1), ShorterThan(512)]),
    STREAM_ARN,
    STREAM_ID,
    DRY_RUN,
];

pub(crate) const GET_SHARD_ITERATOR: &[Field] = &[
    SHARD_ID,
    field("ShardIteratorType", Text, &[NotNull, ITERATOR_TYPES]),
    field("StartingSequenceNumber", Text, &[Matches(Sequence)]),
    STREAM_NAME,
    field("Timestamp", Time, &[]),
    STREAM_ARN,
    STREAM_ID,
    DRY_RUN,
];

const SHARD_FILTER: &[Field] = &[
    field(
        "Type",
        Text,
        &[
            NotNull,
            OneOf(&[
                "AFTER_SHARD_ID",
                "AT_TRIM_HORIZON",
                "FROM_TRIM_HORIZON",
                "AT_LATEST",
                "AT_TIMESTAMP",
                "FROM_TIMESTAMP",
            ]),
        ],
    ),
    field("ShardId", Text, NAMED),
    field("Timestamp", Time, &[]),
];

pub(crate) const LIST_SHARDS: &[Field] = &[
    field("ExclusiveStartShardId", Text, NAMED),
    field("MaxResults", Integer, &[AtLeast(1), AtMost(10_000)]),
    NEXT_TOKEN,
    CREATION,
    field("StreamName", Text, NAMED),
    field("ShardFilter", Struct(SHARD_FILTER), &[]),
    STREAM_ARN,
    STREAM_ID,
];

pub(crate) const LIST_CONSUMERS: &[Field] = &[
    REQUIRED_STREAM_ARN,
    NEXT_TOKEN,
    field("MaxResults", Integer, &[AtLeast(1), AtMost(10_000)]),
    CREATION,
    STREAM_ID,
];

pub(crate) const LIST_STREAMS: &[Field] = &[
    field("Limit", Integer, &[AtLeast(1), AtMost(10_000)]),
    field("ExclusiveStartStreamName", Text, NAMED),
    NEXT_TOKEN,
];

pub(crate) const LIST_TAGS: &[Field] = &[
    field("Limit", Integer, &[AtLeast(1), AtMost(50)]),
    field("ExclusiveStartTagKey", Text, &[LongerThan(1), ShorterThan(128)]),
    STREAM_NAME,
    STREAM_ARN,
    STREAM_ID,
];

pub(crate) const MERGE_SHARDS: &[Field] = &[
    field("ShardToMerge", Text, REQUIRED_NAME),
    field("AdjacentShardToMerge", Text, REQUIRED_NAME),
    STREAM_NAME,
    STREAM_ARN,
    STREAM_ID,
];

pub(crate) const PUT_RECORD: &[Field] = &[
    field("SequenceNumberForOrdering", Text, &[Matches(Sequence)]),
    PARTITION_KEY,
    EXPLICIT_HASH_KEY,
    DATA,
    STREAM_NAME,
    STREAM_ARN,
    STREAM_ID,
    DRY_RUN,
];

const ENTRY: Field = field("member", Struct(&[PARTITION_KEY, EXPLICIT_HASH_KEY, DATA]), &[]);

/// Most records of one `PutRecords`.
pub(crate) const MAX_RECORDS: usize = 500;

pub(crate) const PUT_RECORDS: &[Field] = &[
    field(
        "Records",
        List(&ENTRY, Some("com.amazonaws.kinesis.v20131202.PutRecordsRequestEntry@c965e310")),
        &[NotNull, LongerThan(1), ShorterThan(MAX_RECORDS)],
    ),
    STREAM_NAME,
    STREAM_ARN,
    STREAM_ID,
    DRY_RUN,
];

pub(crate) const REGISTER_CONSUMER: &[Field] = &[
    REQUIRED_STREAM_ARN,
    field("ConsumerName", Text, REQUIRED_NAME),
    field("Tags", Map(&TAG), TAGS_RULES),
    STREAM_ID,
];

const TAG_KEYS: Field =
    field("TagKeys", List(&TAG, None), &[NotNull, LongerThan(1), ShorterThan(50), MemberLengths(1, 128)]);

pub(crate) const REMOVE_TAGS: &[Field] = &[TAG_KEYS, STREAM_NAME, STREAM_ARN, STREAM_ID];

pub(crate) const SPLIT_SHARD: &[Field] = &[
    field("NewStartingHashKey", Text, &[NotNull, Matches(HashKey)]),
    STREAM_NAME,
    field("ShardToSplit", Text, REQUIRED_NAME),
    STREAM_ARN,
    STREAM_ID,
];

const STARTING_POSITION: &[Field] = &[
    field("Type", Text, &[NotNull, ITERATOR_TYPES]),
    field("SequenceNumber", Text, &[Matches(Sequence)]),
    field("Timestamp", Time, &[]),
];

pub(crate) const SUBSCRIBE: &[Field] = &[
    REQUIRED_CONSUMER_ARN,
    STREAM_ID,
    SHARD_ID,
    field("StartingPosition", Struct(STARTING_POSITION), &[NotNull]),
    DRY_RUN,
];

pub(crate) const UPDATE_MAX_RECORD_SIZE: &[Field] = &[
    field("MaxRecordSizeInKiB", Integer, &[NotNull, AtLeast(1024), AtMost(10_240)]),
    REQUIRED_STREAM_ARN,
    STREAM_ID,
];

pub(crate) const UPDATE_SHARD_COUNT: &[Field] = &[
    field("TargetShardCount", Integer, &[NotNull, AtLeast(1)]),
    field("ScalingType", Text, &[NotNull, OneOf(&["UNIFORM_SCALING"])]),
    STREAM_NAME,
    STREAM_ARN,
    STREAM_ID,
];

pub(crate) const UPDATE_MODE: &[Field] = &[
    REQUIRED_STREAM_ARN,
    field("StreamModeDetails", Struct(MODE_DETAILS), &[NotNull]),
    WARM_THROUGHPUT,
    STREAM_ID,
];

pub(crate) const TAG_RESOURCE: &[Field] = &[REQUIRED_TAGS, RESOURCE_ARN, STREAM_ID];

pub(crate) const UNTAG_RESOURCE: &[Field] = &[TAG_KEYS, RESOURCE_ARN, STREAM_ID];

/// A resource alone.
pub(crate) const RESOURCE_ONLY: &[Field] = &[RESOURCE_ARN, STREAM_ID];

pub(crate) const PUT_POLICY: &[Field] = &[field("Policy", Text, &[NotNull]), RESOURCE_ARN, STREAM_ID];

const METRIC: Field = field(
    "member",
    Text,
    &[OneOf(&[
        "IncomingBytes",
        "IncomingRecords",
        "OutgoingBytes",
        "OutgoingRecords",
        "WriteProvisionedThroughputExceeded",
        "ReadProvisionedThroughputExceeded",
        "IteratorAgeMilliseconds",
        "ALL",
    ])],
);

/// Switching metrics of shards on and off.
pub(crate) const MONITORING: &[Field] = &[
    field("ShardLevelMetrics", List(&METRIC, None), &[NotNull, LongerThan(1), ShorterThan(7)]),
    STREAM_NAME,
    STREAM_ARN,
    STREAM_ID,
];

/// Starting and stopping encryption.
pub(crate) const ENCRYPTION: &[Field] = &[
    field("EncryptionType", Text, &[NotNull, OneOf(&["NONE", "KMS"])]),
    field("KeyId", Text, &[NotNull, LongerThan(1), ShorterThan(2048)]),
    STREAM_NAME,
    STREAM_ARN,
    STREAM_ID,
];

pub(crate) const UPDATE_WARM_THROUGHPUT: &[Field] =
    &[field("WarmThroughputMiBps", Integer, &[NotNull, AtLeast(0)]), STREAM_NAME, STREAM_ARN, STREAM_ID];

pub(crate) const UPDATE_DISTRIBUTION: &[Field] =
    &[field("RecordDistributionStrategy", Text, &[NotNull, DISTRIBUTION]), REQUIRED_STREAM_ARN, STREAM_ID];

const COMMITMENT: &[Field] = &[field("Status", Text, &[NotNull, OneOf(&["ENABLED", "DISABLED"])])];

pub(crate) const UPDATE_ACCOUNT: &[Field] =
    &[field("MinimumThroughputBillingCommitment", Struct(COMMITMENT), &[NotNull])];

const STREAM_FILTER: Field = field("member", Struct(&[REQUIRED_STREAM_ARN, CREATION]), &[]);

/// Listing channels and queues.
pub(crate) const LIST_OF_STREAMS: &[Field] = &[
    field("MaxResults", Integer, &[AtLeast(1), AtMost(10_000)]),
    NEXT_TOKEN,
    field("StreamFilter", List(&STREAM_FILTER, None), &[LongerThan(1), ShorterThan(10_000)]),
];
