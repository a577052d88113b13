//! The operations: one function each, from a checked request to an answer.

mod absent;
mod consumers;
mod get;
pub(crate) mod put;
mod settings;
mod shards;
pub(crate) mod streams;
pub(crate) mod subscribe;
mod tags;

pub(crate) use get::PAGE_MEMORY;

use std::sync::Arc;

use axum::body::Body;
use pinmill_http::Reservation;

use crate::error::ApiError;
use crate::schema::operations as fields;
use crate::schema::{Field, types::check_types, validate::validate};
use crate::service::Service;
use crate::value::Value;

/// What an operation answers.
#[derive(Debug)]
pub(crate) enum Answer {
    /// Nothing: status 200 and an empty body.
    Empty,
    /// A value in the request's encoding.
    Value(Value<'static>),
    /// A value of what was stored, with the memory for it and for its text.
    Stored(Value<'static>, Reservation),
    /// An event stream.
    Events(Body),
}

pub(crate) type Outcome = Result<Answer, ApiError>;

macro_rules! operations {
    ($($name:ident: $fields:ident),* $(,)?) => {
        /// An operation of the API.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum Operation { $(#[doc = concat!("`", stringify!($name), "`.")] $name),* }

        impl Operation {
            /// The operation of this name.
            pub(crate) fn parse(name: &str) -> Option<Self> {
                match name { $(stringify!($name) => Some(Self::$name),)* _ => None }
            }

            /// The members of its request.
            pub(crate) fn fields(self) -> &'static [Field] {
                match self { $(Self::$name => fields::$fields),* }
            }
        }
    };
}

operations! {
    AcknowledgeDeadLetterQueueRecords: NOTHING,
    AcknowledgeQueueRecords: NOTHING,
    AddTagsToStream: ADD_TAGS,
    CreateChannel: NOTHING,
    CreateQueue: NOTHING,
    CreateStream: CREATE_STREAM,
    DecreaseStreamRetentionPeriod: CHANGE_RETENTION,
    DeleteChannel: NOTHING,
    DeleteQueue: NOTHING,
    DeleteResourcePolicy: RESOURCE_ONLY,
    DeleteStream: DELETE_STREAM,
    DeregisterStreamConsumer: CONSUMER,
    DescribeAccountSettings: NOTHING,
    DescribeChannel: NOTHING,
    DescribeLimits: NOTHING,
    DescribeQueue: NOTHING,
    DescribeStream: DESCRIBE_STREAM,
    DescribeStreamConsumer: CONSUMER,
    DescribeStreamSummary: STREAM_ONLY,
    DisableEnhancedMonitoring: MONITORING,
    EnableEnhancedMonitoring: MONITORING,
    GetRecords: GET_RECORDS,
    GetResourcePolicy: RESOURCE_ONLY,
    GetShardIterator: GET_SHARD_ITERATOR,
    IncreaseStreamRetentionPeriod: CHANGE_RETENTION,
    ListChannels: LIST_OF_STREAMS,
    ListQueues: LIST_OF_STREAMS,
    ListShards: LIST_SHARDS,
    ListStreamConsumers: LIST_CONSUMERS,
    ListStreams: LIST_STREAMS,
    ListTagsForResource: RESOURCE_ONLY,
    ListTagsForStream: LIST_TAGS,
    MergeShards: MERGE_SHARDS,
    PutRecord: PUT_RECORD,
    PutRecords: PUT_RECORDS,
    PutResourcePolicy: PUT_POLICY,
    ReceiveDeadLetterQueueRecords: NOTHING,
    ReceiveQueueRecords: NOTHING,
    RegisterStreamConsumer: REGISTER_CONSUMER,
    RemoveTagsFromStream: REMOVE_TAGS,
    RestoreDeadLetterQueueRecords: NOTHING,
    SplitShard: SPLIT_SHARD,
    StartStreamEncryption: ENCRYPTION,
    StopStreamEncryption: ENCRYPTION,
    SubscribeToShard: SUBSCRIBE,
    TagResource: TAG_RESOURCE,
    UntagResource: UNTAG_RESOURCE,
    UpdateAccountSettings: UPDATE_ACCOUNT,
    UpdateChannel: NOTHING,
    UpdateDeadLetterQueueRecordsVisibility: NOTHING,
    UpdateMaxRecordSize: UPDATE_MAX_RECORD_SIZE,
    UpdateQueue: NOTHING,
    UpdateQueueRecordsVisibility: NOTHING,
    UpdateShardCount: UPDATE_SHARD_COUNT,
    UpdateStreamMode: UPDATE_MODE,
    UpdateStreamRecordDistributionStrategy: UPDATE_DISTRIBUTION,
    UpdateStreamWarmThroughput: UPDATE_WARM_THROUGHPUT,
}

/// Checks a request's types and limits, and carries it out.
pub(crate) async fn call(service: &Arc<Service>, operation: Operation, request: Value<'_>) -> Outcome {
    let input = check_types(request, operation.fields())?;
    run(service, operation, input).await
}

/// Checks the limits of a request whose types are right, and carries it out.
pub(crate) async fn run(service: &Arc<Service>, operation: Operation, input: Value<'_>) -> Outcome {
    validate(&input, operation.fields())?;
    if input.get("StreamId").is_some() {
        return Err(ApiError::invalid(
            "StreamId is reserved for later use; name the stream by its name or its ARN.",
        ));
    }
    match operation {
        Operation::PutRecord => return put::one(service, input).await,
        Operation::PutRecords => return put::many(service, input).await,
        _ => {}
    }
    let input = &input;
    match operation {
        Operation::AddTagsToStream => tags::add(service, input).await,
        Operation::CreateStream => streams::create_stream(service, input).await,
        Operation::DecreaseStreamRetentionPeriod => settings::decrease_retention(service, input).await,
        Operation::DeleteResourcePolicy | Operation::GetResourcePolicy => absent::no_policy(service, input),
        Operation::DeleteStream => streams::delete(service, input).await,
        Operation::DeregisterStreamConsumer => consumers::deregister(service, input).await,
        Operation::DescribeAccountSettings => Ok(absent::account_settings()),
        Operation::DescribeLimits => Ok(streams::limits(service)),
        Operation::DescribeStream => streams::describe(service, input),
        Operation::DescribeStreamConsumer => consumers::describe(service, input),
        Operation::DescribeStreamSummary => streams::summarize(service, input),
        Operation::DisableEnhancedMonitoring => settings::disable_monitoring(service, input).await,
        Operation::EnableEnhancedMonitoring => settings::enable_monitoring(service, input).await,
        Operation::GetRecords => get::records(service, input).await,
        Operation::GetShardIterator => get::iterator(service, input).await,
        Operation::IncreaseStreamRetentionPeriod => settings::increase_retention(service, input).await,
        Operation::ListChannels => absent::list(input, "ChannelSummaries"),
        Operation::ListQueues => absent::list(input, "QueueSummaries"),
        Operation::ListShards => shards::list(service, input),
        Operation::ListStreamConsumers => consumers::list(service, input),
        Operation::ListStreams => streams::list(service, input),
        Operation::ListTagsForResource => tags::list_resource(service, input),
        Operation::ListTagsForStream => tags::list(service, input),
        Operation::MergeShards => shards::merge(service, input).await,
        Operation::PutResourcePolicy => absent::put_policy(service, input),
        Operation::RegisterStreamConsumer => consumers::register(service, input).await,
        Operation::RemoveTagsFromStream => tags::remove(service, input).await,
        Operation::SplitShard => shards::split(service, input).await,
        Operation::StartStreamEncryption => settings::start_encryption(service, input).await,
        Operation::StopStreamEncryption => settings::stop_encryption(service, input).await,
        Operation::SubscribeToShard => subscribe::subscribe(service, input).await,
        Operation::TagResource => tags::add_resource(service, input).await,
        Operation::UntagResource => tags::remove_resource(service, input).await,
        Operation::UpdateAccountSettings => absent::update_account(input),
        Operation::UpdateMaxRecordSize => settings::update_max_record_size(service, input).await,
        Operation::UpdateShardCount => shards::update_count(service, input).await,
        Operation::UpdateStreamMode => settings::update_mode(service, input).await,
        Operation::UpdateStreamRecordDistributionStrategy => settings::update_distribution(service, input),
        Operation::UpdateStreamWarmThroughput => settings::update_warm_throughput(service, input),
        channel_or_queue => absent::unsupported(channel_or_queue),
    }
}

/// Ends a request that was only to be tried, at the point where everything else has been found to be right.
pub(crate) fn check_dry_run(input: &Value<'_>) -> Result<(), ApiError> {
    if input.is_true("DryRun") { Err(dry_run()) } else { Ok(()) }
}

/// The answer to a request that was only to be tried and would have succeeded.
pub(crate) fn dry_run() -> ApiError {
    let message = "Request would have succeeded, but the DryRun flag is set.";
    ApiError::client("DryRunOperationException", message)
}

/// How many items a page has: as many as asked for, but not more than `most`, which is what it has by default.
pub(crate) fn page_size(input: &Value<'_>, member: &str, most: usize) -> usize {
    input.int(member).and_then(|asked| usize::try_from(asked).ok()).map_or(most, |asked| asked.min(most))
}
